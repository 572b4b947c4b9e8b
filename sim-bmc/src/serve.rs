//! The thin server: bytes of a connection to requests of a [`BmcHandle`], and back. HTTP/1.1, with TLS or without.
//!
//! Whoever speaks plain HTTP to the TLS port is sent to https (DSP0266 demands TLS for anything with credentials). A
//! connection is limited in its buffer, its header time and its bodies, and a BMC in its number of connections.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::handle::BmcHandle;
use crate::redfish::{MAX_BODY, body_too_large, unreadable_body};

/// Headers of Redfish clients are well below 4 KiB; 16 KiB a connection keeps ten thousand BMCs affordable.
const MAX_BUFFER: usize = 16 * 1024;
/// A client that sends no complete header or hello for so long has gone.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// First byte of a TLS handshake record (RFC 8446 section 5.1).
const TLS_HANDSHAKE: u8 = 0x16;

/// Serves one connection until the client closes it.
pub async fn serve_connection<IO>(
    bmc: BmcHandle,
    tls: Option<Arc<ServerConfig>>,
    mut io: IO,
) -> io::Result<()>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    if !bmc.accepts_connections() {
        return Ok(());
    }
    let Some(tls) = tls else {
        return serve_http(bmc, io).await;
    };
    let hello = async {
        let first = io.read_u8().await?;
        let io = Prefixed {
            first: Some(first),
            io,
        };
        if first != TLS_HANDSHAKE {
            return Ok(Err(io));
        }
        TlsAcceptor::from(tls).accept(io).await.map(Ok)
    };
    match tokio::time::timeout(HEADER_TIMEOUT, hello).await {
        Err(_) => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "no TLS handshake within 30 s",
        )),
        // A client that connects and says nothing is a port check, not a fault.
        Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
        Ok(Err(error)) => Err(error),
        Ok(Ok(Ok(stream))) => serve_http(bmc, stream).await,
        Ok(Ok(Err(plain))) => redirect_to_https(plain).await,
    }
}

async fn serve_http<IO>(bmc: BmcHandle, io: IO) -> io::Result<()>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| {
        let bmc = bmc.clone();
        async move { Ok::<_, Infallible>(answer(&bmc, request).await.map(Full::new)) }
    });
    connection(io, service).await
}

/// Runs HTTP/1.1 on a stream. Hyper answers HEAD without a body and drains what a handler left unread.
async fn connection<IO, S>(io: IO, service: S) -> io::Result<()>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: hyper::service::Service<Request<Incoming>, Response = Response<Full<Bytes>>, Error = Infallible>
        + Send,
    S::Future: Send,
{
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_BUFFER)
        .serve_connection(TokioIo::new(io), service)
        .await;
    match served {
        Ok(()) => Ok(()),
        // Clients that go away in the middle are no news to a server.
        Err(error) if error.is_incomplete_message() || error.is_timeout() => Ok(()),
        Err(error) => Err(io::Error::other(error)),
    }
}

async fn answer(bmc: &BmcHandle, request: Request<Incoming>) -> Response<Bytes> {
    let (head, body) = request.into_parts();
    match Limited::new(body, MAX_BODY).collect().await {
        Ok(body) => bmc.handle(Request::from_parts(head, body.to_bytes())).await,
        Err(error) if error.downcast_ref::<LengthLimitError>().is_some() => body_too_large(),
        Err(_) => unreadable_body(),
    }
}

async fn redirect_to_https<IO>(io: IO) -> io::Result<()>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(|request: Request<Incoming>| async move {
        let host = request
            .headers()
            .get(header::HOST)
            .and_then(|host| host.to_str().ok());
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        let mut reply = Response::new(Full::new(Bytes::new()));
        let target = host.and_then(|host| HeaderValue::try_from(format!("https://{host}{path}")).ok());
        match target {
            // 308 keeps the method, so that a POST stays one.
            Some(target) => {
                *reply.status_mut() = StatusCode::PERMANENT_REDIRECT;
                reply.headers_mut().insert(header::LOCATION, target);
            }
            None => *reply.status_mut() = StatusCode::BAD_REQUEST,
        }
        reply
            .headers_mut()
            .insert(header::CONNECTION, HeaderValue::from_static("close"));
        Ok::<_, Infallible>(reply)
    });
    connection(io, service).await
}

/// Accepts connections for one BMC until `stop`, then ends those that are open.
pub async fn serve(
    listener: TcpListener,
    bmc: BmcHandle,
    tls: Option<Arc<ServerConfig>>,
    stop: CancellationToken,
) {
    let room = Arc::new(Semaphore::new(bmc.connection_limit()));
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(ended) = connections.join_next() => {
                if let Err(error) = ended && error.is_panic() {
                    tracing::error!(%error, "connection task panicked");
                }
            }
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    // Beyond the limit a weak computer drops connections rather than queue them.
                    let Ok(permit) = Arc::clone(&room).try_acquire_owned() else {
                        tracing::warn!(%peer, "connection limit reached, connection dropped");
                        continue;
                    };
                    let bmc = bmc.clone();
                    let tls = tls.clone();
                    connections.spawn(async move {
                        let _permit = permit;
                        // Small answers must not wait for the client's delayed ACK.
                        let _ = stream.set_nodelay(true);
                        if let Err(error) = serve_connection(bmc, tls, stream).await {
                            tracing::debug!(%peer, %error, "connection ended with an error");
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "accept failed, trying again");
                    // Out of file descriptors is the usual cause; it passes when connections end.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
    connections.shutdown().await;
}

/// A stream whose first byte was read already.
struct Prefixed<IO> {
    first: Option<u8>,
    io: IO,
}

impl<IO: AsyncRead + Unpin> AsyncRead for Prefixed<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buf.remaining() > 0
            && let Some(first) = self.first.take()
        {
            buf.put_slice(&[first]);
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Prefixed<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
