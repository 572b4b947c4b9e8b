//! Objects, resourceVersions and the watch log: the part that etcd and the watch cache play.
//!
//! One lock guards all resources, so that resourceVersions are one total order; it is held for a map
//! operation only, never while objects are parsed, validated or serialised. Watchers do not sit in the
//! store: each pulls from its resource's [`Log`] at its own pace (see `log.rs`).

mod log;
mod object;
mod owners;

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use serde_json::Value;

pub(crate) use log::{Event, EventKind, Log, Read, line};
pub(crate) use object::{Key, Obj, Object};
pub(crate) use owners::Orphan;

/// `group/resource`: versions of a resource share their objects.
pub(crate) type StorageId = Arc<str>;

/// Why a write did not happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    Exists,
    Missing,
    Stale,
}

struct Bucket {
    objects: BTreeMap<Key, Obj>,
    log: Arc<Log>,
}

#[derive(Default)]
struct State {
    buckets: BTreeMap<StorageId, Bucket>,
    owners: owners::Owners,
    version: u64,
}

pub(crate) struct Store {
    state: RwLock<State>,
    /// Everything up to this version is in the logs. A watcher that reads it first and its log second
    /// misses nothing.
    committed: AtomicU64,
    history: usize,
    orphans: owners::Orphans,
}

/// A list as of one version.
pub(crate) struct Snapshot {
    pub(crate) objects: Vec<Obj>,
    pub(crate) version: u64,
    /// Objects after the last one returned.
    pub(crate) remaining: usize,
}

impl State {
    fn bucket(&mut self, storage: &StorageId, history: usize) -> &mut Bucket {
        let start = self.version;
        self.buckets.entry(storage.clone()).or_insert_with(|| Bucket {
            objects: BTreeMap::new(),
            log: Arc::new(Log::new(history, start)),
        })
    }
}

