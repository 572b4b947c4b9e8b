//! An HTTP/1.1 client over [`Net`]: one peer, one connection, kept open between requests.
//!
//! Drivers talk to weak computers, one request at a time; a pool would only hide that. The connection is
//! driven by whoever waits for a response, so nothing runs in the background.

use crate::net::{BoxedStream, Net};
use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Request, Response, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper::{
    body::Incoming,
    client::conn::http1::{self, Connection, SendRequest},
};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Waker},
    time::Duration,
};
use tokio::sync::Mutex;
use tokio_rustls::TlsConnector;

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    #[error("can't connect to {peer}: {why}")]
    Connect { peer: String, why: io::Error },
    #[error("the certificate of {peer} is not trusted: {why}")]
    Untrusted { peer: String, why: io::Error },
    #[error("{peer} broke the connection: {why}")]
    Broken { peer: String, why: hyper::Error },
    #[error("{peer} did not answer within {} s", .after.as_secs())]
    Timeout { peer: String, after: Duration },
    #[error("{peer} sent more than {limit} bytes")]
    TooLarge { peer: String, limit: usize },
    #[error("{url} is not a URL that we can ask: {why}")]
    Url { url: String, why: String },
}

/// Answers of management APIs are far smaller; a larger one is a fault of the peer.
const BODY_LIMIT: usize = 16 << 20;

type Sender = SendRequest<Full<Bytes>>;
type Driver = Connection<TokioIo<BoxedStream>, Full<Bytes>>;

/// A client of one peer (scheme, host, port).
pub struct HttpClient {
    net: Arc<dyn Net>,
    tls: Arc<ClientConfig>,
    /// For connecting and for each answer.
    timeout: Duration,
    idle: Mutex<Option<(Sender, Driver)>>,
}

impl HttpClient {
    pub fn new(net: Arc<dyn Net>, tls: Arc<ClientConfig>, timeout: Duration) -> Self {
        HttpClient {
            net,
            tls,
            timeout,
            idle: Mutex::new(None),
        }
    }

    /// Sends a request whose URI is absolute, and reads the whole answer. A request that fails on a reused
    /// connection is sent once more on a new one if that can't do it twice: peers close idle connections
    /// without a word.
    pub async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let peer = peer(request.uri())?;
        tokio::time::timeout(self.timeout, self.send_once_or_again(&peer, request))
            .await
            .unwrap_or(Err(HttpError::Timeout {
                peer: peer.name(),
                after: self.timeout,
            }))
    }

    async fn send_once_or_again(
        &self,
        peer: &Peer,
        request: Request<Bytes>,
    ) -> Result<Response<Bytes>, HttpError> {
        let mut idle = self.idle.lock().await;
        if let Some(mut kept) = idle.take()
            && is_open(&mut kept)
        {
            match exchange(peer, &mut kept, request.clone()).await {
                Ok((response, open)) => {
                    *idle = open.then_some(kept);
                    return Ok(response);
                }
                Err(error) if may_repeat(&request, &error) => {}
                Err(error) => return Err(error),
            }
        }
        self.send_fresh(peer, request, &mut idle).await
    }

    async fn send_fresh(
        &self,
        peer: &Peer,
        request: Request<Bytes>,
        idle: &mut Option<(Sender, Driver)>,
    ) -> Result<Response<Bytes>, HttpError> {
        let mut pair = self.connect(peer).await?;
        let (response, open) = exchange(peer, &mut pair, request).await?;
        *idle = open.then_some(pair);
        Ok(response)
    }

    /// Sends a request on a connection of its own and hands each chunk of a successful answer to `sink`.
    /// The timeout applies to each chunk, not to the whole.
    pub async fn stream<E>(
        &self,
        request: Request<Bytes>,
        mut sink: impl FnMut(Bytes) -> Result<(), E>,
    ) -> Result<Result<Response<()>, E>, HttpError> {
        let peer = peer(request.uri())?;
        let late = || HttpError::Timeout {
            peer: peer.name(),
            after: self.timeout,
        };
        let (mut sender, driver) = tokio::time::timeout(self.timeout, self.connect(&peer))
            .await
            .unwrap_or_else(|_| Err(late()))?;
        let broken = |why| HttpError::Broken {
            peer: peer.name(),
            why,
        };
        let mut driver = std::pin::pin!(driver);
        let mut driven = false;
        let mut sending = std::pin::pin!(sender.send_request(ready(&peer, request)?));
        let response = loop {
            tokio::select! {
                biased;
                answer = &mut sending => break answer.map_err(broken)?,
                // What was received before it closed is still to be read, and tells if it is not all.
                _ = &mut driver, if !driven => driven = true,
                () = tokio::time::sleep(self.timeout) => return Err(late()),
            }
        };
        let (parts, mut body) = response.into_parts();
        loop {
            tokio::select! {
                biased;
                frame = body.frame() => match frame {
                    None => return Ok(Ok(Response::from_parts(parts, ()))),
                    Some(frame) => if let Ok(chunk) = frame.map_err(broken)?.into_data()
                        && parts.status.is_success()
                        && let Err(stop) = sink(chunk) { return Ok(Err(stop)); },
                },
                _ = &mut driver, if !driven => driven = true,
                () = tokio::time::sleep(self.timeout) => return Err(late()),
            }
        }
    }

    async fn connect(&self, peer: &Peer) -> Result<(Sender, Driver), HttpError> {
        let failed = |why| HttpError::Connect {
            peer: peer.name(),
            why,
        };
        let addresses = self.net.resolve(&peer.host, peer.port).await.map_err(failed)?;
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        let mut stream = None;
        for address in addresses {
            match self.net.connect(address).await {
                Ok(s) => {
                    stream = Some(s);
                    break;
                }
                Err(e) => last = e,
            }
        }
        let mut stream = stream.ok_or(last).map_err(failed)?;
        if peer.tls {
            let name = ServerName::try_from(peer.host.trim_matches(['[', ']']).to_owned()).map_err(|e| {
                HttpError::Url {
                    url: peer.name(),
                    why: e.to_string(),
                }
            })?;
            let tls = TlsConnector::from(self.tls.clone())
                .connect(name, BoxedStream(stream))
                .await;
            stream = Box::new(tls.map_err(|why| match is_untrusted(&why) {
                true => HttpError::Untrusted {
                    peer: peer.name(),
                    why,
                },
                false => HttpError::Connect {
                    peer: peer.name(),
                    why,
                },
            })?);
        }
        http1::handshake(TokioIo::new(BoxedStream(stream)))
            .await
            .map_err(|why| HttpError::Broken {
                peer: peer.name(),
                why,
            })
    }
}

