//! Datagrams.

use std::io;
use std::net::SocketAddrV4;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Notify;

use super::stack::Shared;

/// A bound UDP port. May be bound to 0.0.0.0 before the stack has an address, and then send broadcasts.
pub struct UdpSocket {
    pub(super) shared: Arc<Shared>,
    pub(super) id: u64,
    pub(super) local: SocketAddrV4,
    pub(super) ready: Arc<Notify>,
}

impl UdpSocket {
    pub fn local_addr(&self) -> SocketAddrV4 {
        self.local
    }

    /// Sends one datagram; a broadcast address broadcasts.
    pub fn send_to(&self, data: &[u8], to: SocketAddrV4) -> io::Result<()> {
        let now = self.shared.now();
        self.shared.core().udp_send(self.id, data, to, now)?;
        self.shared.kick();
        Ok(())
    }

    /// The next datagram and its sender. Cancel-safe.
    pub async fn recv_from(&self) -> io::Result<(Bytes, SocketAddrV4)> {
        loop {
            let ready = self.ready.notified();
            {
                let mut core = self.shared.core();
                core.check_up()?;
                let port = core.udp.get_mut(&self.id).ok_or(io::ErrorKind::NotConnected)?;
                if let Some((from, data)) = port.queue.pop_front() {
                    if !port.queue.is_empty() {
                        // The permit is one however many came; another task may wait for the rest.
                        port.ready.notify_one();
                    }
                    return Ok((data, from));
                }
            }
            ready.await;
        }
    }
}

impl Drop for UdpSocket {
    fn drop(&mut self) {
        self.shared.core().udp.remove(&self.id);
    }
}
