//! MACs that ask for an address although no plan has them: counted, never answered. Bounded, because anyone
//! on the wire can invent MACs.

use super::mac::Mac;
use jiff::{SignedDuration, Timestamp};
use std::{collections::BTreeMap, net::Ipv4Addr};

/// As many as a large room of servers has NICs; beyond that the longest silent one is forgotten.
const STRANGERS_MAX: usize = 1024;
/// At most one notice per MAC in this time.
const NOTICE_EVERY: SignedDuration = SignedDuration::from_mins(10);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stranger {
    pub mac: Mac,
    /// The relay of its last request.
    pub relay: Option<Ipv4Addr>,
    pub count: u64,
    pub first: Timestamp,
    pub last: Timestamp,
}

#[derive(Default)]
pub(crate) struct Strangers {
    seen: BTreeMap<Mac, (Stranger, Timestamp)>,
}

impl Strangers {
    /// Counts a request; returns the stranger if it is time to tell of it.
    pub(crate) fn saw(&mut self, mac: Mac, relay: Option<Ipv4Addr>, now: Timestamp) -> Option<Stranger> {
        if !self.seen.contains_key(&mac) && self.seen.len() >= STRANGERS_MAX {
            let oldest = self
                .seen
                .iter()
                .min_by_key(|(_, (s, _))| s.last)
                .map(|(mac, _)| *mac);
            oldest.and_then(|mac| self.seen.remove(&mac));
        }
        let fresh = Stranger {
            mac,
            relay,
            count: 0,
            first: now,
            last: now,
        };
        let (stranger, told) = self.seen.entry(mac).or_insert((fresh, Timestamp::MIN));
        stranger.count += 1;
        stranger.relay = relay;
        stranger.last = now;
        let due = told.saturating_add(NOTICE_EVERY).unwrap_or(Timestamp::MAX) <= now;
        if due {
            *told = now;
        }
        due.then(|| stranger.clone())
    }

    pub(crate) fn forget(&mut self, mac: Mac) {
        self.seen.remove(&mac);
    }

    pub(crate) fn list(&self) -> Vec<Stranger> {
        let mut list: Vec<_> = self.seen.values().map(|(s, _)| s.clone()).collect();
        list.sort_by_key(|s| (s.last, s.mac));
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    #[test]
    fn one_notice_in_ten_minutes() {
        let mut strangers = Strangers::default();
        let mac = Mac([2, 0, 0, 0, 0, 1]);
        assert!(strangers.saw(mac, None, at(0)).is_some());
        assert!(strangers.saw(mac, None, at(599)).is_none());
        let told = strangers.saw(mac, None, at(600)).unwrap();
        assert_eq!((told.count, told.first, told.last), (3, at(0), at(600)));
        assert!(strangers.saw(Mac([2, 0, 0, 0, 0, 2]), None, at(600)).is_some());
    }

    #[test]
    fn a_flood_of_macs_stays_bounded() {
        let mut strangers = Strangers::default();
        for n in 0..3000u32 {
            let [_, _, a, b] = n.to_be_bytes();
            strangers.saw(Mac([2, 0, 0, 0, a, b]), None, at(i64::from(n)));
        }
        let list = strangers.list();
        assert_eq!(list.len(), STRANGERS_MAX);
        assert_eq!(list[0].last, at(3000 - STRANGERS_MAX as i64));
    }
}
