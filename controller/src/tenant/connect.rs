//! A Kubernetes client whose connections go over a [`Net`].

use super::TenantError;
use crate::net::{BoxedStream, Net, Stream};
use futures::future::BoxFuture;
use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::{
    client::legacy::connect::{Connected, Connection},
    rt::{TokioExecutor, TokioIo},
};
use kube::{
    Client, Config,
    client::ConfigExt,
    config::{KubeConfigOptions, Kubeconfig},
};
use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::{Instant, Sleep};
use tower::{Service, ServiceBuilder};

pub(super) async fn config(kubeconfig: &str) -> Result<Config, TenantError> {
    let parsed = Kubeconfig::from_yaml(kubeconfig).map_err(|e| TenantError::Kubeconfig(e.to_string()))?;
    Config::from_custom_kubeconfig(parsed, &KubeConfigOptions::default())
        .await
        .map_err(|e| TenantError::Kubeconfig(e.to_string()))
}

pub(super) fn client(config: &Config, net: Arc<dyn Net>) -> Result<Client, TenantError> {
    let bad = |e: kube::Error| TenantError::Kubeconfig(e.to_string());
    let https = config
        .rustls_https_connector_with_connector(NetConnector(net))
        .map_err(bad)?;
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer().map_err(bad)?)
        .map_err(tower::BoxError::from)
        .service(hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build(https));
    Ok(Client::new(service, config.default_namespace.clone()))
}

/// hyper's connector over our network.
#[derive(Clone)]
struct NetConnector(Arc<dyn Net>);

impl Service<Uri> for NetConnector {
    type Response = Conn;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Conn>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let net = self.0.clone();
        Box::pin(async move {
            let host = uri
                .host()
                .ok_or_else(|| io::Error::other("the URL has no host"))?;
            let port = uri.port_u16().unwrap_or(443);
            let addresses = net.resolve(host, port).await?;
            let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
            for address in addresses {
                match net.connect(address).await {
                    Ok(stream) => return Ok(Conn::new(stream)),
                    Err(error) => last = error,
                }
            }
            Err(last)
        })
    }
}

/// A connection that ends when nothing comes over it for [`SILENCE`].
struct Conn {
    io: TokioIo<BoxedStream>,
    silent: Pin<Box<Sleep>>,
}

/// Longer than a watch may be silent: the API server ends each after 290 s, as kube's watcher asks it to. Without
/// this a watch whose peer has vanished would wait, and show old nodes, for ever.
const SILENCE: Duration = Duration::from_secs(300);

impl Conn {
    fn new(stream: Box<dyn Stream>) -> Self {
        Conn {
            io: TokioIo::new(BoxedStream(stream)),
            silent: Box::pin(tokio::time::sleep(SILENCE)),
        }
    }
}

impl Connection for Conn {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for Conn {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.io).poll_read(cx, buf) {
            Poll::Ready(done) => {
                self.silent.as_mut().reset(Instant::now() + SILENCE);
                Poll::Ready(done)
            }
            Poll::Pending => {
                ready!(self.silent.as_mut().poll(cx));
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
        }
    }
}

impl Write for Conn {
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
