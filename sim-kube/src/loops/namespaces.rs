//! Terminating namespaces: their content is deleted, then the finalizer `kubernetes` goes, then they do.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::follow::Follower;
use super::system;
use crate::clock;
use crate::server::Inner;
use crate::store::Key;

const NAMESPACES: &str = "/namespaces";
/// How long until content that a finalizer holds is looked at again.
const RETRY: Duration = Duration::from_millis(50);

pub(super) async fn run(inner: &Arc<Inner>) {
    let mut follower = Follower::new(inner, NAMESPACES);
    let mut pending: BTreeSet<String> = BTreeSet::new();
    let mut seen = 0;
    loop {
        for changed in follower.changes(inner) {
            if changed.deleted {
                pending.remove(changed.object.name());
            } else if changed.object.is_deleting() {
                pending.insert(changed.object.name().to_owned());
            }
        }
        let version = inner.store.version();
        if version != seen {
            seen = version;
            pending.retain(|name| !finish(inner, name));
        }
        if pending.is_empty() {
            follower.wait().await;
        } else {
            follower.wait_at_most(RETRY).await;
        }
    }
}

/// Deletes what is left; true once the namespace is released.
fn finish(inner: &Inner, name: &str) -> bool {
    for (storage, _) in inner.store.storages_with(name) {
        for object in inner.store.list(&storage, name).objects {
            // Pods on nodes that nobody runs would hold a namespace for ever; its end is theirs.
            system::delete(inner, &storage, &object.key(), Some(0));
        }
    }
    let left: Vec<_> = inner.store.storages_with(name);
    let key = Key::new("", name);
    if !left.is_empty() {
        let texts: Vec<String> = left
            .iter()
            .map(|(storage, count)| {
                let (group, plural) = storage.rsplit_once('/').unwrap_or(("", storage));
                format!(
                    "{} has {count} resource instances",
                    crate::status::qualified(plural, group)
                )
            })
            .collect();
        let message = format!("Some resources are remaining: {}", texts.join(", "));
        system::update(inner, NAMESPACES, &key, |value| {
            remaining(value, &message, inner.now())
        });
        return false;
    }
    system::update(inner, NAMESPACES, &key, |value| {
        let Some(finalizers) = value
            .pointer_mut("/spec/finalizers")
            .and_then(Value::as_array_mut)
        else {
            return false;
        };
        finalizers.retain(|f| f != "kubernetes");
        if finalizers.is_empty() {
            value["spec"] = json!({});
        }
        true
    });
    true
}

fn remaining(value: &mut Value, message: &str, now: jiff::Timestamp) -> bool {
    let conditions = value["status"]["conditions"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    if conditions
        .iter()
        .any(|c| c["type"] == "NamespaceContentRemaining" && c["message"] == message)
    {
        return false;
    }
    let mut kept: Vec<Value> = conditions
        .iter()
        .filter(|c| c["type"] != "NamespaceContentRemaining")
        .cloned()
        .collect();
    kept.push(json!({
        "type": "NamespaceContentRemaining", "status": "True", "lastTransitionTime": clock::rfc3339(now),
        "reason": "SomeResourcesRemain", "message": message,
    }));
    value["status"]["conditions"] = kept.into();
    true
}
