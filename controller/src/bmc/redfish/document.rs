//! What we read of Redfish documents. Every field is optional: products leave out what they like.

use http::HeaderMap;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

/// A resource as it was read: its address, its tag, its text.
#[derive(Clone, Debug)]
pub(super) struct Document {
    pub path: String,
    pub etag: Option<String>,
    pub body: Value,
}

impl Document {
    pub(super) fn new(path: &str, headers: &HeaderMap, body: Value) -> Document {
        let header = headers
            .get(http::header::ETAG)
            .and_then(|v| v.to_str().ok())
            .map(str::to_owned);
        let inside = body.get("@odata.etag").and_then(Value::as_str).map(str::to_owned);
        Document {
            path: path.to_owned(),
            etag: header.or(inside),
            body,
        }
    }

    pub(super) fn read<T: DeserializeOwned>(&self) -> Result<T, String> {
        T::deserialize(&self.body).map_err(|e| e.to_string())
    }

    /// The path that a reference at `pointer` leads to.
    pub(super) fn link(&self, pointer: &str) -> Option<String> {
        self.body
            .pointer(pointer)?
            .get("@odata.id")?
            .as_str()
            .map(str::to_owned)
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct ComputerSystem {
    #[serde(rename = "UUID")]
    pub uuid: Option<String>,
    pub manufacturer: Option<String>,
    pub model: Option<String>,
    pub serial_number: Option<String>,
    #[serde(rename = "SKU")]
    pub sku: Option<String>,
    pub bios_version: Option<String>,
    pub power_state: Option<String>,
    pub status: Option<Status>,
    pub boot: Option<Boot>,
    pub boot_progress: Option<BootProgress>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Status {
    pub health: Option<String>,
    pub health_rollup: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Boot {
    #[serde(rename = "BootSourceOverrideTarget")]
    pub target: Option<String>,
    #[serde(rename = "BootSourceOverrideEnabled")]
    pub enabled: Option<String>,
    #[serde(rename = "BootSourceOverrideMode")]
    pub mode: Option<String>,
    #[serde(rename = "BootSourceOverrideTarget@Redfish.AllowableValues")]
    pub targets: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct BootProgress {
    pub last_state: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Reset {
    pub target: Option<String>,
    #[serde(rename = "ResetType@Redfish.AllowableValues")]
    pub allowable: Option<Vec<String>>,
    #[serde(rename = "@Redfish.ActionInfo")]
    pub info: Option<String>,
}

/// Members listed in a collection, at most `limit`.
pub(super) fn members(collection: &Document, limit: usize) -> Vec<Value> {
    let members = collection.body.get("Members").and_then(Value::as_array);
    members.into_iter().flatten().take(limit).cloned().collect()
}

pub(super) fn id(member: &Value) -> Option<String> {
    member
        .get("@odata.id")?
        .as_str()
        .map(|id| id.trim_end_matches('/').to_owned())
}

/// An answer's error in one line: the most severe message, else the general one. At most 300 characters, since it
/// ends in a status and in logs.
pub(super) fn error_text(body: &[u8]) -> String {
    let Ok(body) = serde_json::from_slice::<Value>(body) else {
        return "no explanation".into();
    };
    let error = body.get("error").unwrap_or(&Value::Null);
    let infos = error
        .get("@Message.ExtendedInfo")
        .and_then(Value::as_array)
        .map_or(&[][..], Vec::as_slice);
    let severity = |info: &&Value| match info
        .get("MessageSeverity")
        .or(info.get("Severity"))
        .and_then(Value::as_str)
    {
        Some("Critical") => 2,
        Some("Warning") => 1,
        _ => 0,
    };
    // The first of the most severe ones.
    let worst = infos.iter().rev().max_by_key(severity);
    let text = worst
        .and_then(|i| i.get("Message"))
        .or(error.get("message"))
        .and_then(Value::as_str);
    text.unwrap_or("no explanation").chars().take(300).collect()
}

/// Whether one of the answer's messages is `key`, of whatever registry and version.
pub(super) fn has_message(body: &[u8], key: &str) -> bool {
    let Ok(body) = serde_json::from_slice::<Value>(body) else {
        return false;
    };
    let infos = body
        .pointer("/error/@Message.ExtendedInfo")
        .and_then(Value::as_array);
    let ids = infos
        .into_iter()
        .flatten()
        .filter_map(|i| i.get("MessageId"))
        .chain(body.pointer("/error/code"));
    ids.filter_map(Value::as_str)
        .any(|id| id.rsplit('.').next() == Some(key))
}
