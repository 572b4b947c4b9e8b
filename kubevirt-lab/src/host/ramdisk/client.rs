//! Requests of the agent: HTTP/1.1 over the host's network, one connection each, as IPA's sessions do in practice.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use steelyard_agent::{BodyMode, Event, HttpEvent, HttpFailure, HttpRequest};
use tokio::sync::mpsc;
use url::{Host, Url};

use super::{HostNet, Report};

/// A request that ended early.
struct Failed {
    kind: HttpFailure,
    why: String,
}

fn broken(why: impl ToString) -> Failed {
    Failed {
        kind: HttpFailure::Broken,
        why: why.to_string(),
    }
}

fn unreachable(why: impl ToString) -> Failed {
    Failed {
        kind: HttpFailure::Connect,
        why: why.to_string(),
    }
}

/// Carries a request out and reports what comes of it.
pub(super) async fn transfer(net: Arc<dyn HostNet>, request: HttpRequest, reports: mpsc::Sender<Report>) {
    let id = request.id;
    let result = exchange(&*net, request, &reports).await;
    if let Err(Failed { kind, why }) = result {
        // Nobody listens any more when the run has ended.
        let _ = reports
            .send(Report::Event(Event::Http(id, HttpEvent::Failed { kind, why })))
            .await;
    }
}

async fn within<T, E: ToString>(
    limit: Duration,
    what: &str,
    fail: fn(String) -> Failed,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, Failed> {
    match tokio::time::timeout(limit, work).await {
        Ok(result) => result.map_err(|error| fail(format!("{what}: {}", error.to_string()))),
        Err(_) => Err(fail(format!("{what}: nothing for {} s", limit.as_secs()))),
    }
}

async fn exchange(
    net: &dyn HostNet,
    request: HttpRequest,
    reports: &mpsc::Sender<Report>,
) -> Result<(), Failed> {
    let url = Url::parse(&request.url).map_err(unreachable)?;
    let peer = peer(&url).map_err(unreachable)?;
    let limit = request.timeout;
    let stream = within(limit, &peer.to_string(), unreachable_text, net.connect(peer)).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let message = message(&url, &request).map_err(unreachable)?;
    let work = async {
        let response = within(limit, "answer", broken_text, sender.send_request(message)).await?;
        deliver(response, &request, reports).await
    };
    // The connection moves the bytes; it ends when the answer has been read, or with an error that the body shows, too.
    let connection = async {
        let _ = connection.await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        biased;
        result = work => result,
        () = connection => Ok(()),
    }
}

fn unreachable_text(why: String) -> Failed {
    unreachable(why)
}

fn broken_text(why: String) -> Failed {
    broken(why)
}

/// The provisioning network has no DNS, and the ramdisk no CA of anybody: addresses and plain HTTP only, as the boot
/// services give them. Integrity comes from checksums and from the token.
fn peer(url: &Url) -> Result<SocketAddr, String> {
    if url.scheme() != "http" {
        return Err(format!(
            "{}: the simulated ramdisk speaks only http",
            url.scheme()
        ));
    }
    let address = match url.host() {
        Some(Host::Ipv4(address)) => IpAddr::V4(address),
        Some(Host::Ipv6(address)) => IpAddr::V6(address),
        Some(Host::Domain(name)) => {
            return Err(format!(
                "{name}: the simulated ramdisk has no DNS, name an address"
            ));
        }
        None => return Err("the URL has no host".to_owned()),
    };
    Ok(SocketAddr::new(
        address,
        url.port_or_known_default().unwrap_or(80),
    ))
}

fn message(url: &Url, request: &HttpRequest) -> Result<http::Request<Full<Bytes>>, http::Error> {
    let target = url.query().map_or_else(
        || url.path().to_owned(),
        |query| format!("{}?{query}", url.path()),
    );
    let host = &url[url::Position::BeforeHost..url::Position::AfterPort];
    let mut message = http::Request::builder()
        .method(request.method)
        .uri(target)
        .header(http::header::HOST, host)
        .header(
            http::header::USER_AGENT,
            concat!("steelyard-agent/", env!("CARGO_PKG_VERSION")),
        )
        .header(http::header::CONNECTION, "close");
    if matches!(request.mode, BodyMode::Whole { .. }) {
        message = message.header(http::header::ACCEPT, "application/json");
    }
    if !request.body.is_empty() {
        message = message.header(http::header::CONTENT_TYPE, "application/json");
    }
    for (name, value) in &request.headers {
        message = message.header(*name, value);
    }
    message.body(Full::new(request.body.clone()))
}

async fn deliver(
    response: http::Response<Incoming>,
    request: &HttpRequest,
    reports: &mpsc::Sender<Report>,
) -> Result<(), Failed> {
    let id = request.id;
    let report = |event| async move {
        reports
            .send(Report::Event(Event::Http(id, event)))
            .await
            .map_err(|_| broken("the agent has ended"))
    };
    let status = response.status().as_u16();
    let length = response.headers().get(http::header::CONTENT_LENGTH);
    let length = length
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.parse().ok());
    let mut body = response.into_body();
    let mut whole = Vec::new();
    if request.mode == BodyMode::Chunks {
        report(HttpEvent::Head { status, length }).await?;
    }
    loop {
        let frame = match tokio::time::timeout(request.timeout, body.frame()).await {
            Err(_) => {
                return Err(broken(format!(
                    "nothing came for {} s",
                    request.timeout.as_secs()
                )));
            }
            Ok(None) => break,
            Ok(Some(frame)) => frame.map_err(broken)?,
        };
        let Ok(data) = frame.into_data() else { continue };
        match request.mode {
            BodyMode::Chunks => report(HttpEvent::Chunk(data)).await?,
            BodyMode::Whole { max } if whole.len() + data.len() > max => {
                let why = format!("the answer is longer than {max} bytes");
                return Err(Failed {
                    kind: HttpFailure::TooLong,
                    why,
                });
            }
            BodyMode::Whole { .. } => whole.extend_from_slice(&data),
        }
    }
    match request.mode {
        BodyMode::Chunks => report(HttpEvent::End).await,
        BodyMode::Whole { .. } => {
            report(HttpEvent::Response {
                status,
                body: Bytes::from(whole),
            })
            .await
        }
    }
}
