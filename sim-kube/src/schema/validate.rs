//! Validation of custom objects against their schema, with the real server's field paths and words.
//!
//! Ratcheting (on by default since 1.33): on update, a subtree that did not change is not complained about.

use serde_json::{Map, Value};

use super::{Child, Limits, ListType, Schema, Type, formats, index, join};
use crate::status::Cause;

pub(crate) fn validate(value: &Value, old: Option<&Value>, schema: &Schema) -> Vec<Cause> {
    let mut causes = Vec::new();
    walk(value, old, schema, "", &mut causes);
    causes
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_f64() && n.as_f64().is_some_and(|f| f.fract() != 0.0) => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn is_integer(value: &Value) -> bool {
    value.as_f64().is_some_and(|f| f.fract() == 0.0)
}

fn fits(value: &Value, schema: &Schema) -> bool {
    match schema.ty() {
        Type::Any => true,
        Type::Object => value.is_object(),
        Type::Array => value.is_array(),
        Type::String => value.is_string(),
        Type::Integer => is_integer(value),
        Type::Number => value.is_number(),
        Type::Boolean => value.is_boolean(),
        Type::IntOrString => value.is_string() || is_integer(value),
    }
}

fn walk(value: &Value, old: Option<&Value>, schema: &Schema, path: &str, causes: &mut Vec<Cause>) {
    if old == Some(value) || (value.is_null() && schema.nullable) {
        return;
    }
    if !fits(value, schema) {
        let (found, wanted) = (type_name(value), schema.ty().name());
        let message = format!("{found:?}: {path} in body must be of type {wanted}: {found:?}");
        causes.push(Cause::type_invalid(path, message));
        return;
    }
    if let (Value::String(text), Some(format)) = (value, &schema.format)
        && !formats::holds(format, text)
    {
        let message = format!("{path} in body must be of type {format}: {text:?}");
        causes.push(Cause::type_invalid(path, format!("{value}: {message}")));
    }
    if let Some(limits) = &schema.limits {
        check_limits(value, limits, path, causes);
    }
    match value {
        Value::Object(map) => walk_object(map, old, schema, path, causes),
        Value::Array(items) => walk_list(items, old, schema, path, causes),
        _ => {}
    }
}

fn walk_object(
    map: &Map<String, Value>,
    old: Option<&Value>,
    schema: &Schema,
    path: &str,
    causes: &mut Vec<Cause>,
) {
    for key in &schema.required {
        if !map.contains_key(key) {
            causes.push(Cause::required(join(path, key), ""));
        }
    }
    for (key, child) in map {
        let old = old.and_then(|o| o.get(key));
        if let Some(property) = schema.properties.get(key) {
            walk(child, old, property.get(), &join(path, key), causes);
        } else if let Some(additional) = &schema.additional {
            walk(child, old, additional.get(), &join(path, key), causes);
        }
    }
    if schema.embedded_resource {
        for key in ["apiVersion", "kind"] {
            if map
                .get(key)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .is_empty()
            {
                causes.push(Cause::required(join(path, key), "must not be empty"));
            }
        }
    }
}

fn walk_list(items: &[Value], old: Option<&Value>, schema: &Schema, path: &str, causes: &mut Vec<Cause>) {
    if let Some(item) = schema.item() {
        for (at, child) in items.iter().enumerate() {
            let old = old.and_then(|old| correlate(old, child, at, &schema.list_type));
            walk(child, old, item, &index(path, at), causes);
        }
    }
    let identity = |item: &Value| match &schema.list_type {
        ListType::Set => Some(item.clone()),
        ListType::Map(keys) => {
            let pairs = keys
                .iter()
                .filter_map(|key| Some((key.clone(), item.get(key)?.clone())));
            Some(Value::Object(pairs.collect()))
        }
        ListType::Atomic => None,
    };
    let mut seen: Vec<Value> = Vec::new();
    for (at, item) in items.iter().enumerate() {
        let Some(identity) = identity(item) else { return };
        if seen.contains(&identity) {
            causes.push(Cause::duplicate(index(path, at), &identity));
        } else {
            seen.push(identity);
        }
    }
}

/// The old item that a new one continues: by key in a map list, by value in a set, by place if unchanged.
fn correlate<'a>(old: &'a Value, item: &Value, at: usize, list_type: &ListType) -> Option<&'a Value> {
    match list_type {
        ListType::Map(keys) => old
            .as_array()?
            .iter()
            .find(|candidate| keys.iter().all(|key| candidate.get(key) == item.get(key))),
        _ => old.get(at),
    }
}

