//! Keyword arguments of commands and steps, checked as Python would.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::failure::Failure;

/// Arguments that are taken one by one; what is left at the end was unexpected.
pub(crate) struct Params {
    command: String,
    values: Map<String, Value>,
}

impl Params {
    pub(crate) fn new(command: &str, values: Map<String, Value>) -> Self {
        Self {
            command: command.to_owned(),
            values,
        }
    }

    /// A required argument.
    pub(crate) fn required<T: DeserializeOwned>(&mut self, name: &str) -> Result<T, Failure> {
        let value = self.values.shift_remove(name).ok_or_else(|| {
            Failure::TypeError(format!(
                "{}() missing 1 required argument: '{name}'",
                self.command
            ))
        })?;
        self.read(name, value)
    }

    /// An argument that may be missing or null.
    pub(crate) fn optional<T: DeserializeOwned>(&mut self, name: &str) -> Result<Option<T>, Failure> {
        match self.values.shift_remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => self.read(name, value).map(Some),
        }
    }

    fn read<T: DeserializeOwned>(&self, name: &str, value: Value) -> Result<T, Failure> {
        // The value may be a secret; serde's message has only its kind and position... and quotes short strings, so it is
        // cut down to what kind was wanted.
        serde_json::from_value(value).map_err(|error| {
            let text = error.to_string();
            let wanted = text
                .rsplit_once("expected ")
                .map_or("another type", |(_, wanted)| wanted);
            Failure::InvalidParams(format!(
                "{}: parameter {name} can't be used: expected {wanted}",
                self.command
            ))
        })
    }

    /// Refuses what nobody asked for.
    pub(crate) fn end(self) -> Result<(), Failure> {
        match self.values.keys().next() {
            None => Ok(()),
            Some(name) => Err(Failure::TypeError(format!(
                "{}() got an unexpected keyword argument '{name}'",
                self.command
            ))),
        }
    }
}
