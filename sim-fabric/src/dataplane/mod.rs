//! The switches' hardware, sans-IO: frames in, frames out, and nothing that knows of the management API.
//!
//! ```text
//! port --classify--> network --tap--> learn --+--> known port
//!                       ^                     +--> flood
//!                       |                     +--> gateway (gateway.rs): answers, or routes into
//!                       +------------------------------------------------ another network
//! ```
//! A V-Net is one bridge domain over all leaves. Between leaves a frame crosses a VXLAN tunnel whose outer
//! header no port ever sees, so it is counted per leaf and the inner frame is handed over directly.
//! **Invariant:** a frame leaves by a port only if that port is a member of the frame's network at that
//! moment; `tests/it/isolation.rs` and the witness hold it.

mod apply;
mod bridge;
mod gateway;
mod strays;
pub(crate) mod table;

use std::{
    collections::{BTreeMap, VecDeque},
    net::Ipv4Addr,
};

use bytes::Bytes;
use ipnet::Ipv4Net;

pub(crate) use self::{
    gateway::Router,
    strays::{Sighting, Stray, StrayKind, Strays},
};
use crate::{
    capture::Tap,
    names::{Mac, Nanos, NetworkId, PortId, PortName},
    observe::{NetworkCounters, PortCounters},
    topology::Denied,
    witness::Record,
};

/// Which networks a port carries: one untagged (dedicated member), any number tagged (shared member).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Membership {
    pub(crate) native: Option<NetworkId>,
    pub(crate) tagged: BTreeMap<u16, NetworkId>,
}

impl Membership {
    pub(crate) fn networks(&self) -> impl Iterator<Item = NetworkId> {
        self.native.into_iter().chain(self.tagged.values().copied())
    }
}

#[derive(Debug, Clone)]
pub(crate) struct NetworkConfig {
    pub(crate) id: NetworkId,
    pub(crate) name: String,
    pub(crate) vlan: u16,
    pub(crate) gateway: Option<Ipv4Net>,
    /// Made through the management API, hence a tenant's.
    pub(crate) tenant: bool,
}

/// One step of a commit.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    AddNetwork(NetworkConfig),
    RemoveNetwork(NetworkId),
    Member(PortId, Membership),
    Admin(PortId, bool),
}

/// What the dataplane wants done outside.
#[derive(Debug)]
pub enum Output {
    /// Put this frame on the wire of this port.
    Frame(PortId, Bytes),
    /// Whatever still waits to leave by this port belongs to a network that it is no longer in.
    Flush(PortId),
}

pub(crate) struct PortState {
    pub(crate) name: PortName,
    /// None for ports straight in a network.
    pub(crate) leaf: Option<u16>,
    pub(crate) admin_up: bool,
    pub(crate) link_up: bool,
    pub(crate) plugged: bool,
    /// What the hardware does.
    pub(crate) membership: Membership,
    /// What the last commit said; differs from `membership` only under an out-of-band edit.
    pub(crate) committed: Membership,
    /// What the management API wants; ahead of `committed` until the commit is due.
    pub(crate) intended: Membership,
    /// An edit behind the controller's back, with its number.
    pub(crate) forced: Option<(u64, Membership)>,
    pub(crate) counters: PortCounters,
}

impl PortState {
    pub(crate) fn new(name: PortName, leaf: Option<u16>) -> PortState {
        PortState {
            name,
            leaf,
            admin_up: true,
            link_up: false,
            plugged: false,
            membership: Membership::default(),
            committed: Membership::default(),
            intended: Membership::default(),
            forced: None,
            counters: PortCounters::default(),
        }
    }

    pub(crate) fn carrier(&self) -> bool {
        self.admin_up && self.link_up
    }
}

pub(crate) struct Network {
    pub(crate) config: NetworkConfig,
    pub(crate) gateway_mac: Mac,
    /// Member ports and the tag that they see, in order of ports.
    pub(crate) members: BTreeMap<PortId, Option<u16>>,
    pub(crate) macs: table::MacTable,
    pub(crate) router: Router,
    pub(crate) taps: Vec<Tap>,
    pub(crate) counters: NetworkCounters,
}

/// Where a frame began its life, kept through routing: the witness asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Origin {
    /// None: the gateway made it by itself.
    pub(crate) port: Option<PortId>,
    pub(crate) network: NetworkId,
}

/// A frame that a network has to carry.
struct Carry {
    network: NetworkId,
    /// None: from the gateway.
    from: Option<PortId>,
    origin: Origin,
    frame: Bytes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RouteEnd {
    Tenants,
    Network(NetworkId),
}

/// Who may reach whom. Both ways; a tenant never reaches a tenant, whatever is listed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Policy {
    pub(crate) routes: Vec<(RouteEnd, RouteEnd)>,
}

