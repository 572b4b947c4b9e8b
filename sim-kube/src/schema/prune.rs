//! Removes what the schema does not know, and says what it removed: both pruning and strict decoding.

use serde_json::Value;

use super::{Schema, Type, index, join, keyed};

/// The real server reports at most this many unknown fields.
const UNKNOWN_MAX: usize = 100;

/// Prunes in place; paths of unknown fields go to `unknown`.
pub(crate) fn prune(value: &mut Value, schema: &Schema, unknown: &mut Vec<String>) {
    walk(value, schema, "", unknown);
}

fn walk(value: &mut Value, schema: &Schema, path: &str, unknown: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            if schema.ty() == Type::Any && schema.properties.is_empty() && schema.additional.is_none() {
                return; // no schema at all: JSON of any shape
            }
            if !schema.preserve_unknown && schema.additional.is_none() {
                map.retain(|key, _| {
                    let known = schema.properties.contains_key(key);
                    if !known && unknown.len() < UNKNOWN_MAX {
                        unknown.push(join(path, key));
                    }
                    known
                });
            }
            for (key, child) in map.iter_mut() {
                if !(child.is_object() || child.is_array()) {
                    continue;
                }
                if let Some(property) = schema.properties.get(key) {
                    walk(child, property.get(), &join(path, key), unknown);
                } else if let Some(additional) = &schema.additional {
                    walk(child, additional.get(), &keyed_or_dotted(path, key), unknown);
                }
            }
        }
        Value::Array(items) => {
            if let Some(item) = schema.item() {
                for (at, child) in items.iter_mut().enumerate() {
                    if child.is_object() || child.is_array() {
                        walk(child, item, &index(path, at), unknown);
                    }
                }
            }
        }
        _ => {}
    }
}

/// Strict decoding errors name map keys with a dot, unless the key itself holds one.
fn keyed_or_dotted(path: &str, key: &str) -> String {
    if key.contains('.') {
        keyed(path, key)
    } else {
        join(path, key)
    }
}
