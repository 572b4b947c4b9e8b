//! Connections: tokio's traits over smoltcp's sockets.

use std::io;
use std::net::SocketAddrV4;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp::{RecvError, Socket, State};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

use super::stack::Shared;

/// Takes connections. A socket and its buffers exist only from the first SYN on, so an idle listener costs nothing.
pub struct TcpListener {
    pub(super) shared: Arc<Shared>,
    pub(super) id: u64,
    pub(super) local: SocketAddrV4,
    pub(super) arrived: Arc<Notify>,
}

impl TcpListener {
    pub fn local_addr(&self) -> SocketAddrV4 {
        self.local
    }

    /// The next connection and its peer. Cancel-safe.
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddrV4)> {
        loop {
            let arrived = self.arrived.notified();
            {
                let mut core = self.shared.core();
                if let Some((handle, local, remote)) = core.tcp_accept(self.id)? {
                    let stream = TcpStream {
                        shared: self.shared.clone(),
                        handle,
                        local,
                        remote,
                    };
                    if core
                        .listeners
                        .get(&self.id)
                        .is_some_and(|listener| !listener.ready.is_empty())
                    {
                        self.arrived.notify_one();
                    }
                    return Ok((stream, remote));
                }
            }
            arrived.await;
        }
    }
}

impl Drop for TcpListener {
    fn drop(&mut self) {
        let now = self.shared.now();
        self.shared.core().tcp_unlisten(self.id, now);
        self.shared.kick();
    }
}

/// A connection. Dropping it closes it: bytes already written are still delivered.
pub struct TcpStream {
    pub(super) shared: Arc<Shared>,
    pub(super) handle: SocketHandle,
    pub(super) local: SocketAddrV4,
    pub(super) remote: SocketAddrV4,
}

impl TcpStream {
    pub fn local_addr(&self) -> SocketAddrV4 {
        self.local
    }

    pub fn peer_addr(&self) -> SocketAddrV4 {
        self.remote
    }

    /// Runs `f` on the socket; an error that the connection already died of comes first.
    fn with<R>(&self, f: impl FnOnce(&mut Socket<'static>) -> R) -> io::Result<R> {
        let mut core = self.shared.core();
        let conn = core.conns.get(&self.handle).ok_or(io::ErrorKind::NotConnected)?;
        if let Some(kind) = conn.error {
            return Err(io::Error::new(
                kind,
                format!("connection to {}: {kind}", self.remote),
            ));
        }
        Ok(f(core.sockets.get_mut::<Socket<'static>>(self.handle)))
    }

    fn reset(&self) -> io::Error {
        io::Error::new(
            io::ErrorKind::ConnectionReset,
            format!("connection to {} was reset", self.remote),
        )
    }

    pub(super) fn poll_connected(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|socket| match socket.state() {
            State::SynSent | State::SynReceived => {
                socket.register_send_waker(cx.waker());
                Poll::Pending
            }
            State::Closed => {
                let text = format!("{} refused the connection", self.remote);
                Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionRefused, text)))
            }
            _ => Poll::Ready(Ok(())),
        })
        .unwrap_or_else(|error| Poll::Ready(Err(error)))
    }
}

impl AsyncRead for TcpStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let coop = ready!(tokio::task::coop::poll_proceed(cx));
        let read = self.with(|socket| {
            if socket.can_recv() {
                // The buffer is a ring: two slices at most.
                while buf.remaining() > 0 && socket.can_recv() {
                    let n = socket.recv_slice(buf.initialize_unfilled()).unwrap_or(0);
                    buf.advance(n);
                }
                return Poll::Ready(Ok(true));
            }
            match socket.recv_slice(&mut []) {
                Err(RecvError::Finished) => Poll::Ready(Ok(false)),
                Err(RecvError::InvalidState) => Poll::Ready(Err(self.reset())),
                Ok(_) => {
                    socket.register_recv_waker(cx.waker());
                    Poll::Pending
                }
            }
        })?;
        if let Poll::Ready(read) = read {
            coop.made_progress();
            // The window has grown; the peer may have to be told.
            if read? {
                self.shared.kick();
            }
            return Poll::Ready(Ok(()));
        }
        Poll::Pending
    }
}

impl AsyncWrite for TcpStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let coop = ready!(tokio::task::coop::poll_proceed(cx));
        let written = self.with(|socket| {
            if !socket.may_send() {
                let kind = if socket.state() == State::Closed {
                    self.reset()
                } else {
                    io::ErrorKind::BrokenPipe.into()
                };
                return Poll::Ready(Err(kind));
            }
            match socket.send_slice(data) {
                Ok(0) if !data.is_empty() => {
                    socket.register_send_waker(cx.waker());
                    Poll::Pending
                }
                Ok(n) => Poll::Ready(Ok(n)),
                Err(_) => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            }
        })?;
        if written.is_ready() {
            coop.made_progress();
            self.shared.kick();
        }
        written
    }

    /// Bytes are on their way once they are in the socket's buffer, as with a kernel's socket.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|socket| socket.close())?;
        self.shared.kick();
        Poll::Ready(Ok(()))
    }
}

impl Drop for TcpStream {
    fn drop(&mut self) {
        let now = self.shared.now();
        self.shared.core().tcp_release(self.handle, now);
        self.shared.kick();
    }
}
