//! An ordered cache of one kind, fed by a watch and by our own writes.

use crate::key::Key;
use futures::StreamExt;
use kube::{
    Api, Resource, ResourceExt,
    runtime::watcher::{self, Event},
};
use serde::de::DeserializeOwned;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::watch;

pub struct Cache<K> {
    objects: Mutex<BTreeMap<Key, Arc<K>>>,
    /// The first list is in.
    synced: watch::Sender<bool>,
}

impl<K> Default for Cache<K> {
    fn default() -> Self {
        Cache { objects: Mutex::default(), synced: watch::Sender::new(false) }
    }
}

/// Delay before a broken watch is opened again.
const REWATCH: Duration = Duration::from_secs(1);

impl<K> Cache<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    fn objects(&self) -> MutexGuard<'_, BTreeMap<Key, Arc<K>>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn get(&self, key: &Key) -> Option<Arc<K>> {
        self.objects().get(key).cloned()
    }

    /// All objects, in the order of their keys.
    pub fn list(&self) -> Vec<Arc<K>> {
        self.objects().values().cloned().collect()
    }

    pub fn in_namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        let first = Key::new(namespace, "");
        self.objects()
            .range(first..)
            .take_while(|(k, _)| k.namespace == namespace)
            .map(|(_, o)| o.clone())
            .collect()
    }

    pub async fn wait_synced(&self) {
        // The sender lives as long as the cache, so waiting can't fail.
        let _ = self.synced.subscribe().wait_for(|s| *s).await;
    }

    /// Takes an object that the server answered to a write of ours, unless the watch was faster.
    pub fn put(&self, object: K) -> bool {
        let key = Key::of(&object);
        let mut objects = self.objects();
        if let Some(have) = objects.get(&key)
            && version(&**have) >= version(&object)
            && have.uid() == object.uid()
        {
            return false;
        }
        objects.insert(key, Arc::new(object));
        true
    }

    fn remove(&self, key: &Key) {
        self.objects().remove(key);
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
                        let gone: Vec<Key> =
                            self.objects().keys().filter(|k| !listed.contains(*k)).cloned().collect();
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
        let before = self.get(key);
        self.remove(key);
        changed(key, before.as_deref(), None);
    }
}

/// resourceVersions of one kind compare as numbers (KEP-5504: guaranteed since Kubernetes 1.35, true before).
fn version<K: ResourceExt>(object: &K) -> u128 {
    object.meta().resource_version.as_deref().and_then(|v| v.parse().ok()).unwrap_or(0)
}
