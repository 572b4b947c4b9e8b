//! A thin TLS listener over the service: HTTP/1.1 and HTTP/2, client certificates become identities.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::ApiServer;
use crate::auth;

/// Enough for thousands of watchers; each idle connection costs about 50 KiB of TLS and HTTP buffers.
const CONNECTIONS_MAX: usize = 16_384;
/// A client that does not finish its handshake or its request head is cut off.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(15);
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// kube-apiserver's `--http2-max-streams-per-connection` default for aggregated clients is 250; kube-rs and
/// client-go multiplex every watch of a process over one connection, so more is allowed here.
const STREAMS_MAX: u32 = 1000;

/// Serves one connection until the client closes it.
pub async fn serve_connection<IO>(server: ApiServer, tls: Arc<rustls::ServerConfig>, io: IO) -> io::Result<()>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let accept = TlsAcceptor::from(tls).accept(io);
    let stream = tokio::time::timeout(HANDSHAKE_TIMEOUT, accept)
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "the TLS handshake took longer than 15 s"))??;
    let identity = stream
        .get_ref()
        .1
        .peer_certificates()
        .and_then(|chain| chain.first())
        .map(auth::from_certificate);
    let service = match identity {
        None => server.unidentified(),
        Some(Ok(identity)) => server.identified(identity),
        Some(Err(error)) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
    };
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX);
    builder
        .serve_connection_with_upgrades(TokioIo::new(stream), TowerToHyperService::new(service))
        .await
        .map_err(io::Error::other)
}

/// Accepts until `stop`; then open connections are dropped, as a killed server would.
pub async fn serve(listener: TcpListener, server: ApiServer, stop: CancellationToken) {
    let tls = server.tls();
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
            accepted = accept(&listener, &slots) => accepted,
        };
        match accepted {
            Ok((io, peer, slot)) => {
                let (server, tls) = (server.clone(), tls.clone());
                connections.spawn(async move {
                    if let Err(error) = serve_connection(server, tls, io).await {
                        tracing::debug!(%peer, %error, "connection ended");
                    }
                    drop(slot);
                });
            }
            Err(error) => {
                // Out of file descriptors, most likely: give connections the time to end.
                tracing::warn!(%error, "accept failed, trying again");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

type Slot = tokio::sync::OwnedSemaphorePermit;

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> io::Result<(tokio::net::TcpStream, std::net::SocketAddr, Slot)> {
    let slot = slots.clone().acquire_owned().await.map_err(io::Error::other)?;
    let (io, peer) = listener.accept().await?;
    io.set_nodelay(true)?;
    Ok((io, peer, slot))
}
