//! The one value through which the controller meets everything outside itself.

use crate::net::Net;
use jiff::{SignedDuration, Timestamp};
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::time::Instant;

/// Kubernetes, time, dice and three networks. Nothing else is handed in.
#[derive(Clone)]
pub struct World {
    pub kube: kube::Client,
    pub clock: Clock,
    pub dice: Dice,
    /// BMCs, management APIs, image upstreams.
    pub oob: Arc<dyn Net>,
    /// Where servers boot.
    pub provisioning: Arc<dyn Net>,
    /// What tenants reach.
    pub services: Arc<dyn Net>,
}

/// Wall time that follows tokio's clock, so that a paused clock pauses it too.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    epoch: Timestamp,
    start: Instant,
}

impl Clock {
    /// A clock that shows `epoch` now.
    pub fn starting_at(epoch: Timestamp) -> Self {
        Clock {
            epoch,
            start: Instant::now(),
        }
    }

    pub fn system() -> Self {
        Clock::starting_at(Timestamp::now())
    }

    pub fn now(&self) -> Timestamp {
        let elapsed = SignedDuration::try_from(self.start.elapsed()).unwrap_or(SignedDuration::MAX);
        self.epoch.saturating_add(elapsed).unwrap_or(Timestamp::MAX)
    }

    /// The tokio instant at which this clock shows `at`.
    pub fn instant(&self, at: Timestamp) -> Instant {
        let ahead = at.duration_since(self.epoch);
        self.start + std::time::Duration::try_from(ahead).unwrap_or_default()
    }

    pub async fn sleep_until(&self, at: Timestamp) {
        tokio::time::sleep_until(self.instant(at)).await;
    }
}

/// Random bits: seeded in a simulation, from the operating system otherwise.
#[derive(Clone)]
pub struct Dice(Arc<Mutex<ChaCha8Rng>>);

impl Dice {
    pub fn seeded(seed: u64) -> Self {
        Dice(Arc::new(Mutex::new(ChaCha8Rng::seed_from_u64(seed))))
    }

    /// From the operating system's entropy.
    pub fn system() -> Result<Self, getrandom::Error> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed)?;
        Ok(Dice(Arc::new(Mutex::new(ChaCha8Rng::from_seed(seed)))))
    }

    pub fn roll(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).next_u64()
    }

    pub fn fill(&self, bytes: &mut [u8]) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .fill_bytes(bytes);
    }

    /// `len` characters out of `a-z0-9`, for tokens.
    pub fn token(&self, len: usize) -> String {
        const ALPHABET: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
        let mut out = String::with_capacity(len);
        while out.len() < len {
            let mut byte = [0u8];
            self.fill(&mut byte);
            // 252 = 7 * 36: larger bytes would favour the first letters.
            if byte[0] < 252 {
                out.push(char::from(ALPHABET[usize::from(byte[0]) % 36]));
            }
        }
        out
    }
}

impl std::fmt::Debug for Dice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Dice")
    }
}
