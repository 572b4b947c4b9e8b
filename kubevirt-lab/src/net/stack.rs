//! The handle to a stack, and the loop that drives it.

use std::future::poll_fn;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout};

use super::core::Core;
use super::route::{Address, Route};
use super::{Mac, TcpListener, TcpStream, UdpSocket, Wire};

/// Frames that are taken in before the stack answers: enough to acknowledge a full window once.
const BURST: usize = 64;

#[derive(Clone, Debug)]
pub struct StackConfig {
    pub mac: Mac,
    /// Initial sequence numbers and ports come from it.
    pub seed: u64,
    /// Bytes of each connection's receive and of its send buffer. 32 KiB: an image of 4 MiB needs 128 round trips of
    /// microseconds, a thousand hosts with four connections each 256 MiB.
    pub tcp_window: usize,
    /// Largest IP packet; Ethernet's 1500.
    pub mtu: usize,
    pub connect_timeout: Duration,
    /// A connection whose peer is silent for this long is reset; silence is noticed because of `keep_alive`.
    pub tcp_timeout: Duration,
    pub keep_alive: Duration,
}

impl StackConfig {
    pub fn new(mac: Mac, seed: u64) -> Self {
        Self {
            mac,
            seed,
            tcp_window: 32 * 1024,
            mtu: 1500,
            connect_timeout: Duration::from_secs(10),
            tcp_timeout: Duration::from_secs(45),
            keep_alive: Duration::from_secs(15),
        }
    }
}

pub(super) struct Shared {
    core: Mutex<Core>,
    kick: Notify,
    started: Instant,
}

impl Shared {
    pub(super) fn core(&self) -> MutexGuard<'_, Core> {
        // No code that holds the lock can leave the state half done by panicking.
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The stack has something to send.
    pub(super) fn kick(&self) {
        self.kick.notify_one();
    }

    pub(super) fn now(&self) -> smoltcp::time::Instant {
        let micros = self.started.elapsed().as_micros();
        smoltcp::time::Instant::from_micros(i64::try_from(micros).unwrap_or(i64::MAX))
    }

    fn tokio_instant(&self, at: smoltcp::time::Instant) -> Instant {
        self.started + Duration::from_micros(u64::try_from(at.total_micros()).unwrap_or(0))
    }
}

/// One network interface with its TCP/IP stack; cheap to clone. Nothing moves unless somebody awaits `run`.
#[derive(Clone)]
pub struct Stack {
    shared: Arc<Shared>,
    connect_timeout: Duration,
    mac: Mac,
}

impl Stack {
    pub fn new(config: StackConfig) -> Self {
        let (connect_timeout, mac) = (config.connect_timeout, config.mac);
        let shared = Shared {
            core: Mutex::new(Core::new(config)),
            kick: Notify::new(),
            started: Instant::now(),
        };
        Self {
            shared: Arc::new(shared),
            connect_timeout,
            mac,
        }
    }

    pub fn mac(&self) -> Mac {
        self.mac
    }

    /// Drives the stack over a link until the link is gone or `link_down` is called. Sleeps while there is nothing to do.
    pub async fn run(&self, mut wire: impl Wire) {
        let shared = &self.shared;
        loop {
            let (frames, wake) = {
                let mut core = shared.core();
                if core.down {
                    return;
                }
                core.poll(shared.now())
            };
            for frame in frames {
                wire.send(frame);
            }
            let due = wake.map(|at| shared.tokio_instant(at));
            tokio::select! {
                biased;
                () = shared.kick.notified() => {}
                frame = wire.recv() => match frame {
                    Some(frame) => self.take_in(frame, &mut wire),
                    None => self.link_down(),
                },
                () = sleep_until(due.unwrap_or(shared.started)), if due.is_some() => {}
            }
            tokio::task::coop::consume_budget().await;
        }
    }

    fn take_in(&self, first: bytes::Bytes, wire: &mut impl Wire) {
        let now = self.shared.now();
        let mut core = self.shared.core();
        core.ingress(&first, now);
        for _ in 1..BURST {
            let Some(frame) = wire.try_recv() else { break };
            core.ingress(&frame, now);
        }
    }

    /// Replaces all addresses; connections from one that is gone are reset. Each new one is announced (gratuitous ARP).
    pub fn set_addresses(&self, addresses: Vec<Address>) -> io::Result<()> {
        self.shared.core().set_addresses(addresses)?;
        self.shared.kick();
        Ok(())
    }

    pub fn addresses(&self) -> Vec<Address> {
        self.shared.core().table.addresses.clone()
    }

    /// Replaces all routes, the default route among them.
    pub fn set_routes(&self, routes: Vec<Route>) {
        self.shared.core().set_routes(routes);
    }

    /// Sets or removes the default route; others stay.
    pub fn set_default_route(&self, via: Option<Ipv4Addr>) {
        let mut core = self.shared.core();
        let mut routes = core.table.routes.clone();
        routes.retain(|route| route.to.prefix_len() != 0);
        routes.extend(via.map(|via| Route {
            to: ipnet::Ipv4Net::default(),
            via,
        }));
        core.set_routes(routes);
    }

    pub fn routes(&self) -> Vec<Route> {
        self.shared.core().table.routes.clone()
    }

    /// Length of the longest prefix that leads to `to`, if any does.
    pub fn prefix_to(&self, to: Ipv4Addr) -> Option<u8> {
        self.shared.core().table.prefix_to(to)
    }

    /// The address that a connection to `to` would come from.
    pub fn source(&self, to: Ipv4Addr) -> Option<Ipv4Addr> {
        let core = self.shared.core();
        core.table.prefix_to(to).and_then(|_| core.table.source(to))
    }

    /// Port 0 takes a free one.
    pub fn udp_bind(&self, bind: SocketAddrV4) -> io::Result<UdpSocket> {
        let (id, local, ready) = self.shared.core().udp_bind(bind)?;
        Ok(UdpSocket {
            shared: self.shared.clone(),
            id,
            local,
            ready,
        })
    }

    /// `backlog` bounds the connections that are not accepted yet; more SYNs are dropped.
    pub fn tcp_listen(&self, bind: SocketAddrV4, backlog: usize) -> io::Result<TcpListener> {
        let (id, local, arrived) = self.shared.core().tcp_listen(bind, backlog)?;
        Ok(TcpListener {
            shared: self.shared.clone(),
            id,
            local,
            arrived,
        })
    }

    /// Connects; `ConnectionRefused` on a reset, `HostUnreachable` when no neighbour answers, `TimedOut` on silence.
    pub async fn tcp_connect(&self, to: SocketAddrV4) -> io::Result<TcpStream> {
        let (handle, local) = self.shared.core().tcp_connect(to)?;
        let stream = TcpStream {
            shared: self.shared.clone(),
            handle,
            local,
            remote: to,
        };
        self.shared.kick();
        match timeout(self.connect_timeout, poll_fn(|cx| stream.poll_connected(cx))).await {
            Ok(result) => result.map(|()| stream),
            Err(_) => {
                let text = format!("{to} did not answer within {:?}", self.connect_timeout);
                Err(io::Error::new(io::ErrorKind::TimedOut, text))
            }
        }
    }

    /// Sockets that exist, those included that only finish what their owner left behind.
    pub fn open(&self) -> usize {
        self.shared.core().conns.len()
    }

    /// Pulls the cable: whatever is open fails with `NetworkDown`, and `run` returns.
    pub fn link_down(&self) {
        self.shared.core().link_down();
        self.shared.kick();
    }
}
