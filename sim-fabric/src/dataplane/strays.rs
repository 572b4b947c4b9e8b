//! Frames that tell of a mistake: a port in no network, or in another one than intended; a NIC at another
//! port than the inventory says. Kept per (port, MAC), bounded, until the cause is gone.

use std::collections::BTreeMap;

use crate::{
    frame::describe,
    names::{Mac, Nanos, NetworkId, PortId},
};

/// Enough for each NIC of a large lab; a sender of invented addresses only hides other invented ones.
const STRAYS_MAX: usize = 4096;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StrayKind {
    NoNetwork,
    OtherNetwork,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stray {
    pub(crate) network: Option<NetworkId>,
    pub(crate) intended: Option<NetworkId>,
    pub(crate) vlan: Option<u16>,
}

#[derive(Debug, Clone)]
pub(crate) struct Sighting {
    pub(crate) kind: StrayKind,
    pub(crate) stray: Stray,
    pub(crate) frames: u64,
    pub(crate) first: Nanos,
    pub(crate) last: Nanos,
    /// `DHCP DISCOVER`, `ARP`, ..: of the last frame.
    pub(crate) what: String,
}

#[derive(Debug, Default)]
pub(crate) struct Strays {
    by_port: BTreeMap<(PortId, Mac), Sighting>,
    /// The inventory: NICs whose addresses it knows, and where their cables should end.
    cabled: BTreeMap<Mac, PortId>,
    /// NICs that were learned elsewhere.
    miscabled: BTreeMap<Mac, PortId>,
}

impl Strays {
    pub(crate) fn expect(&mut self, mac: Mac, port: PortId) {
        self.cabled.insert(mac, port);
    }

    pub(super) fn note(
        &mut self,
        port: PortId,
        mac: Mac,
        kind: StrayKind,
        stray: Stray,
        frame: &[u8],
        now: Nanos,
    ) {
        if let Some(old) = self.by_port.get_mut(&(port, mac)) {
            let frames = if (old.kind, old.stray) == (kind, stray) {
                old.frames + 1
            } else {
                1
            };
            *old = Sighting {
                kind,
                stray,
                frames,
                first: old.first,
                last: now,
                what: describe(frame),
            };
        } else if self.by_port.len() < STRAYS_MAX {
            let what = describe(frame);
            self.by_port.insert(
                (port, mac),
                Sighting {
                    kind,
                    stray,
                    frames: 1,
                    first: now,
                    last: now,
                    what,
                },
            );
        }
        self.seen(port, mac);
    }

    /// A frame of this NIC was carried where it belongs.
    pub(super) fn resolved(&mut self, port: PortId, mac: Mac) {
        if !self.by_port.is_empty() {
            self.by_port.remove(&(port, mac));
        }
    }

    pub(super) fn seen(&mut self, port: PortId, mac: Mac) {
        match self.cabled.get(&mac) {
            Some(right) if *right != port => {
                self.miscabled.insert(mac, port);
            }
            Some(_) => {
                self.miscabled.remove(&mac);
            }
            None => {}
        }
    }

    /// The port changed networks: what was wrong about it may be right now.
    pub(super) fn forget(&mut self, port: PortId) {
        self.by_port.retain(|(at, _), _| *at != port);
    }

    pub(crate) fn unplugged(&mut self, port: PortId) {
        self.forget(port);
        self.miscabled.retain(|_, at| *at != port);
    }

    pub(crate) fn sightings(&self) -> impl Iterator<Item = (PortId, Mac, &Sighting)> {
        self.by_port
            .iter()
            .map(|((port, mac), sighting)| (*port, *mac, sighting))
    }

    /// MAC, where it is, where its cable should end.
    pub(crate) fn miscabled(&self) -> impl Iterator<Item = (Mac, PortId, PortId)> {
        self.miscabled
            .iter()
            .filter_map(|(mac, at)| self.cabled.get(mac).map(|right| (*mac, *at, *right)))
    }
}
