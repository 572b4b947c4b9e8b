//! Deleted CustomResourceDefinitions: their objects go first, then the finalizer, then the served resource.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::follow::Follower;
use super::system;
use crate::builtin::{CRD_CLEANUP, CRD_STORAGE, retire};
use crate::registry::storage_id;
use crate::server::Inner;
use crate::store::Key;

/// How long until objects that their finalizers hold are looked at again.
const RETRY: Duration = Duration::from_millis(50);

pub(super) async fn run(inner: &Arc<Inner>) {
    let mut follower = Follower::new(inner, CRD_STORAGE);
    let mut pending: BTreeSet<String> = BTreeSet::new();
    loop {
        for changed in follower.changes(inner) {
            if changed.deleted {
                pending.remove(changed.object.name());
            } else if changed.object.is_deleting() {
                pending.insert(changed.object.name().to_owned());
            }
        }
        pending.retain(|name| !finish(inner, name));
        if pending.is_empty() {
            follower.wait().await;
        } else {
            follower.wait_at_most(RETRY).await;
        }
    }
}

fn finish(inner: &Inner, name: &str) -> bool {
    let Some(crd) = inner.store.get(CRD_STORAGE, "", name) else {
        return true;
    };
    let spec = &crd.value["spec"];
    let storage = storage_id(
        spec["group"].as_str().unwrap_or_default(),
        spec["names"]["plural"].as_str().unwrap_or_default(),
    );
    for object in inner.store.list(&storage, "").objects {
        system::delete(inner, &storage, &object.key(), None);
    }
    if !inner.store.list(&storage, "").objects.is_empty() {
        return false;
    }
    system::remove_finalizer(inner, CRD_STORAGE, &Key::new("", name), CRD_CLEANUP);
    let gone = inner.store.get(CRD_STORAGE, "", name).is_none();
    if gone {
        retire(inner, &crd.value);
    }
    gone
}
