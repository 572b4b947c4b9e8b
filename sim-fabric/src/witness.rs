//! The witness of isolation: who received whose frames, over which networks, and whether the receiving port
//! was a member at that moment. It keeps its own copy of memberships and routes, fed by commits alone, so it
//! cannot repeat a mistake of the forwarding path. It costs a map entry per pair of talkers, so it runs only
//! while somebody holds its guard (`handle.rs`).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::{
    dataplane::{Dataplane, NetworkConfig, Origin, Policy},
    frame::describe,
    names::{Mac, Nanos, NetworkId, PortId, PortName, timestamp},
};

/// Moves remembered per port, and violations in all; a test that makes more has seen enough.
const HISTORY_MAX: usize = 1024;
const VIOLATIONS_MAX: usize = 256;

#[derive(Debug, Default)]
pub(crate) struct Record {
    policy: Policy,
    networks: BTreeMap<NetworkId, NetworkConfig>,
    members: BTreeMap<PortId, BTreeSet<NetworkId>>,
    history: BTreeMap<PortId, VecDeque<(Nanos, Vec<NetworkId>)>>,
    crossings: BTreeMap<Pair, Tally>,
    violations: Vec<(Nanos, Pair, String)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Pair {
    from: Option<PortId>,
    to: PortId,
    entered: NetworkId,
    left: NetworkId,
}

#[derive(Debug, Clone, Copy)]
struct Tally {
    frames: u64,
    bytes: u64,
    last: Nanos,
}

/// Frames that one port sent and another received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Crossing {
    /// None: a gateway's own frames.
    pub from: Option<PortName>,
    pub to: PortName,
    /// The network that the frames entered, and the one that they left by; they differ if a gateway routed.
    pub entered: String,
    pub left: String,
    pub frames: u64,
    pub bytes: u64,
    pub last: jiff::Timestamp,
}

/// A frame that reached a port which it never should have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    pub at: jiff::Timestamp,
    pub from: Option<PortName>,
    pub to: PortName,
    pub entered: String,
    pub left: String,
    pub reason: String,
}

impl Record {
    pub(crate) fn new(plane: &Dataplane, now: Nanos) -> Record {
        let mut record = Record {
            policy: plane.policy.clone(),
            ..Record::default()
        };
        for network in plane.networks() {
            record.added(network.config.clone());
        }
        for (index, port) in plane.ports.iter().enumerate() {
            record.moved(PortId(index as u32), port.membership.networks().collect(), now);
        }
        record
    }

    pub(crate) fn added(&mut self, network: NetworkConfig) {
        self.networks.insert(network.id, network);
    }

    pub(crate) fn moved(&mut self, port: PortId, networks: Vec<NetworkId>, now: Nanos) {
        self.members.insert(port, networks.iter().copied().collect());
        let history = self.history.entry(port).or_default();
        if history.len() >= HISTORY_MAX {
            history.pop_front();
        }
        history.push_back((now, networks));
    }

    pub(crate) fn delivered(
        &mut self,
        origin: Origin,
        left: NetworkId,
        to: PortId,
        frame: &[u8],
        now: Nanos,
    ) {
        let pair = Pair {
            from: origin.port,
            to,
            entered: origin.network,
            left,
        };
        let tally = self.crossings.entry(pair).or_insert(Tally {
            frames: 0,
            bytes: 0,
            last: now,
        });
        tally.frames += 1;
        tally.bytes += frame.len() as u64;
        tally.last = now;
        let member = self
            .members
            .get(&to)
            .is_some_and(|networks| networks.contains(&left));
        let allowed = match (self.networks.get(&origin.network), self.networks.get(&left)) {
            (Some(a), Some(b)) => self.policy.allows(a, b),
            _ => origin.network == left,
        };
        let reason = match (member, allowed) {
            (true, true) => return,
            (false, _) => "the port is no member of the network",
            (true, false) => "no route allows it",
        };
        if self.violations.len() < VIOLATIONS_MAX {
            let src = frame
                .get(6..12)
                .and_then(|b| b.try_into().ok())
                .map(|b| Mac(b).to_string());
            let what = format!("{reason}: {} from {}", describe(frame), src.unwrap_or_default());
            self.violations.push((now, pair, what));
        }
    }

    fn name(&self, id: NetworkId) -> String {
        self.networks
            .get(&id)
            .map_or_else(|| format!("#{}", id.0), |network| network.name.clone())
    }

    pub(crate) fn crossings(&self, plane: &Dataplane) -> Vec<Crossing> {
        let named = self.crossings.iter().filter_map(|(pair, tally)| {
            Some(Crossing {
                from: pair
                    .from
                    .and_then(|id| plane.port(id))
                    .map(|port| port.name.clone()),
                to: plane.port(pair.to)?.name.clone(),
                entered: self.name(pair.entered),
                left: self.name(pair.left),
                frames: tally.frames,
                bytes: tally.bytes,
                last: timestamp(tally.last),
            })
        });
        named.collect()
    }

    pub(crate) fn violations(&self, plane: &Dataplane) -> Vec<Violation> {
        let named = self.violations.iter().filter_map(|(at, pair, reason)| {
            Some(Violation {
                at: timestamp(*at),
                from: pair
                    .from
                    .and_then(|id| plane.port(id))
                    .map(|port| port.name.clone()),
                to: plane.port(pair.to)?.name.clone(),
                entered: self.name(pair.entered),
                left: self.name(pair.left),
                reason: reason.clone(),
            })
        });
        named.collect()
    }

    pub(crate) fn history(&self, port: PortId) -> Vec<(jiff::Timestamp, Vec<String>)> {
        let moves = self.history.get(&port).into_iter().flatten();
        moves
            .map(|(at, ids)| (timestamp(*at), ids.iter().map(|id| self.name(*id)).collect()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataplane::RouteEnd;

    /// A witness that could not object would prove nothing.
    #[test]
    fn it_objects() {
        let network = |id: u32, tenant: bool| NetworkConfig {
            id: NetworkId(id),
            name: format!("net-{id}"),
            vlan: 100,
            gateway: None,
            tenant,
        };
        let mut record = Record::default();
        record
            .policy
            .routes
            .push((RouteEnd::Tenants, RouteEnd::Network(NetworkId(3))));
        for config in [
            network(1, true),
            network(2, true),
            network(3, false),
            network(4, false),
        ] {
            record.added(config);
        }
        for port in 1..=4 {
            record.moved(PortId(port), vec![NetworkId(port)], 0);
        }
        // entered, left, to -> is it fine?
        let table = [
            (1, 1, 1, true),
            (1, 3, 3, true),
            (3, 2, 2, true),
            (1, 1, 2, false),
            (1, 2, 2, false),
            (4, 3, 3, false),
            (4, 1, 1, false),
            (1, 1, 9, false),
        ];
        for (entered, left, to, fine) in table {
            let before = record.violations.len();
            let origin = Origin {
                port: None,
                network: NetworkId(entered),
            };
            record.delivered(origin, NetworkId(left), PortId(to), &[0; 14], 0);
            assert_eq!(
                record.violations.len() == before,
                fine,
                "{entered} -> {left} at port {to}"
            );
        }
        record.moved(PortId(1), vec![], 1);
        record.delivered(
            Origin {
                port: None,
                network: NetworkId(1),
            },
            NetworkId(1),
            PortId(1),
            &[0; 14],
            2,
        );
        let (at, _, reason) = record.violations.last().unwrap();
        assert_eq!(
            (*at, reason.as_str()),
            (
                2,
                "the port is no member of the network: EtherType 0x0000 from 00:00:00:00:00:00"
            )
        );
    }
}
