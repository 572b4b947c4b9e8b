//! The restore record: what a claim overwrote on a host, so that the host can be given back as it was registered.
//!
//! The claim writes it into an annotation in the same compare-and-swap that takes the host; the host's lifecycle
//! applies it after the wipe and drops it. It covers exactly the fields that the claim's patch sets.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use steelyard_api::metal3::{BareMetalHost, ClaimRecord, ObjectReference};

/// Where the record is kept on the host.
pub use steelyard_api::names::annotation::RESTORE as RESTORE_ANNOTATION;

#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    #[error(
        "annotation {RESTORE_ANNOTATION} is not a restore record ({why}): repair it, or remove it to keep the spec as it is"
    )]
    Unreadable { why: String },
}

/// Previous values; `null` or `None` = the field was not there.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RestoreRecord {
    pub claim: ClaimRecord,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub spec: BTreeMap<String, Value>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, Option<String>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, Option<String>>,
}

impl RestoreRecord {
    /// The present values of exactly the fields that `patch`, the claim's merge patch (`spec`,
    /// `metadata.labels`, `metadata.annotations`), is about to set.
    pub fn capture(claim: ClaimRecord, host: &BareMetalHost, patch: &Value) -> RestoreRecord {
        let spec = serde_json::to_value(&host.spec).unwrap_or_default();
        let keys = |pointer: &str| -> Vec<String> {
            let found = patch.pointer(pointer).and_then(Value::as_object);
            found
                .map(|fields| fields.keys().cloned().collect())
                .unwrap_or_default()
        };
        let kept = |now: &Option<BTreeMap<String, String>>, pointer: &str| {
            let value = |key: &String| now.as_ref().and_then(|m| m.get(key)).cloned();
            keys(pointer)
                .into_iter()
                .filter(|k| k != RESTORE_ANNOTATION)
                .map(|k| (k.clone(), value(&k)))
                .collect()
        };
        RestoreRecord {
            claim,
            spec: keys("/spec")
                .into_iter()
                .map(|k| (k.clone(), spec.get(&k).cloned().unwrap_or_default()))
                .collect(),
            labels: kept(&host.metadata.labels, "/metadata/labels"),
            annotations: kept(&host.metadata.annotations, "/metadata/annotations"),
        }
    }

    /// The record of a host, if it has one.
    pub fn of(host: &BareMetalHost) -> Result<Option<RestoreRecord>, RestoreError> {
        let Some(text) = host
            .metadata
            .annotations
            .as_ref()
            .and_then(|a| a.get(RESTORE_ANNOTATION))
        else {
            return Ok(None);
        };
        serde_json::from_str(text)
            .map(Some)
            .map_err(|e| RestoreError::Unreadable { why: e.to_string() })
    }

    /// The value of [`RESTORE_ANNOTATION`].
    pub fn to_annotation(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The merge patch that brings `host` back to what was captured and drops the record. A consumer that is not
    /// the claim of this record stays.
    pub fn apply_patch(&self, host: &BareMetalHost) -> Value {
        if broken!(ForgetRestore) {
            return json!({
                "spec": { "consumerRef": null },
                "metadata": { "annotations": { RESTORE_ANNOTATION: null } },
            });
        }
        let now = serde_json::to_value(&host.spec).unwrap_or_default();
        let ours = host.spec.consumer_ref.as_ref().is_none_or(|c| self.is_of(c));
        let mut spec = Map::new();
        for (field, before) in &self.spec {
            let present = now.get(field).unwrap_or(&Value::Null);
            if (field != "consumerRef" || ours)
                && let Some(change) = difference(present, before)
            {
                spec.insert(field.clone(), change);
            }
        }
        let mut annotations = json!(self.annotations);
        annotations[RESTORE_ANNOTATION] = Value::Null;
        let mut patch = json!({ "metadata": { "annotations": annotations } });
        if !self.labels.is_empty() {
            patch["metadata"]["labels"] = json!(self.labels);
        }
        if !spec.is_empty() {
            patch["spec"] = Value::Object(spec);
        }
        patch
    }

    /// Whether `consumer` is the claim that this record was made for.
    pub fn is_of(&self, consumer: &ObjectReference) -> bool {
        match (&consumer.uid, self.claim.uid.as_str()) {
            (Some(uid), own) if !uid.is_empty() && !own.is_empty() => uid == own,
            _ => {
                consumer.name.as_deref() == Some(&*self.claim.name)
                    && consumer.namespace.as_deref() == Some(&*self.claim.namespace)
            }
        }
    }
}

/// The merge patch from `now` to `before`; `None`: they are equal. A merge patch keeps what it does not name, so
/// members that `before` lacks are named with `null`.
pub(crate) fn difference(now: &Value, before: &Value) -> Option<Value> {
    if now == before {
        return None;
    }
    let (Value::Object(now), Value::Object(before)) = (now, before) else {
        return Some(before.clone());
    };
    let mut patch = Map::new();
    for (key, value) in before {
        if let Some(change) = difference(now.get(key).unwrap_or(&Value::Null), value) {
            patch.insert(key.clone(), change);
        }
    }
    for key in now.keys().filter(|key| !before.contains_key(*key)) {
        patch.insert(key.clone(), Value::Null);
    }
    Some(Value::Object(patch))
}

#[cfg(test)]
mod tests {
    use super::*;
    use steelyard_api::metal3::{BareMetalHostSpec, Image};