impl Policy {
    pub(crate) fn allows(&self, a: &NetworkConfig, b: &NetworkConfig) -> bool {
        let is = |end: RouteEnd, net: &NetworkConfig| match end {
            RouteEnd::Tenants => net.tenant,
            RouteEnd::Network(id) => net.id == id,
        };
        let listed = |(x, y): &(RouteEnd, RouteEnd)| (is(*x, a) && is(*y, b)) || (is(*x, b) && is(*y, a));
        a.id == b.id || (!(a.tenant && b.tenant) && self.routes.iter().any(listed))
    }
}

pub(crate) struct Dataplane {
    pub(crate) ports: Vec<PortState>,
    /// By id; removed ones leave a hole, since ids are never used again.
    networks: Vec<Option<Box<Network>>>,
    /// First address of each gateway's prefix; prefixes never overlap (the model refuses), so the last one
    /// at or below a destination is the only candidate.
    prefixes: BTreeMap<Ipv4Addr, (Ipv4Net, NetworkId)>,
    pub(crate) policy: Policy,
    pub(crate) denied: Denied,
    pub(crate) mac_age_max: Nanos,
    pub(crate) strays: Strays,
    pub(crate) witness: Option<Record>,
    /// Frames between leaves, by sending leaf: copies that a VXLAN tunnel carried.
    pub(crate) tunnelled: Vec<u64>,
    /// A gateway began to resolve a next hop, so there is something to do later.
    pub(crate) asked: bool,
    edits_by_hand: u64,
    out: VecDeque<Output>,
    work: VecDeque<Carry>,
}

impl Dataplane {
    pub(crate) fn new(policy: Policy, denied: Denied, mac_age_max: Nanos, leaves: usize) -> Dataplane {
        Dataplane {
            ports: Vec::new(),
            networks: Vec::new(),
            prefixes: BTreeMap::new(),
            policy,
            denied,
            mac_age_max,
            strays: Strays::default(),
            witness: None,
            tunnelled: vec![0; leaves],
            asked: false,
            edits_by_hand: 0,
            out: VecDeque::new(),
            work: VecDeque::new(),
        }
    }

    pub(crate) fn port(&self, id: PortId) -> Option<&PortState> {
        self.ports.get(id.0 as usize)
    }

    pub(crate) fn port_mut(&mut self, id: PortId) -> Option<&mut PortState> {
        self.ports.get_mut(id.0 as usize)
    }

    pub(crate) fn network(&self, id: NetworkId) -> Option<&Network> {
        self.networks.get(id.0 as usize).and_then(Option::as_deref)
    }

    pub(crate) fn network_mut(&mut self, id: NetworkId) -> Option<&mut Network> {
        self.networks
            .get_mut(id.0 as usize)
            .and_then(Option::as_deref_mut)
    }

    pub(crate) fn networks(&self) -> impl Iterator<Item = &Network> {
        self.networks.iter().filter_map(Option::as_deref)
    }

    pub(crate) fn networks_mut(&mut self) -> impl Iterator<Item = &mut Network> {
        self.networks.iter_mut().filter_map(Option::as_deref_mut)
    }

    pub(crate) fn name(&self, id: NetworkId) -> Option<&str> {
        self.network(id).map(|network| network.config.name.as_str())
    }

    pub(crate) fn egress(&mut self) -> Option<Output> {
        self.out.pop_front()
    }
}

/// The gateway's MAC of a network: locally administered, the V-Net's id in the last three bytes. One per
/// network rather than one anycast address for all, so that a capture names the router port it shows.
fn gateway_mac(id: NetworkId) -> Mac {
    let [_, a, b, c] = id.0.to_be_bytes();
    Mac([0x02, 0x00, 0x5e, a, b, c])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A topology that listed tenants on both ends would be refused; the policy would not follow it either.
    #[test]
    fn who_may_reach_whom() {
        let network = |id: u32, tenant: bool| NetworkConfig {
            id: NetworkId(id),
            name: format!("net-{id}"),
            vlan: 100,
            gateway: None,
            tenant,
        };
        let (provisioning, services) = (network(1, false), network(2, false));
        let (one, two) = (network(3, true), network(4, true));
        let policy = Policy {
            routes: vec![
                (RouteEnd::Tenants, RouteEnd::Network(NetworkId(2))),
                (RouteEnd::Tenants, RouteEnd::Tenants),
            ],
        };
        for (a, b, allowed) in [
            (&one, &services, true),
            (&services, &two, true),
            (&one, &one, true),
            (&one, &two, false),
            (&one, &provisioning, false),
            (&provisioning, &services, false),
        ] {
            assert_eq!(policy.allows(a, b), allowed, "{} -> {}", a.name, b.name);
            assert_eq!(policy.allows(b, a), allowed, "{} -> {}", b.name, a.name);
        }
    }
}
