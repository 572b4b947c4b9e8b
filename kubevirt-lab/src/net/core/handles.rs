//! What sockets and streams ask of the stack.

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;

use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp;
use smoltcp::time::Instant;
use smoltcp::wire::{IpAddress, IpEndpoint};
use tokio::sync::Notify;

use super::super::packet;
use super::super::route::Hop;
use super::{Backlog, Conn, Core, EPHEMERAL, LINGER, Owner, UdpPort};

impl Core {
    pub(in crate::net) fn check_up(&self) -> io::Result<()> {
        if self.down {
            Err(io::ErrorKind::NetworkDown.into())
        } else {
            Ok(())
        }
    }

    fn check_bind(&self, bind: SocketAddrV4, taken: impl Iterator<Item = SocketAddrV4>) -> io::Result<()> {
        self.check_up()?;
        if !bind.ip().is_unspecified() && !self.table.owns(*bind.ip()) {
            let text = format!("{} is not an address of this machine", bind.ip());
            return Err(io::Error::new(io::ErrorKind::AddrNotAvailable, text));
        }
        let overlaps = |other: SocketAddrV4| {
            other.port() == bind.port()
                && (other.ip() == bind.ip() || other.ip().is_unspecified() || bind.ip().is_unspecified())
        };
        if let Some(other) = { taken }.find(|other| overlaps(*other)) {
            return Err(io::Error::new(
                io::ErrorKind::AddrInUse,
                format!("{bind}: {other} is bound already"),
            ));
        }
        Ok(())
    }

    pub(in crate::net) fn udp_bind(
        &mut self,
        mut bind: SocketAddrV4,
    ) -> io::Result<(u64, SocketAddrV4, Arc<Notify>)> {
        if bind.port() == 0 {
            bind.set_port(self.ephemeral());
        }
        self.check_bind(bind, self.udp.values().map(|port| port.bind))?;
        let (id, ready) = (self.id(), Arc::new(Notify::new()));
        self.udp.insert(
            id,
            UdpPort {
                bind,
                queue: VecDeque::new(),
                ready: ready.clone(),
            },
        );
        Ok((id, bind, ready))
    }

