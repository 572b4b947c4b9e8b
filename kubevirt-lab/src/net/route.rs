//! Own addresses and routes of one stack: which neighbour a packet goes to, and with which source.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

/// An address of this stack and the prefix that is on the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    pub ip: Ipv4Addr,
    pub prefix: u8,
}

impl Address {
    pub(super) fn net(&self) -> Ipv4Net {
        Ipv4Net::new_assert(self.ip, self.prefix.min(32))
    }

    fn broadcast(&self) -> Option<Ipv4Addr> {
        // RFC 3021: a /31 has no broadcast address; a /32 has no neighbours.
        (self.prefix < 31).then(|| self.net().broadcast())
    }
}

/// A destination behind a gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    pub to: Ipv4Net,
    pub via: Ipv4Addr,
}

/// Where a packet is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hop {
    Own,
    Broadcast,
    Neighbour(Ipv4Addr),
}

#[derive(Default)]
pub(super) struct Table {
    pub(super) addresses: Vec<Address>,
    pub(super) routes: Vec<Route>,
}

impl Table {
    pub(super) fn owns(&self, ip: Ipv4Addr) -> bool {
        self.addresses.iter().any(|a| a.ip == ip)
    }

    pub(super) fn is_broadcast(&self, ip: Ipv4Addr) -> bool {
        ip.is_broadcast() || self.addresses.iter().any(|a| a.broadcast() == Some(ip))
    }

    /// The next hop, or `None` without a route.
    pub(super) fn hop(&self, to: Ipv4Addr) -> Option<Hop> {
        if self.owns(to) {
            return Some(Hop::Own);
        }
        if self.is_broadcast(to) {
            return Some(Hop::Broadcast);
        }
        self.reach(to).map(|(_, hop)| Hop::Neighbour(hop))
    }

    /// Length of the longest prefix that leads to `to`; how a machine with several NICs chooses one.
    pub(super) fn prefix_to(&self, to: Ipv4Addr) -> Option<u8> {
        if self.owns(to) {
            return Some(32);
        }
        self.reach(to).map(|(prefix, _)| prefix)
    }

    fn reach(&self, to: Ipv4Addr) -> Option<(u8, Ipv4Addr)> {
        let on_link = self
            .addresses
            .iter()
            .filter(|a| a.net().contains(&to))
            .map(|a| (a.prefix.min(32), to))
            .max();
        let via = self
            .routes
            .iter()
            .filter(|r| r.to.contains(&to) && self.on_link(r.via))
            .map(|r| (r.to.prefix_len(), r.via))
            .max();
        // On a tie the link wins: the neighbour is nearer than its gateway.
        match (on_link, via) {
            (Some(link), Some(via)) if via.0 > link.0 => Some(via),
            (Some(link), _) => Some(link),
            (None, via) => via,
        }
    }

    fn on_link(&self, ip: Ipv4Addr) -> bool {
        self.addresses.iter().any(|a| a.net().contains(&ip))
    }

    /// The source address for a destination: on its subnet if we have one there, else on its gateway's.
    pub(super) fn source(&self, to: Ipv4Addr) -> Option<Ipv4Addr> {
        if self.owns(to) {
            return Some(to);
        }
        let hop = match self.hop(to) {
            Some(Hop::Neighbour(hop)) => hop,
            _ => to,
        };
        self.addresses
            .iter()
            .filter(|a| a.net().contains(&hop))
            .max_by_key(|a| a.prefix)
            .or(self.addresses.first())
            .map(|a| a.ip)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        Table {
            addresses: vec![
                Address {
                    ip: [10, 0, 0, 5].into(),
                    prefix: 24,
                },
                Address {
                    ip: [172, 16, 1, 5].into(),
                    prefix: 31,
                },
            ],
            routes: vec![
                Route {
                    to: "0.0.0.0/0".parse().unwrap(),
                    via: [10, 0, 0, 1].into(),
                },
                Route {
                    to: "10.9.0.0/16".parse().unwrap(),
                    via: [172, 16, 1, 4].into(),
                },
                // Its gateway is on no link of ours: as if it were not there.
                Route {
                    to: "10.8.0.0/16".parse().unwrap(),
                    via: [192, 168, 9, 1].into(),
                },
            ],
        }
    }

    #[test]
    fn next_hops() {
        let t = table();
        let cases: &[([u8; 4], Hop, [u8; 4])] = &[
            ([10, 0, 0, 5], Hop::Own, [10, 0, 0, 5]),
            ([10, 0, 0, 9], Hop::Neighbour([10, 0, 0, 9].into()), [10, 0, 0, 5]),
            ([10, 0, 0, 255], Hop::Broadcast, [10, 0, 0, 5]),
            ([255, 255, 255, 255], Hop::Broadcast, [10, 0, 0, 5]),
            (
                [10, 9, 1, 1],
                Hop::Neighbour([172, 16, 1, 4].into()),
                [172, 16, 1, 5],
            ),
            ([10, 8, 1, 1], Hop::Neighbour([10, 0, 0, 1].into()), [10, 0, 0, 5]),
            ([8, 8, 8, 8], Hop::Neighbour([10, 0, 0, 1].into()), [10, 0, 0, 5]),
        ];
        for (to, hop, source) in cases {
            let to = Ipv4Addr::from(*to);
            assert_eq!(t.hop(to), Some(*hop), "{to}");
            assert_eq!(t.source(to), Some(Ipv4Addr::from(*source)), "{to}");
        }
    }

    #[test]
    fn without_addresses_only_broadcast_has_a_hop() {
        let t = Table::default();
        assert_eq!(t.hop([10, 0, 0, 1].into()), None);
        assert_eq!(t.hop(Ipv4Addr::BROADCAST), Some(Hop::Broadcast));
        assert_eq!(t.source(Ipv4Addr::BROADCAST), None);
    }
}
