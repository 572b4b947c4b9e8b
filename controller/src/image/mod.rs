//! Images: fetched from upstream, verified, kept, served to agents by their SHA-256; and the config drive that
//! goes onto the disk beside them.
//!
//! ```text
//! ensure(image) -> queue -> worker (run) -> fetch: checksum file, download, verify, format -> cache
//! facts(image)  <- what came of it                                                   open(sha256) <-+
//! ```
//! An image is what its spec says: URL, checksum, checksum type. A failed fetch is tried again when it is asked for
//! again, but not before its backoff is over. A checksum that comes from a file is asked for anew from time to time.

mod blob;
mod cache;
mod checksum;
mod config_drive;
mod fetch;
mod format;

pub use blob::Blob;
pub use cache::CacheError;
pub use config_drive::{ConfigDrive, ConfigDriveError, DriveContents, DriveHost};

use crate::{net::Net, world::Clock};
use cache::Cache;
use fetch::{FetchError, Fetched};
use jiff::{SignedDuration, Timestamp};
use rustls::ClientConfig;
use std::{
    collections::{BTreeMap, VecDeque},
    convert::Infallible,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use steelyard_api::metal3::Image;
use steelyard_core::{Observed, host::view::ImageFacts};
use tokio::{sync::Notify, task::JoinSet};

/// Fetches at once: an upstream link is filled by one or two.
const FETCHES_MAX: usize = 2;
/// Images that are remembered; more than any site has in use.
const IMAGES_MAX: usize = 1024;
/// How long a checksum file is believed.
const CHECKSUM_FRESH: SignedDuration = SignedDuration::from_mins(5);
const BACKOFF_FIRST: SignedDuration = SignedDuration::from_secs(1);
const BACKOFF_MAX: SignedDuration = SignedDuration::from_mins(2);

/// `--image-mirror PREFIX=URL`: URLs that begin with `prefix` are fetched from `url` instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    pub prefix: String,
    pub url: String,
}

impl std::str::FromStr for Mirror {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // The prefix is a URL and may hold an equals sign itself: what is mapped to begins after "=http".
        let at = text
            .find("=http://")
            .into_iter()
            .chain(text.find("=https://"))
            .min();
        let parts = at
            .map(|at| (&text[..at], &text[at + 1..]))
            .filter(|(prefix, _)| !prefix.is_empty());
        let (prefix, url) =
            parts.ok_or_else(|| format!("{text:?} is not PREFIX=URL with an http or https URL"))?;
        url::Url::parse(url).map_err(|e| format!("{url:?} is not a URL: {e}"))?;
        Ok(Mirror {
            prefix: prefix.to_owned(),
            url: url.to_owned(),
        })
    }
}

#[derive(Clone, Debug)]
pub struct ImageConfig {
    /// `--image-cache DIR`; without it images are kept in memory.
    pub dir: Option<PathBuf>,
    /// What the cache may hold; one image may be as large.
    pub limit: u64,
    pub mirrors: Vec<Mirror>,
    /// For connecting, and for each piece of an answer.
    pub timeout: Duration,
}

impl ImageConfig {
    pub fn in_memory() -> Self {
        ImageConfig {
            dir: None,
            limit: 256 << 20,
            mirrors: Vec::new(),
            timeout: Duration::from_secs(30),
        }
    }

    pub fn in_dir(dir: impl Into<PathBuf>) -> Self {
        ImageConfig {
            dir: Some(dir.into()),
            limit: 100 << 30,
            ..ImageConfig::in_memory()
        }
    }
}

/// Told when facts of an image change; called without a lock held, must return at once.
pub type ImageChanged = Arc<dyn Fn(&Image) + Send + Sync>;

/// Handle of the images; clones share everything.
#[derive(Clone)]
pub struct Images(Arc<Context>);

struct Context {
    config: ImageConfig,
    /// Where upstream is.
    net: Arc<dyn Net>,
    /// Whom we trust there.
    tls: Arc<ClientConfig>,
    clock: Clock,
    changed: ImageChanged,
    cache: Mutex<Cache>,
    state: Mutex<State>,
    wake: Notify,
}

