//! The agent's only randomness: a generator that its shell seeds.
//!
//! It spreads retries and heartbeats, names commands, places verification samples. None of that is secret: keys and tokens
//! are never made here.

/// SplitMix64 (Steele, Lea, Flood 2014): 64 bits of state, passes BigCrush, no crate needed.
#[derive(Debug, Clone)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Uniform in `low..high`.
    pub(crate) fn uniform(&mut self, low: f64, high: f64) -> f64 {
        // 53 bits are what a double holds.
        let unit = (self.next() >> 11) as f64 / (1u64 << 53) as f64;
        low + unit * (high - low)
    }

    /// Uniform in `0..below`; 0 when `below` is 0.
    pub(crate) fn below(&mut self, below: u64) -> u64 {
        // The bias of a modulo is below 2^-20 for every disk size there is.
        if below == 0 { 0 } else { self.next() % below }
    }

    pub(crate) fn bytes16(&mut self) -> [u8; 16] {
        (u128::from(self.next()) << 64 | u128::from(self.next())).to_be_bytes()
    }

    pub(crate) fn uuid(&mut self) -> uuid::Uuid {
        uuid::Builder::from_random_bytes(self.bytes16()).into_uuid()
    }
}
