//! `/node/join`: a machine that shows its token gets a script that makes it a node of its tenant's cluster.
//!
//! HTTPS with a certificate made at start; nobody verifies it, because trust is the token (`curl -k`), and what the
//! script then does verifies the tenant's CA by its hash. A wrong token is refused as late as a right one is found,
//! and guessing is bounded.

mod script;

use crate::{
    net::{BoxedStream, Listener, Net},
    secret::Secret,
    world::Clock,
};
use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use jiff::{SignedDuration, Timestamp};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use script::ScriptOptions;
use std::{
    collections::BTreeMap,
    convert::Infallible,
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use steelyard_api::metal3::Taint;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use url::form_urlencoded;

/// Machines that join at once; each holds a TLS session of about 40 KiB.
const CONNECTIONS_MAX: usize = 256;
/// From accept to the end of the handshake, and from request to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);
/// Wrong tokens of one address in [`FAILURES_FORGOTTEN`]: a machine that restarts shows a right one.
const FAILURES_MAX: u32 = 10;
const FAILURES_FORGOTTEN: SignedDuration = SignedDuration::from_mins(1);
/// Addresses whose failures are counted.
const PEERS_MAX: usize = 1024;

/// What a token is good for.
#[derive(Clone, Debug)]
pub struct JoinTicket {
    /// The token's secret half; compared here, in constant time.
    pub secret: Secret,
    /// `HOST:PORT` of the tenant's API server, as its nodes reach it.
    pub endpoint: String,
    /// `sha256:HEX` of the public key of the tenant's CA.
    pub ca_hash: String,
    pub node_name: String,
    pub labels: BTreeMap<String, String>,
    pub taints: Vec<Taint>,
    pub provider_id: Option<String>,
    /// `v1.34.2`: what is installed on a machine that has no kubeadm.
    pub kubernetes_version: Option<String>,
}

/// Where tokens are looked up.
pub trait Tickets: Send + Sync + 'static {
    /// The ticket whose token begins with `id`; `Ok(None)`: there is none, or it has expired.
    fn find<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<JoinTicket>, TicketsError>>;
}

/// Tickets can't be looked up now; in words.
#[derive(Clone, Debug, thiserror::Error)]
#[error("join tickets can't be looked up: {0}")]
pub struct TicketsError(pub String);

#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    #[error(
        "the join service can't listen on {address}: {why}. Put the address on the services network's interface, or free the port"
    )]
    Listen { address: SocketAddr, why: io::Error },
    #[error("can't make the join service's certificate: {0}")]
    Certificate(String),
}

/// The service; `run` serves it.
pub struct JoinService {
    listen: SocketAddr,
    net: Arc<dyn Net>,
    tls: TlsAcceptor,
    desk: Arc<Desk>,
}

/// What requests are answered with.
struct Desk {
    tickets: Arc<dyn Tickets>,
    clock: Clock,
    failures: Mutex<Failures>,
}

impl JoinService {
    /// `listen`: an address of the services network, 192.168.101.254:443 in the lab.
    pub fn new(
        listen: SocketAddr,
        net: Arc<dyn Net>,
        clock: Clock,
        tickets: Arc<dyn Tickets>,
    ) -> Result<Self, JoinError> {
        let desk = Arc::new(Desk {
            tickets,
            clock,
            failures: Mutex::default(),
        });
        let tls =
            TlsAcceptor::from(self_signed(listen.ip()).map_err(|e| JoinError::Certificate(e.to_string()))?);
        Ok(JoinService {
            listen,
            net,
            tls,
            desk,
        })
    }

    /// Serves until the address can't be had.
    pub async fn run(self) -> JoinError {
        let address = self.listen;
        let mut listener: Box<dyn Listener> = match self.net.listen(address).await {
            Ok(listener) => listener,
            Err(why) => return JoinError::Listen { address, why },
        };
        tracing::info!(%address, "join service listens");
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                Some(ended) = connections.join_next() => {
                    if let Err(error) = ended && error.is_panic() {
                        std::panic::resume_unwind(error.into_panic());
                    }
                }
                accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => match accepted {
                    Ok((stream, from)) => {
                        let (tls, desk) = (self.tls.clone(), self.desk.clone());
                        connections.spawn(async move {
                            let served = serve(tls, desk, BoxedStream(stream), from);
                            if tokio::time::timeout(ANSWER_WITHIN * 2, served).await.is_err() {
                                tracing::debug!(%from, "join connection took too long");
                            }
                        });
                    }
                    Err(error) => {
                        tracing::debug!(%error, "join accept");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
            }
        }
    }
}

fn self_signed(ip: IpAddr) -> Result<Arc<rustls::ServerConfig>, Box<dyn std::error::Error>> {
    let key = rcgen::KeyPair::generate()?;
    let mut params = rcgen::CertificateParams::new(vec![ip.to_string()])?;
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, "steelyard-join");
    let cert = params.self_signed(&key)?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config =
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)?;
    Ok(Arc::new(config))
}

