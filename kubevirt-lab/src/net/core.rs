//! The stack without I/O: frames and time in, frames and the next wake-up out. `Stack` holds it behind one lock.

mod handles;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;

use bytes::Bytes;
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp;
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{
    EthernetProtocol, HardwareAddress, IpAddress, IpCidr, IpProtocol, Ipv4Packet, TcpPacket,
};
use tokio::sync::Notify;

use super::arp::{Neighbours, Resolved, Tick};
use super::packet::{self, Inbound};
use super::route::{Address, Hop, Route, Table};
use super::{Mac, StackConfig};

/// Datagrams that wait for a reader; a DHCP server under a cold start of a rack sees some hundreds at once.
const UDP_QUEUE_MAX: usize = 512;
/// Packets to ourselves that are not processed yet.
const LOOPBACK_MAX: usize = 256;
/// How long a closed stream may still take to hand over its last bytes before it is cut.
const LINGER: Duration = Duration::from_secs(30);
/// First ephemeral port (RFC 6335).
const EPHEMERAL: u16 = 49152;
/// smoltcp holds the addresses in an array of this size (feature `iface-max-addr-count-8`).
const ADDRESSES_MAX: usize = 8;

pub(super) struct UdpPort {
    pub(super) bind: SocketAddrV4,
    pub(super) queue: VecDeque<(SocketAddrV4, Bytes)>,
    pub(super) ready: Arc<Notify>,
}

pub(super) struct Backlog {
    bind: SocketAddrV4,
    max: usize,
    /// Handshakes under way.
    embryonic: Vec<SocketHandle>,
    /// Established, not accepted.
    pub(super) ready: VecDeque<SocketHandle>,
    pub(super) arrived: Arc<Notify>,
}

enum Owner {
    Stream,
    Listener(u64),
    /// Nobody holds it any more; it finishes by itself or is cut.
    Orphan(Instant),
}

pub(super) struct Conn {
    pub(super) local: SocketAddrV4,
    pub(super) remote: SocketAddrV4,
    owner: Owner,
    /// Why it broke, if that is not the peer's reset.
    pub(super) error: Option<io::ErrorKind>,
}

pub(super) struct Core {
    config: StackConfig,
    iface: Interface,
    pub(super) sockets: SocketSet<'static>,
    device: Queue,
    pub(super) table: Table,
    arp: Neighbours,
    pub(super) udp: BTreeMap<u64, UdpPort>,
    pub(super) listeners: BTreeMap<u64, Backlog>,
    pub(super) conns: BTreeMap<SocketHandle, Conn>,
    tuples: BTreeSet<(SocketAddrV4, SocketAddrV4)>,
    loopback: VecDeque<Bytes>,
    out: Vec<Bytes>,
    next_id: u64,
    next_port: u16,
    pub(super) down: bool,
}

/// The IP-level device below smoltcp: at most one packet in, any number out until they are collected.
struct Queue {
    mtu: usize,
    rx: Option<Bytes>,
    tx: Vec<Vec<u8>>,
}

struct Rx(Bytes);
struct Tx<'a>(&'a mut Vec<Vec<u8>>);

impl RxToken for Rx {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl TxToken for Tx<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut packet = vec![0; len];
        let result = f(&mut packet);
        self.0.push(packet);
        result
    }
}

