//! Forwarding inside a network: classify, learn, flood or deliver (IEEE 802.1Q 8.6), direct and in place.

use bytes::Bytes;

use super::{Carry, Dataplane, Origin, Output, Stray, StrayKind, table::Learned};
use crate::{
    frame::{Header, tag},
    names::{Mac, Nanos, NetworkId, PortId},
};

impl Dataplane {
    /// A frame arrives from the NIC at `port`.
    pub(crate) fn ingress(&mut self, port: PortId, frame: Bytes, now: Nanos) {
        let Some(state) = self.ports.get_mut(port.0 as usize) else {
            return;
        };
        let Some(header) = Header::parse(&frame) else {
            state.counters.rx_malformed += 1;
            return;
        };
        if !state.carrier() {
            state.counters.rx_link_down += 1;
            return;
        }
        state.counters.rx_frames += 1;
        state.counters.rx_bytes += frame.len() as u64;
        if header.is_link_local() {
            state.counters.rx_filtered += 1;
            return;
        }
        let network = match header.vlan {
            None => state.membership.native,
            Some(vlan) => state.membership.tagged.get(&vlan).copied(),
        };
        let intended = match header.vlan {
            None => state.intended.native,
            Some(vlan) => state.intended.tagged.get(&vlan).copied(),
        };
        if network.is_none() {
            state.counters.rx_no_network += 1;
        }
        if network.is_none() || network != intended {
            let kind = if network.is_some() {
                StrayKind::OtherNetwork
            } else {
                StrayKind::NoNetwork
            };
            self.strays.note(
                port,
                header.src,
                kind,
                Stray {
                    network,
                    intended,
                    vlan: header.vlan,
                },
                &frame,
                now,
            );
        } else {
            self.strays.resolved(port, header.src);
        }
        let Some(network) = network else { return };
        let origin = Origin {
            port: Some(port),
            network,
        };
        self.work.push_back(Carry {
            network,
            from: Some(port),
            origin,
            frame: header.untag(frame),
        });
        self.drain(now);
    }

    /// Carries what waits, and what gateways make of it, until nothing is left. It ends: a gateway never
    /// hears its own frames, and each hop through one lowers a packet's time to live.
    pub(super) fn drain(&mut self, now: Nanos) {
        while let Some(carry) = self.work.pop_front() {
            self.carry(carry, now);
        }
    }

    /// Queues a frame that the gateway of `network` sends.
    pub(super) fn gateway_sends(&mut self, network: NetworkId, origin: Origin, frame: Bytes) {
        self.work.push_back(Carry {
            network,
            from: None,
            origin,
            frame,
        });
    }

    fn carry(&mut self, carry: Carry, now: Nanos) {
        let Carry {
            network: id,
            from,
            origin,
            frame,
        } = carry;
        let age_max = self.mac_age_max;
        let Some(header) = Header::parse(&frame) else {
            return;
        };
        let Some(network) = self
            .networks
            .get_mut(id.0 as usize)
            .and_then(Option::as_deref_mut)
        else {
            return;
        };
        network.counters.frames += 1;
        network.counters.bytes += frame.len() as u64;
        for tap in &mut network.taps {
            tap.see(now, &frame, &network.config.name);
        }
        if let Some(port) = from {
            match network.macs.learn(header.src, port, now, age_max) {
                Learned::Known => {}
                Learned::New => self.learned(port, header.src),
                Learned::Moved(before) => {
                    network.counters.mac_moves += 1;
                    tracing::debug!(network = network.config.name, mac = %header.src, from = before.0, to = port.0, "MAC moved");
                    self.learned(port, header.src);
                }
                Learned::Full => network.counters.mac_table_full += 1,
            }
        }
        let Some(network) = self.network(id) else { return };
        let to_gateway = from.is_some() && network.config.gateway.is_some();
        if header.dst == network.gateway_mac {
            if to_gateway {
                self.gateway_input(id, origin, &header, &frame, now);
            }
            return;
        }
        match network.macs.lookup(header.dst, now, age_max) {
            Some(port) if Some(port) == from => {} // the destination heard it on its own wire
            Some(port) => self.deliver(id, port, from, origin, &frame, now),
            None => self.flood(id, from, origin, &header, &frame, now),
        }
        if to_gateway && header.dst == Mac::BROADCAST {
            self.gateway_input(id, origin, &header, &frame, now);
        }
    }

    fn deliver(
        &mut self,
        id: NetworkId,
        to: PortId,
        from: Option<PortId>,
        origin: Origin,
        frame: &Bytes,
        now: Nanos,
    ) {
        let Some(vlan) = self
            .network(id)
            .and_then(|network| network.members.get(&to))
            .copied()
        else {
            return;
        };
        let out = vlan.map_or_else(|| frame.clone(), |vlan| tag(frame, vlan));
        self.emit(id, to, from, origin, out, now);
    }

    /// To each member but the sender. The copies share one buffer; a tagged one is made once per tag.
    fn flood(
        &mut self,
        id: NetworkId,
        from: Option<PortId>,
        origin: Origin,
        header: &Header,
        frame: &Bytes,
        now: Nanos,
    ) {
        let Some(network) = self.network_mut(id) else {
            return;
        };
        match header.dst.is_group() {
            true => network.counters.broadcast += 1,
            false => network.counters.unknown_unicast += 1,
        }
        let members = std::mem::take(&mut network.members);
        let mut tagged: Option<(u16, Bytes)> = None;
        for (to, vlan) in &members {
            if Some(*to) == from {
                continue;
            }
            let out = match (vlan, &tagged) {
                (None, _) => frame.clone(),
                (Some(vlan), Some((same, copy))) if same == vlan => copy.clone(),
                (Some(vlan), _) => tagged.insert((*vlan, tag(frame, *vlan))).1.clone(),
            };
            self.emit(id, *to, from, origin, out, now);
        }
        if let Some(network) = self.network_mut(id) {
            network.members = members;
        }
    }

    fn emit(
        &mut self,
        id: NetworkId,
        to: PortId,
        from: Option<PortId>,
        origin: Origin,
        frame: Bytes,
        now: Nanos,
    ) {
        let leaf = from.and_then(|from| self.port(from)).and_then(|port| port.leaf);
        let Some(state) = self.ports.get_mut(to.0 as usize) else {
            return;
        };
        if !state.carrier() {
            return;
        }
        state.counters.tx_frames += 1;
        state.counters.tx_bytes += frame.len() as u64;
        if let (Some(here), Some(there)) = (leaf, state.leaf)
            && here != there
            && let Some(count) = self.tunnelled.get_mut(usize::from(here))
        {
            *count += 1;
        }
        if let Some(witness) = &mut self.witness {
            witness.delivered(origin, id, to, &frame, now);
        }
        self.out.push_back(Output::Frame(to, frame));
    }

    /// A MAC that the inventory knows shows up somewhere: is it where its cable should end?
    fn learned(&mut self, port: PortId, mac: Mac) {
        self.strays.seen(port, mac);
    }
}
