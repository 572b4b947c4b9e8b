//! Changes to the hardware: networks come and go, ports change membership, links go up and down. Each change
//! of membership or loss of link forgets what was learned at the port and what still waits to leave by it.

use super::{
    Change, Dataplane, Membership, Network, NetworkConfig, Output, Router, gateway_mac, table::MacTable,
};
use crate::{
    names::{Nanos, NetworkId, PortId},
    observe::NetworkCounters,
};

impl Dataplane {
    pub(crate) fn apply(&mut self, change: Change, now: Nanos) {
        match change {
            Change::AddNetwork(config) => self.add_network(config),
            Change::RemoveNetwork(id) => self.remove_network(id, now),
            Change::Member(port, membership) => {
                if let Some(state) = self.port_mut(port) {
                    state.committed = membership;
                }
                self.settle(port, now);
            }
            Change::Admin(port, up) => {
                if let Some(state) = self.port_mut(port) {
                    state.admin_up = up;
                }
                if !up {
                    self.forget(port);
                }
            }
        }
    }

    pub(crate) fn set_link(&mut self, port: PortId, up: bool) {
        if let Some(state) = self.port_mut(port) {
            state.link_up = up;
        }
        if !up {
            self.forget(port);
        }
    }

    /// An edit behind the controller's back; its number ends it.
    pub(crate) fn force(&mut self, port: PortId, membership: Membership, now: Nanos) -> u64 {
        self.edits_by_hand += 1;
        let number = self.edits_by_hand;
        if let Some(state) = self.port_mut(port) {
            state.forced = Some((number, membership));
        }
        self.settle(port, now);
        number
    }

    /// Ends an edit, unless a later one took its place.
    pub(crate) fn unforce(&mut self, port: PortId, number: u64, now: Nanos) {
        if let Some(state) = self.port_mut(port) {
            state.forced.take_if(|(current, _)| *current == number);
        }
        self.settle(port, now);
    }

    fn add_network(&mut self, config: NetworkConfig) {
        let at = config.id.0 as usize;
        if self.networks.len() <= at {
            self.networks.resize_with(at + 1, || None);
        }
        if let Some(gateway) = config.gateway {
            self.prefixes
                .insert(gateway.network(), (gateway.trunc(), config.id));
        }
        self.networks[at] = Some(Box::new(Network {
            gateway_mac: gateway_mac(config.id),
            config,
            members: Default::default(),
            macs: MacTable::default(),
            router: Router::default(),
            taps: Vec::new(),
            counters: NetworkCounters::default(),
        }));
    }

    fn remove_network(&mut self, id: NetworkId, now: Nanos) {
        let Some(mut network) = self.networks.get_mut(id.0 as usize).and_then(Option::take) else {
            return;
        };
        self.prefixes.retain(|_, (_, of)| *of != id);
        for tap in &mut network.taps {
            tap.flush(&network.config.name);
        }
        for port in network.members.keys() {
            self.settle(*port, now);
        }
    }

    /// Makes the hardware do what the last commit, or an edit behind its back, says.
    fn settle(&mut self, port: PortId, now: Nanos) {
        let Some(state) = self.port(port) else { return };
        let mut want = state
            .forced
            .as_ref()
            .map_or(&state.committed, |(_, forced)| forced)
            .clone();
        want.native = want.native.filter(|id| self.network(*id).is_some());
        want.tagged.retain(|_, id| self.network(*id).is_some());
        if want == state.membership {
            return;
        }
        self.forget(port);
        self.out.push_back(Output::Flush(port));
        let before: Vec<NetworkId> = self.ports[port.0 as usize].membership.networks().collect();
        for id in before {
            if let Some(network) = self.network_mut(id) {
                network.members.remove(&port);
            }
        }
        // Tagged first: a network that is both native and tagged at a port counts as native.
        let tags = want.tagged.iter().map(|(vid, id)| (*id, Some(*vid)));
        for (id, tag) in tags.chain(want.native.map(|id| (id, None))) {
            if let Some(network) = self
                .networks
                .get_mut(id.0 as usize)
                .and_then(Option::as_deref_mut)
            {
                network.members.insert(port, tag);
            }
        }
        if let Some(witness) = &mut self.witness {
            witness.moved(port, want.networks().collect(), now);
        }
        let names: Vec<_> = want.networks().filter_map(|id| self.name(id)).collect();
        tracing::info!(port = %self.ports[port.0 as usize].name, networks = ?names, "port changed networks");
        self.ports[port.0 as usize].membership = want;
        self.strays.forget(port);
    }

    /// Addresses learned at the port, and what gateways resolved to them.
    fn forget(&mut self, port: PortId) {
        let Some(state) = self.port(port) else { return };
        let networks: Vec<NetworkId> = state.membership.networks().collect();
        for id in networks {
            if let Some(network) = self.network_mut(id) {
                let gone = network.macs.flush(port);
                network.router.forget(&gone);
            }
        }
    }
}