impl Store {
    /// `history` bounds the events kept per resource; a watch that starts before them gets 410.
    pub(crate) fn new(history: usize) -> Store {
        let state = State {
            version: 1,
            ..State::default()
        };
        Store {
            state: RwLock::new(state),
            committed: AtomicU64::new(1),
            history,
            orphans: owners::Orphans::default(),
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn version(&self) -> u64 {
        self.committed.load(Ordering::Acquire)
    }

    pub(crate) fn log(&self, storage: &StorageId) -> Arc<Log> {
        if let Some(bucket) = self.read().buckets.get(storage) {
            return bucket.log.clone();
        }
        self.write().bucket(storage, self.history).log.clone()
    }

    pub(crate) fn get(&self, storage: &str, namespace: &str, name: &str) -> Option<Obj> {
        self.read()
            .buckets
            .get(storage)?
            .objects
            .get(&Key::new(namespace, name))
            .cloned()
    }

    /// All objects of a namespace, or of all namespaces if it is empty.
    pub(crate) fn list(&self, storage: &str, namespace: &str) -> Snapshot {
        let state = self.read();
        let objects = match state.buckets.get(storage) {
            Some(bucket) => range(&bucket.objects, namespace, None)
                .map(|(_, o)| o.clone())
                .collect(),
            None => Vec::new(),
        };
        Snapshot {
            objects,
            version: state.version,
            remaining: 0,
        }
    }

    /// Up to `limit` objects after key `after` that `keep` wants.
    pub(crate) fn page(
        &self,
        storage: &str,
        namespace: &str,
        after: Option<&Key>,
        limit: usize,
        keep: &dyn Fn(&Object) -> bool,
    ) -> Snapshot {
        let state = self.read();
        let mut snapshot = Snapshot {
            objects: Vec::new(),
            version: state.version,
            remaining: 0,
        };
        let Some(bucket) = state.buckets.get(storage) else {
            return snapshot;
        };
        for (_, object) in range(&bucket.objects, namespace, after) {
            if snapshot.objects.len() == limit {
                snapshot.remaining += 1;
            } else if keep(object) {
                snapshot.objects.push(object.clone());
            }
        }
        snapshot
    }

    /// The objects as they were at `version`, rebuilt by undoing the log; `None` if it no longer reaches back.
    pub(crate) fn list_at(&self, storage: &str, namespace: &str, version: u64) -> Option<BTreeMap<Key, Obj>> {
        let state = self.read();
        let Some(bucket) = state.buckets.get(storage) else {
            return Some(BTreeMap::new());
        };
        let mut objects: BTreeMap<Key, Obj> = range(&bucket.objects, namespace, None)
            .map(|(k, o)| (k.clone(), o.clone()))
            .collect();
        let Read::Events(events) = bucket.log.read_after(version, usize::MAX) else {
            return None;
        };
        for event in events.iter().rev() {
            let key = event.object.key();
            if !namespace.is_empty() && &*key.namespace != namespace {
                continue;
            }
            match &event.previous {
                Some(previous) => objects.insert(key, previous.clone()),
                None => objects.remove(&key),
            };
        }
        Some(objects)
    }

    pub(crate) fn create(&self, storage: &StorageId, value: Value) -> Result<Obj, Refused> {
        let key = Key::of(&value);
        let mut state = self.write();
        if state.bucket(storage, self.history).objects.contains_key(&key) {
            return Err(Refused::Exists);
        }
        Ok(self.commit(&mut state, storage, key, EventKind::Added, value))
    }

    /// Replaces the object if it is still at `expected`.
    pub(crate) fn update(&self, storage: &StorageId, expected: u64, value: Value) -> Result<Obj, Refused> {
        self.replace(storage, expected, EventKind::Modified, value)
    }

    /// Removes the object if it is still at `expected`; watchers see `last` with the version of the deletion.
    pub(crate) fn delete(&self, storage: &StorageId, expected: u64, last: Value) -> Result<Obj, Refused> {
        self.replace(storage, expected, EventKind::Deleted, last)
    }

    fn replace(
        &self,
        storage: &StorageId,
        expected: u64,
        kind: EventKind,
        value: Value,
    ) -> Result<Obj, Refused> {
        let key = Key::of(&value);
        let mut state = self.write();
        match state.bucket(storage, self.history).objects.get(&key) {
            None => Err(Refused::Missing),
            Some(current) if current.version != expected => Err(Refused::Stale),
            Some(_) => Ok(self.commit(&mut state, storage, key, kind, value)),
        }
    }

    fn commit(&self, state: &mut State, storage: &StorageId, key: Key, kind: EventKind, value: Value) -> Obj {
        state.version += 1;
        let version = state.version;
        let object = Arc::new(Object::new(value, version));
        let bucket = state.bucket(storage, self.history);
        let previous = match kind {
            EventKind::Deleted => bucket.objects.remove(&key),
            _ => bucket.objects.insert(key.clone(), object.clone()),
        };
        let log = bucket.log.clone();
        let change = owners::Change {
            storage,
            key: &key,
            kind,
            old: previous.as_deref(),
            new: &object,
        };
        state.owners.record(&change, &self.orphans);
        log.append(Event::new(kind, object.clone(), previous));
        self.committed.store(version, Ordering::Release);
        log.announce(version);
        object
    }

    /// Ends every watch on a resource that is no longer served.
    pub(crate) fn close(&self, storage: &str) {
        if let Some(bucket) = self.write().buckets.remove(storage) {
            bucket.log.close();
        }
    }

    /// Objects whose owners need a look, for the garbage collector.
    pub(crate) fn orphans(&self) -> &owners::Orphans {
        &self.orphans
    }

    pub(crate) fn exists_uid(&self, uid: &str) -> bool {
        self.read().owners.exists(uid)
    }

    pub(crate) fn dependents(&self, uid: &str) -> Vec<Orphan> {
        self.read().owners.dependents(uid)
    }

    /// Every resource that holds an object in `namespace`.
    pub(crate) fn storages_with(&self, namespace: &str) -> Vec<(StorageId, usize)> {
        let state = self.read();
        let counts = state
            .buckets
            .iter()
            .map(|(id, b)| (id.clone(), range(&b.objects, namespace, None).count()));
        counts.filter(|(_, count)| *count > 0).collect()
    }
}

fn range<'a>(
    objects: &'a BTreeMap<Key, Obj>,
    namespace: &'a str,
    after: Option<&Key>,
) -> impl Iterator<Item = (&'a Key, &'a Obj)> {
    let from = match after {
        Some(key) => Bound::Excluded(key.clone()),
        None => Bound::Included(Key::new(namespace, "")),
    };
    objects
        .range((from, Bound::Unbounded))
        .take_while(move |(k, _)| namespace.is_empty() || &*k.namespace == namespace)
}

#[cfg(test)]
mod tests;
