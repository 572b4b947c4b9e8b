//! Writes of the server's own controllers: straight to the store, by compare-and-swap.

use serde_json::Value;

use crate::server::Inner;
use crate::store::{Key, Obj};
use crate::{builtin, clock};

/// Attempts before a contended write is left to the next event.
const ATTEMPTS: usize = 10;

/// Changes an object if `change` says so; `None` if it is gone, contended, or needed no change.
pub(super) fn update(
    inner: &Inner,
    storage: &str,
    key: &Key,
    mut change: impl FnMut(&mut Value) -> bool,
) -> Option<Obj> {
    for _ in 0..ATTEMPTS {
        let old = inner.store.get(storage, &key.namespace, &key.name)?;
        let mut new = old.value.clone();
        if !change(&mut new) || new == old.value {
            return None;
        }
        let released = old.is_deleting()
            && inner
                .registry
                .stored(storage)
                .is_some_and(|r| builtin::is_released(&r, &new));
        let result = match released {
            true => inner.store.delete(&storage.into(), old.version, new),
            false => inner.store.update(&storage.into(), old.version, new),
        };
        if let Ok(object) = result {
            return Some(object);
        }
    }
    None
}

/// Deletes as a background deletion does: at once, or by marking where finalizers hold it.
pub(super) fn delete(inner: &Inner, storage: &str, key: &Key, grace_seconds: Option<i64>) {
    for _ in 0..ATTEMPTS {
        let Some(old) = inner.store.get(storage, &key.namespace, &key.name) else {
            return;
        };
        let Some(resource) = inner.registry.stored(storage) else {
            return;
        };
        let mut new = old.value.clone();
        let grace = builtin::grace_seconds(&resource, &new, grace_seconds);
        if grace == 0 {
            if let Some(metadata) = new.pointer_mut("/metadata").and_then(Value::as_object_mut) {
                metadata.shift_remove("deletionGracePeriodSeconds");
            }
            if builtin::is_released(&resource, &new) {
                match inner.store.delete(&storage.into(), old.version, new) {
                    Ok(_) => return,
                    Err(_) => continue,
                }
            }
        }
        if old.is_deleting() {
            return;
        }
        new["metadata"]["deletionTimestamp"] =
            clock::rfc3339(inner.now() + jiff::SignedDuration::from_secs(grace)).into();
        new["metadata"]["deletionGracePeriodSeconds"] = grace.into();
        builtin::prepare_deletion(&resource, &mut new);
        if inner.store.update(&storage.into(), old.version, new).is_ok() {
            return;
        }
    }
}

/// Takes one finalizer away; the store removes the object if it was the last.
pub(super) fn remove_finalizer(inner: &Inner, storage: &str, key: &Key, finalizer: &str) {
    update(inner, storage, key, |value| {
        let Some(finalizers) = value
            .pointer_mut("/metadata/finalizers")
            .and_then(Value::as_array_mut)
        else {
            return false;
        };
        let before = finalizers.len();
        finalizers.retain(|f| f != finalizer);
        let changed = finalizers.len() != before;
        if finalizers.is_empty()
            && let Some(metadata) = value.pointer_mut("/metadata").and_then(Value::as_object_mut)
        {
            metadata.shift_remove("finalizers");
        }
        changed
    });
}
