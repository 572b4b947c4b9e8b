//! Neighbours (RFC 826): whose MAC an address has, and the packets that wait for the answer. Sans-IO.

use std::collections::{BTreeMap, VecDeque};
use std::net::Ipv4Addr;

use smoltcp::time::{Duration, Instant};

use super::Mac;

/// How long an answer is believed. Linux re-checks after 15 to 45 s; hosts change networks here, so not much longer.
const LIFETIME: Duration = Duration::from_secs(60);
/// Linux: `retrans_time_ms` 1000, `mcast_solicit` 3.
const RETRY: Duration = Duration::from_secs(1);
const ATTEMPTS: u8 = 3;
/// Packets that wait for one neighbour: a full initial window of a few connections.
const QUEUE_MAX: usize = 64;
/// Neighbours that are remembered: a /20 of hosts on one segment.
const ENTRIES_MAX: usize = 4096;

enum Entry {
    Known {
        mac: Mac,
        until: Instant,
    },
    Asking {
        packets: VecDeque<Vec<u8>>,
        again: Instant,
        attempts: u8,
    },
}

#[derive(Default)]
pub(super) struct Neighbours {
    entries: BTreeMap<Ipv4Addr, Entry>,
}

/// What to do with a packet for a neighbour.
pub(super) enum Resolved {
    To(Mac, Vec<u8>),
    /// The packet is kept; ask now.
    Ask,
    /// The packet is kept (or dropped: the queue is full); the question is already out.
    Waiting,
}

/// What time brings.
pub(super) enum Tick {
    AskAgain(Ipv4Addr),
    Unreachable(Ipv4Addr),
}

impl Neighbours {
    pub(super) fn resolve(&mut self, ip: Ipv4Addr, packet: Vec<u8>, now: Instant) -> Resolved {
        match self.entries.get_mut(&ip) {
            Some(Entry::Known { mac, until }) if *until > now => return Resolved::To(*mac, packet),
            Some(Entry::Asking { packets, .. }) => {
                if packets.len() < QUEUE_MAX {
                    packets.push_back(packet);
                }
                return Resolved::Waiting;
            }
            _ => {}
        }
        self.make_room(now);
        let entry = Entry::Asking {
            packets: VecDeque::from([packet]),
            again: now + RETRY,
            attempts: 1,
        };
        self.entries.insert(ip, entry);
        Resolved::Ask
    }

    /// A neighbour told its address. `solicited`: it spoke to us, so that it is worth a new entry.
    pub(super) fn learn(
        &mut self,
        ip: Ipv4Addr,
        mac: Mac,
        solicited: bool,
        now: Instant,
    ) -> VecDeque<Vec<u8>> {
        if !solicited && !self.entries.contains_key(&ip) {
            return VecDeque::new();
        }
        if !self.entries.contains_key(&ip) {
            self.make_room(now);
        }
        match self.entries.insert(
            ip,
            Entry::Known {
                mac,
                until: now + LIFETIME,
            },
        ) {
            Some(Entry::Asking { packets, .. }) => packets,
            _ => VecDeque::new(),
        }
    }

    pub(super) fn poll(&mut self, now: Instant) -> Vec<Tick> {
        let mut ticks = Vec::new();
        self.entries.retain(|ip, entry| match entry {
            Entry::Asking { again, attempts, .. } if *again <= now => {
                if *attempts >= ATTEMPTS {
                    ticks.push(Tick::Unreachable(*ip));
                    return false;
                }
                *attempts += 1;
                *again = now + RETRY;
                ticks.push(Tick::AskAgain(*ip));
                true
            }
            _ => true,
        });
        ticks
    }

    pub(super) fn poll_at(&self) -> Option<Instant> {
        let asking = self.entries.values().filter_map(|entry| match entry {
            Entry::Asking { again, .. } => Some(*again),
            Entry::Known { .. } => None,
        });
        asking.min()
    }

    pub(super) fn clear(&mut self) {
        self.entries.clear();
    }

    fn make_room(&mut self, now: Instant) {
        if self.entries.len() < ENTRIES_MAX {
            return;
        }
        self.entries
            .retain(|_, entry| !matches!(entry, Entry::Known { until, .. } if *until <= now));
        while self.entries.len() >= ENTRIES_MAX {
            self.entries.pop_first();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
    const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);

    #[test]
    fn packets_wait_for_the_answer_and_then_flow() {
        let mut arp = Neighbours::default();
        let now = Instant::ZERO;
        assert!(matches!(arp.resolve(IP, vec![1], now), Resolved::Ask));
        assert!(matches!(arp.resolve(IP, vec![2], now), Resolved::Waiting));
        assert_eq!(arp.learn(IP, MAC, true, now), VecDeque::from([vec![1], vec![2]]));
        assert!(matches!(arp.resolve(IP, vec![3], now), Resolved::To(MAC, _)));
        assert!(
            matches!(arp.resolve(IP, vec![4], now + LIFETIME), Resolved::Ask),
            "answers age"
        );
    }

    #[test]
    fn three_questions_then_unreachable() {
        let mut arp = Neighbours::default();
        let _ = arp.resolve(IP, vec![1], Instant::ZERO);
        let mut now = Instant::ZERO;
        for _ in 0..2 {
            now += RETRY;
            assert_eq!(arp.poll_at(), Some(now));
            assert!(matches!(arp.poll(now)[..], [Tick::AskAgain(IP)]));
        }
        assert!(matches!(arp.poll(now + RETRY)[..], [Tick::Unreachable(IP)]));
        assert_eq!(arp.poll_at(), None);
    }

    #[test]
    fn strangers_announcements_make_no_entry_but_correct_one() {
        let mut arp = Neighbours::default();
        let _ = arp.learn(IP, MAC, false, Instant::ZERO);
        assert!(arp.entries.is_empty());
        let _ = arp.learn(IP, MAC, true, Instant::ZERO);
        let other = Mac([2, 0, 0, 0, 0, 2]);
        let _ = arp.learn(IP, other, false, Instant::ZERO);
        assert!(matches!(arp.resolve(IP, vec![], Instant::ZERO), Resolved::To(mac, _) if mac == other));
    }
}
