//! Attempt and dice in, delay out.

use crate::Jitter;
use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

/// Exponential backoff with a cap, less up to half of itself at random, so that a rack that came back
/// does not have all its hosts retried in one second.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Backoff {
    pub first: SignedDuration,
    pub cap: SignedDuration,
}

impl Backoff {
    /// The delay before attempt number `attempt` (the first failure has number 1).
    pub fn delay(&self, attempt: u32, jitter: Jitter) -> SignedDuration {
        let doublings = attempt.saturating_sub(1).min(20);
        let full = self.first.saturating_mul(1 << doublings).min(self.cap);
        full - jitter.up_to(full / 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_and_is_capped() {
        let b = Backoff {
            first: SignedDuration::from_secs(60),
            cap: SignedDuration::from_hours(8),
        };
        for seed in 0..50 {
            let first = b.delay(1, Jitter(seed));
            assert!(first >= SignedDuration::from_secs(30) && first <= SignedDuration::from_secs(60));
            let tenth = b.delay(40, Jitter(seed));
            assert!(tenth >= SignedDuration::from_hours(4) && tenth <= SignedDuration::from_hours(8));
        }
    }
}
