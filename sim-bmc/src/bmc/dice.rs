//! The engine's only randomness: ChaCha20 keyed by SHA-256 over the seed and what is secret about this BMC. The same
//! seed replays the same tokens; without seed and password nobody can derive one token from another.

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use sha2::{Digest, Sha256};

pub(crate) struct Dice(ChaCha20Rng);

impl Dice {
    pub(crate) fn new(seed: u64, secret: &[u8]) -> Dice {
        let mut hash = Sha256::new();
        hash.update(b"sim-bmc dice");
        hash.update(seed.to_be_bytes());
        hash.update(secret);
        Dice(ChaCha20Rng::from_seed(hash.finalize().into()))
    }

    pub(crate) fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.fill_bytes(&mut bytes);
        bytes
    }

    /// A session token: 128 random bits as hexadecimal.
    pub(crate) fn token(&mut self) -> String {
        self.bytes::<16>()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replays_by_seed_and_differs_by_secret() {
        assert_eq!(Dice::new(1, b"a").token(), Dice::new(1, b"a").token());
        assert_ne!(Dice::new(1, b"a").token(), Dice::new(1, b"b").token());
        assert_ne!(Dice::new(1, b"a").token(), Dice::new(2, b"a").token());
        let mut dice = Dice::new(1, b"a");
        assert_ne!(dice.token(), dice.token());
    }
}
