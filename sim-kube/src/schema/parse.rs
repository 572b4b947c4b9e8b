//! JSON schema text to [`Schema`]. Lenient: what a CRD may contain is checked in `structural.rs`.

use std::sync::Arc;

use serde_json::Value;

use super::{Child, Limits, ListType, Pattern, Schema, Type};

fn text(value: &Value, key: &str) -> Option<String> {
    value.get(key).and_then(Value::as_str).map(str::to_owned)
}

fn flag(value: &Value, key: &str) -> bool {
    value.get(key).and_then(Value::as_bool).unwrap_or(false)
}

fn number(value: &Value, key: &str) -> Option<u64> {
    value.get(key).and_then(Value::as_u64)
}

pub(super) fn child(value: &Value) -> Child {
    if let Some(name) = reference(value) {
        return Child::named(name);
    }
    Child::Inline(Arc::new(parse(value)))
}

fn reference(value: &Value) -> Option<&str> {
    let target = value.get("$ref").and_then(Value::as_str)?;
    target.rsplit('/').next()
}

fn children(value: &Value, key: &str) -> Vec<Child> {
    value
        .get(key)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(child)
        .collect()
}

fn type_of(value: &Value) -> Option<Type> {
    if flag(value, "x-kubernetes-int-or-string") {
        return Some(Type::IntOrString);
    }
    Some(match value.get("type")?.as_str()? {
        "object" => Type::Object,
        "array" => Type::Array,
        "string" => Type::String,
        "integer" => Type::Integer,
        "number" => Type::Number,
        "boolean" => Type::Boolean,
        _ => return None,
    })
}

fn limits(value: &Value) -> Option<Box<Limits>> {
    let f64_of = |key: &str| value.get(key).and_then(Value::as_f64);
    let limits = Limits {
        minimum: f64_of("minimum"),
        maximum: f64_of("maximum"),
        exclusive_minimum: flag(value, "exclusiveMinimum"),
        exclusive_maximum: flag(value, "exclusiveMaximum"),
        multiple_of: f64_of("multipleOf"),
        min_length: number(value, "minLength"),
        max_length: number(value, "maxLength"),
        pattern: value
            .get("pattern")
            .and_then(Value::as_str)
            .filter(|p| !p.is_empty())
            .map(Pattern::new),
        min_items: number(value, "minItems"),
        max_items: number(value, "maxItems"),
        unique_items: flag(value, "uniqueItems"),
        min_properties: number(value, "minProperties"),
        max_properties: number(value, "maxProperties"),
        one_of_values: value
            .get("enum")
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default(),
        all_of: children(value, "allOf"),
        any_of: children(value, "anyOf"),
        one_of: children(value, "oneOf"),
        not: value.get("not").map(child),
    };
    let empty = limits.minimum.is_none()
        && limits.maximum.is_none()
        && limits.multiple_of.is_none()
        && limits.min_length.is_none()
        && limits.max_length.is_none()
        && limits.pattern.is_none()
        && limits.min_items.is_none()
        && limits.max_items.is_none()
        && !limits.unique_items
        && limits.min_properties.is_none()
        && limits.max_properties.is_none()
        && limits.one_of_values.is_empty()
        && limits.all_of.is_empty()
        && limits.any_of.is_empty()
        && limits.one_of.is_empty()
        && limits.not.is_none();
    (!empty).then(|| Box::new(limits))
}

fn list_type(value: &Value) -> ListType {
    match value.get("x-kubernetes-list-type").and_then(Value::as_str) {
        Some("set") => ListType::Set,
        Some("map") => {
            let keys = value.get("x-kubernetes-list-map-keys").and_then(Value::as_array);
            ListType::Map(
                keys.into_iter()
                    .flatten()
                    .filter_map(Value::as_str)
                    .map(str::to_owned)
                    .collect(),
            )
        }
        _ => ListType::Atomic,
    }
}

fn has_defaults(child: &Child) -> bool {
    match child {
        Child::Inline(schema) => schema.has_defaults,
        // Built-in definitions carry no defaults; theirs are code.
        Child::Named(_) => false,
    }
}

pub(crate) fn parse(value: &Value) -> Schema {
    let properties = value.get("properties").and_then(Value::as_object);
    let mut schema = Schema {
        kind: type_of(value),
        format: text(value, "format"),
        properties: properties
            .into_iter()
            .flatten()
            .map(|(k, v)| (k.clone(), child(v)))
            .collect(),
        additional: value
            .get("additionalProperties")
            .filter(|v| **v != Value::Bool(false))
            .map(child),
        items: value.get("items").map(child),
        required: value
            .get("required")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect(),
        default: value.get("default").cloned(),
        nullable: flag(value, "nullable"),
        preserve_unknown: flag(value, "x-kubernetes-preserve-unknown-fields"),
        embedded_resource: flag(value, "x-kubernetes-embedded-resource"),
        list_type: list_type(value),
        atomic_map: value.get("x-kubernetes-map-type").and_then(Value::as_str) == Some("atomic"),
        patch_strategy: text(value, "x-kubernetes-patch-strategy"),
        patch_merge_key: text(value, "x-kubernetes-patch-merge-key"),
        limits: limits(value),
        has_defaults: false,
        go_name: None,
    };
    schema.has_defaults = schema.default.is_some()
        || schema.properties.values().any(has_defaults)
        || schema.additional.as_ref().is_some_and(has_defaults)
        || schema.items.as_ref().is_some_and(has_defaults);
    if schema.embedded_resource {
        let string = || {
            Child::Inline(Arc::new(Schema {
                kind: Some(Type::String),
                ..Schema::default()
            }))
        };
        schema
            .properties
            .entry("apiVersion".into())
            .or_insert_with(string);
        schema.properties.entry("kind".into()).or_insert_with(string);
        schema
            .properties
            .insert("metadata".into(), Child::named(super::builtin::OBJECT_META));
    }
    schema
}
