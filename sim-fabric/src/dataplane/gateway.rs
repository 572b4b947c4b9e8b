//! The gateway of a network: a router's port. Answers ARP for its address and ICMP echo, routes what the
//! policy allows (RFC 1812: checksum verified, TTL lowered, source checked against the port it came in by),
//! resolves next hops with ARP, and says no with ICMP or with silence.

use std::{collections::BTreeMap, net::Ipv4Addr};

use bytes::Bytes;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, Icmpv4Message, Icmpv4Packet, IpProtocol, Ipv4Packet,
};

use super::{Dataplane, Network, Origin};
use crate::{
    frame::{ARP, HEADER, Header, IPV4},
    names::{Mac, Nanos, NetworkId},
    topology::Denied,
};

/// Hosts per network that a gateway remembers: a /19 full of them.
const NEIGHBOURS_MAX: usize = 8192;
/// Next hops in resolution, and packets that wait for each; the rest is dropped as routers do.
const UNRESOLVED_MAX: usize = 256;
const WAITING_MAX: usize = 8;
/// ARP requests per next hop, one a second (Linux: three tries, then EHOSTUNREACH).
const ARP_TRIES: u8 = 3;
const ARP_RETRY: Nanos = 1_000_000_000;
/// ICMP errors per network and second (RFC 1812 4.3.2.8 asks for a limit).
const ICMP_ERRORS_MAX: u32 = 100;
const ICMP_WINDOW: Nanos = 1_000_000_000;
const TTL: u8 = 64;

/// What one gateway remembers.
#[derive(Debug, Default)]
pub(crate) struct Router {
    neighbours: BTreeMap<Ipv4Addr, Mac>,
    unresolved: BTreeMap<Ipv4Addr, Unresolved>,
    window_start: Nanos,
    errors_in_window: u32,
}

#[derive(Debug)]
struct Unresolved {
    /// Complete frames but for the destination address.
    waiting: Vec<(Origin, Vec<u8>)>,
    tries: u8,
    due: Nanos,
}

impl Router {
    pub(super) fn forget(&mut self, macs: &[Mac]) {
        self.neighbours.retain(|_, mac| !macs.contains(mac));
    }

    pub(crate) fn neighbours(&self) -> impl Iterator<Item = (Ipv4Addr, Mac)> {
        self.neighbours.iter().map(|(address, mac)| (*address, *mac))
    }

    fn may_complain(&mut self, now: Nanos) -> bool {
        if now - self.window_start >= ICMP_WINDOW {
            (self.window_start, self.errors_in_window) = (now, 0);
        }
        self.errors_in_window += 1;
        self.errors_in_window <= ICMP_ERRORS_MAX
    }

    fn learn(&mut self, address: Ipv4Addr, mac: Mac) -> Vec<(Origin, Vec<u8>)> {
        if self.neighbours.len() < NEIGHBOURS_MAX || self.neighbours.contains_key(&address) {
            self.neighbours.insert(address, mac);
        }
        self.unresolved
            .remove(&address)
            .map(|u| u.waiting)
            .unwrap_or_default()
    }
}

/// Reasons of RFC 792 and RFC 1812 5.2.7.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Complaint {
    NetUnreachable,
    HostUnreachable,
    PortUnreachable,
    Prohibited,
    TimeExceeded,
}

impl Complaint {
    fn wire(self) -> (Icmpv4Message, u8) {
        match self {
            Complaint::NetUnreachable => (Icmpv4Message::DstUnreachable, 0),
            Complaint::HostUnreachable => (Icmpv4Message::DstUnreachable, 1),
            Complaint::PortUnreachable => (Icmpv4Message::DstUnreachable, 3),
            Complaint::Prohibited => (Icmpv4Message::DstUnreachable, 13),
            Complaint::TimeExceeded => (Icmpv4Message::TimeExceeded, 0),
        }
    }
}

/// What becomes of a packet that came in by a gateway.
enum Fate {
    Local(Ipv4Addr),
    Forward(NetworkId),
    Refuse(Complaint),
    Ignore,
}

impl Dataplane {
    /// A frame for the gateway of `id`, or a broadcast that it hears.
    pub(super) fn gateway_input(
        &mut self,
        id: NetworkId,
        origin: Origin,
        header: &Header,
        frame: &Bytes,
        now: Nanos,
    ) {
        let payload = &frame[HEADER..];
        match header.ethertype {
            ARP => self.gateway_arp(id, payload),
            IPV4 if header.dst != Mac::BROADCAST => self.gateway_ipv4(id, origin, header, payload, now),
            _ => {}
        }
    }

