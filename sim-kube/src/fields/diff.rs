//! What a value owns, and what changed between two values, as field sets.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::set::{Element, FieldSet, key_json};
use crate::schema::{ListType, Schema};

static UNTYPED: std::sync::LazyLock<Schema> = std::sync::LazyLock::new(Schema::default);

pub(super) fn property<'a>(schema: &'a Schema, key: &str) -> &'a Schema {
    schema.property(key).unwrap_or(&UNTYPED)
}

pub(super) fn item(schema: &Schema) -> &Schema {
    schema.item().unwrap_or(&UNTYPED)
}

/// The identity of a list item: nothing for atomic lists.
pub(super) fn element(value: &Value, schema: &Schema) -> Option<Element> {
    match &schema.list_type {
        ListType::Atomic => None,
        ListType::Set => Some(Element::Value(value.to_string())),
        ListType::Map(keys) => {
            let mut pairs = BTreeMap::new();
            for key in keys {
                let default = || {
                    item(schema)
                        .property(key)
                        .and_then(|s| s.default.clone())
                        .or_else(|| go_default(key))
                };
                if let Some(found) = value.get(key).cloned().or_else(default) {
                    pairs.insert(key.clone(), found);
                }
            }
            Some(Element::Key(key_json(pairs)))
        }
    }
}

/// Ports are keyed by protocol too, which Go defaults to TCP and k8s-openapi does not tell.
fn go_default(key: &str) -> Option<Value> {
    (key == "protocol").then(|| "TCP".into())
}

fn is_granular_list(schema: &Schema) -> bool {
    schema.list_type != ListType::Atomic
}

fn by_element<'a>(items: &'a [Value], schema: &Schema) -> BTreeMap<Element, &'a Value> {
    items
        .iter()
        .filter_map(|v| Some((element(v, schema)?, v)))
        .collect()
}

/// The leaves and list items that an applied configuration owns.
pub(super) fn owned(value: &Value, schema: &Schema, into: &mut FieldSet) {
    match value {
        Value::Object(map) if !schema.atomic_map && !map.is_empty() => {
            for (key, child) in map {
                owned(
                    child,
                    property(schema, key),
                    into.child(Element::Field(key.clone())),
                );
            }
        }
        Value::Array(items) if is_granular_list(schema) && !items.is_empty() => {
            for (element, child) in by_element(items, schema) {
                let at = into.child(element);
                at.member = true;
                if child.is_object() {
                    owned(child, item(schema), at);
                }
            }
        }
        _ => into.member = true,
    }
}

/// Everything in `value`, containers too.
fn everything(value: &Value, schema: &Schema, into: &mut FieldSet) {
    into.member = true;
    match value {
        Value::Object(map) if !schema.atomic_map => {
            for (key, child) in map {
                everything(
                    child,
                    property(schema, key),
                    into.child(Element::Field(key.clone())),
                );
            }
        }
        Value::Array(items) if is_granular_list(schema) => {
            for (element, child) in by_element(items, schema) {
                everything(child, item(schema), into.child(element));
            }
        }
        _ => {}
    }
}

#[derive(Debug, Default)]
pub(super) struct Diff {
    /// Added or modified.
    pub(super) changed: FieldSet,
    pub(super) removed: FieldSet,
}

impl Diff {
    pub(super) fn between(old: &Value, new: &Value, schema: &Schema) -> Diff {
        let mut diff = Diff::default();
        compare(old, new, schema, &mut diff.changed, &mut diff.removed);
        diff
    }
}

/// Tells the child from the trie nodes, and drops nodes that stayed empty.
fn descend(
    changed: &mut FieldSet,
    removed: &mut FieldSet,
    element: Element,
    walk: impl FnOnce(&mut FieldSet, &mut FieldSet),
) {
    let (mut c, mut r) = (FieldSet::default(), FieldSet::default());
    walk(&mut c, &mut r);
    if !c.is_empty() {
        changed.children.insert(element.clone(), c);
    }
    if !r.is_empty() {
        removed.children.insert(element, r);
    }
}

fn compare(old: &Value, new: &Value, schema: &Schema, changed: &mut FieldSet, removed: &mut FieldSet) {
    if old == new {
        return;
    }
    match (old, new) {
        (Value::Object(a), Value::Object(b)) if !schema.atomic_map => {
            compare_maps(a, b, schema, changed, removed)
        }
        (Value::Array(a), Value::Array(b)) if is_granular_list(schema) => {
            let (a, b) = (by_element(a, schema), by_element(b, schema));
            let mut keys: Vec<&Element> = a.keys().chain(b.keys()).collect();
            keys.sort();
            keys.dedup();
            for key in keys {
                let schema = item(schema);
                descend(changed, removed, key.clone(), |c, r| {
                    one(a.get(key).copied(), b.get(key).copied(), schema, c, r)
                });
            }
        }
        (Value::Null, new) => everything(new, schema, changed),
        (old, Value::Null) => everything(old, schema, removed),
        _ => changed.member = true,
    }
}

fn compare_maps(
    a: &Map<String, Value>,
    b: &Map<String, Value>,
    schema: &Schema,
    changed: &mut FieldSet,
    removed: &mut FieldSet,
) {
    for key in a.keys().chain(b.keys().filter(|key| !a.contains_key(*key))) {
        let schema = property(schema, key);
        descend(changed, removed, Element::Field(key.clone()), |c, r| {
            one(a.get(key), b.get(key), schema, c, r)
        });
    }
}

fn one(
    old: Option<&Value>,
    new: Option<&Value>,
    schema: &Schema,
    changed: &mut FieldSet,
    removed: &mut FieldSet,
) {
    match (old, new) {
        (None, Some(new)) => everything(new, schema, changed),
        (Some(old), None) => everything(old, schema, removed),
        (Some(old), Some(new)) => compare(old, new, schema, changed, removed),
        (None, None) => {}
    }
}
