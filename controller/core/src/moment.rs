//! The only clock and the only dice that a decision sees.

use jiff::{SignedDuration, Timestamp};

/// Now, and one roll of the dice for this decision.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    pub now: Timestamp,
    pub jitter: Jitter,
}

impl Moment {
    pub fn after(&self, d: SignedDuration) -> Timestamp {
        self.now.saturating_add(d).unwrap_or(Timestamp::MAX)
    }
}

/// 64 random bits, drawn by the caller; everything random in a decision is derived from them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Jitter(pub u64);

/// Letters that Kubernetes uses for generated names: no vowels, no look-alikes.
const NAME_ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

impl Jitter {
    /// An independent roll for `salt`, so that one decision may need several. (SplitMix64.)
    pub fn fork(self, salt: u64) -> Jitter {
        let mut z = self
            .0
            .wrapping_add(salt.wrapping_mul(0x9e37_79b9_7f4a_7c15))
            .wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Jitter(z ^ (z >> 31))
    }

    /// Evenly spread in `0..=max`.
    pub fn up_to(self, max: SignedDuration) -> SignedDuration {
        let max_ms = u64::try_from(max.as_millis()).unwrap_or(0);
        let ms = self.fork(1).0 % (max_ms + 1);
        SignedDuration::from_millis(i64::try_from(ms).unwrap_or(i64::MAX))
    }

    /// `len` letters fit for the end of a Kubernetes name.
    pub fn suffix(self, len: usize) -> String {
        (0..len as u64)
            .map(|i| {
                let roll = self.fork(i + 2).0 as usize % NAME_ALPHABET.len();
                char::from(NAME_ALPHABET[roll])
            })
            .collect()
    }

    /// An identifier for an operation: 16 hex digits.
    pub fn id(self) -> String {
        format!("{:016x}", self.fork(0).0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_roll_same_values() {
        let roll = Jitter(7);
        assert_eq!(roll.suffix(5), Jitter(7).suffix(5));
        assert_ne!(roll.suffix(5), Jitter(8).suffix(5));
        assert_ne!(roll.id(), roll.fork(1).id());
        let max = SignedDuration::from_secs(10);
        for seed in 0..200 {
            let d = Jitter(seed).up_to(max);
            assert!(d >= SignedDuration::ZERO && d <= max);
        }
    }
}