    fn gateway_arp(&mut self, id: NetworkId, payload: &[u8]) {
        let Some(network) = self.network_mut(id) else {
            return;
        };
        let Some(gateway) = network.config.gateway else {
            return;
        };
        let Ok(packet) = ArpPacket::new_checked(payload) else {
            return;
        };
        let Ok(ArpRepr::EthernetIpv4 {
            operation,
            source_hardware_addr,
            source_protocol_addr,
            target_protocol_addr,
            ..
        }) = ArpRepr::parse(&packet)
        else {
            return;
        };
        let sender = Mac(source_hardware_addr.0);
        let for_us = target_protocol_addr == gateway.addr();
        // RFC 826: known senders are updated, new ones only when they talk to us.
        let known = network.router.neighbours.contains_key(&source_protocol_addr)
            || network.router.unresolved.contains_key(&source_protocol_addr);
        let plausible = gateway.contains(&source_protocol_addr) && source_protocol_addr != gateway.addr();
        let (mac, mut released) = (network.gateway_mac, Vec::new());
        if plausible && !sender.is_group() && (for_us || known) {
            released = network.router.learn(source_protocol_addr, sender);
        }
        if operation == ArpOperation::Request && for_us {
            let reply = arp(
                ArpOperation::Reply,
                mac,
                gateway.addr(),
                sender,
                source_protocol_addr,
            );
            self.gateway_sends(
                id,
                Origin {
                    port: None,
                    network: id,
                },
                reply,
            );
        }
        for (origin, frame) in released {
            self.gateway_sends(id, origin, address(frame, sender));
        }
    }

    fn gateway_ipv4(&mut self, id: NetworkId, origin: Origin, header: &Header, payload: &[u8], now: Nanos) {
        let Ok(packet) = Ipv4Packet::new_checked(payload) else {
            return;
        };
        let packet_len = usize::from(packet.total_len());
        let Some(network) = self.network_mut(id) else {
            return;
        };
        let Some(gateway) = network.config.gateway else {
            return;
        };
        if packet.version() != 4 || !packet.verify_checksum() {
            return;
        }
        // Ingress filter (RFC 2827): a tenant that borrows an address must not make others hear answers.
        let src = packet.src_addr();
        if !gateway.contains(&src) || src == gateway.addr() || src == gateway.broadcast() {
            network.counters.spoofed += 1;
            return;
        }
        let payload = &payload[..packet_len];
        match self.fate(id, &packet) {
            Fate::Ignore => {}
            Fate::Local(local) => self.gateway_local(id, local, header.src, payload, now),
            Fate::Forward(to) => self.forward(to, origin, payload, now),
            Fate::Refuse(why) => {
                let denied = self.denied;
                if let Some(network) = self.network_mut(id) {
                    network.counters.denied += u64::from(why != Complaint::TimeExceeded);
                }
                if denied == Denied::Prohibit || why == Complaint::TimeExceeded {
                    self.complain(id, why, gateway.addr(), header.src, payload, now);
                }
            }
        }
    }

    fn fate(&self, id: NetworkId, packet: &Ipv4Packet<&[u8]>) -> Fate {
        let dst = packet.dst_addr();
        if dst.is_multicast() || dst.is_broadcast() || dst.is_unspecified() || dst.is_loopback() {
            return Fate::Ignore;
        }
        let Some(here) = self.network(id) else {
            return Fate::Ignore;
        };
        let found = self.prefixes.range(..=dst).next_back().map(|(_, found)| *found);
        let Some((prefix, to)) = found.filter(|(prefix, _)| prefix.contains(&dst)) else {
            return Fate::Refuse(Complaint::NetUnreachable);
        };
        let Some(there) = self.network(to) else {
            return Fate::Refuse(Complaint::NetUnreachable);
        };
        if !self.policy.allows(&here.config, &there.config) {
            return Fate::Refuse(Complaint::Prohibited);
        }
        match there.config.gateway {
            Some(gateway) if gateway.addr() == dst => Fate::Local(dst),
            _ if dst == prefix.broadcast() || dst == prefix.network() => Fate::Ignore, // RFC 2644
            _ if packet.hop_limit() <= 1 => Fate::Refuse(Complaint::TimeExceeded),
            _ => Fate::Forward(to),
        }
    }

