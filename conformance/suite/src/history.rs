//! What happened, in order: objects as they were seen, samples of taps, what the workload did. Judges read it; the
//! report keeps a digest of it.

use crate::{secrets::Secrets, target::TapSample};
use serde_json::Value;
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::time::{Duration, Instant};

/// One thing that was seen or done.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Since the start of the run. Strictly rising, so that it tells the order too: under a paused clock many things
    /// happen at one instant.
    pub at: Duration,
    pub what: What,
}

#[derive(Clone, Debug)]
pub enum What {
    /// The workload: a step of the story begins (`registered`, `tenant-wanted` ...), about an object if it has a name.
    Step { step: &'static str, about: String },
    /// A wait of the workload ran out: what was missing.
    Missed { step: &'static str, message: String },
    /// An object as the API server had it. `None`: it is gone.
    Object {
        kind: &'static str,
        key: String,
        object: Option<Value>,
    },
    /// A server as a tap has it.
    Tap { server: String, sample: TapSample },
    /// Raw blocks of a server's disks were searched for a text that its tenant had written.
    Disks {
        server: String,
        when: &'static str,
        found: bool,
    },
}

/// Everything of one run.
#[derive(Clone, Debug, Default)]
pub struct History {
    pub entries: Vec<Entry>,
    /// Why the run ended before its time, if it did: no verdict on the target.
    pub broke: Option<String>,
    /// What no report may show.
    pub secrets: Secrets,
}

impl History {
    /// Every version of an object, in order; `None` where it was gone.
    pub fn versions<'a>(
        &'a self,
        kind: &str,
        key: &str,
    ) -> impl Iterator<Item = (Duration, Option<&'a Value>)> + use<'a> {
        let (kind, key) = (kind.to_owned(), key.to_owned());
        self.entries.iter().filter_map(move |e| match &e.what {
            What::Object {
                kind: k,
                key: name,
                object,
            } if *k == kind && *name == key => Some((e.at, object.as_ref())),
            _ => None,
        })
    }

    /// Keys of all objects of a kind that were ever seen.
    pub fn keys(&self, kind: &str) -> Vec<String> {
        let keys = self.entries.iter().filter_map(|e| match &e.what {
            What::Object { kind: k, key, .. } if *k == kind => Some(key.as_str()),
            _ => None,
        });
        keys.collect::<BTreeSet<_>>()
            .into_iter()
            .map(str::to_owned)
            .collect()
    }

    /// The key of the BareMetalHost of a server.
    pub fn host_of(&self, server: &str) -> Option<String> {
        self.keys("BareMetalHost")
            .into_iter()
            .find(|k| k.rsplit('/').next() == Some(server))
    }

    /// Keys of hosts that a claim held, not just anybody.
    pub fn claimed_hosts(&self) -> Vec<String> {
        let claims = self.keys("NodeClaim");
        let is_claim = |name: &str| claims.iter().any(|c| c.rsplit('/').next() == Some(name));
        let mut hosts = self.keys("BareMetalHost");
        hosts.retain(|key| {
            let mut versions = self.versions("BareMetalHost", key);
            versions.any(|(_, o)| o.and_then(holder).is_some_and(is_claim))
        });
        hosts
    }

    /// The last version of an object; `None`: gone, or never seen.
    pub fn last(&self, kind: &str, key: &str) -> Option<&Value> {
        self.versions(kind, key).last().and_then(|(_, o)| o)
    }

    /// When the workload took a step about `about`.
    pub fn step(&self, step: &str, about: &str) -> Option<Duration> {
        self.entries.iter().find_map(|e| match &e.what {
            What::Step { step: s, about: a } if *s == step && a == about => Some(e.at),
            _ => None,
        })
    }

    pub fn steps<'a>(&'a self, step: &'a str) -> impl Iterator<Item = (Duration, &'a str)> {
        self.entries.iter().filter_map(move |e| match &e.what {
            What::Step { step: s, about } if *s == step => Some((e.at, about.as_str())),
            _ => None,
        })
    }

    pub fn missed(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.entries.iter().filter_map(|e| match &e.what {
            What::Missed { step, message } => Some((*step, message.as_str())),
            _ => None,
        })
    }

    pub fn taps<'a>(&'a self, server: &'a str) -> impl Iterator<Item = (Duration, &'a TapSample)> {
        self.entries.iter().filter_map(move |e| match &e.what {
            What::Tap { server: s, sample } if s == server => Some((e.at, sample)),
            _ => None,
        })
    }

    pub fn disk_searches(&self) -> impl Iterator<Item = (&str, &'static str, bool)> {
        self.entries.iter().filter_map(|e| match &e.what {
            What::Disks { server, when, found } => Some((server.as_str(), *when, *found)),
            _ => None,
        })
    }
}

/// Who holds a host.
pub(crate) fn holder(host: &Value) -> Option<&str> {
    host["spec"]["consumerRef"]["name"].as_str()
}

/// Where observers write while a run goes on.
#[derive(Clone)]
pub(crate) struct Recorder {
    began: Instant,
    history: Arc<Mutex<History>>,
}

impl Recorder {
    pub(crate) fn new(secrets: Secrets) -> Self {
        let history = History {
            secrets,
            ..History::default()
        };
        Recorder {
            began: Instant::now(),
            history: Arc::new(Mutex::new(history)),
        }
    }

    pub(crate) fn note(&self, what: What) {
        let mut history = self.lock();
        let after = history
            .entries
            .last()
            .map_or(Duration::ZERO, |last| last.at + Duration::from_nanos(1));
        history.entries.push(Entry {
            at: self.began.elapsed().max(after),
            what,
        });
    }

    /// A tap's word, kept only if it is news.
    pub(crate) fn tap(&self, server: &str, sample: TapSample) {
        let known = self.read(|h| h.taps(server).last().is_some_and(|(_, last)| *last == sample));
        if !known {
            self.note(What::Tap {
                server: server.to_owned(),
                sample,
            });
        }
    }

    fn lock(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn step(&self, step: &'static str, about: &str) {
        self.note(What::Step {
            step,
            about: about.to_owned(),
        });
    }

    /// What is known so far.
    pub(crate) fn read<T>(&self, look: impl FnOnce(&History) -> T) -> T {
        look(&self.lock())
    }

    pub(crate) fn finish(self, broke: Option<String>) -> History {
        let mut history = self.lock().clone();
        history.broke = broke;
        history
    }
}
