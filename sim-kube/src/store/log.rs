//! The watch log of one resource: the last events, from which every watcher reads at its own pace.
//!
//! A watcher holds a cursor, not a queue. One that falls behind the oldest event is cut off and lists again
//! (410), which bounds memory whatever the number of watchers that never read, and costs the others nothing.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use bytes::Bytes;
use tokio::sync::watch;

use super::object::Obj;

/// Old events are dropped beyond this many bytes per resource, but never the last `KEEP_MIN`.
const BYTES_MAX: usize = 64 * 1024 * 1024;
const KEEP_MIN: usize = 256;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EventKind {
    Added,
    Modified,
    Deleted,
}

impl EventKind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            EventKind::Added => "ADDED",
            EventKind::Modified => "MODIFIED",
            EventKind::Deleted => "DELETED",
        }
    }
}

#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) kind: EventKind,
    pub(crate) object: Obj,
    /// What the object was before: tells whether it enters or leaves a selector.
    pub(crate) previous: Option<Obj>,
    line: OnceLock<Bytes>,
}

impl Event {
    pub(crate) fn new(kind: EventKind, object: Obj, previous: Option<Obj>) -> Event {
        Event {
            kind,
            object,
            previous,
            line: OnceLock::new(),
        }
    }

    pub(crate) fn version(&self) -> u64 {
        self.object.version
    }

    /// The line that unfiltered watchers of the storage version get, made once for all of them.
    pub(crate) fn line(&self) -> Bytes {
        self.line
            .get_or_init(|| line(self.kind.name(), &self.object.json()))
            .clone()
    }

    fn weight(&self) -> usize {
        // The object, its line, and the version before it, which only this log keeps alive.
        self.object.weight() * 2 + self.previous.as_ref().map_or(0, |p| p.weight())
    }
}

pub(crate) fn line(kind: &str, json: &[u8]) -> Bytes {
    let mut line = Vec::with_capacity(json.len() + 40);
    line.extend_from_slice(b"{\"type\":\"");
    line.extend_from_slice(kind.as_bytes());
    line.extend_from_slice(b"\",\"object\":");
    line.extend_from_slice(json);
    line.extend_from_slice(b"}\n");
    line.into()
}

#[derive(Default)]
struct Kept {
    events: VecDeque<(usize, Arc<Event>)>,
    weight: usize,
    /// Version of the last event that is gone.
    evicted: u64,
}

pub(crate) struct Log {
    kept: RwLock<Kept>,
    news: watch::Sender<u64>,
    closed: AtomicBool,
    count_max: usize,
}

pub(crate) enum Read {
    Events(Vec<Arc<Event>>),
    /// The cursor is older than the log.
    Expired,
}

impl Log {
    pub(crate) fn new(count_max: usize, start: u64) -> Log {
        Log {
            kept: RwLock::default(),
            news: watch::Sender::new(start),
            closed: AtomicBool::new(false),
            count_max: count_max.max(1),
        }
    }

    pub(super) fn append(&self, event: Event) {
        let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
        let weight = event.weight();
        kept.weight += weight;
        kept.events.push_back((weight, Arc::new(event)));
        while kept.events.len() > self.count_max || (kept.weight > BYTES_MAX && kept.events.len() > KEEP_MIN)
        {
            let Some((weight, oldest)) = kept.events.pop_front() else {
                break;
            };
            kept.weight -= weight;
            kept.evicted = oldest.version();
        }
    }

    pub(super) fn announce(&self, version: u64) {
        self.news.send_replace(version);
    }

    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.news.send_modify(|_| {});
    }

    /// Version of the last event.
    pub(crate) fn last(&self) -> u64 {
        *self.news.borrow()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    /// Events with a version above `cursor`, oldest first, at most `max`.
    pub(crate) fn read_after(&self, cursor: u64, max: usize) -> Read {
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        if cursor < kept.evicted {
            return Read::Expired;
        }
        let from = kept
            .events
            .partition_point(|(_, event)| event.version() <= cursor);
        Read::Events(
            kept.events
                .range(from..)
                .take(max)
                .map(|(_, event)| event.clone())
                .collect(),
        )
    }
}