    /// A packet to the router itself: it pings, and that is all it does.
    fn gateway_local(&mut self, id: NetworkId, local: Ipv4Addr, sender: Mac, payload: &[u8], now: Nanos) {
        let Ok(packet) = Ipv4Packet::new_checked(payload) else {
            return;
        };
        match packet.next_header() {
            IpProtocol::Icmp if packet.frag_offset() == 0 && !packet.more_frags() => {
                let Ok(echo) = Icmpv4Packet::new_checked(packet.payload()) else {
                    return;
                };
                if echo.msg_type() != Icmpv4Message::EchoRequest || !echo.verify_checksum() {
                    return;
                }
                let mut body = packet.payload().to_vec();
                let mut reply = Icmpv4Packet::new_unchecked(&mut body);
                reply.set_msg_type(Icmpv4Message::EchoReply);
                reply.fill_checksum();
                let Some(network) = self.network(id) else { return };
                let frame = ipv4(network.gateway_mac, sender, local, packet.src_addr(), &body);
                self.gateway_sends(
                    id,
                    Origin {
                        port: None,
                        network: id,
                    },
                    frame,
                );
            }
            IpProtocol::Udp => self.complain(id, Complaint::PortUnreachable, local, sender, payload, now),
            _ => {}
        }
    }

    fn forward(&mut self, to: NetworkId, origin: Origin, payload: &[u8], now: Nanos) {
        let Some(network) = self.network_mut(to) else {
            return;
        };
        let mut frame = vec![0; HEADER + payload.len()];
        frame[6..12].copy_from_slice(&network.gateway_mac.0);
        frame[12..14].copy_from_slice(&IPV4.to_be_bytes());
        frame[HEADER..].copy_from_slice(payload);
        let mut packet = Ipv4Packet::new_unchecked(&mut frame[HEADER..]);
        packet.set_hop_limit(packet.hop_limit().saturating_sub(1));
        packet.fill_checksum();
        let dst = packet.dst_addr();
        network.counters.routed += 1;
        if let Some(mac) = network.router.neighbours.get(&dst).copied() {
            self.gateway_sends(to, origin, address(frame, mac));
        } else if let Some(unresolved) = network.router.unresolved.get_mut(&dst) {
            if unresolved.waiting.len() < WAITING_MAX {
                unresolved.waiting.push((origin, frame));
            }
        } else if network.router.unresolved.len() < UNRESOLVED_MAX {
            let unresolved = Unresolved {
                waiting: vec![(origin, frame)],
                tries: 1,
                due: now + ARP_RETRY,
            };
            network.router.unresolved.insert(dst, unresolved);
            self.asked = true;
            self.ask(to, dst);
        }
    }

    fn ask(&mut self, id: NetworkId, target: Ipv4Addr) {
        let Some(network) = self.network(id) else { return };
        let Some(gateway) = network.config.gateway else {
            return;
        };
        let request = arp(
            ArpOperation::Request,
            network.gateway_mac,
            gateway.addr(),
            Mac::BROADCAST,
            target,
        );
        self.gateway_sends(
            id,
            Origin {
                port: None,
                network: id,
            },
            request,
        );
    }

    /// When the next ARP request is due.
    pub(crate) fn arp_due(&self) -> Option<Nanos> {
        self.networks()
            .flat_map(|network| network.router.unresolved.values().map(|u| u.due))
            .min()
    }

    /// Asks again, or gives up and tells the senders.
    pub(crate) fn poll_arp(&mut self, now: Nanos) {
        let mut again = Vec::new();
        let mut lost = Vec::new();
        for network in self.networks_mut() {
            let id = network.config.id;
            network.router.unresolved.retain(|target, unresolved| {
                if unresolved.due > now {
                    return true;
                }
                if unresolved.tries < ARP_TRIES {
                    (unresolved.tries, unresolved.due) = (unresolved.tries + 1, now + ARP_RETRY);
                    again.push((id, *target));
                    return true;
                }
                lost.append(&mut unresolved.waiting);
                false
            });
        }
        for (id, target) in again {
            self.ask(id, target);
        }
        for (origin, frame) in lost {
            self.unreachable(origin.network, &frame[HEADER..], now);
        }
        self.drain(now);
    }