fn check_limits(value: &Value, limits: &Limits, path: &str, causes: &mut Vec<Cause>) {
    let mut invalid =
        |text: String| causes.push(Cause::invalid(path, value, format!("{path} in body {text}")));
    if let Some(number) = value.as_f64() {
        if let Some(minimum) = limits.minimum {
            if limits.exclusive_minimum && number <= minimum {
                invalid(format!("should be greater than {}", plain(minimum)));
            } else if number < minimum {
                invalid(format!("should be greater than or equal to {}", plain(minimum)));
            }
        }
        if let Some(maximum) = limits.maximum {
            if limits.exclusive_maximum && number >= maximum {
                invalid(format!("should be less than {}", plain(maximum)));
            } else if number > maximum {
                invalid(format!("should be less than or equal to {}", plain(maximum)));
            }
        }
        if let Some(factor) = limits.multiple_of
            && factor > 0.0
            && (number / factor).fract().abs() > 1e-9
        {
            invalid(format!("should be a multiple of {}", plain(factor)));
        }
    }
    match value {
        Value::String(text) => check_text(text, value, limits, path, causes),
        Value::Array(items) => check_count(
            items.len(),
            "items",
            (limits.min_items, limits.max_items),
            path,
            causes,
        ),
        Value::Object(map) => {
            let bounds = (limits.min_properties, limits.max_properties);
            check_count(map.len(), "properties", bounds, path, causes);
        }
        _ => {}
    }
    if !limits.one_of_values.is_empty() && !limits.one_of_values.iter().any(|allowed| same(allowed, value)) {
        causes.push(Cause::not_supported(path, value, &limits.one_of_values));
    }
    check_combinators(value, limits, path, causes);
}

fn same(allowed: &Value, value: &Value) -> bool {
    allowed == value || (allowed.is_number() && allowed.as_f64() == value.as_f64())
}

fn check_text(text: &str, value: &Value, limits: &Limits, path: &str, causes: &mut Vec<Cause>) {
    let length = text.chars().count() as u64;
    if let Some(limit) = limits.min_length
        && length < limit
    {
        causes.push(Cause::invalid(
            path,
            value,
            format!("{path} in body should be at least {limit} chars long"),
        ));
    }
    if let Some(limit) = limits.max_length
        && length > limit
    {
        causes.push(Cause::too_long(path, limit));
    }
    if let Some(pattern) = &limits.pattern
        && !pattern.matches(text)
    {
        causes.push(Cause::invalid(
            path,
            value,
            format!("{path} in body should match '{}'", pattern.text),
        ));
    }
}

fn check_count(
    count: usize,
    noun: &str,
    (min, max): (Option<u64>, Option<u64>),
    path: &str,
    causes: &mut Vec<Cause>,
) {
    if let Some(limit) = min
        && (count as u64) < limit
    {
        causes.push(Cause::invalid(
            path,
            &count.into(),
            format!("{path} in body should have at least {limit} {noun}"),
        ));
    }
    if let Some(limit) = max
        && count as u64 > limit
    {
        causes.push(Cause::too_many(path, count, limit));
    }
}

fn passes(value: &Value, schema: &Child, path: &str) -> bool {
    let mut causes = Vec::new();
    walk(value, None, schema.get(), path, &mut causes);
    causes.is_empty()
}

fn check_combinators(value: &Value, limits: &Limits, path: &str, causes: &mut Vec<Cause>) {
    let shown = match value {
        Value::Object(_) | Value::Array(_) => Value::from(type_name(value)),
        scalar => scalar.clone(),
    };
    let mut complain = |text: String| causes.push(Cause::invalid(path, &shown, text));
    if !limits.any_of.is_empty() && !limits.any_of.iter().any(|s| passes(value, s, path)) {
        complain(format!("{path:?} must validate at least one schema (anyOf)"));
    }
    if !limits.one_of.is_empty() {
        match limits.one_of.iter().filter(|s| passes(value, s, path)).count() {
            1 => {}
            0 => complain(format!(
                "{path:?} must validate one and only one schema (oneOf). Found none valid"
            )),
            many => complain(format!(
                "{path:?} must validate one and only one schema (oneOf). Found {many} valid alternatives"
            )),
        }
    }
    if let Some(not) = &limits.not
        && passes(value, not, path)
    {
        complain(format!("{path:?} must not validate the schema (not)"));
    }
    for schema in &limits.all_of {
        walk(value, None, schema.get(), path, causes);
    }
}

/// Numbers as Go's `%v` prints whole floats.
fn plain(number: f64) -> String {
    if number.fract() == 0.0 && number.abs() < 1e15 {
        format!("{number:.0}")
    } else {
        number.to_string()
    }
}
