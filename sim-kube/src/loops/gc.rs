//! Garbage collection: objects whose owners are gone, and owners that wait for their dependents.

use std::sync::Arc;

use serde_json::Value;

use super::system;
use crate::server::Inner;
use crate::store::{Obj, Orphan};

pub(super) async fn run(inner: &Arc<Inner>) {
    loop {
        for orphan in inner.store.orphans().take() {
            collect(inner, &orphan);
        }
        inner.store.orphans().wait().await;
    }
}

fn has_finalizer(object: &Obj, name: &str) -> bool {
    object.value["metadata"]["finalizers"]
        .as_array()
        .is_some_and(|list| list.iter().any(|f| f == name))
}

fn collect(inner: &Inner, orphan: &Orphan) {
    let Some(object) = inner
        .store
        .get(&orphan.storage, &orphan.key.namespace, &orphan.key.name)
    else {
        return;
    };
    if object.is_deleting() {
        if has_finalizer(&object, "orphan") {
            release_dependents(inner, orphan, object.uid());
        } else if has_finalizer(&object, "foregroundDeletion") {
            foreground(inner, orphan, object.uid());
        }
        return;
    }
    let owners = object.value["metadata"]["ownerReferences"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let lives = |owner: &Value| {
        owner["uid"]
            .as_str()
            .is_some_and(|uid| inner.store.exists_uid(uid))
    };
    let (alive, gone): (Vec<_>, Vec<_>) = owners.iter().partition(|owner| lives(owner));
    if gone.is_empty() {
        return;
    }
    if alive.is_empty() {
        tracing::debug!(storage = %orphan.storage, name = %orphan.key.name, "collecting an object without owners");
        system::delete(inner, &orphan.storage, &orphan.key, None);
        return;
    }
    drop_owners(inner, orphan, |owner| !lives(owner));
}

fn drop_owners(inner: &Inner, orphan: &Orphan, gone: impl Fn(&Value) -> bool) {
    system::update(inner, &orphan.storage, &orphan.key, |value| {
        let Some(owners) = value
            .pointer_mut("/metadata/ownerReferences")
            .and_then(Value::as_array_mut)
        else {
            return false;
        };
        owners.retain(|owner| !gone(owner));
        if owners.is_empty()
            && let Some(metadata) = value.pointer_mut("/metadata").and_then(Value::as_object_mut)
        {
            metadata.shift_remove("ownerReferences");
        }
        true
    });
}

fn release_dependents(inner: &Inner, owner: &Orphan, uid: &str) {
    for dependent in inner.store.dependents(uid) {
        drop_owners(inner, &dependent, |reference| reference["uid"] == uid);
    }
    system::remove_finalizer(inner, &owner.storage, &owner.key, "orphan");
}

/// Dependents first; the last one that blocks lets the owner go (its deletion queues the owner again).
fn foreground(inner: &Inner, owner: &Orphan, uid: &str) {
    for dependent in inner.store.dependents(uid) {
        system::delete(inner, &dependent.storage, &dependent.key, None);
    }
    let blocked = inner.store.dependents(uid).iter().any(|dependent| {
        let found = inner
            .store
            .get(&dependent.storage, &dependent.key.namespace, &dependent.key.name);
        found.is_some_and(|object| {
            let owners = object.value["metadata"]["ownerReferences"]
                .as_array()
                .map(Vec::as_slice)
                .unwrap_or_default();
            owners
                .iter()
                .any(|o| o["uid"] == uid && o["blockOwnerDeletion"] == true)
        })
    });
    if !blocked {
        system::remove_finalizer(inner, &owner.storage, &owner.key, "foregroundDeletion");
    }
}
