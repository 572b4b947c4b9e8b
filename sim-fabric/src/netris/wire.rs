//! Requests as clients really send them: weakly typed, things referred to by id, by name or by both.

use ipnet::Ipv4Net;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use super::envelope::Failure;
use crate::model::{Ref, State};

/// A number, or its decimal text.
pub(super) fn number(value: &Value) -> Option<u32> {
    match value {
        Value::Number(n) => n.as_u64().and_then(|n| u32::try_from(n).ok()),
        Value::String(s) => s.trim().parse().ok(),
        _ => None,
    }
}

/// A boolean, or a word or number that means one.
pub(super) fn truth(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(b) => Some(*b),
        Value::Number(n) => Some(n.as_f64() != Some(0.0)),
        Value::String(s) => match s.to_ascii_lowercase().as_str() {
            "true" | "yes" | "1" | "on" => Some(true),
            "false" | "no" | "0" | "off" | "" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

/// `{id, name}`, a bare id or a bare name.
#[derive(Debug, Clone, Default)]
pub(super) struct Thing(pub(super) Ref);

impl<'de> Deserialize<'de> for Thing {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Thing, D::Error> {
        let value = Value::deserialize(from)?;
        let name = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
        let made = match &value {
            Value::Null => Some(Ref::default()),
            Value::Object(object) => {
                let id = object.get("id").filter(|id| !id.is_null());
                let id = id.map_or(Some(0), number);
                id.map(|id| Ref {
                    id,
                    name: name(object.get("name")),
                })
            }
            other => match number(other) {
                Some(id) => Some(Ref {
                    id,
                    name: String::new(),
                }),
                None => other.as_str().map(|text| Ref {
                    id: 0,
                    name: text.to_owned(),
                }),
            },
        };
        made.map(Thing)
            .ok_or_else(|| serde::de::Error::custom(format!("{value} is no reference; write {{\"id\": 1}}")))
    }
}

/// A boolean in any spelling; absent and null are false.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Truth(pub(super) bool);

impl<'de> Deserialize<'de> for Truth {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Truth, D::Error> {
        let value = Value::deserialize(from)?;
        if value.is_null() {
            return Ok(Truth(false));
        }
        truth(&value)
            .map(Truth)
            .ok_or_else(|| serde::de::Error::custom(format!("{value} is neither true nor false")))
    }
}

/// An unsigned number in any spelling.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Number(pub(super) u32);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Number, D::Error> {
        let value = Value::deserialize(from)?;
        number(&value)
            .map(Number)
            .ok_or_else(|| serde::de::Error::custom(format!("{value} is no number")))
    }
}

pub(super) fn prefix(field: &str, text: &str) -> Result<Ipv4Net, Failure> {
    text.parse()
        .map_err(|_| Failure::invalid(format!("{field}: {text:?} is no IPv4 prefix such as 10.0.0.1/24")))
}

pub(super) fn named(thing: &Ref) -> Value {
    json!({ "id": thing.id, "name": thing.name })
}

pub(super) fn status(state: State) -> Value {
    json!({ "label": state.label(), "value": state.value() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_in_every_spelling() {
        for (text, want) in [
            (r#"{"id":3,"name":"x"}"#, Some((3, "x"))),
            (r#"{"id":"3"}"#, Some((3, ""))),
            (r#"{"name":"x"}"#, Some((0, "x"))),
            (r#"{"id":null,"name":"x"}"#, Some((0, "x"))),
            ("7", Some((7, ""))),
            (r#""7""#, Some((7, ""))),
            (r#""x""#, Some((0, "x"))),
            ("null", Some((0, ""))),
            (r#"{"id":-1}"#, None),
            ("[]", None),
            ("true", None),
        ] {
            let got = serde_json::from_str::<Thing>(text)
                .ok()
                .map(|thing| (thing.0.id, thing.0.name));
            assert_eq!(got, want.map(|(id, name)| (id, name.to_owned())), "{text}");
        }
    }
}
