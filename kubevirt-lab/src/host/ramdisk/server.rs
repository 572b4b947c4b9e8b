//! The agent's API on the host's network: TLS with the agent's own certificate, HTTP/1.1, requests handed to the agent.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use steelyard_agent::{ApiRequest, COMMAND_BODY_MAX, Event};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use url::{Host, Url};

use super::identity;
use super::{HostListener, HostNet, HostStream, Report};

/// One service talks to an agent, with a connection for each call; the rest is room for retries.
const CONNECTIONS_MAX: usize = 16;
/// A handshake, and then the head of a request, takes no longer.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Where the API is to be.
pub(super) struct Place {
    pub(super) net: Arc<dyn HostNet>,
    /// Base URL of the service: the agent listens on the address that reaches it.
    pub(super) service: String,
    pub(super) port: u16,
    pub(super) hostname: String,
    pub(super) now: jiff::Timestamp,
}

/// Listens and serves until `stop`; connections then end their current request.
pub(super) async fn serve(place: Place, reports: mpsc::Sender<Report>, stop: CancellationToken) {
    let (listener, acceptor) = match open(&place, &reports).await {
        Ok(opened) => opened,
        Err(why) => {
            let _ = reports.send(Report::Event(Event::ListenFailed(why))).await;
            return;
        }
    };
    accept(listener, acceptor, reports, stop).await;
}

async fn open(
    place: &Place,
    reports: &mpsc::Sender<Report>,
) -> Result<(Box<dyn HostListener>, TlsAcceptor), String> {
    let address = source(place)?;
    let identity = identity::make(&place.hostname, address, place.now).map_err(|error| error.to_string())?;
    let any = match address {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let bind = SocketAddr::new(any, place.port);
    let listener = place
        .net
        .listen(bind)
        .await
        .map_err(|error| format!("{bind}: {error}"))?;
    let event = Event::Listening {
        host: address,
        port: place.port,
        certificate_pem: identity.certificate_pem,
    };
    reports
        .send(Report::Event(event))
        .await
        .map_err(|_| "the agent has ended".to_owned())?;
    Ok((listener, TlsAcceptor::from(identity.tls)))
}

/// The address from which the service is reached; a link-local one could not be called back.
fn source(place: &Place) -> Result<IpAddr, String> {
    let url = Url::parse(&place.service).map_err(|error| format!("{}: {error}", place.service))?;
    let service = match url.host() {
        Some(Host::Ipv4(address)) => IpAddr::V4(address),
        Some(Host::Ipv6(address)) => IpAddr::V6(address),
        _ => {
            return Err(format!(
                "{}: the simulated ramdisk has no DNS, name an address",
                place.service
            ));
        }
    };
    let address = place
        .net
        .source(service)
        .ok_or_else(|| format!("no route to {service}"))?;
    let link_local = match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    if link_local {
        Err(format!("{address} is link-local"))
    } else {
        Ok(address)
    }
}

async fn accept(
    mut listener: Box<dyn HostListener>,
    acceptor: TlsAcceptor,
    reports: mpsc::Sender<Report>,
    stop: CancellationToken,
) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        let next = async {
            let permit = room.clone().acquire_owned().await.map_err(io::Error::other)?;
            Ok::<_, io::Error>((listener.accept().await?, permit))
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(_) = connections.join_next() => {}
            accepted = next => match accepted {
                Ok(((stream, peer), permit)) => {
                    let (acceptor, reports, stop) = (acceptor.clone(), reports.clone(), stop.clone());
                    connections.spawn(async move {
                        if let Err(error) = connection(stream, acceptor, reports, stop).await {
                            tracing::debug!(%peer, %error, "a connection to the agent failed");
                        }
                        drop(permit);
                    });
                }
                Err(error) => {
                    // The stack is gone: so is the machine's network, and nobody can call any more.
                    tracing::debug!(%error, "the agent can't accept connections");
                    break;
                }
            },
        }
    }
    while connections.join_next().await.is_some() {}
}

async fn connection(
    stream: Box<dyn HostStream>,
    acceptor: TlsAcceptor,
    reports: mpsc::Sender<Report>,
    stop: CancellationToken,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let stream = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await??;
    let service = service_fn(move |request| answer(request, reports.clone()));
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HANDSHAKE)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        biased;
        result = connection.as_mut() => return Ok(result?),
        () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    Ok(connection.await?)
}

fn response(status: u16, body: Bytes, location: Option<String>) -> http::Response<Full<Bytes>> {
    let mut response = http::Response::new(Full::new(body));
    *response.status_mut() =
        http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    let json = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert(http::header::CONTENT_TYPE, json);
    if let Some(location) = location.and_then(|location| location.parse().ok()) {
        response.headers_mut().insert(http::header::LOCATION, location);
    }
    response
}

fn fault(status: u16, text: &str) -> http::Response<Full<Bytes>> {
    let fault = steelyard_agent_api::Fault::for_status(status, text);
    let body = serde_json::to_vec(&fault).expect("a struct of strings is JSON");
    response(status, Bytes::from(body), None)
}

async fn answer(
    request: http::Request<Incoming>,
    reports: mpsc::Sender<Report>,
) -> Result<http::Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let Ok(body) = Limited::new(body, COMMAND_BODY_MAX).collect().await else {
        return Ok(fault(413, "the body is too long, or was cut off"));
    };
    let request = ApiRequest {
        method: head.method.to_string(),
        path: head.uri.path().to_owned(),
        query: head.uri.query().unwrap_or_default().to_owned(),
        body: body.to_bytes(),
    };
    let (way, back) = oneshot::channel();
    if reports.send(Report::Request(request, way)).await.is_err() {
        return Ok(fault(503, "the agent has ended"));
    }
    Ok(match back.await {
        Ok(reply) => response(reply.status, reply.body, reply.location),
        Err(_) => fault(503, "the agent has ended"),
    })
}
