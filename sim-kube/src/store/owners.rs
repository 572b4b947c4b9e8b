//! Who owns whom, kept up to date with each write, so that garbage collection never scans.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

use super::{EventKind, Key, Object, StorageId};

/// An object that the garbage collector should look at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Orphan {
    pub(crate) storage: StorageId,
    pub(crate) key: Key,
}

#[derive(Default)]
pub(super) struct Owners {
    /// Owner's uid to the objects that name it.
    dependents: BTreeMap<String, BTreeSet<Orphan>>,
    /// Every living uid.
    living: BTreeMap<String, Orphan>,
}

/// Work for the collector, and its doorbell.
#[derive(Default)]
pub(crate) struct Orphans {
    queue: Mutex<BTreeSet<Orphan>>,
    bell: Notify,
}

impl Orphans {
    pub(crate) fn push(&self, orphan: Orphan) {
        self.queue
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(orphan);
        self.bell.notify_one();
    }

    pub(crate) fn take(&self) -> BTreeSet<Orphan> {
        std::mem::take(&mut *self.queue.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) async fn wait(&self) {
        self.bell.notified().await;
    }
}

pub(super) struct Change<'a> {
    pub(super) storage: &'a StorageId,
    pub(super) key: &'a Key,
    pub(super) kind: EventKind,
    pub(super) old: Option<&'a Object>,
    pub(super) new: &'a Object,
}

fn owner_uids(object: &Object) -> impl Iterator<Item = &str> {
    let references = object.value["metadata"]
        .get("ownerReferences")
        .and_then(|r| r.as_array());
    references
        .into_iter()
        .flatten()
        .filter_map(|reference| reference["uid"].as_str())
}

impl Owners {
    pub(super) fn exists(&self, uid: &str) -> bool {
        self.living.contains_key(uid)
    }

    pub(super) fn dependents(&self, uid: &str) -> Vec<Orphan> {
        self.dependents.get(uid).into_iter().flatten().cloned().collect()
    }

    pub(super) fn record(&mut self, change: &Change<'_>, orphans: &Orphans) {
        let me = || Orphan {
            storage: change.storage.clone(),
            key: change.key.clone(),
        };
        let deleted = change.kind == EventKind::Deleted;
        for uid in change.old.into_iter().flat_map(owner_uids) {
            if let Some(set) = self.dependents.get_mut(uid) {
                set.remove(&me());
                if set.is_empty() {
                    self.dependents.remove(uid);
                }
            }
            // An owner in foreground deletion may have waited for this one.
            if deleted && let Some(owner) = self.living.get(uid) {
                orphans.push(owner.clone());
            }
        }
        let uid = change.new.uid();
        if deleted {
            self.living.remove(uid);
            for dependent in self.dependents(uid) {
                orphans.push(dependent);
            }
            return;
        }
        if change.kind == EventKind::Added && !uid.is_empty() {
            self.living.insert(uid.to_owned(), me());
        }
        let mut missing = false;
        for owner in owner_uids(change.new) {
            self.dependents.entry(owner.to_owned()).or_default().insert(me());
            missing |= !self.living.contains_key(owner);
        }
        if missing || waits_for_dependents(change.new) {
            orphans.push(me());
        }
    }
}

fn waits_for_dependents(object: &Object) -> bool {
    let finalizers = object.value["metadata"]
        .get("finalizers")
        .and_then(|f| f.as_array());
    object.is_deleting()
        && finalizers
            .into_iter()
            .flatten()
            .any(|f| matches!(f.as_str(), Some("foregroundDeletion" | "orphan")))
}
