//! Watches the wires while a test runs: what each network carried.

use sim_fabric::{FabricHandle, FrameView, Guard, Verdict};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

/// EtherType of IPv4, and the protocols and ports that we tell apart.
const IPV4: u16 = 0x0800;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// Frames by network and kind.
#[derive(Clone, Default)]
pub(crate) struct Seen(Arc<Mutex<BTreeMap<(String, &'static str), u64>>>);

impl Seen {
    /// Watches until the guard drops.
    pub(crate) fn start(fabric: &FabricHandle) -> (Seen, Guard) {
        let seen = Seen::default();
        let book = seen.clone();
        let guard = fabric.rule_fn(move |frame, _| {
            if let (Some(network), Some(kind)) = (frame.network, kind(frame)) {
                let mut book = book.0.lock().unwrap_or_else(PoisonError::into_inner);
                *book.entry((network.to_owned(), kind)).or_default() += 1;
            }
            Verdict::Pass
        });
        (seen, guard)
    }

    pub(crate) fn frames(&self, network: &str, kind: &'static str) -> u64 {
        let book = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        book.get(&(network.to_owned(), kind)).copied().unwrap_or_default()
    }

    pub(crate) fn networks(&self) -> Vec<String> {
        let book = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut names: Vec<String> = book.keys().map(|(network, _)| network.clone()).collect();
        names.dedup();
        names
    }
}

pub(crate) const DHCP: &str = "DHCP";
pub(crate) const BOOT: &str = "HTTP of the boot services";
/// To or from the services network: the join service, tenants' APIs.
pub(crate) const SERVICES: &str = "services";

fn kind(frame: &FrameView<'_>) -> Option<&'static str> {
    if frame.ethertype != IPV4 {
        return None;
    }
    let packet = frame.frame.get(14..)?;
    let header = usize::from(packet.first()? & 0x0f) * 4;
    let (protocol, src, dst) = (*packet.get(9)?, packet.get(12..16)?, packet.get(16..20)?);
    let port = |at: usize| -> Option<u16> {
        let bytes = packet.get(header + at..header + at + 2)?;
        Some(u16::from_be_bytes([bytes[0], bytes[1]]))
    };
    let ports = [port(0)?, port(2)?];
    let services = [192, 168, 101];
    match protocol {
        UDP if ports.iter().any(|p| matches!(p, 67 | 68)) => Some(DHCP),
        _ if src.starts_with(&services) || dst.starts_with(&services) => Some(SERVICES),
        TCP if ports.contains(&8080) => Some(BOOT),
        _ => None,
    }
}