/// We do not believe the peer's certificate; other failures of the handshake are its own.
fn is_untrusted(error: &io::Error) -> bool {
    let cause = error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
    matches!(cause, Some(rustls::Error::InvalidCertificate(_)))
}

struct Peer {
    tls: bool,
    host: String,
    port: u16,
}

impl Peer {
    fn name(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

fn peer(uri: &Uri) -> Result<Peer, HttpError> {
    let bad = |why: &str| HttpError::Url {
        url: uri.to_string(),
        why: why.into(),
    };
    let tls = match uri.scheme_str() {
        Some("https") => true,
        Some("http") => false,
        _ => return Err(bad("the scheme must be http or https")),
    };
    let host = uri.host().ok_or_else(|| bad("it has no host"))?.to_owned();
    Ok(Peer {
        tls,
        host,
        port: uri.port_u16().unwrap_or(if tls { 443 } else { 80 }),
    })
}

/// The request as HTTP/1.1 wants it on the wire: origin form and a Host header.
fn ready(peer: &Peer, request: Request<Bytes>) -> Result<Request<Full<Bytes>>, HttpError> {
    let bad = |why: String| HttpError::Url {
        url: peer.name(),
        why,
    };
    let (mut parts, body) = request.into_parts();
    let host = match parts.uri.port() {
        Some(port) => format!("{}:{port}", peer.host),
        None => peer.host.clone(),
    };
    parts.headers.insert(
        header::HOST,
        HeaderValue::from_str(&host).map_err(|e| bad(e.to_string()))?,
    );
    let path = parts.uri.path_and_query().map_or("/", |p| p.as_str());
    parts.uri = path
        .parse()
        .map_err(|e: http::uri::InvalidUri| bad(e.to_string()))?;
    Ok(Request::from_parts(parts, Full::new(body)))
}

/// Has the peer left a kept connection open, as far as that can be known without asking it? Nothing drives a
/// connection between requests, so its end is only noticed here.
fn is_open((sender, driver): &mut (Sender, Driver)) -> bool {
    let ended = Pin::new(driver)
        .poll(&mut Context::from_waker(Waker::noop()))
        .is_ready();
    !ended && !sender.is_closed()
}

/// The peer broke a kept connection: a GET changes nothing, and what was never sent was never done.
fn may_repeat(request: &Request<Bytes>, error: &HttpError) -> bool {
    matches!(error, HttpError::Broken { why, .. } if request.method() == http::Method::GET || why.is_canceled())
}

/// The answer, and whether the connection is open after it.
async fn exchange(
    peer: &Peer,
    (sender, driver): &mut (Sender, Driver),
    request: Request<Bytes>,
) -> Result<(Response<Bytes>, bool), HttpError> {
    let broken = |why| HttpError::Broken {
        peer: peer.name(),
        why,
    };
    let mut driver = Pin::new(driver);
    let mut answer = std::pin::pin!(async {
        let response = sender.send_request(ready(peer, request)?).await.map_err(broken)?;
        collect(peer, response).await
    });
    let ended = tokio::select! {
        biased;
        done = &mut answer => return done.map(|response| (response, true)),
        end = &mut driver => end,
    };
    // The peer closed after its answer; what it sent is still to be read. How it closed matters only if that is nothing.
    answer
        .await
        .map(|response| (response, false))
        .map_err(|error| ended.err().map_or(error, broken))
}

async fn collect(peer: &Peer, response: Response<Incoming>) -> Result<Response<Bytes>, HttpError> {
    let (parts, mut body) = response.into_parts();
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|why| HttpError::Broken {
            peer: peer.name(),
            why,
        })?;
        if let Ok(chunk) = frame.into_data() {
            if all.len() + chunk.len() > BODY_LIMIT {
                return Err(HttpError::TooLarge {
                    peer: peer.name(),
                    limit: BODY_LIMIT,
                });
            }
            all.extend_from_slice(&chunk);
        }
    }
    Ok(Response::from_parts(parts, all.freeze()))
}
