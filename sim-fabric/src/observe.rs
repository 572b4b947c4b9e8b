//! What can be read of the fabric: counters, MAC tables, mismatches, a snapshot of ports and networks. Plain
//! data with names in it, for status pages, the management API and tests.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::Serialize;

use crate::{
    dataplane::{Dataplane, Sighting, StrayKind},
    names::{Mac, Nanos, NetworkId, PortId, PortName, timestamp},
};

/// Counted at a port; `rx` is what the NIC sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct PortCounters {
    pub rx_frames: u64,
    pub rx_bytes: u64,
    pub tx_frames: u64,
    pub tx_bytes: u64,
    /// Runts, giants, group addresses as source.
    pub rx_malformed: u64,
    pub rx_link_down: u64,
    /// Dropped since the port was in no network (or the tag in none).
    pub rx_no_network: u64,
    /// Link-local control frames, which end at the port.
    pub rx_filtered: u64,
    /// Dropped by a fault rule.
    pub rx_fault: u64,
    /// Lost since the receiver did not keep up.
    pub tx_overflow: u64,
    /// Discarded from the egress queue when the port changed networks.
    pub tx_flushed: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct NetworkCounters {
    pub frames: u64,
    pub bytes: u64,
    pub broadcast: u64,
    pub unknown_unicast: u64,
    pub mac_moves: u64,
    pub mac_table_full: u64,
    /// Packets that a gateway sent into this network.
    pub routed: u64,
    /// Packets out of this network that no route allowed.
    pub denied: u64,
    /// Packets out of this network with a source outside its prefix.
    pub spoofed: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum MismatchKind {
    /// Frames are dropped: the port is in no network.
    NoNetwork,
    /// The switch has the port in another network than the management API intends.
    OtherNetwork,
    /// The NIC's cable ends at another port than the inventory says.
    OtherPort,
}

/// A frame told that something is not as intended. Gone once a frame shows that the cause is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Mismatch {
    pub kind: MismatchKind,
    pub port: PortName,
    pub mac: Mac,
    /// Where the switch has the port.
    pub network: Option<String>,
    /// Where the management API wants it.
    pub intended: Option<String>,
    /// Where the inventory wants the cable, for `OtherPort`.
    pub expected_port: Option<PortName>,
    pub vlan: Option<u16>,
    pub frames: u64,
    pub first: Option<jiff::Timestamp>,
    pub last: Option<jiff::Timestamp>,
    /// What the last frame was, e.g. `DHCP DISCOVER`.
    pub what: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MacEntry {
    pub mac: Mac,
    pub network: String,
    pub vlan: u16,
    pub port: PortName,
    pub last_seen: jiff::Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PortStatus {
    pub name: PortName,
    pub admin_up: bool,
    pub carrier: bool,
    /// What the switch does now.
    pub networks: Vec<String>,
    /// What the management API wants.
    pub intended: Vec<String>,
    pub counters: PortCounters,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkStatus {
    pub name: String,
    pub vlan: u16,
    pub gateway: Option<Ipv4Net>,
    pub gateway_mac: Mac,
    pub ports: Vec<PortName>,
    pub neighbours: Vec<(Ipv4Addr, Mac)>,
    pub counters: NetworkCounters,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    pub ports: Vec<PortStatus>,
    pub networks: Vec<NetworkStatus>,
    /// Frame copies that each leaf sent to others through VXLAN tunnels.
    pub tunnelled: Vec<u64>,
    /// Changes accepted, and changes that the switches have.
    pub revision: u64,
    pub committed: u64,
}

impl Dataplane {
    pub(crate) fn port_statuses(&self) -> Vec<PortStatus> {
        (0..self.ports.len())
            .filter_map(|index| self.port_status(PortId(index as u32)))
            .collect()
    }

    pub(crate) fn port_status(&self, id: PortId) -> Option<PortStatus> {
        let port = self.port(id)?;
        let names = |ids: &mut dyn Iterator<Item = NetworkId>| {
            ids.filter_map(|id| self.name(id))
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        Some(PortStatus {
            name: port.name.clone(),
            admin_up: port.admin_up,
            carrier: port.carrier(),
            networks: names(&mut port.membership.networks()),
            intended: names(&mut port.intended.networks()),
            counters: port.counters,
        })
    }

    pub(crate) fn network_statuses(&self) -> Vec<NetworkStatus> {
        self.networks()
            .map(|network| NetworkStatus {
                name: network.config.name.clone(),
                vlan: network.config.vlan,
                gateway: network.gateway(),
                gateway_mac: network.gateway_mac,
                ports: network
                    .members
                    .keys()
                    .filter_map(|id| self.port(*id))
                    .map(|p| p.name.clone())
                    .collect(),
                neighbours: network.router.neighbours().collect(),
                counters: network.counters,
            })
            .collect()
    }

    pub(crate) fn mac_entries(&self, now: Nanos) -> Vec<MacEntry> {
        let mut entries = Vec::new();
        for network in self.networks() {
            for (mac, entry) in network.macs.list(now, self.mac_age_max) {
                let Some(port) = self.port(entry.port) else {
                    continue;
                };
                let (network, vlan) = (network.config.name.clone(), network.config.vlan);
                entries.push(MacEntry {
                    mac,
                    network,
                    vlan,
                    port: port.name.clone(),
                    last_seen: timestamp(entry.seen),
                });
            }
        }
        entries
    }

    pub(crate) fn mismatches(&self) -> Vec<Mismatch> {
        let strays = self
            .strays
            .sightings()
            .filter_map(|(port, mac, seen)| self.mismatch(port, mac, seen));
        let miscabled = self.strays.miscabled().filter_map(|(mac, at, right)| {
            let port = self.port(at)?;
            let native = |id: Option<NetworkId>| id.and_then(|id| self.name(id)).map(str::to_owned);
            Some(Mismatch {
                kind: MismatchKind::OtherPort,
                port: port.name.clone(),
                mac,
                network: native(port.membership.native),
                intended: native(port.intended.native),
                expected_port: Some(self.port(right)?.name.clone()),
                vlan: None,
                frames: 0,
                first: None,
                last: None,
                what: String::new(),
            })
        });
        strays.chain(miscabled).collect()
    }

    fn mismatch(&self, port: PortId, mac: Mac, seen: &Sighting) -> Option<Mismatch> {
        let name = |id: Option<NetworkId>| id.and_then(|id| self.name(id)).map(str::to_owned);
        Some(Mismatch {
            kind: match seen.kind {
                StrayKind::NoNetwork => MismatchKind::NoNetwork,
                StrayKind::OtherNetwork => MismatchKind::OtherNetwork,
            },
            port: self.port(port)?.name.clone(),
            mac,
            network: name(seen.stray.network),
            intended: name(seen.stray.intended),
            expected_port: None,
            vlan: seen.stray.vlan,
            frames: seen.frames,
            first: Some(timestamp(seen.first)),
            last: Some(timestamp(seen.last)),
            what: seen.what.clone(),
        })
    }
}
