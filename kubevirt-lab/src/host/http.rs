//! HTTP/1.1 client of a simulated host, over its own NIC: iPXE, curl and the kubelet use it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio_rustls::TlsConnector;
use url::Url;

use super::nic::Network;
use super::ramdisk::{HostNet, HostStream};
use super::resolve;

#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    #[error("{0:?} is not an http or https URL")]
    Url(String),
    #[error("could not resolve host: {host} ({reason})")]
    Resolve { host: String, reason: String },
    #[error("{peer}: could not connect: {source}")]
    Connect { peer: String, source: io::Error },
    #[error("{peer}: TLS handshake failed: {source}")]
    Tls { peer: String, source: io::Error },
    #[error("{peer}: {source}")]
    Exchange { peer: String, source: hyper::Error },
    #[error("{peer}: the body is larger than {max} bytes or broke off: {reason}")]
    Body {
        peer: String,
        max: usize,
        reason: String,
    },
    #[error("{url}: more than {max} redirects")]
    Redirects { url: String, max: usize },
    #[error("{peer}: no answer within {waited:?}")]
    Timeout { peer: String, waited: Duration },
    #[error("request: {0}")]
    Request(#[from] http::Error),
}

impl HttpError {
    /// curl's exit code for it (curl(1), EXIT CODES).
    pub(crate) fn curl_code(&self) -> u8 {
        match self {
            Self::Url(_) | Self::Request(_) => 3,
            Self::Resolve { .. } => 6,
            Self::Connect { .. } => 7,
            Self::Timeout { .. } => 28,
            // What rustls says of the peer's certificate comes as InvalidData.
            Self::Tls { source, .. } if source.kind() == io::ErrorKind::InvalidData => 60,
            Self::Tls { .. } => 35,
            Self::Redirects { .. } => 47,
            Self::Exchange { .. } | Self::Body { .. } => 56,
        }
    }

    /// Whether the peer closed a connection that had been idle: the request may be sent again on a new one.
    pub(crate) fn stale(&self) -> bool {
        match self {
            Self::Exchange { source, .. } => {
                source.is_incomplete_message() || source.is_closed() || source.is_canceled()
            }
            _ => false,
        }
    }
}

/// Where and how to connect.
pub(crate) struct Peer {
    host: String,
    port: u16,
    tls: Option<Arc<ClientConfig>>,
}

impl Peer {
    pub(crate) fn of(url: &Url, tls: &Arc<ClientConfig>) -> Result<Self, HttpError> {
        let bad = || HttpError::Url(shown(url));
        let tls = match url.scheme() {
            "http" => None,
            "https" => Some(tls.clone()),
            _ => return Err(bad()),
        };
        let host = url.host_str().ok_or_else(bad)?.to_owned();
        Ok(Self {
            host,
            port: url.port_or_known_default().ok_or_else(bad)?,
            tls,
        })
    }

    pub(crate) fn authority(&self) -> String {
        match (self.port, &self.tls) {
            (80, None) | (443, Some(_)) => self.host.clone(),
            (port, _) => format!("{}:{port}", self.host),
        }
    }

    async fn connect(&self, net: &Network) -> Result<Box<dyn HostStream>, HttpError> {
        let address = match self.host.parse::<IpAddr>() {
            Ok(ip) => ip,
            Err(_) => resolve::lookup(net, &self.host)
                .await
                .map(IpAddr::V4)
                .map_err(|error| HttpError::Resolve {
                    host: self.host.clone(),
                    reason: error.to_string(),
                })?,
        };
        let peer = || format!("{}:{}", self.host, self.port);
        let stream = net
            .connect(SocketAddr::new(address, self.port))
            .await
            .map_err(|source| HttpError::Connect { peer: peer(), source })?;
        let Some(config) = &self.tls else {
            return Ok(stream);
        };
        let name = ServerName::try_from(self.host.clone()).map_err(|_| HttpError::Url(self.host.clone()))?;
        let tls = TlsConnector::from(config.clone()).connect(name, stream).await;
        Ok(Box::new(
            tls.map_err(|source| HttpError::Tls { peer: peer(), source })?,
        ))
    }
}

