//! Puts the management API on a listener or on one stream: HTTP/1.1 and HTTP/2, over TLS if a configuration
//! is given.

use std::{io, sync::Arc, time::Duration};

use axum::Router;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::Semaphore,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Connections at once: controllers and a few people; the next ones wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 256;
/// For the TLS handshake and for a request's header: a stalled client must not hold a slot.
const PATIENCE: Duration = Duration::from_secs(10);

/// Serves until `stop`; then ends every connection and returns.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    tls: Option<Arc<rustls::ServerConfig>>,
    stop: CancellationToken,
) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            accepted = async {
                let slot = slots.clone().acquire_owned().await;
                (slot, listener.accept().await)
            } => accepted,
        };
        let (Ok(slot), accepted) = accepted else { break };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "accept failed");
                // Out of file descriptors, usually; give others time to close theirs.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let (router, tls, stop) = (router.clone(), tls.clone(), stop.clone());
        connections.spawn(async move {
            let _slot = slot;
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                ended = serve_connection(router, tls, stream) => {
                    if let Err(error) = ended {
                        tracing::debug!(%peer, %error, "connection ended");
                    }
                }
            }
        });
    }
    connections.close();
    connections.wait().await;
}

/// Serves one stream, a socket or an in-memory one, until the client closes it.
pub async fn serve_connection<IO>(
    router: Router,
    tls: Option<Arc<rustls::ServerConfig>>,
    io: IO,
) -> io::Result<()>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    match tls {
        None => serve_plain(router, io).await,
        Some(tls) => {
            let handshake = timeout(PATIENCE, TlsAcceptor::from(tls).accept(io));
            serve_plain(router, handshake.await.map_err(|_| io::ErrorKind::TimedOut)??).await
        }
    }
}

async fn serve_plain<IO>(router: Router, io: IO) -> io::Result<()>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE);
    builder.http2().timer(TokioTimer::new());
    let service = TowerToHyperService::new(router);
    builder
        .serve_connection(TokioIo::new(io), service)
        .await
        .map_err(io::Error::other)
}
