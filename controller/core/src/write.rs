//! Changes to Kubernetes objects as data.

use serde::Serialize;
use serde_json::Value;

/// One change to one object, made only if the object is still the one that was decided on.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectWrite {
    pub target: ObjectRef,
    pub change: Change,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectRef {
    pub api_version: &'static str,
    pub kind: &'static str,
    pub namespace: Option<String>,
    pub name: String,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Change {
    /// Create the object. One that is already there counts as a conflict.
    Create { object: Value },
    /// Create the object, or bring exactly these fields of it to these values (server-side apply, ours by force).
    Apply { object: Value },
    /// JSON merge patch, refused unless the object still has this resourceVersion. `null` removes a field.
    Merge { resource_version: String, patch: Value },
    /// Delete the object with this uid (any, when `None`); one that is gone counts as done.
    Delete { uid: Option<String> },
}
