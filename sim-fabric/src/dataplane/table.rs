//! The MAC table of one network: where an address was seen last, forgotten after a while.
//!
//! One table per V-Net spans the leaves, as EVPN makes it: what one leaf learns, all know at once
//! (RFC 7432 9; the BGP messages themselves are not modelled).

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
};

use crate::names::{Mac, Nanos, PortId};

/// Entries per network. Leaves of today hold 32k to 288k in hardware for all networks; a flood of invented
/// addresses must cost memory that we can name (32k entries are about 1 MiB).
pub(crate) const CAPACITY: usize = 32 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) port: PortId,
    pub(crate) seen: Nanos,
}

/// What learning an address meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Learned {
    Known,
    New,
    Moved(PortId),
    /// The table is full; frames to this address stay flooded.
    Full,
}

/// Lookups only; listings are sorted, so the order of the map never shows.
#[derive(Debug, Default)]
pub(crate) struct MacTable {
    entries: HashMap<Mac, Entry, BuildHasherDefault<MacHasher>>,
}

impl MacTable {
    pub(crate) fn learn(&mut self, mac: Mac, port: PortId, now: Nanos, age_max: Nanos) -> Learned {
        if let Some(entry) = self.entries.get_mut(&mac) {
            let before = std::mem::replace(entry, Entry { port, seen: now });
            return match before {
                _ if now - before.seen > age_max => Learned::New,
                Entry { port: same, .. } if same == port => Learned::Known,
                Entry { port: other, .. } => Learned::Moved(other),
            };
        }
        if self.entries.len() >= CAPACITY {
            self.entries.retain(|_, entry| now - entry.seen <= age_max);
            if self.entries.len() >= CAPACITY {
                return Learned::Full;
            }
        }
        self.entries.insert(mac, Entry { port, seen: now });
        Learned::New
    }

    pub(crate) fn lookup(&self, mac: Mac, now: Nanos, age_max: Nanos) -> Option<PortId> {
        self.entries
            .get(&mac)
            .filter(|entry| now - entry.seen <= age_max)
            .map(|entry| entry.port)
    }

    /// Forgets what was learned at `port`; which addresses those were.
    pub(crate) fn flush(&mut self, port: PortId) -> Vec<Mac> {
        self.entries
            .extract_if(|_, entry| entry.port == port)
            .map(|(mac, _)| mac)
            .collect()
    }

    /// Entries that are not too old, by address.
    pub(crate) fn list(&self, now: Nanos, age_max: Nanos) -> Vec<(Mac, Entry)> {
        let mut all: Vec<_> = self
            .entries
            .iter()
            .filter(|(_, entry)| now - entry.seen <= age_max)
            .map(|(mac, entry)| (*mac, *entry))
            .collect();
        all.sort_by_key(|(mac, _)| *mac);
        all
    }
}

/// Six bytes, one multiplication: the default hasher would cost more than the rest of a lookup, and a
/// simulator's table needs no defence against chosen addresses beyond its bound.
#[derive(Debug, Default)]
pub(crate) struct MacHasher(u64);

impl Hasher for MacHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 << 8) ^ u64::from(*byte) ^ (self.0 >> 56);
        }
    }

    fn write_usize(&mut self, _: usize) {} // the array's length, always 6

    fn finish(&self) -> u64 {
        // Fibonacci hashing; hashbrown takes its control bits from the top, its index from the bottom.
        let mixed = self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed ^ (mixed >> 32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGE: Nanos = 300;

    fn mac(n: u32) -> Mac {
        let [a, b, c, d] = n.to_be_bytes();
        Mac([2, 0, a, b, c, d])
    }

    #[test]
    fn learning_moving_and_ageing() {
        let mut table = MacTable::default();
        let (one, two) = (PortId(1), PortId(2));
        // (who, port, at) -> what learning says
        for (port, at, want) in [
            (one, 0, Learned::New),
            (one, 10, Learned::Known),
            (two, 20, Learned::Moved(one)),
            (two, 20 + AGE + 1, Learned::New),
        ] {
            assert_eq!(table.learn(mac(1), port, at, AGE), want, "at {at}");
        }
        let seen = 20 + AGE + 1;
        assert_eq!(table.lookup(mac(1), seen + AGE, AGE), Some(two));
        assert_eq!(table.lookup(mac(1), seen + AGE + 1, AGE), None);
        assert_eq!(table.lookup(mac(2), seen, AGE), None);
        table.flush(one);
        assert_eq!(table.lookup(mac(1), seen, AGE), Some(two));
        table.flush(two);
        assert_eq!(table.lookup(mac(1), seen, AGE), None);
    }

    #[test]
    fn a_full_table_forgets_the_old_and_then_refuses() {
        let mut table = MacTable::default();
        for n in 0..CAPACITY as u32 {
            assert_eq!(
                table.learn(mac(n), PortId(0), Nanos::from(n == 0), AGE),
                Learned::New
            );
        }
        assert_eq!(table.learn(mac(u32::MAX), PortId(0), 5, AGE), Learned::Full);
        assert_eq!(table.learn(mac(u32::MAX), PortId(0), AGE + 1, AGE), Learned::New);
        assert_eq!(
            table.list(AGE + 1, AGE).len(),
            2,
            "the new one and the one seen last"
        );
    }
}