    fn merge(target: &mut Value, patch: &Value) {
        let Value::Object(patch) = patch else {
            *target = patch.clone();
            return;
        };
        if !target.is_object() {
            *target = json!({});
        }
        for (key, value) in patch {
            match value {
                Value::Null => {
                    target.as_object_mut().unwrap().remove(key);
                }
                _ => merge(
                    target
                        .as_object_mut()
                        .unwrap()
                        .entry(key.clone())
                        .or_insert(Value::Null),
                    value,
                ),
            }
        }
    }

    /// Whatever a claim's patch sets, the record takes back.
    #[test]
    fn capture_then_apply_is_identity() {
        let before: BareMetalHost = serde_json::from_value(json!({
            "apiVersion": "metal3.io/v1alpha1", "kind": "BareMetalHost",
            "metadata": {"name": "a", "labels": {"role": "gpu"}, "annotations": {"metal3.vcluster.com/ip-address": "192.168.100.10/24"}},
            "spec": {"online": false, "image": {"url": "http://old", "checksum": "aa"}, "description": "left corner"},
        })).unwrap();
        let patch = json!({
            "metadata": {"labels": {"metal3.vcluster.com/node-claim": "c"}, "annotations": {"metal3.vcluster.com/ip-address": "10.100.1.9/24", "x": "y"}},
            "spec": {"online": true, "image": {"url": "http://new", "format": "raw"}, "userData": {"name": "u"},
                     "consumerRef": {"kind": "NodeClaim", "name": "c", "namespace": "p", "uid": "1"}},
        });
        let claim = ClaimRecord {
            namespace: "p".into(),
            name: "c".into(),
            uid: "1".into(),
        };
        let record = RestoreRecord::capture(claim, &before, &patch);
        let plain = serde_json::to_value(&before).unwrap();
        let mut object = plain.clone();
        merge(&mut object, &patch);
        merge(
            &mut object,
            &json!({"metadata": {"annotations": {RESTORE_ANNOTATION: record.to_annotation()}}}),
        );
        let claimed: BareMetalHost = serde_json::from_value(object.clone()).unwrap();
        let read = RestoreRecord::of(&claimed).unwrap().unwrap();
        assert_eq!(read, record);
        merge(&mut object, &read.apply_patch(&claimed));
        assert_eq!(object, plain);
    }

    #[test]
    fn a_foreign_consumer_stays() {
        let claim = ClaimRecord {
            namespace: "p".into(),
            name: "c".into(),
            uid: "1".into(),
        };
        let patch = json!({"spec": {"consumerRef": {"name": "c"}, "online": true}});
        let record = RestoreRecord::capture(claim, &BareMetalHost::default(), &patch);
        let other = ObjectReference {
            name: Some("d".into()),
            uid: Some("2".into()),
            ..ObjectReference::default()
        };
        let spec = BareMetalHostSpec {
            consumer_ref: Some(other),
            image: Some(Image::default()),
            online: true,
            ..BareMetalHostSpec::default()
        };
        let patch = record.apply_patch(&BareMetalHost::new("a", spec));
        assert_eq!(patch["spec"], json!({"online": false}));
    }

    #[test]
    fn nonsense_is_named() {
        let mut host = BareMetalHost::default();
        host.metadata.annotations = Some([(RESTORE_ANNOTATION.to_owned(), "{".to_owned())].into());
        assert!(
            RestoreRecord::of(&host)
                .unwrap_err()
                .to_string()
                .contains(RESTORE_ANNOTATION)
        );
    }
}
