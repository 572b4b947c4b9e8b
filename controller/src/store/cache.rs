//! An ordered cache of one kind, fed by a watch and by our own writes.

use crate::key::Key;
use futures::StreamExt;
use kube::{
    Api, Resource, ResourceExt,
    runtime::watcher::{self, Event},
};
use serde::de::DeserializeOwned;
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt::Debug,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::watch;

pub struct Cache<K> {
    held: Mutex<Held<K>>,
    /// The first list is in.
    synced: watch::Sender<bool>,
}

struct Held<K> {
    objects: BTreeMap<Key, Arc<K>>,
    /// The uids of objects that have gone, the last ones: a late answer to a write of ours must not bring
    /// one back, since no event would ever take it away again.
    gone: VecDeque<String>,
}

/// Far more than writes of ours that can be under way while their objects go.
const GONE_REMEMBERED: usize = 1024;

impl<K> Default for Cache<K> {
    fn default() -> Self {
        let held = Held {
            objects: BTreeMap::new(),
            gone: VecDeque::new(),
        };
        Cache {
            held: Mutex::new(held),
            synced: watch::Sender::new(false),
        }
    }
}

/// Delay before a broken watch is opened again.
const REWATCH: Duration = Duration::from_secs(1);

impl<K> Cache<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    fn held(&self) -> MutexGuard<'_, Held<K>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn get(&self, key: &Key) -> Option<Arc<K>> {
        self.held().objects.get(key).cloned()
    }

    /// All objects, in the order of their keys.
    pub fn list(&self) -> Vec<Arc<K>> {
        self.held().objects.values().cloned().collect()
    }

    pub fn in_namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        let first = Key::new(namespace, "");
        self.held()
            .objects
            .range(first..)
            .take_while(|(k, _)| k.namespace == namespace)
            .map(|(_, o)| o.clone())
            .collect()
    }

    /// Has the first list come in? Before that, an object that is missing here may well exist.
    pub fn is_synced(&self) -> bool {
        *self.synced.borrow()
    }

    pub async fn wait_synced(&self) {
        // The sender lives as long as the cache, so waiting can't fail.
        let _ = self.synced.subscribe().wait_for(|s| *s).await;
    }

    /// Takes an object that the server answered to a write of ours, unless the watch was faster.
    pub fn put(&self, object: K) -> bool {
        let key = Key::of(&object);
        let mut held = self.held();
        let same = |have: &K| have.uid() == object.uid();
        match held.objects.get(&key) {
            Some(have) if same(have) && !is_newer(&object, have) => return false,
            Some(have) if same(have) => {}
            _ if object
                .meta()
                .uid
                .as_ref()
                .is_some_and(|uid| held.gone.contains(uid)) =>
            {
                return false;
            }
            _ => {}
        }
        let before = held.objects.insert(key, Arc::new(object.clone()));
        // Made anew under the same name.
        if let Some(old) = before.filter(|old| !same(old)) {
            held.bury(&old);
        }
        true
    }

    /// Keeps the cache in step for ever; calls `changed` after each change with the key, the object
    /// before and the object now.
    pub async fn run(
        self: Arc<Self>,
        api: Api<K>,
        config: watcher::Config,
        changed: impl Fn(&Key, Option<&K>, Option<&K>) + Send,
    ) {
        loop {
            let mut events = std::pin::pin!(kube::runtime::watcher(api.clone(), config.clone()));
            let mut listed: BTreeSet<Key> = BTreeSet::new();
            while let Some(event) = events.next().await {
                match event {
                    Ok(Event::Init) => listed.clear(),
                    Ok(Event::InitApply(object)) => {
                        listed.insert(Key::of(&object));
                        self.take(object, &changed);
                    }
                    Ok(Event::InitDone) => {
                        let gone: Vec<Key> = self
                            .held()
                            .objects
                            .keys()
                            .filter(|k| !listed.contains(*k))
                            .cloned()
                            .collect();
                        for key in gone {
                            self.lose(&key, &changed);
                        }
                        self.synced.send_replace(true);
                    }
                    Ok(Event::Apply(object)) => self.take(object, &changed),
                    Ok(Event::Delete(object)) => self.lose(&Key::of(&object), &changed),
                    Err(error) => {
                        tracing::warn!(kind = %K::kind(&()), error = %error, "watch broke; opening it again");
                        tokio::time::sleep(REWATCH).await;
                    }
                }
            }
        }
    }

    fn take(&self, object: K, changed: &impl Fn(&Key, Option<&K>, Option<&K>)) {
        let key = Key::of(&object);
        let before = self.get(&key);
        if self.put(object) {
            changed(&key, before.as_deref(), self.get(&key).as_deref());
        }
    }

    fn lose(&self, key: &Key, changed: &impl Fn(&Key, Option<&K>, Option<&K>)) {
        let before = {
            let mut held = self.held();
            let before = held.objects.remove(key);
            if let Some(object) = &before {
                held.bury(object);
            }
            before
        };
        if let Some(object) = before {
            changed(key, Some(&object), None);
        }
    }
}

impl<K: ResourceExt> Held<K> {
    fn bury(&mut self, object: &K) {
        if self.gone.len() == GONE_REMEMBERED {
            self.gone.pop_front();
        }
        self.gone.extend(object.uid());
    }
}

/// resourceVersions of one kind compare as numbers (KEP-5504: guaranteed since Kubernetes 1.35, true before).
/// What is no number is taken for newer: better decided twice than never.
fn is_newer<K: ResourceExt>(object: &K, than: &K) -> bool {
    let version = |o: &K| {
        o.meta()
            .resource_version
            .as_deref()
            .and_then(|v| v.parse::<u128>().ok())
    };
    match (version(object), version(than)) {
        (Some(new), Some(old)) => new > old,
        _ => true,
    }
}