/// A URL for messages: its query may hold a token.
fn shown(url: &Url) -> String {
    url[..url::Position::AfterPath].to_owned()
}

type Connection = http1::Connection<TokioIo<Box<dyn HostStream>>, Full<Bytes>>;

/// A kept-alive connection. It moves only while a request is under way: an idle kubelet costs no task.
pub(crate) struct Session {
    sender: http1::SendRequest<Full<Bytes>>,
    connection: Connection,
    peer: String,
}

impl Session {
    pub(crate) async fn open(net: &Network, peer: &Peer) -> Result<Self, HttpError> {
        let stream = peer.connect(net).await?;
        let name = peer.authority();
        let (sender, connection) =
            http1::handshake(TokioIo::new(stream))
                .await
                .map_err(|source| HttpError::Exchange {
                    peer: name.clone(),
                    source,
                })?;
        Ok(Self {
            sender,
            connection,
            peer: name,
        })
    }

    /// One request and its whole answer.
    pub(crate) async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
        body_max: usize,
    ) -> Result<Response<Bytes>, HttpError> {
        let peer = self.peer.clone();
        let exchange = |source| HttpError::Exchange {
            peer: peer.clone(),
            source,
        };
        let work = async {
            self.sender.ready().await.map_err(exchange)?;
            let (head, body) = self
                .sender
                .send_request(request)
                .await
                .map_err(exchange)?
                .into_parts();
            let body = Limited::new(body, body_max)
                .collect()
                .await
                .map_err(|error| HttpError::Body {
                    peer: peer.clone(),
                    max: body_max,
                    reason: error.to_string(),
                })?;
            Ok(Response::from_parts(head, body.to_bytes()))
        };
        let mut work = std::pin::pin!(work);
        let mut connection = std::pin::Pin::new(&mut self.connection);
        // The connection is polled first: it moves the bytes that `work` waits for. Its end is told by `work`'s error.
        tokio::select! {
            biased;
            _ = &mut connection => work.await,
            answer = &mut work => answer,
        }
    }
}

/// A plain download.
pub(crate) struct Fetch<'a> {
    pub net: &'a Network,
    pub tls: Arc<ClientConfig>,
    pub agent: &'a str,
    pub body_max: usize,
    pub redirects_max: usize,
    pub timeout: Duration,
}

impl Fetch<'_> {
    /// Follows redirects up to `redirects_max`; any status is an answer.
    pub(crate) async fn get(&self, url: &Url) -> Result<(StatusCode, Bytes), HttpError> {
        let mut url = url.clone();
        for _ in 0..=self.redirects_max {
            let peer = Peer::of(&url, &self.tls)?;
            let waited = self.timeout;
            let answer = tokio::time::timeout(waited, self.once(&url, &peer))
                .await
                .map_err(|_| HttpError::Timeout {
                    peer: peer.authority(),
                    waited,
                })??;
            let location = answer
                .headers()
                .get(header::LOCATION)
                .and_then(|value| value.to_str().ok());
            match location.filter(|_| answer.status().is_redirection() && self.redirects_max > 0) {
                Some(to) => {
                    url = url
                        .join(to)
                        .map_err(|_| HttpError::Url("Location header".to_owned()))?
                }
                None => return Ok((answer.status(), answer.into_body())),
            }
        }
        Err(HttpError::Redirects {
            url: url.to_string(),
            max: self.redirects_max,
        })
    }

    async fn once(&self, url: &Url, peer: &Peer) -> Result<Response<Bytes>, HttpError> {
        let path = &url[url::Position::BeforePath..url::Position::AfterQuery];
        let request = Request::builder()
            .method(Method::GET)
            .uri(path)
            .header(header::HOST, peer.authority())
            .header(header::USER_AGENT, self.agent)
            .header(header::ACCEPT, "*/*")
            .header(header::CONNECTION, "close")
            .body(Full::default())?;
        Session::open(self.net, peer)
            .await?
            .send(request, self.body_max)
            .await
    }
}
