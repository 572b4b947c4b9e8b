//! Properties: strings by name, given by providers, types, environments and claims.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

/// Properties by name. On the wire a map of strings.
///
/// Reading is lenient: a YAML number or boolean becomes the string that was meant, and the list form of older
/// files (`- property: x`, `- key: x` or `- name: x`, with `value` or `values`) is taken as a map.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties(pub BTreeMap<String, String>);

impl Properties {
    /// The property, unless it is absent or empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// `over` wins.
    pub fn overlaid(mut self, over: &Properties) -> Self {
        self.0.extend(over.0.iter().map(|(k, v)| (k.clone(), v.clone())));
        self
    }
}

impl<const N: usize> From<[(&str, &str); N]> for Properties {
    fn from(pairs: [(&str, &str); N]) -> Self {
        Self(
            pairs
                .into_iter()
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
                .collect(),
        )
    }
}

impl Serialize for Properties {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(to)
    }
}

impl<'de> Deserialize<'de> for Properties {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        lenient_properties(&Value::deserialize(from)?).map_err(serde::de::Error::custom)
    }
}

impl schemars::JsonSchema for Properties {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Properties".into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        crate::schema::string_map(generator)
    }
}

/// Reads either form; the error says what stood where a property was expected.
pub fn lenient_properties(value: &Value) -> Result<Properties, String> {
    let pairs: Result<BTreeMap<_, _>, String> = match value {
        Value::Null => Ok(BTreeMap::new()),
        Value::Object(map) => map
            .iter()
            .map(|(name, value)| Ok((name.clone(), scalar(name, value)?)))
            .collect(),
        Value::Array(list) => list
            .iter()
            .enumerate()
            .map(|(index, item)| entry(index, item))
            .collect(),
        other => Err(format!("expected a map of properties, found {other}")),
    };
    pairs.map(Properties)
}

fn entry(index: usize, item: &Value) -> Result<(String, String), String> {
    let name = ["property", "key", "name"]
        .iter()
        .find_map(|field| item.get(field).and_then(Value::as_str))
        .ok_or_else(|| format!("[{index}]: expected property and value, found {item}"))?;
    let value = match (item.get("value"), item.get("values").and_then(Value::as_array)) {
        (Some(value), _) => scalar(name, value)?,
        (None, Some(values)) => {
            let values: Result<Vec<_>, _> = values.iter().map(|value| scalar(name, value)).collect();
            values?.join(",")
        }
        (None, None) => String::new(),
    };
    Ok((name.to_owned(), value))
}

fn scalar(name: &str, value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(word) => Ok(word.to_string()),
        Value::Null => Ok(String::new()),
        other => Err(format!("{name}: expected a string, found {other}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_and_lists_say_the_same() {
        let map: Properties = crate::yaml::read("{a: x, b: 2, c: true}").unwrap();
        let list: Properties =
            crate::yaml::read("[{property: a, value: x}, {key: b, value: 2}, {name: c, values: [true]}]")
                .unwrap();
        assert_eq!(map, list);
        assert_eq!(map, Properties::from([("a", "x"), ("b", "2"), ("c", "true")]));
    }

    #[test]
    fn a_nested_value_is_refused_by_name() {
        let error = crate::yaml::read::<Properties>("{a: {b: c}}")
            .unwrap_err()
            .to_string();
        assert!(error.contains("a: expected a string, found"), "{error}");
    }
}
