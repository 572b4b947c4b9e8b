//! NICs: the cable's end in a machine, and the network as one boot of it has it.
//!
//! A `Nic` outlives boots, a `Stack` is made anew by each program that boots (firmware, iPXE, ramdisk, OS), as each brings its
//! own driver. `Network` joins the stacks of one program and chooses among them by route.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::future::BoxFuture;

use super::ramdisk::{HostListener, HostNet, HostStream};
use crate::net::{Cable, Mac, Stack, StackConfig, TcpListener, Wire};

/// What is plugged into a NIC.
pub enum Plug {
    Fabric(sim_fabric::Port),
    Cable(Cable),
    Empty,
}

/// One network interface of a machine.
pub(crate) struct Nic {
    /// As in `sim_bmc::Hardware`.
    pub id: String,
    /// Kernel name: `eth0`.
    pub name: String,
    pub mac: Mac,
    plug: Plug,
    powered: bool,
}

impl Nic {
    pub(crate) fn new(id: impl Into<String>, name: impl Into<String>, mac: Mac, plug: Plug) -> Self {
        let mut nic = Self {
            id: id.into(),
            name: name.into(),
            mac,
            plug,
            powered: true,
        };
        nic.power(false);
        nic
    }

    /// Brings the link up or down; frames that came before are lost.
    pub(crate) fn power(&mut self, on: bool) {
        self.powered = on;
        if let Plug::Fabric(port) = &self.plug {
            port.set_link(on);
        }
        self.drain();
    }

    fn drain(&mut self) {
        while self.try_recv().is_some() {}
    }

    /// Whether both ends of the cable are up.
    pub(crate) fn carrier(&self) -> bool {
        match &self.plug {
            Plug::Fabric(port) => self.powered && port.carrier(),
            Plug::Cable(_) => self.powered,
            Plug::Empty => false,
        }
    }

    /// A fresh stack for this NIC; it lives while the caller runs it over the NIC.
    pub(crate) fn stack(&mut self, seed: u64) -> Stack {
        self.drain();
        Stack::new(StackConfig::new(self.mac, seed))
    }
}

impl Wire for Nic {
    fn send(&mut self, frame: Bytes) {
        match &mut self.plug {
            Plug::Fabric(port) => Wire::send(port, frame),
            Plug::Cable(cable) => cable.send(frame),
            Plug::Empty => {}
        }
    }

    async fn recv(&mut self) -> Option<Bytes> {
        match &mut self.plug {
            Plug::Fabric(port) => port.recv().await,
            Plug::Cable(cable) => cable.recv().await,
            Plug::Empty => std::future::pending().await,
        }
    }

    fn try_recv(&mut self) -> Option<Bytes> {
        match &mut self.plug {
            Plug::Fabric(port) => port.try_recv(),
            Plug::Cable(cable) => cable.try_recv(),
            Plug::Empty => None,
        }
    }
}

/// The stacks of a running program, and the name servers it was told.
#[derive(Clone, Default)]
pub(crate) struct Network {
    shared: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    stacks: Vec<Stack>,
    dns: Vec<Ipv4Addr>,
}

impl Network {
    pub(crate) fn of(stack: Stack) -> Self {
        let network = Self::default();
        network.add(stack);
        network
    }

    fn state<R>(&self, f: impl FnOnce(&mut State) -> R) -> R {
        f(&mut self.shared.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn add(&self, stack: Stack) {
        self.state(|state| state.stacks.push(stack));
    }

    pub(crate) fn add_dns(&self, servers: impl IntoIterator<Item = Ipv4Addr>) {
        self.state(|state| {
            for server in servers {
                if !state.dns.contains(&server) {
                    state.dns.push(server);
                }
            }
        });
    }

    pub(crate) fn dns(&self) -> Vec<Ipv4Addr> {
        self.state(|state| state.dns.clone())
    }

    /// The stack with the longest prefix towards `to`.
    pub(crate) fn towards(&self, to: Ipv4Addr) -> Option<Stack> {
        self.state(|state| {
            let reach = |stack: &Stack| stack.prefix_to(to);
            let mut best: Option<(u8, &Stack)> = None;
            for stack in &state.stacks {
                if let Some(prefix) = reach(stack)
                    && best.is_none_or(|(longest, _)| prefix > longest)
                {
                    best = Some((prefix, stack));
                }
            }
            best.map(|(_, stack)| stack.clone())
        })
    }

    /// All addresses, in order of NICs.
    pub(crate) fn addresses(&self) -> Vec<Ipv4Addr> {
        self.state(|state| {
            state
                .stacks
                .iter()
                .flat_map(|stack| stack.addresses())
                .map(|address| address.ip)
                .collect()
        })
    }

    fn route(&self, to: IpAddr) -> io::Result<(Stack, Ipv4Addr)> {
        let IpAddr::V4(to) = to else {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                format!("{to}: simulated hosts speak IPv4 only"),
            ));
        };
        let none = || io::Error::new(io::ErrorKind::NetworkUnreachable, format!("no route to {to}"));
        Ok((self.towards(to).ok_or_else(none)?, to))
    }
}

impl HostNet for Network {
    fn source(&self, to: IpAddr) -> Option<IpAddr> {
        let (stack, to) = self.route(to).ok()?;
        stack.source(to).map(IpAddr::V4)
    }

    fn connect(&self, to: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn HostStream>>> {
        Box::pin(async move {
            let (stack, ip) = self.route(to.ip())?;
            let stream = stack.tcp_connect(SocketAddrV4::new(ip, to.port())).await?;
            Ok(Box::new(stream) as Box<dyn HostStream>)
        })
    }

    fn listen(&self, bind: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn HostListener>>> {
        Box::pin(async move {
            let ip = match bind.ip() {
                IpAddr::V4(ip) => ip,
                IpAddr::V6(ip) if ip.is_unspecified() => Ipv4Addr::UNSPECIFIED,
                IpAddr::V6(ip) => {
                    let text = format!("{ip}: simulated hosts speak IPv4 only");
                    return Err(io::Error::new(io::ErrorKind::Unsupported, text));
                }
            };
            let stacks = self.state(|state| state.stacks.clone());
            let chosen = stacks.into_iter().filter(|stack| {
                ip.is_unspecified() || stack.addresses().iter().any(|address| address.ip == ip)
            });
            let listeners: io::Result<Vec<_>> = chosen
                .map(|stack| stack.tcp_listen(SocketAddrV4::new(ip, bind.port()), LISTEN_BACKLOG))
                .collect();
            match listeners? {
                listeners if listeners.is_empty() => Err(io::Error::new(
                    io::ErrorKind::AddrNotAvailable,
                    format!("{ip} is not an address of this host"),
                )),
                listeners => Ok(Box::new(Listeners(listeners)) as Box<dyn HostListener>),
            }
        })
    }
}

/// Only the controller calls; it opens a few connections at a time.
const LISTEN_BACKLOG: usize = 8;

/// One listener per NIC.
struct Listeners(Vec<TcpListener>);

impl HostListener for Listeners {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Box<dyn HostStream>, SocketAddr)>> {
        Box::pin(async move {
            let each = self.0.iter().map(|listener| Box::pin(listener.accept()));
            let (result, _, _) = futures::future::select_all(each).await;
            result.map(|(stream, peer)| (Box::new(stream) as Box<dyn HostStream>, SocketAddr::V4(peer)))
        })
    }
}
