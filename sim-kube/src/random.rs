//! Everything random that is not a key: uids, name suffixes, ids. Seeded, so that a run replays.

use std::sync::Mutex;

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// Alphabet of `k8s.io/apimachinery/pkg/util/rand`: no vowels and no look-alikes.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

pub(crate) struct Random(Mutex<ChaCha20Rng>);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(Mutex::new(ChaCha20Rng::seed_from_u64(seed)))
    }

    fn fill(&self, bytes: &mut [u8]) {
        let mut rng = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        rng.fill_bytes(bytes);
    }

    /// A version 4 UUID.
    pub(crate) fn uid(&self) -> String {
        let mut bytes = [0; 16];
        self.fill(&mut bytes);
        uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()
    }

    /// The suffix that `generateName` and volume names get.
    pub(crate) fn suffix(&self, length: usize) -> String {
        let mut bytes = vec![0; length];
        self.fill(&mut bytes);
        bytes
            .iter()
            .map(|b| ALPHABET[*b as usize % ALPHABET.len()] as char)
            .collect()
    }

    pub(crate) fn serial(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        self.fill(&mut bytes);
        bytes[0] = bytes[0] & 0x7f | 0x40; // positive, and never shorter than 16 bytes
        bytes
    }
}
