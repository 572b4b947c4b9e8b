//! Fills in defaults: absent fields, and nulls where null is not allowed.

use serde_json::Value;

use super::Schema;

pub(crate) fn apply_defaults(value: &mut Value, schema: &Schema) {
    if !schema.has_defaults {
        return;
    }
    match value {
        Value::Object(map) => {
            for (key, property) in &schema.properties {
                let property = property.get();
                let Some(default) = &property.default else {
                    continue;
                };
                match map.get(key) {
                    None => {
                        map.insert(key.clone(), default.clone());
                    }
                    Some(Value::Null) if !property.nullable => {
                        map.insert(key.clone(), default.clone());
                    }
                    Some(_) => {}
                }
            }
            for (key, child) in map.iter_mut() {
                if let Some(property) = schema.property(key) {
                    apply_defaults(child, property);
                }
            }
        }
        Value::Array(items) => {
            if let Some(item) = schema.item() {
                for child in items {
                    apply_defaults(child, item);
                }
            }
        }
        _ => {}
    }
}
