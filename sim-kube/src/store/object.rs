//! One stored object: its parsed form, and its serialised form made once and shared by all readers.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use serde_json::Value;

pub(crate) type Obj = Arc<Object>;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) namespace: Box<str>,
    pub(crate) name: Box<str>,
}

impl Key {
    pub(crate) fn new(namespace: &str, name: &str) -> Key {
        Key {
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    pub(crate) fn of(value: &Value) -> Key {
        let metadata = &value["metadata"];
        Key::new(
            metadata["namespace"].as_str().unwrap_or_default(),
            metadata["name"].as_str().unwrap_or_default(),
        )
    }
}

#[derive(Debug)]
pub(crate) struct Object {
    pub(crate) value: Value,
    pub(crate) version: u64,
    json: OnceLock<Bytes>,
}

impl Object {
    /// Takes the value and writes its version into it.
    pub(crate) fn new(mut value: Value, version: u64) -> Object {
        if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.insert("resourceVersion".into(), version.to_string().into());
        }
        Object {
            value,
            version,
            json: OnceLock::new(),
        }
    }

    pub(crate) fn key(&self) -> Key {
        Key::of(&self.value)
    }

    pub(crate) fn meta(&self, field: &str) -> &str {
        self.value["metadata"][field].as_str().unwrap_or_default()
    }

    pub(crate) fn name(&self) -> &str {
        self.meta("name")
    }

    pub(crate) fn namespace(&self) -> &str {
        self.meta("namespace")
    }

    pub(crate) fn uid(&self) -> &str {
        self.meta("uid")
    }

    pub(crate) fn is_deleting(&self) -> bool {
        self.value["metadata"].get("deletionTimestamp").is_some()
    }

    pub(crate) fn json(&self) -> Bytes {
        self.json
            .get_or_init(|| Bytes::from(serde_json::to_vec(&self.value).unwrap_or_default()))
            .clone()
    }

    /// Bytes that keeping this object costs, near enough for bounding the log: an object that nobody
    /// serialised yet counts as 2 KiB, a typical Pod.
    pub(crate) fn weight(&self) -> usize {
        self.json.get().map_or(2048, Bytes::len)
    }
}