#[derive(Default)]
struct State {
    images: BTreeMap<Want, Entry>,
    queue: VecDeque<Want>,
}

/// What makes two images the same.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Want {
    url: String,
    checksum: Option<String>,
    checksum_type: Option<&'static str>,
    format: Option<&'static str>,
}

impl Want {
    fn of(image: &Image) -> Self {
        Want {
            url: image.url.clone(),
            checksum: image.checksum.clone(),
            checksum_type: image.checksum_type.map(|t| t.as_str()),
            format: image.format.map(|f| f.as_str()),
        }
    }
}

struct Entry {
    image: Image,
    phase: Phase,
    /// When the phase began.
    since: Timestamp,
    /// In the queue or with a worker.
    busy: bool,
    failures: u32,
    /// Last asked for; the longest unasked is forgotten first.
    wanted_at: Timestamp,
}

#[derive(Clone)]
enum Phase {
    Fetching,
    Ready {
        sha256: String,
        size: u64,
        checked_at: Timestamp,
    },
    Failed {
        message: String,
        retry_at: Timestamp,
    },
}

impl Context {
    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Images {
    /// `tls`: whom upstream servers must be certified by. Reads the cache directory, if there is one.
    pub fn new(
        config: ImageConfig,
        net: Arc<dyn Net>,
        tls: Arc<ClientConfig>,
        clock: Clock,
        changed: ImageChanged,
    ) -> Result<Self, CacheError> {
        let cache = Cache::open(config.dir.as_deref(), config.limit)?;
        let (cache, state) = (Mutex::new(cache), Mutex::default());
        Ok(Images(Arc::new(Context {
            config,
            net,
            tls,
            clock,
            changed,
            cache,
            state,
            wake: Notify::new(),
        })))
    }

    /// The image shall be here. Starts a fetch if there is none, if the last one failed a while ago, or if the
    /// checksum's file has not been looked at for a while.
    pub fn ensure(&self, image: &Image) {
        let now = self.0.clock.now();
        let want = Want::of(image);
        let mut guard = self.0.state();
        let state = &mut *guard;
        if !state.images.contains_key(&want) {
            if state.images.len() >= IMAGES_MAX {
                let oldest = state
                    .images
                    .iter()
                    .filter(|(_, e)| !e.busy)
                    .min_by_key(|(_, e)| e.wanted_at);
                if let Some(oldest) = oldest.map(|(want, _)| want.clone()) {
                    state.images.remove(&oldest);
                }
            }
            let (phase, image) = (Phase::Fetching, image.clone());
            let entry = Entry {
                image,
                phase,
                since: now,
                busy: false,
                failures: 0,
                wanted_at: now,
            };
            state.images.insert(want.clone(), entry);
        }
        let Some(entry) = state.images.get_mut(&want) else {
            return;
        };
        entry.wanted_at = now;
        let due = match &entry.phase {
            Phase::Fetching => true,
            Phase::Failed { retry_at, .. } => *retry_at <= now,
            Phase::Ready { checked_at, .. } => {
                let from_file = entry.image.checksum.as_deref().is_some_and(|c| c.contains("://"));
                from_file && now.duration_since(*checked_at) >= CHECKSUM_FRESH
            }
        };
        if due && !entry.busy {
            entry.busy = true;
            if matches!(entry.phase, Phase::Failed { .. }) {
                entry.phase = Phase::Fetching;
                entry.since = now;
            }
            state.queue.push_back(want);
            drop(guard);
            self.0.wake.notify_one();
        }
    }

    pub fn facts(&self, image: &Image) -> Observed<ImageFacts> {
        let state = self.0.state();
        let Some(entry) = state.images.get(&Want::of(image)) else {
            return Observed::not_asked(self.0.clock.now());
        };
        let value = match &entry.phase {
            Phase::Fetching => ImageFacts::Fetching,
            Phase::Ready { sha256, size, .. } => ImageFacts::Ready {
                sha256: sha256.clone(),
                size: *size,
            },
            Phase::Failed { message, .. } => ImageFacts::Failed {
                message: message.clone(),
                at: entry.since,
            },
        };
        Observed::Known {
            value,
            at: entry.since,
        }
    }

    /// A verified image, by its SHA-256 in hexadecimal.
    pub fn open(&self, sha256: &str) -> Option<Blob> {
        let sha256 = sha256.to_ascii_lowercase();
        self.0
            .cache()
            .get(&sha256)
            .filter(|cached| cached.verified)
            .map(|cached| cached.blob)
    }

    /// Fetches what is asked for, for ever.
    pub async fn run(self) -> Infallible {
        let mut fetches: JoinSet<(Want, Result<Fetched, FetchError>)> = JoinSet::new();
        loop {
            while fetches.len() < FETCHES_MAX {
                let Some(want) = self.0.state().queue.pop_front() else {
                    break;
                };
                let Some(image) = self.0.state().images.get(&want).map(|entry| entry.image.clone()) else {
                    continue;
                };
                let context = self.0.clone();
                fetches.spawn(async move {
                    let outcome = fetch::fetch(&context, &image).await;
                    (want, outcome)
                });
            }
            tokio::select! {
                biased;
                Some(ended) = fetches.join_next() => match ended {
                    Ok((want, outcome)) => self.ended(&want, outcome),
                    Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                    Err(_) => {}
                },
                () = self.0.wake.notified() => {}
            }
        }
    }

    fn ended(&self, want: &Want, outcome: Result<Fetched, FetchError>) {
        let now = self.0.clock.now();
        let mut state = self.0.state();
        let mut changed = Vec::new();
        if let Ok(fetched) = &outcome {
            // Images that had to go are to be fetched again by whoever still wants them.
            let gone = |phase: &Phase| matches!(phase, Phase::Ready { sha256, .. } if fetched.evicted.contains(sha256));
            let evicted: Vec<_> = state
                .images
                .iter()
                .filter(|(_, e)| gone(&e.phase))
                .map(|(w, _)| w.clone())
                .collect();
            changed.extend(
                evicted
                    .into_iter()
                    .filter_map(|want| state.images.remove(&want))
                    .map(|entry| entry.image),
            );
        }
        if let Some(entry) = state.images.get_mut(want) {
            entry.busy = false;
            if entry.settle(outcome, now) {
                changed.push(entry.image.clone());
            }
        }
        drop(state);
        for image in changed {
            (self.0.changed)(&image);
        }
    }
}

impl Entry {
    /// Takes an outcome; true if facts changed.
    fn settle(&mut self, outcome: Result<Fetched, FetchError>, now: Timestamp) -> bool {
        match outcome {
            Ok(fetched) => {
                self.failures = 0;
                let same = matches!(&self.phase, Phase::Ready { sha256, .. } if *sha256 == fetched.sha256);
                self.phase = Phase::Ready {
                    sha256: fetched.sha256,
                    size: fetched.size,
                    checked_at: now,
                };
                if !same {
                    self.since = now;
                }
                !same
            }
            Err(error) => {
                let message = error.to_string();
                // A recheck that could not be made takes nothing away from what was verified.
                if let Phase::Ready { checked_at, .. } = &mut self.phase
                    && matches!(error, FetchError::Http { .. })
                {
                    tracing::warn!(
                        url = self.image.url,
                        error = message,
                        "checksum could not be asked for again"
                    );
                    *checked_at = now;
                    return false;
                }
                let factor = 1i32 << self.failures.min(7);
                let wait = BACKOFF_FIRST
                    .checked_mul(factor)
                    .unwrap_or(BACKOFF_MAX)
                    .min(BACKOFF_MAX);
                self.failures = self.failures.saturating_add(1);
                tracing::warn!(
                    url = self.image.url,
                    attempt = self.failures,
                    error = message,
                    "image can't be fetched"
                );
                self.phase = Phase::Failed {
                    message,
                    retry_at: now.saturating_add(wait).unwrap_or(Timestamp::MAX),
                };
                self.since = now;
                true
            }
        }
    }
}

#[cfg(test)]
mod tests;