async fn serve(tls: TlsAcceptor, desk: Arc<Desk>, stream: BoxedStream, from: SocketAddr) {
    let stream = match tokio::time::timeout(ANSWER_WITHIN, tls.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%from, %error, "join handshake failed"),
        Err(_) => return tracing::debug!(%from, "join handshake took too long"),
    };
    let service = service_fn(|request: Request<Incoming>| {
        let desk = desk.clone();
        async move { Ok::<_, Infallible>(desk.answer(request.method(), request.uri(), from.ip()).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        // It would come from the system's clock, and a replayed run would send other bytes.
        .auto_date_header(false)
        .header_read_timeout(ANSWER_WITHIN)
        .max_buf_size(16 << 10)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%from, %error, "join connection ended");
    }
}

impl Desk {
    async fn answer(&self, method: &Method, uri: &http::Uri, from: IpAddr) -> Response<Full<Bytes>> {
        if uri.path() != "/node/join" {
            return text(StatusCode::NOT_FOUND, "join: there is nothing at this path");
        }
        if method != Method::GET {
            return text(StatusCode::METHOD_NOT_ALLOWED, "join: only GET is answered");
        }
        let now = self.clock.now();
        if self.failures().over(from, now) {
            return text(
                StatusCode::TOO_MANY_REQUESTS,
                "join: too many wrong tokens; wait a minute",
            );
        }
        let mut query: BTreeMap<String, String> =
            form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes())
                .into_owned()
                .collect();
        let token = Secret::new(query.remove("token").unwrap_or_default());
        let options = match ScriptOptions::from_query(&query) {
            Ok(options) => options,
            Err(why) => return text(StatusCode::BAD_REQUEST, &format!("join: {why}")),
        };
        let ticket = match self.ticket(&token).await {
            Ok(Some(ticket)) => ticket,
            Ok(None) => {
                self.failures().count(from, now);
                tracing::info!(%from, "join refused: unknown token");
                return text(
                    StatusCode::FORBIDDEN,
                    "join: the token is unknown or has expired; get a new one",
                );
            }
            Err(error) => {
                tracing::warn!(%from, %error, "join tickets can't be looked up; the machine will ask again");
                return text(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "join: tokens can't be looked up now; try again",
                );
            }
        };
        match script::render(&ticket, &token, &options) {
            Ok(script) => {
                tracing::info!(%from, node = ticket.node_name, endpoint = ticket.endpoint, "join script served");
                let mut response = text(StatusCode::OK, "");
                *response.body_mut() = Full::new(script.into());
                let sh = HeaderValue::from_static("text/x-shellscript; charset=utf-8");
                response.headers_mut().insert(header::CONTENT_TYPE, sh);
                response
            }
            Err(why) => {
                tracing::error!(
                    node = ticket.node_name,
                    error = why,
                    "join script can't be written"
                );
                text(StatusCode::INTERNAL_SERVER_ERROR, &format!("join: {why}"))
            }
        }
    }

    fn failures(&self) -> std::sync::MutexGuard<'_, Failures> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn ticket(&self, token: &Secret) -> Result<Option<JoinTicket>, TicketsError> {
        let Some((id, secret)) = token.reveal().split_once('.') else {
            return Ok(None);
        };
        // The alphabet and lengths of bootstrap tokens: nothing else is worth a look-up.
        let word = |text: &str, len| {
            text.len() == len && text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9'))
        };
        if !word(id, 6) || !word(secret, 16) {
            return Ok(None);
        }
        let found = self.tickets.find(id).await?;
        Ok(found.filter(|ticket| same(ticket.secret.reveal().as_bytes(), secret.as_bytes())))
    }
}

/// Compares without telling by its duration where the first difference is.
fn same(a: &[u8], b: &[u8]) -> bool {
    let differences = a.iter().zip(b).fold(0, |all, (x, y)| all | (x ^ y));
    a.len() == b.len() && std::hint::black_box(differences) == 0
}

fn text(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(format!("{text}\n"))));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Wrong tokens by address.
#[derive(Default)]
struct Failures(BTreeMap<IpAddr, (u32, Timestamp)>);

impl Failures {
    fn forget(&mut self, now: Timestamp) {
        self.0
            .retain(|_, (_, first)| now.duration_since(*first) < FAILURES_FORGOTTEN);
    }

    fn over(&mut self, from: IpAddr, now: Timestamp) -> bool {
        self.forget(now);
        self.0.get(&from).is_some_and(|(count, _)| *count >= FAILURES_MAX)
    }

    fn count(&mut self, from: IpAddr, now: Timestamp) {
        if self.0.len() >= PEERS_MAX && !self.0.contains_key(&from) {
            let oldest = self
                .0
                .iter()
                .min_by_key(|(_, (_, first))| *first)
                .map(|(ip, _)| *ip);
            oldest.and_then(|ip| self.0.remove(&ip));
        }
        self.0.entry(from).or_insert((0, now)).0 += 1;
    }
}

#[cfg(test)]
mod tests;