    pub(in crate::net) fn udp_send(
        &mut self,
        id: u64,
        data: &[u8],
        to: SocketAddrV4,
        now: Instant,
    ) -> io::Result<()> {
        self.check_up()?;
        let port = self.udp.get(&id).ok_or(io::ErrorKind::NotConnected)?;
        let room = self.config.mtu - packet::IPV4_HEADER - packet::UDP_HEADER;
        if data.len() > room {
            let text = format!(
                "a datagram of {} bytes does not fit the link's {room}",
                data.len()
            );
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        if self.table.hop(*to.ip()).is_none() {
            return Err(io::ErrorKind::NetworkUnreachable.into());
        }
        let mut from = port.bind;
        if from.ip().is_unspecified() {
            // RFC 2131 4.1: a client without an address sends from 0.0.0.0.
            from.set_ip(self.table.source(*to.ip()).unwrap_or(Ipv4Addr::UNSPECIFIED));
        }
        self.ip_out(packet::udp(from, to, data), now);
        Ok(())
    }

    pub(in crate::net) fn tcp_listen(
        &mut self,
        bind: SocketAddrV4,
        backlog: usize,
    ) -> io::Result<(u64, SocketAddrV4, Arc<Notify>)> {
        let bind = match bind.port() {
            0 => SocketAddrV4::new(*bind.ip(), self.ephemeral()),
            _ => bind,
        };
        self.check_bind(bind, self.listeners.values().map(|listener| listener.bind))?;
        let (id, arrived) = (self.id(), Arc::new(Notify::new()));
        let listener = Backlog {
            bind,
            max: backlog.max(1),
            embryonic: Vec::new(),
            ready: VecDeque::new(),
            arrived: arrived.clone(),
        };
        self.listeners.insert(id, listener);
        Ok((id, bind, arrived))
    }

    pub(in crate::net) fn tcp_accept(
        &mut self,
        id: u64,
    ) -> io::Result<Option<(SocketHandle, SocketAddrV4, SocketAddrV4)>> {
        self.check_up()?;
        let listener = self.listeners.get_mut(&id).ok_or(io::ErrorKind::NotConnected)?;
        let Some(handle) = listener.ready.pop_front() else {
            return Ok(None);
        };
        let conn = self
            .conns
            .get_mut(&handle)
            .ok_or(io::ErrorKind::ConnectionAborted)?;
        conn.owner = Owner::Stream;
        Ok(Some((handle, conn.local, conn.remote)))
    }

    pub(in crate::net) fn tcp_unlisten(&mut self, id: u64, now: Instant) {
        if self.listeners.remove(&id).is_none() {
            return;
        }
        for (handle, conn) in &mut self.conns {
            if matches!(conn.owner, Owner::Listener(listener) if listener == id) {
                conn.owner = Owner::Orphan(now + LINGER);
                self.sockets.get_mut::<tcp::Socket<'_>>(*handle).abort();
            }
        }
    }

    pub(in crate::net) fn tcp_connect(
        &mut self,
        remote: SocketAddrV4,
    ) -> io::Result<(SocketHandle, SocketAddrV4)> {
        self.check_up()?;
        if !matches!(self.table.hop(*remote.ip()), Some(Hop::Own | Hop::Neighbour(_))) {
            let text = format!("no route to {}", remote.ip());
            return Err(io::Error::new(io::ErrorKind::NetworkUnreachable, text));
        }
        let source = self
            .table
            .source(*remote.ip())
            .ok_or(io::ErrorKind::AddrNotAvailable)?;
        let local = SocketAddrV4::new(source, self.ephemeral());
        let mut socket = self.socket();
        let endpoint = IpEndpoint::new(IpAddress::Ipv4(*remote.ip()), remote.port());
        socket
            .connect(
                self.iface.context(),
                endpoint,
                (IpAddress::Ipv4(source), local.port()),
            )
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, format!("{remote}: {error}")))?;
        let handle = self.sockets.add(socket);
        self.conns.insert(
            handle,
            Conn {
                local,
                remote,
                owner: Owner::Stream,
                error: None,
            },
        );
        self.tuples.insert((local, remote));
        Ok((handle, local))
    }

    /// The stream's handle is gone: what was written is still delivered, what was not read is refused (as Linux does).
    pub(in crate::net) fn tcp_release(&mut self, handle: SocketHandle, now: Instant) {
        let Some(conn) = self.conns.get_mut(&handle) else {
            return;
        };
        conn.owner = Owner::Orphan(now + LINGER);
        let socket = self.sockets.get_mut::<tcp::Socket<'_>>(handle);
        if socket.recv_queue() > 0 {
            socket.abort()
        } else {
            socket.close()
        }
    }

    /// The cable is pulled: everything fails at once, everybody who waits is woken.
    pub(in crate::net) fn link_down(&mut self) {
        self.down = true;
        self.arp.clear();
        self.loopback.clear();
        self.out.clear();
        for (handle, conn) in &mut self.conns {
            conn.error.get_or_insert(io::ErrorKind::NetworkDown);
            self.sockets.get_mut::<tcp::Socket<'_>>(*handle).abort();
        }
        for port in self.udp.values() {
            port.ready.notify_one();
        }
        for listener in self.listeners.values() {
            listener.arrived.notify_one();
        }
    }

    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// The next local port that nothing uses.
    fn ephemeral(&mut self) -> u16 {
        for _ in EPHEMERAL..u16::MAX {
            self.next_port = if self.next_port >= u16::MAX - 1 {
                EPHEMERAL
            } else {
                self.next_port + 1
            };
            let port = self.next_port;
            let taken = self.tuples.iter().any(|(local, _)| local.port() == port)
                || self.udp.values().any(|udp| udp.bind.port() == port)
                || self
                    .listeners
                    .values()
                    .any(|listener| listener.bind.port() == port);
            if !taken {
                break;
            }
        }
        self.next_port
    }
}
