//! Frames and packets as bytes: built and taken apart with smoltcp's wire types, which check every length.

use std::net::{Ipv4Addr, SocketAddrV4};

use bytes::Bytes;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    ArpHardware, ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol,
    Icmpv4Packet, Icmpv4Repr, IpProtocol, Ipv4Packet, Ipv4Repr, UdpPacket, UdpRepr,
};

use super::Mac;

/// Ethernet header: two addresses and the type.
const ETHERNET: usize = 14;
pub(super) const IPV4_HEADER: usize = 20;
pub(super) const UDP_HEADER: usize = 8;
const TTL: u8 = 64;

pub(super) const BROADCAST: Mac = Mac([0xff; 6]);

/// What a frame turned out to be.
pub(super) enum Inbound {
    Arp {
        request: bool,
        mac: Mac,
        ip: Ipv4Addr,
        target: Ipv4Addr,
    },
    Ipv4(Bytes),
}

/// Takes a frame apart; `None` for what is not for us or not understood.
pub(super) fn parse_frame(frame: &Bytes, own: Mac) -> Option<Inbound> {
    let ethernet = EthernetFrame::new_checked(&frame[..]).ok()?;
    let to = ethernet.dst_addr();
    if to != own.ethernet() && !to.is_broadcast() {
        return None;
    }
    match ethernet.ethertype() {
        EthernetProtocol::Arp => {
            let packet = ArpPacket::new_checked(ethernet.payload()).ok()?;
            let ArpRepr::EthernetIpv4 {
                operation,
                source_hardware_addr,
                source_protocol_addr,
                target_protocol_addr,
                ..
            } = ArpRepr::parse(&packet).ok()?
            else {
                return None;
            };
            Some(Inbound::Arp {
                request: operation == ArpOperation::Request,
                mac: Mac(source_hardware_addr.0),
                ip: source_protocol_addr,
                target: target_protocol_addr,
            })
        }
        EthernetProtocol::Ipv4 => {
            let packet = Ipv4Packet::new_checked(ethernet.payload()).ok()?;
            if packet.version() != 4
                || !packet.verify_checksum()
                || packet.more_frags()
                || packet.frag_offset() != 0
            {
                return None;
            }
            // Short frames are padded to 60 bytes; the IP header knows the true end.
            let end = ETHERNET + usize::from(packet.total_len());
            Some(Inbound::Ipv4(frame.slice(ETHERNET..end)))
        }
        _ => None,
    }
}

pub(super) fn ethernet(from: Mac, to: Mac, ethertype: EthernetProtocol, payload: &[u8]) -> Bytes {
    let mut frame = Vec::with_capacity(ETHERNET + payload.len());
    frame.extend_from_slice(&to.0);
    frame.extend_from_slice(&from.0);
    frame.extend_from_slice(&u16::from(ethertype).to_be_bytes());
    frame.extend_from_slice(payload);
    frame.into()
}

pub(super) fn arp(request: bool, own: Mac, own_ip: Ipv4Addr, to: Mac, target: Ipv4Addr) -> Bytes {
    let repr = ArpRepr::EthernetIpv4 {
        operation: if request {
            ArpOperation::Request
        } else {
            ArpOperation::Reply
        },
        source_hardware_addr: own.ethernet(),
        source_protocol_addr: own_ip,
        // RFC 826: unknown in a question.
        target_hardware_addr: if request {
            EthernetAddress([0; 6])
        } else {
            to.ethernet()
        },
        target_protocol_addr: target,
    };
    let mut payload = vec![0; repr.buffer_len()];
    let mut packet = ArpPacket::new_unchecked(&mut payload[..]);
    repr.emit(&mut packet);
    packet.set_hardware_type(ArpHardware::Ethernet);
    ethernet(own, to, EthernetProtocol::Arp, &payload)
}

fn ipv4(from: Ipv4Addr, to: Ipv4Addr, next_header: IpProtocol, payload_len: usize) -> Vec<u8> {
    let repr = Ipv4Repr {
        src_addr: from,
        dst_addr: to,
        next_header,
        payload_len,
        hop_limit: TTL,
    };
    let mut packet = vec![0; IPV4_HEADER + payload_len];
    repr.emit(
        &mut Ipv4Packet::new_unchecked(&mut packet[..]),
        &ChecksumCapabilities::default(),
    );
    packet
}

pub(super) fn udp(from: SocketAddrV4, to: SocketAddrV4, data: &[u8]) -> Vec<u8> {
    let mut packet = ipv4(*from.ip(), *to.ip(), IpProtocol::Udp, UDP_HEADER + data.len());
    let repr = UdpRepr {
        src_port: from.port(),
        dst_port: to.port(),
    };
    repr.emit(
        &mut UdpPacket::new_unchecked(&mut packet[IPV4_HEADER..]),
        &(*from.ip()).into(),
        &(*to.ip()).into(),
        data.len(),
        |buffer| buffer.copy_from_slice(data),
        &ChecksumCapabilities::default(),
    );
    packet
}

/// A datagram: from, to, data.
pub(super) fn parse_udp(packet: &Bytes) -> Option<(SocketAddrV4, SocketAddrV4, Bytes)> {
    let ip = Ipv4Packet::new_checked(&packet[..]).ok()?;
    let udp = UdpPacket::new_checked(ip.payload()).ok()?;
    let checks = ChecksumCapabilities::default();
    UdpRepr::parse(&udp, &ip.src_addr().into(), &ip.dst_addr().into(), &checks).ok()?;
    let start = usize::from(ip.header_len()) + UDP_HEADER;
    let data = packet.slice(start..start + udp.payload().len());
    Some((
        SocketAddrV4::new(ip.src_addr(), udp.src_port()),
        SocketAddrV4::new(ip.dst_addr(), udp.dst_port()),
        data,
    ))
}

/// The answer to a ping (RFC 792), or `None` for other ICMP.
pub(super) fn echo_reply(packet: &Bytes) -> Option<Vec<u8>> {
    let ip = Ipv4Packet::new_checked(&packet[..]).ok()?;
    let icmp = Icmpv4Packet::new_checked(ip.payload()).ok()?;
    let checks = ChecksumCapabilities::default();
    let Icmpv4Repr::EchoRequest { ident, seq_no, data } = Icmpv4Repr::parse(&icmp, &checks).ok()? else {
        return None;
    };
    let reply = Icmpv4Repr::EchoReply { ident, seq_no, data };
    let mut out = ipv4(ip.dst_addr(), ip.src_addr(), IpProtocol::Icmp, reply.buffer_len());
    reply.emit(&mut Icmpv4Packet::new_unchecked(&mut out[IPV4_HEADER..]), &checks);
    Some(out)
}