    /// Tells the sender of a packet that waited in vain, if its network's gateway still knows it.
    fn unreachable(&mut self, home: NetworkId, payload: &[u8], now: Nanos) {
        let Ok(packet) = Ipv4Packet::new_checked(payload) else {
            return;
        };
        let Some(network) = self.network(home) else { return };
        let Some(gateway) = network.config.gateway else {
            return;
        };
        if let Some(mac) = network.router.neighbours.get(&packet.src_addr()).copied() {
            self.complain(
                home,
                Complaint::HostUnreachable,
                gateway.addr(),
                mac,
                payload,
                now,
            );
        }
    }

    /// An ICMP error about `payload`, to the NIC it came from; never about an ICMP error, a fragment or a
    /// broadcast (RFC 1122 3.2.2), and not more often than the limit.
    fn complain(
        &mut self,
        id: NetworkId,
        why: Complaint,
        from: Ipv4Addr,
        to: Mac,
        payload: &[u8],
        now: Nanos,
    ) {
        let Ok(packet) = Ipv4Packet::new_checked(payload) else {
            return;
        };
        let about_error = packet.next_header() == IpProtocol::Icmp
            && Icmpv4Packet::new_checked(packet.payload()).is_ok_and(|icmp| {
                !matches!(
                    icmp.msg_type(),
                    Icmpv4Message::EchoRequest | Icmpv4Message::EchoReply
                )
            });
        if about_error || packet.frag_offset() != 0 {
            return;
        }
        let Some(network) = self.network_mut(id) else {
            return;
        };
        if !network.router.may_complain(now) {
            return;
        }
        let quoted = &payload[..payload.len().min(usize::from(packet.header_len()) + 8)];
        let mut body = vec![0; 8];
        body.extend_from_slice(quoted);
        let (kind, code) = why.wire();
        let mut icmp = Icmpv4Packet::new_unchecked(&mut body);
        icmp.set_msg_type(kind);
        icmp.set_msg_code(code);
        icmp.fill_checksum();
        let frame = ipv4(network.gateway_mac, to, from, packet.src_addr(), &body);
        self.gateway_sends(
            id,
            Origin {
                port: None,
                network: id,
            },
            frame,
        );
    }
}

impl Network {
    /// The gateway's address, with its prefix.
    pub(crate) fn gateway(&self) -> Option<ipnet::Ipv4Net> {
        self.config.gateway
    }
}

fn address(mut frame: Vec<u8>, dst: Mac) -> Bytes {
    frame[..6].copy_from_slice(&dst.0);
    frame.into()
}

fn ethernet(src: Mac, dst: Mac, ethertype: u16, payload: usize) -> Vec<u8> {
    let mut frame = Vec::with_capacity(HEADER + payload);
    frame.extend(dst.0);
    frame.extend(src.0);
    frame.extend(ethertype.to_be_bytes());
    frame.resize(HEADER + payload, 0);
    frame
}

fn arp(operation: ArpOperation, mac: Mac, ip: Ipv4Addr, target_mac: Mac, target_ip: Ipv4Addr) -> Bytes {
    let asked = if operation == ArpOperation::Request {
        Mac([0; 6])
    } else {
        target_mac
    };
    let repr = ArpRepr::EthernetIpv4 {
        operation,
        source_hardware_addr: EthernetAddress(mac.0),
        source_protocol_addr: ip,
        target_hardware_addr: EthernetAddress(asked.0),
        target_protocol_addr: target_ip,
    };
    let mut frame = ethernet(mac, target_mac, ARP, repr.buffer_len());
    repr.emit(&mut ArpPacket::new_unchecked(&mut frame[HEADER..]));
    frame.into()
}

fn ipv4(src_mac: Mac, dst_mac: Mac, src: Ipv4Addr, dst: Ipv4Addr, icmp: &[u8]) -> Bytes {
    const IP_HEADER: usize = 20;
    let mut frame = ethernet(src_mac, dst_mac, IPV4, IP_HEADER + icmp.len());
    let mut packet = Ipv4Packet::new_unchecked(&mut frame[HEADER..]);
    packet.set_version(4);
    packet.set_header_len(IP_HEADER as u8);
    packet.set_total_len((IP_HEADER + icmp.len()) as u16);
    packet.set_hop_limit(TTL);
    packet.set_next_header(IpProtocol::Icmp);
    packet.set_src_addr(src);
    packet.set_dst_addr(dst);
    packet.payload_mut().copy_from_slice(icmp);
    packet.fill_checksum();
    frame.into()
}
