//! A network for the controller that is a machine's: a user-space stack on a port of the fabric.

use crate::net::{Stack, TcpListener, UdpSocket};
use futures::future::BoxFuture;
use std::{
    io,
    net::{SocketAddr, SocketAddrV4},
};
use steelyard_controller::{Listener, Net, Stream, Udp};

/// Connections that wait to be accepted: a rack that boots at once.
const BACKLOG: usize = 256;

#[derive(Clone)]
pub struct FabricNet(Stack);

impl FabricNet {
    pub fn new(stack: Stack) -> Self {
        FabricNet(stack)
    }
}

fn v4(address: SocketAddr) -> io::Result<SocketAddrV4> {
    match address {
        SocketAddr::V4(v4) => Ok(v4),
        SocketAddr::V6(_) => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            format!("{address}: the lab's fabric carries IPv4 only"),
        )),
    }
}

impl Net for FabricNet {
    fn udp(&self, bind: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Udp>>> {
        Box::pin(async move { Ok(Box::new(FabricUdp(self.0.udp_bind(v4(bind)?)?)) as Box<dyn Udp>) })
    }

    fn listen(&self, bind: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let listener = self.0.tcp_listen(v4(bind)?, BACKLOG)?;
            Ok(Box::new(FabricListener(listener)) as Box<dyn Listener>)
        })
    }

    fn connect(&self, to: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Stream>>> {
        Box::pin(async move { Ok(Box::new(self.0.tcp_connect(v4(to)?).await?) as Box<dyn Stream>) })
    }
}

struct FabricUdp(UdpSocket);

impl Udp for FabricUdp {
    fn recv_from<'a>(&'a self, buf: &'a mut [u8]) -> BoxFuture<'a, io::Result<(usize, SocketAddr)>> {
        Box::pin(async move {
            let (data, from) = self.0.recv_from().await?;
            // As with sockets of the operating system, what does not fit is cut off.
            let len = data.len().min(buf.len());
            buf[..len].copy_from_slice(&data[..len]);
            Ok((len, SocketAddr::V4(from)))
        })
    }

    fn send_to<'a>(&'a self, data: &'a [u8], to: SocketAddr) -> BoxFuture<'a, io::Result<usize>> {
        Box::pin(async move {
            self.0.send_to(data, v4(to)?)?;
            Ok(data.len())
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(SocketAddr::V4(self.0.local_addr()))
    }
}

struct FabricListener(TcpListener);

impl Listener for FabricListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Box<dyn Stream>, SocketAddr)>> {
        Box::pin(async {
            let (stream, from) = self.0.accept().await?;
            Ok((Box::new(stream) as Box<dyn Stream>, SocketAddr::V4(from)))
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(SocketAddr::V4(self.0.local_addr()))
    }
}
