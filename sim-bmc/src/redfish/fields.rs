//! Reads the properties of a request body by name, and notices everything that nobody asked for.
//!
//! A handler takes what it knows; [`Fields::finish`] then turns every mistake and every leftover into a message. So a
//! write is all or nothing: a body with one bad property changes nothing (DSP0266 allows both; this is the safer one).

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::failure::Failure;
use super::message::Message;

/// What the body is, which decides how mistakes are called.
#[derive(Clone, Copy)]
enum Kind {
    Patch,
    Create,
    /// With the action's name, as in its target.
    Action(&'static str),
}

pub(crate) struct Fields<'a> {
    left: Map<String, Value>,
    /// The resource as it is: tells a read-only property from an unknown one.
    current: Option<&'a Map<String, Value>>,
    kind: Kind,
    /// `#` or `#/Boot`.
    pointer: String,
    mistakes: Vec<Message>,
    took: usize,
}

impl<'a> Fields<'a> {
    pub(crate) fn patch(body: Map<String, Value>, current: Option<&'a Map<String, Value>>) -> Fields<'a> {
        Fields::new(body, current, Kind::Patch)
    }

    pub(crate) fn create(body: Map<String, Value>) -> Fields<'a> {
        Fields::new(body, None, Kind::Create)
    }

    pub(crate) fn action(name: &'static str, body: Map<String, Value>) -> Fields<'a> {
        Fields::new(body, None, Kind::Action(name))
    }

    fn new(left: Map<String, Value>, current: Option<&'a Map<String, Value>>, kind: Kind) -> Fields<'a> {
        Fields {
            left,
            current,
            kind,
            pointer: "#".to_owned(),
            mistakes: Vec::new(),
            took: 0,
        }
    }

    fn take(&mut self, name: &str) -> Option<Value> {
        let value = self.left.shift_remove(name)?;
        self.took += 1;
        Some(value)
    }

    pub(crate) fn fail(&mut self, name: &str, message: Message) {
        let pointer = format!("{}/{name}", self.pointer);
        self.mistakes.push(message.about(&pointer));
    }

    fn wrong_type(&mut self, name: &str, value: &Value) {
        let shown = shown(name, value);
        let message = match self.kind {
            Kind::Action(action) => Message::action_parameter_type(&shown, name, action),
            Kind::Patch | Kind::Create => Message::property_type(&shown, name),
        };
        self.fail(name, message);
    }

    fn not_in_list(&mut self, name: &str, value: &str) {
        let message = match self.kind {
            Kind::Action(action) => Message::action_parameter_not_in_list(value, name, action),
            Kind::Patch | Kind::Create => Message::property_not_in_list(value, name),
        };
        self.fail(name, message);
    }

    pub(crate) fn missing(&mut self, name: &str) {
        let message = match self.kind {
            Kind::Action(action) => Message::action_parameter_missing(action, name),
            Kind::Create => Message::create_missing(name),
            Kind::Patch => Message::property_missing(name),
        };
        self.fail(name, message);
    }

    /// Everything that is left, for objects whose names are data.
    pub(crate) fn take_all(&mut self) -> Map<String, Value> {
        self.took += self.left.len();
        std::mem::take(&mut self.left)
    }

    pub(crate) fn took_any(&self) -> bool {
        self.took > 0
    }

    pub(crate) fn has_mistakes(&self) -> bool {
        !self.mistakes.is_empty()
    }

    pub(crate) fn string(&mut self, name: &str) -> Option<String> {
        match self.take(name)? {
            Value::String(text) => Some(text),
            other => {
                self.wrong_type(name, &other);
                None
            }
        }
    }

    /// A text of at most `limit` characters; null clears it.
    pub(crate) fn text(&mut self, name: &str, limit: usize) -> Option<String> {
        if self.left.get(name) == Some(&Value::Null) {
            self.take(name);
            return Some(String::new());
        }
        let text = self.string(name)?;
        if text.chars().count() > limit {
            self.fail(name, Message::string_too_long(&text, &limit.to_string()));
            return None;
        }
        Some(text)
    }

    pub(crate) fn boolean(&mut self, name: &str) -> Option<bool> {
        match self.take(name)? {
            Value::Bool(value) => Some(value),
            other => {
                self.wrong_type(name, &other);
                None
            }
        }
    }

    pub(crate) fn integer(&mut self, name: &str, range: std::ops::RangeInclusive<i64>) -> Option<i64> {
        let value = self.take(name)?;
        let Some(number) = value.as_i64() else {
            self.wrong_type(name, &value);
            return None;
        };
        if !range.contains(&number) {
            self.fail(name, Message::property_out_of_range(&number.to_string(), name));
            return None;
        }
        Some(number)
    }

    /// One of `allowed`, by its Redfish name.
    pub(crate) fn choice<T: DeserializeOwned + PartialEq>(&mut self, name: &str, allowed: &[T]) -> Option<T> {
        let text = self.string(name)?;
        match serde_json::from_value::<T>(Value::String(text.clone())) {
            Ok(value) if allowed.contains(&value) => Some(value),
            _ => {
                self.not_in_list(name, &text);
                None
            }
        }
    }

    pub(crate) fn array(&mut self, name: &str) -> Option<Vec<Value>> {
        match self.take(name)? {
            Value::Array(values) => Some(values),
            other => {
                self.wrong_type(name, &other);
                None
            }
        }
    }

    pub(crate) fn raw_object(&mut self, name: &str) -> Option<Map<String, Value>> {
        match self.take(name)? {
            Value::Object(object) => Some(object),
            other => {
                self.wrong_type(name, &other);
                None
            }
        }
    }

    /// Descends into an object.
    pub(crate) fn object<T>(&mut self, name: &str, inside: impl FnOnce(&mut Fields<'_>) -> T) -> Option<T> {
        let left = self.raw_object(name)?;
        let mut fields = Fields {
            left,
            current: self
                .current
                .and_then(|current| current.get(name))
                .and_then(Value::as_object),
            kind: self.kind,
            pointer: format!("{}/{name}", self.pointer),
            mistakes: Vec::new(),
            took: 0,
        };
        let result = inside(&mut fields);
        fields.refuse_leftovers();
        self.mistakes.append(&mut fields.mistakes);
        Some(result)
    }

    fn refuse_leftovers(&mut self) {
        let names: Vec<String> = self
            .left
            .keys()
            .filter(|name| !name.contains('@'))
            .cloned()
            .collect();
        for name in names {
            let message = match self.kind {
                Kind::Action(action) => Message::action_parameter_unknown(action, &name),
                Kind::Patch if self.current.is_some_and(|current| current.contains_key(&name)) => {
                    Message::property_not_writable(&name)
                }
                Kind::Patch | Kind::Create => Message::property_unknown(&name),
            };
            self.fail(&name, message);
        }
    }

    /// Refuses what is left over, and a PATCH that asks for nothing. Annotations are ignored, as DSP0266 says.
    pub(crate) fn finish(mut self) -> Result<(), Failure> {
        self.refuse_leftovers();
        if !self.mistakes.is_empty() {
            return Err(Failure::many(self.mistakes));
        }
        if self.took == 0 && matches!(self.kind, Kind::Patch) {
            return Err(Failure::bad_request(Message::no_operation()));
        }
        Ok(())
    }
}

/// A value as it may appear in a message: passwords never do.
fn shown(name: &str, value: &Value) -> String {
    if name.contains("Password") {
        return "******".to_owned();
    }
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// PATCH of an array of strings, position by position (DSP0266 "PATCH on array properties"): a value replaces, `{}`
/// keeps, null removes, a shorter array truncates, a longer one appends.
pub(crate) fn patch_strings(current: &[String], wanted: &[Value]) -> Result<Vec<String>, Value> {
    let mut result = Vec::with_capacity(wanted.len());
    for (index, value) in wanted.iter().enumerate() {
        match value {
            Value::String(text) => result.push(text.clone()),
            Value::Null => {}
            Value::Object(empty) if empty.is_empty() => match current.get(index) {
                Some(kept) => result.push(kept.clone()),
                None => return Err(value.clone()),
            },
            other => return Err(other.clone()),
        }
    }
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn arrays_are_patched_by_position() {
        let current = ["a".to_owned(), "b".to_owned()];
        let cases = [
            (json!(["x"]), json!(["x"])),
            (json!([null, "b"]), json!(["b"])),
            (json!([{}, "c"]), json!(["a", "c"])),
            (json!([{}, {}, "c"]), json!(["a", "b", "c"])),
            (json!([]), json!([])),
        ];
        for (wanted, expected) in cases {
            let patched = patch_strings(&current, wanted.as_array().unwrap()).unwrap();
            assert_eq!(json!(patched), expected, "{wanted}");
        }
        assert_eq!(patch_strings(&current, &[json!(1)]), Err(json!(1)));
        assert_eq!(
            patch_strings(&current, &[json!({}), json!({}), json!({})]),
            Err(json!({}))
        );
    }
}