impl Device for Queue {
    type RxToken<'a> = Rx;
    type TxToken<'a> = Tx<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Rx, Tx<'_>)> {
        let packet = self.rx.take()?;
        Some((Rx(packet), Tx(&mut self.tx)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Tx<'_>> {
        Some(Tx(&mut self.tx))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.mtu;
        capabilities
    }
}

impl Core {
    pub(super) fn new(config: StackConfig) -> Self {
        let mut device = Queue {
            mtu: config.mtu,
            rx: None,
            tx: Vec::new(),
        };
        let mut iface_config = Config::new(HardwareAddress::Ip);
        iface_config.random_seed = config.seed;
        let iface = Interface::new(iface_config, &mut device, Instant::ZERO);
        // A restarted machine should not reuse the ports of its last boot at once.
        let next_port = EPHEMERAL + (config.seed % u64::from(u16::MAX - EPHEMERAL)) as u16;
        Self {
            config,
            iface,
            sockets: SocketSet::new(Vec::new()),
            device,
            table: Table::default(),
            arp: Neighbours::default(),
            udp: BTreeMap::new(),
            listeners: BTreeMap::new(),
            conns: BTreeMap::new(),
            tuples: BTreeSet::new(),
            loopback: VecDeque::new(),
            out: Vec::new(),
            next_id: 0,
            next_port,
            down: false,
        }
    }

    // ---- configuration

    pub(super) fn set_addresses(&mut self, addresses: Vec<Address>) -> io::Result<()> {
        if addresses.len() > ADDRESSES_MAX {
            let text = format!(
                "a stack holds at most {ADDRESSES_MAX} addresses, asked for {}",
                addresses.len()
            );
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        self.iface.update_ip_addrs(|list| {
            list.clear();
            for address in &addresses {
                // Cannot fail: the length was checked above.
                let _ = list.push(IpCidr::new(IpAddress::Ipv4(address.ip), address.prefix.min(32)));
            }
        });
        for address in &addresses {
            if !self.table.owns(address.ip) {
                // RFC 5227 announcement, so that neighbours forget who had the address before.
                let frame = packet::arp(true, self.config.mac, address.ip, packet::BROADCAST, address.ip);
                self.out.push(frame);
            }
        }
        self.table.addresses = addresses;
        Ok(())
    }

    pub(super) fn set_routes(&mut self, routes: Vec<Route>) {
        self.table.routes = routes;
    }

    // ---- inbound

    pub(super) fn ingress(&mut self, frame: &Bytes, now: Instant) {
        if self.down {
            return;
        }
        match packet::parse_frame(frame, self.config.mac) {
            Some(Inbound::Arp {
                request,
                mac,
                ip,
                target,
            }) => self.arp_in(request, mac, ip, target, now),
            Some(Inbound::Ipv4(packet)) => self.ip_in(packet, now),
            None => {}
        }
    }

    fn arp_in(&mut self, request: bool, mac: Mac, ip: Ipv4Addr, target: Ipv4Addr, now: Instant) {
        let ours = self.table.owns(target);
        // A probe (RFC 5227) has no source address to learn.
        if !ip.is_unspecified() && !self.table.owns(ip) {
            for waiting in self.arp.learn(ip, mac, ours, now) {
                self.frame_out(mac, &waiting);
            }
        }
        if request && ours && !self.table.owns(ip) {
            self.out
                .push(packet::arp(false, self.config.mac, target, mac, ip));
        }
    }

    fn ip_in(&mut self, packet: Bytes, now: Instant) {
        let Ok(ip) = Ipv4Packet::new_checked(&packet[..]) else {
            return;
        };
        let (to, protocol) = (ip.dst_addr(), ip.next_header());
        let ours = self.table.owns(to);
        match protocol {
            // Before an address is configured a DHCP answer comes to the address that is offered.
            IpProtocol::Udp if ours || self.table.is_broadcast(to) || self.table.addresses.is_empty() => {
                self.udp_in(&packet);
            }
            IpProtocol::Icmp if ours => {
                if let Some(reply) = packet::echo_reply(&packet) {
                    self.ip_out(reply, now);
                }
            }
            IpProtocol::Tcp if ours => self.tcp_in(packet, now),
            _ => {}
        }
    }

    fn udp_in(&mut self, packet: &Bytes) {
        let Some((from, to, data)) = packet::parse_udp(packet) else {
            return;
        };
        let mut ports = self.udp.values_mut().filter(|port| {
            port.bind.port() == to.port() && (port.bind.ip().is_unspecified() || port.bind.ip() == to.ip())
        });
        if let Some(port) = ports.next()
            && port.queue.len() < UDP_QUEUE_MAX
        {
            port.queue.push_back((from, data));
            port.ready.notify_one();
        }
    }

    /// A SYN for a listener gets a socket here and now, so that idle listeners hold no buffers.
    fn tcp_in(&mut self, packet: Bytes, now: Instant) {
        let fresh = match self.syn(&packet) {
            Some((local, remote)) if !self.tuples.contains(&(local, remote)) => match self.listener(local) {
                Some((_, false)) => return, // Backlog full: silence, the peer repeats its SYN (as Linux does).
                Some((listener, true)) => self.embryo(local).map(|handle| (listener, handle, local, remote)),
                None => None, // smoltcp answers with RST.
            },
            _ => None,
        };
        self.device.rx = Some(packet);
        self.iface
            .poll_ingress_single(now, &mut self.device, &mut self.sockets);
        if let Some((listener, handle, local, remote)) = fresh {
            if self.sockets.get::<tcp::Socket<'_>>(handle).is_listening() {
                self.sockets.remove(handle);
            } else {
                let owner = Owner::Listener(listener);
                self.conns.insert(
                    handle,
                    Conn {
                        local,
                        remote,
                        owner,
                        error: None,
                    },
                );
                self.tuples.insert((local, remote));
                if let Some(backlog) = self.listeners.get_mut(&listener) {
                    backlog.embryonic.push(handle);
                }
            }
        }
        self.collect(now);
    }

    fn syn(&self, packet: &Bytes) -> Option<(SocketAddrV4, SocketAddrV4)> {
        let ip = Ipv4Packet::new_checked(&packet[..]).ok()?;
        let tcp = TcpPacket::new_checked(ip.payload()).ok()?;
        (tcp.syn() && !tcp.ack() && !tcp.rst()).then(|| {
            (
                SocketAddrV4::new(ip.dst_addr(), tcp.dst_port()),
                SocketAddrV4::new(ip.src_addr(), tcp.src_port()),
            )
        })
    }

    /// The listener for an address, and whether it has room.
    fn listener(&self, local: SocketAddrV4) -> Option<(u64, bool)> {
        let matches = |bind: &SocketAddrV4| {
            bind.port() == local.port() && (bind.ip() == local.ip() || bind.ip().is_unspecified())
        };
        let (id, backlog) = self
            .listeners
            .iter()
            .find(|(_, backlog)| matches(&backlog.bind))?;
        Some((*id, backlog.embryonic.len() + backlog.ready.len() < backlog.max))
    }

    fn embryo(&mut self, local: SocketAddrV4) -> Option<SocketHandle> {
        let mut socket = self.socket();
        socket.listen((IpAddress::Ipv4(*local.ip()), local.port())).ok()?;
        Some(self.sockets.add(socket))
    }

    fn socket(&self) -> tcp::Socket<'static> {
        let buffer = || tcp::SocketBuffer::new(vec![0; self.config.tcp_window]);
        let mut socket = tcp::Socket::new(buffer(), buffer());
        // Requests are written whole: waiting for more of them (Nagle) or to acknowledge them only adds latency.
        socket.set_nagle_enabled(false);
        socket.set_ack_delay(None);
        socket.set_timeout(Some(self.config.tcp_timeout.into()));
        socket.set_keep_alive(Some(self.config.keep_alive.into()));
        socket
    }

    // ---- outbound

    /// Does all that is due and returns the frames to send and when to call again.
    pub(super) fn poll(&mut self, now: Instant) -> (Vec<Bytes>, Option<Instant>) {
        if self.down {
            return (Vec::new(), None);
        }
        for _ in 0..LOOPBACK_MAX {
            let Some(packet) = self.loopback.pop_front() else {
                break;
            };
            self.ip_in(packet, now);
        }
        for tick in self.arp.poll(now) {
            match tick {
                Tick::AskAgain(ip) => self.ask(ip),
                Tick::Unreachable(ip) => self.unreachable(ip),
            }
        }
        while self.iface.poll_egress(now, &mut self.device, &mut self.sockets)
            != smoltcp::iface::PollResult::None
        {}
        self.collect(now);
        self.promote();
        self.sweep(now);
        // A due time that has just been served must not turn into a busy loop.
        let floor = now + Duration::from_millis(1);
        let sockets = self.iface.poll_at(now, &self.sockets).map(|at| at.max(floor));
        let orphans = self.conns.values().filter_map(|conn| match conn.owner {
            Owner::Orphan(until) => Some(until.max(floor)),
            _ => None,
        });
        let loopback = (!self.loopback.is_empty()).then_some(now);
        let wake = [sockets, self.arp.poll_at(), orphans.min(), loopback]
            .into_iter()
            .flatten()
            .min();
        (std::mem::take(&mut self.out), wake)
    }

    fn collect(&mut self, now: Instant) {
        for packet in std::mem::take(&mut self.device.tx) {
            self.ip_out(packet, now);
        }
    }

    pub(super) fn ip_out(&mut self, packet: Vec<u8>, now: Instant) {
        let Ok(ip) = Ipv4Packet::new_checked(&packet[..]) else {
            return;
        };
        match self.table.hop(ip.dst_addr()) {
            None => {}
            Some(Hop::Own) if self.loopback.len() >= LOOPBACK_MAX => {}
            Some(Hop::Own) => self.loopback.push_back(packet.into()),
            Some(Hop::Broadcast) => self.frame_out(packet::BROADCAST, &packet),
            Some(Hop::Neighbour(hop)) => match self.arp.resolve(hop, packet, now) {
                Resolved::To(mac, packet) => self.frame_out(mac, &packet),
                Resolved::Ask => self.ask(hop),
                Resolved::Waiting => {}
            },
        }
    }

    fn frame_out(&mut self, to: Mac, packet: &[u8]) {
        self.out.push(packet::ethernet(
            self.config.mac,
            to,
            EthernetProtocol::Ipv4,
            packet,
        ));
    }

    fn ask(&mut self, ip: Ipv4Addr) {
        if let Some(own) = self.table.source(ip) {
            self.out
                .push(packet::arp(true, self.config.mac, own, packet::BROADCAST, ip));
        }
    }

    /// Nobody answers for a next hop: connections that are being made over it fail now, as `EHOSTUNREACH`.
    fn unreachable(&mut self, hop: Ipv4Addr) {
        for (handle, conn) in &mut self.conns {
            let socket = self.sockets.get_mut::<tcp::Socket<'_>>(*handle);
            if socket.state() == tcp::State::SynSent
                && self.table.hop(*conn.remote.ip()) == Some(Hop::Neighbour(hop))
            {
                conn.error = Some(io::ErrorKind::HostUnreachable);
                socket.abort();
            }
        }
    }

    /// Moves finished handshakes to their listener's queue.
    fn promote(&mut self) {
        for backlog in self
            .listeners
            .values_mut()
            .filter(|backlog| !backlog.embryonic.is_empty())
        {
            let mut waiting = Vec::new();
            for handle in std::mem::take(&mut backlog.embryonic) {
                match self.sockets.get::<tcp::Socket<'_>>(handle).state() {
                    tcp::State::Listen | tcp::State::SynReceived => waiting.push(handle),
                    // Also one that has been reset since: whoever accepts it sees the reset.
                    _ => {
                        backlog.ready.push_back(handle);
                        backlog.arrived.notify_one();
                    }
                }
            }
            backlog.embryonic = waiting;
        }
    }

    fn sweep(&mut self, now: Instant) {
        let mut gone = Vec::new();
        for (handle, conn) in &self.conns {
            let Owner::Orphan(until) = conn.owner else {
                continue;
            };
            match self.sockets.get::<tcp::Socket<'_>>(*handle).state() {
                // TIME-WAIT holds 2 windows for 10 s to answer a repeated FIN; a RST answers it as well.
                tcp::State::Closed | tcp::State::TimeWait => gone.push(*handle),
                _ if until <= now => gone.push(*handle),
                _ => {}
            }
        }
        for handle in gone {
            self.sockets.remove(handle);
            if let Some(conn) = self.conns.remove(&handle) {
                self.tuples.remove(&(conn.local, conn.remote));
            }
        }
    }
}
