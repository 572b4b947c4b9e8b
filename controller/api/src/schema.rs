//! From what schemars derives to what a CustomResourceDefinition may hold.
//!
//! Kubernetes wants *structural* schemas: every node typed, nothing by reference, no `oneOf` for data. schemars
//! writes JSON Schema 2020. The differences are few and all are settled in [`structural`]:
//!
//! | schemars | here |
//! |---|---|
//! | `type: [x, "null"]`, `anyOf: [x, null]` for `Option` | `x`: absent, never null |
//! | `default` from serde | dropped: a default is an API promise, made with a marker only |
//! | `format: uint32`, `uint64`, `uint8` | no format, `minimum: 0` |
//! | `additionalProperties: true` from `flatten` | `x-kubernetes-preserve-unknown-fields: true` |
//! | `$schema`, `title` | dropped |

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

/// A MAC address as Metal3 spells its pattern (not anchored there either).
pub(crate) const MAC: &str = "[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}";

/// Marker for a default that the API server applies; see [`default_false`].
const DEFAULT: &str = "x-steelyard-default";
/// Marker for a field whose `null` is kept.
const NULLABLE: &str = "x-steelyard-nullable";

/// The structural schema of one type, all types in it inlined.
pub(crate) fn structural<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|s| {
        s.inline_subschemas = true;
        s.meta_schema = None;
    });
    let mut schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    clean(&mut schema);
    schema
}

fn clean(node: &mut Value) {
    if *node == Value::Bool(true) {
        *node = json!({ "x-kubernetes-preserve-unknown-fields": true });
    }
    let Value::Object(schema) = node else { return };
    unwrap_option(schema);
    for dropped in ["$schema", "title", "default", "$defs", "examples"] {
        schema.remove(dropped);
    }
    if let Some(value) = schema.remove(DEFAULT) {
        schema.insert("default".into(), value);
    }
    if schema.remove(NULLABLE).is_some() {
        schema.insert("nullable".into(), Value::Bool(true));
    }
    if schema
        .get("format")
        .and_then(Value::as_str)
        .is_some_and(|f| f.starts_with("uint"))
    {
        schema.remove("format");
        schema.insert(
            "minimum".into(),
            schema.get("minimum").cloned().unwrap_or(json!(0)),
        );
        // schemars bounds small integers by their width; a limit of the type is not one of the API.
        schema.remove("maximum");
    }
    if schema.get("additionalProperties") == Some(&Value::Bool(true)) {
        schema.remove("additionalProperties");
        schema.insert("x-kubernetes-preserve-unknown-fields".into(), Value::Bool(true));
    }
    for child in ["items", "additionalProperties"] {
        if let Some(child) = schema.get_mut(child) {
            clean(child);
        }
    }
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        properties.values_mut().for_each(clean);
    }
}

/// `Option<T>` is `T` that may be absent: a description given at the field wins over that of the type.
fn unwrap_option(schema: &mut Map<String, Value>) {
    if let Some(Value::Array(types)) = schema.get("type") {
        let kept: Vec<_> = types.iter().filter(|t| *t != "null").cloned().collect();
        if let [only] = kept.as_slice() {
            let only = only.clone();
            schema.insert("type".into(), only);
        }
    }
    if let Some(Value::Array(choices)) = schema.get_mut("enum") {
        choices.retain(|choice| !choice.is_null());
    }
    let Some(Value::Array(arms)) = schema.get("anyOf") else {
        return;
    };
    let kept: Vec<_> = arms.iter().filter(|arm| arm["type"] != "null").cloned().collect();
    if let [Value::Object(only)] = kept.as_slice() {
        schema.remove("anyOf");
        for (key, value) in only.clone() {
            schema.entry(key).or_insert(value);
        }
        unwrap_option(schema);
    }
}

/// `false`, applied by the API server when the field is absent.
pub(crate) fn default_false(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "boolean", DEFAULT: false })
}

/// `0`, applied by the API server when the field is absent.
pub(crate) fn default_zero(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "integer", DEFAULT: 0 })
}

/// A time with as many digits as are needed: facts are ordered by it.
pub(crate) fn timestamp(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "format": "date-time" })
}

/// A time that other controllers may write as null.
pub(crate) fn nullable_time(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "format": "date-time", NULLABLE: true })
}

/// A time as Kubernetes writes it.
pub(crate) fn time(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "format": "date-time" })
}

/// An object of whose fields we use none, kept as it is.
pub(crate) fn any_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
}

/// Labels, annotations, properties.
pub(crate) fn string_map(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "additionalProperties": { "type": "string" } })
}

/// Kubernetes' label selector, without its prose.
pub(crate) fn label_selector(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "x-kubernetes-map-type": "atomic",
        "properties": {
            "matchLabels": { "type": "object", "additionalProperties": { "type": "string" } },
            "matchExpressions": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["key", "operator"],
                    "properties": {
                        "key": { "type": "string" },
                        "operator": { "type": "string" },
                        "values": { "type": "array", "items": { "type": "string" } },
                    },
                },
            },
        },
    })
}

/// Left out when it has its zero value, as Go's `omitempty` does.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
