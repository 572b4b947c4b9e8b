//! A cursor into the log of one resource, for loops: changed objects, each once, and a way to wait for more.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::server::Inner;
use crate::store::{EventKind, Key, Log, Obj, Read, StorageId};

pub(super) struct Follower {
    storage: StorageId,
    log: Arc<Log>,
    news: watch::Receiver<u64>,
    cursor: Option<u64>,
}

/// The last state of an object that changed.
pub(super) struct Changed {
    pub(super) object: Obj,
    pub(super) deleted: bool,
}

impl Follower {
    pub(super) fn new(inner: &Inner, storage: &str) -> Follower {
        let storage: StorageId = storage.into();
        let log = inner.store.log(&storage);
        Follower {
            news: log.subscribe(),
            log,
            storage,
            cursor: None,
        }
    }

    /// What changed since the last call; everything at first, and after falling behind.
    pub(super) fn changes(&mut self, inner: &Inner) -> Vec<Changed> {
        self.news.mark_unchanged();
        let read = self.cursor.map(|cursor| self.log.read_after(cursor, usize::MAX));
        let Some(Read::Events(events)) = read else {
            let all = inner.store.list(&self.storage, "");
            self.cursor = Some(all.version);
            return all
                .objects
                .into_iter()
                .map(|object| Changed {
                    object,
                    deleted: false,
                })
                .collect();
        };
        let mut last: BTreeMap<Key, Changed> = BTreeMap::new();
        for event in events {
            self.cursor = Some(event.version());
            let changed = Changed {
                object: event.object.clone(),
                deleted: event.kind == EventKind::Deleted,
            };
            last.insert(event.object.key(), changed);
        }
        last.into_values().collect()
    }

    pub(super) async fn wait(&mut self) {
        if self.news.changed().await.is_err() {
            // The log lives as long as the store; built-in logs are never closed.
            std::future::pending::<()>().await;
        }
    }

    /// Waits for news, but not longer than this.
    pub(super) async fn wait_at_most(&mut self, time: Duration) {
        // Either way the caller looks again.
        let _ = tokio::time::timeout(time, self.wait()).await;
    }
}
