//! Built-ins are Go structs on the real server: a wrong JSON type is a decoding error, in these words.

use serde_json::Value;

use super::{Schema, Type};

/// The first mismatch as `encoding/json` reports it, or none.
pub(crate) fn typecheck(value: &Value, schema: &Schema) -> Option<String> {
    walk(value, schema, schema.go_name.as_deref().unwrap_or(""), "")
}

fn json_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn go_type(schema: &Schema) -> String {
    match schema.ty() {
        Type::String => "string".into(),
        Type::Boolean => "bool".into(),
        Type::Number => "float64".into(),
        Type::Integer if schema.format.as_deref() == Some("int32") => "int32".into(),
        Type::Integer => "int64".into(),
        Type::Array => format!(
            "[]{}",
            schema.item().map_or_else(|| "interface {}".into(), go_type)
        ),
        Type::Object if schema.additional.is_some() => {
            format!(
                "map[string]{}",
                schema
                    .additional
                    .as_ref()
                    .map_or_else(String::new, |a| go_type(a.get()))
            )
        }
        Type::Object => schema
            .go_name
            .clone()
            .map_or_else(|| "struct".into(), |name| format!("v1.{name}")),
        Type::IntOrString | Type::Any => "interface {}".into(),
    }
}

fn fits(value: &Value, schema: &Schema) -> bool {
    match schema.ty() {
        Type::Any => true,
        Type::Object => value.is_object(),
        Type::Array => value.is_array(),
        Type::String => value.is_string(),
        Type::Integer => value.as_i64().is_some(),
        Type::Number => value.is_number(),
        Type::Boolean => value.is_boolean(),
        // Quantities and ports.
        Type::IntOrString => value.is_string() || value.is_number(),
    }
}

fn walk(value: &Value, schema: &Schema, owner: &str, path: &str) -> Option<String> {
    if value.is_null() {
        return None;
    }
    if !fits(value, schema) {
        let field = if owner.is_empty() {
            path.to_owned()
        } else {
            format!("{owner}.{path}")
        };
        let what = match value {
            Value::Number(n) if schema.ty() == Type::Integer => format!("number {n}"),
            other => json_name(other).to_owned(),
        };
        return Some(format!(
            "json: cannot unmarshal {what} into Go struct field {field} of type {}",
            go_type(schema)
        ));
    }
    let owner = schema.go_name.as_deref().unwrap_or(owner);
    match value {
        Value::Object(map) => map.iter().find_map(|(key, child)| {
            let property = schema.property(key)?;
            // Go names the field, not the key of a map.
            let at = if schema.properties.contains_key(key) {
                super::join(path, key)
            } else {
                path.to_owned()
            };
            walk(child, property, owner, &at)
        }),
        Value::Array(items) => {
            let item = schema.item()?;
            items.iter().find_map(|child| walk(child, item, owner, path))
        }
        _ => None,
    }
}
