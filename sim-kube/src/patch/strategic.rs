//! Strategic merge patch: a merge patch that knows, from the schema, which lists merge and by which key.
//!
//! Directives: `$patch` (replace, delete, merge), `$retainKeys`, `$deleteFromPrimitiveList/f`,
//! `$setElementOrder/f`.

use serde_json::{Map, Value};

use crate::schema::Schema;
use crate::status::{ApiError, Result};

static UNTYPED: std::sync::LazyLock<Schema> = std::sync::LazyLock::new(Schema::default);

pub(super) fn apply(target: &mut Value, patch: &Value, schema: &Schema) -> Result<()> {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return Ok(());
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Some(map) = target.as_object_mut() else {
        return Ok(());
    };
    apply_map(map, patch, schema)
}

fn apply_map(map: &mut Map<String, Value>, patch: &Map<String, Value>, schema: &Schema) -> Result<()> {
    match patch.get("$patch").and_then(Value::as_str) {
        Some("replace") => {
            map.clear();
            map.extend(
                patch
                    .iter()
                    .filter(|(k, _)| *k != "$patch")
                    .map(|(k, v)| (k.clone(), v.clone())),
            );
            return Ok(());
        }
        Some("delete") => {
            map.clear();
            return Ok(());
        }
        Some("merge") | None => {}
        Some(other) => return Err(ApiError::bad_request(format!("unknown patch type: {other}"))),
    }
    if let Some(keys) = patch.get("$retainKeys").and_then(Value::as_array) {
        map.retain(|key, _| keys.iter().any(|k| k == key));
    }
    for (key, value) in patch {
        if key == "$patch" || key == "$retainKeys" {
            continue;
        }
        if let Some(field) = key.strip_prefix("$deleteFromPrimitiveList/") {
            delete_primitives(map.get_mut(field), value);
            continue;
        }
        if key.starts_with("$setElementOrder/") {
            continue;
        }
        let property = schema.property(key).unwrap_or(&UNTYPED);
        match value {
            Value::Null => {
                map.shift_remove(key);
            }
            Value::Object(_) => apply(map.entry(key.clone()).or_insert(Value::Null), value, property)?,
            Value::Array(items) => {
                let slot = map.entry(key.clone()).or_insert(Value::Null);
                apply_list(slot, items, property)?;
            }
            scalar => {
                map.insert(key.clone(), scalar.clone());
            }
        }
    }
    for (key, order) in patch
        .iter()
        .filter_map(|(k, v)| Some((k.strip_prefix("$setElementOrder/")?, v)))
    {
        let merge_key = schema.property(key).and_then(|p| p.patch_merge_key.clone());
        if let (Some(Value::Array(items)), Some(order)) = (map.get_mut(key), order.as_array()) {
            reorder(items, order, merge_key.as_deref());
        }
    }
    Ok(())
}

fn delete_primitives(list: Option<&mut Value>, gone: &Value) {
    if let (Some(Value::Array(items)), Some(gone)) = (list, gone.as_array()) {
        items.retain(|item| !gone.contains(item));
    }
}

fn directive(item: &Value) -> Option<&str> {
    item.get("$patch").and_then(Value::as_str)
}

fn apply_list(slot: &mut Value, patch: &[Value], schema: &Schema) -> Result<()> {
    let merges = schema
        .patch_strategy
        .as_deref()
        .is_some_and(|s| s.split(',').any(|s| s == "merge"));
    let replace = patch.iter().any(|item| directive(item) == Some("replace"));
    let plain = || {
        patch
            .iter()
            .filter(|item| directive(item).is_none())
            .cloned()
            .collect::<Vec<_>>()
    };
    if !merges || replace {
        *slot = plain().into();
        return Ok(());
    }
    if !slot.is_array() {
        *slot = Value::Array(Vec::new());
    }
    let Some(items) = slot.as_array_mut() else {
        return Ok(());
    };
    let Some(merge_key) = &schema.patch_merge_key else {
        for item in patch {
            if !items.contains(item) {
                items.push(item.clone());
            }
        }
        return Ok(());
    };
    for item in patch {
        let Some(id) = item.get(merge_key) else {
            if directive(item).is_some() {
                continue;
            }
            let message = format!("map: {item} does not contain declared merge key: {merge_key}");
            return Err(ApiError::bad_request(message));
        };
        let found = items.iter().position(|mine| mine.get(merge_key) == Some(id));
        match (directive(item), found) {
            (Some("delete"), Some(_)) => items.retain(|mine| mine.get(merge_key) != Some(id)),
            (Some("delete"), None) => {}
            (_, Some(at)) => apply(&mut items[at], item, schema.item().unwrap_or(&UNTYPED))?,
            (_, None) => {
                let mut new = Value::Object(Map::new());
                apply(&mut new, item, schema.item().unwrap_or(&UNTYPED))?;
                items.push(new);
            }
        }
    }
    Ok(())
}

/// Items named in the order come in that order; the others keep their place relative to what precedes them.
fn reorder(items: &mut Vec<Value>, order: &[Value], merge_key: Option<&str>) {
    let id = |item: &Value| merge_key.map_or_else(|| Some(item.clone()), |key| item.get(key).cloned());
    let rank = |item: &Value| {
        let mine = id(item)?;
        order
            .iter()
            .position(|o| merge_key.map_or(Some(o), |key| o.get(key)) == Some(&mine))
    };
    let mut last = 0;
    let mut keyed: Vec<(usize, Value)> = std::mem::take(items)
        .into_iter()
        .map(|item| {
            if let Some(rank) = rank(&item) {
                last = rank;
            }
            (last, item)
        })
        .collect();
    keyed.sort_by_key(|(rank, _)| *rank);
    items.extend(keyed.into_iter().map(|(_, item)| item));
}
