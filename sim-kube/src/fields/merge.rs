//! The typed merge of server-side apply, and the removal of what an applier stopped applying.

use serde_json::{Map, Value};

use super::diff::{element, item, property};
use super::set::{Element, FieldSet};
use crate::schema::{ListType, Schema};

/// `config` over `live`: maps and keyed lists merge, everything else is replaced.
pub(super) fn merge(live: &Value, config: &Value, schema: &Schema) -> Value {
    match (live, config) {
        (Value::Object(a), Value::Object(b)) if !schema.atomic_map => {
            let mut out = a.clone();
            for (key, theirs) in b {
                let merged = match a.get(key) {
                    Some(mine) => merge(mine, theirs, property(schema, key)),
                    None => theirs.clone(),
                };
                out.insert(key.clone(), merged);
            }
            out.into()
        }
        (Value::Array(a), Value::Array(b)) if schema.list_type != ListType::Atomic => {
            merge_lists(a, b, schema)
        }
        (_, config) => config.clone(),
    }
}

/// Live order first, then what is new, in the order applied.
fn merge_lists(live: &[Value], config: &[Value], schema: &Schema) -> Value {
    let mut out: Vec<(Option<Element>, Value)> =
        live.iter().map(|v| (element(v, schema), v.clone())).collect();
    for theirs in config {
        let id = element(theirs, schema);
        match out.iter_mut().find(|(mine, _)| *mine == id) {
            Some((_, mine)) => *mine = merge(mine, theirs, item(schema)),
            None => out.push((id, theirs.clone())),
        }
    }
    out.into_iter().map(|(_, value)| value).collect::<Vec<_>>().into()
}

/// Removes what is in `last` and owned by nobody. Containers that become empty through it go too.
pub(super) fn prune(value: &mut Value, schema: &Schema, last: &FieldSet, owned: &FieldSet) {
    match value {
        Value::Object(map) if !schema.atomic_map => prune_map(map, schema, last, owned),
        Value::Array(items) => {
            items.retain_mut(|child| {
                let Some(id) = element(child, schema) else {
                    return true;
                };
                let Some(last) = last.children.get(&id) else {
                    return true;
                };
                keep(child, item(schema), last, owned.children.get(&id))
            });
        }
        _ => {}
    }
}

fn prune_map(map: &mut Map<String, Value>, schema: &Schema, last: &FieldSet, owned: &FieldSet) {
    for (id, last) in &last.children {
        let Element::Field(key) = id else { continue };
        let Some(child) = map.get_mut(key) else { continue };
        if !keep(child, property(schema, key), last, owned.children.get(id)) {
            map.shift_remove(key);
        }
    }
}

fn keep(child: &mut Value, schema: &Schema, last: &FieldSet, owned: Option<&FieldSet>) -> bool {
    match owned {
        None if last.member => false,
        owned => {
            let was_empty = is_empty(child);
            prune(child, schema, last, owned.unwrap_or(&FieldSet::default()));
            was_empty || !is_empty(child) || owned.is_some_and(|o| o.member)
        }
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Object(map) => map.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}
