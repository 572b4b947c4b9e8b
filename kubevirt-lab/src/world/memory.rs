//! A network in memory: listeners by address, connections as pipes. For labs without sockets.

use futures::future::BoxFuture;
use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};
use steelyard_controller::{Listener, Net, Stream, Udp};
use tokio::{
    io::{DuplexStream, duplex},
    sync::mpsc,
};

/// Bytes that a connection holds in each direction before the writer waits.
const PIPE: usize = 64 << 10;
/// Connections that wait to be accepted; one more is refused, as by a full backlog.
const BACKLOG: usize = 128;

type Connection = (DuplexStream, SocketAddr);
type Listeners = Arc<Mutex<BTreeMap<SocketAddr, mpsc::Sender<Connection>>>>;

#[derive(Clone, Default)]
pub struct MemoryNet {
    listeners: Listeners,
}

impl Net for MemoryNet {
    fn udp(&self, _bind: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Udp>>> {
        Box::pin(async {
            Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "the lab's out-of-band network carries TCP only",
            ))
        })
    }

    fn listen(&self, bind: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let (tx, rx) = mpsc::channel(BACKLOG);
            let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
            if listeners.get(&bind).is_some_and(|old| !old.is_closed()) {
                return Err(io::Error::new(
                    io::ErrorKind::AddrInUse,
                    format!("{bind} is taken"),
                ));
            }
            listeners.insert(bind, tx);
            Ok(Box::new(MemoryListener {
                address: bind,
                connections: rx,
            }) as Box<dyn Listener>)
        })
    }

    fn connect(&self, to: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Stream>>> {
        Box::pin(async move {
            let listener = self
                .listeners
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .get(&to)
                .cloned();
            let refused = || {
                io::Error::new(
                    io::ErrorKind::ConnectionRefused,
                    format!("nothing listens at {to}"),
                )
            };
            let (ours, theirs) = duplex(PIPE);
            listener
                .ok_or_else(refused)?
                .try_send((theirs, to))
                .map_err(|_| refused())?;
            Ok(Box::new(ours) as Box<dyn Stream>)
        })
    }
}

struct MemoryListener {
    address: SocketAddr,
    connections: mpsc::Receiver<Connection>,
}

impl Listener for MemoryListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Box<dyn Stream>, SocketAddr)>> {
        Box::pin(async {
            let next = self.connections.recv().await;
            let (stream, from) = next.ok_or_else(|| io::Error::other("the network is gone"))?;
            Ok((Box::new(stream) as Box<dyn Stream>, from))
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}
