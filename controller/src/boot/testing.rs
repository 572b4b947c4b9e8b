//! A network in memory for tests: hosts with an address each, datagrams, byte streams, names.

use crate::{
    boot::{AgentRecord, AgentVault, VaultError},
    key::Key,
    net::{BoxedStream, Listener, Net, Stream, Udp},
};
use bytes::Bytes;
use futures::future::BoxFuture;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
};
use tokio::{
    io::DuplexStream,
    sync::{Mutex as AsyncMutex, mpsc},
};
use tokio_rustls::TlsAcceptor;

type Connections = mpsc::Sender<(DuplexStream, SocketAddr)>;
type Datagrams = mpsc::Sender<(Vec<u8>, SocketAddr)>;

#[derive(Default)]
struct Wires {
    listeners: BTreeMap<SocketAddr, Connections>,
    udp: BTreeMap<SocketAddr, Datagrams>,
    names: BTreeMap<String, Ipv4Addr>,
    next_port: u16,
}

/// All hosts share the wires.
#[derive(Clone, Default)]
pub(crate) struct Wire(Arc<Mutex<Wires>>);

impl Wire {
    pub(crate) fn host(&self, ip: [u8; 4]) -> Arc<dyn Net> {
        Arc::new(MemNet {
            wire: self.clone(),
            ip: ip.into(),
        })
    }

    /// Waits until a host listens there.
    pub(crate) async fn listening(&self, at: impl Into<SocketAddr>) {
        let at = at.into();
        until("a listener", || {
            self.0.lock().unwrap().listeners.contains_key(&at).then_some(())
        })
        .await;
    }

    pub(crate) fn name(&self, name: &str, ip: [u8; 4]) {
        self.0.lock().unwrap().names.insert(name.into(), ip.into());
    }
}

struct MemNet {
    wire: Wire,
    ip: Ipv4Addr,
}

impl MemNet {
    /// A wildcard bind is a bind to the host's one address: that is all it has.
    fn own(&self, bind: SocketAddr) -> SocketAddr {
        let mut wires = self.wire.0.lock().unwrap();
        let port = match bind.port() {
            0 => {
                wires.next_port += 1;
                40_000 + wires.next_port
            }
            port => port,
        };
        SocketAddr::from((self.ip, port))
    }
}

fn taken() -> io::Error {
    io::Error::from(io::ErrorKind::AddrInUse)
}

impl Net for MemNet {
    fn udp(&self, bind: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Udp>>> {
        let at = self.own(bind);
        let (sender, receiver) = mpsc::channel(64);
        let bound = match self.wire.0.lock().unwrap().udp.insert(at, sender) {
            Some(other) if !other.is_closed() => Err(taken()),
            _ => Ok(Box::new(MemUdp {
                wire: self.wire.clone(),
                at,
                receiver: AsyncMutex::new(receiver),
            }) as Box<dyn Udp>),
        };
        Box::pin(async move { bound })
    }

    fn listen(&self, bind: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>> {
        let at = self.own(bind);
        let (sender, receiver) = mpsc::channel(64);
        let bound = match self.wire.0.lock().unwrap().listeners.insert(at, sender) {
            Some(other) if !other.is_closed() => Err(taken()),
            _ => Ok(Box::new(MemListener { at, receiver }) as Box<dyn Listener>),
        };
        Box::pin(async move { bound })
    }

    fn connect(&self, to: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Stream>>> {
        let from = self.own(SocketAddr::from(([0, 0, 0, 0], 0)));
        let listener = self.wire.0.lock().unwrap().listeners.get(&to).cloned();
        Box::pin(async move {
            let (near, far) = tokio::io::duplex(64 << 10);
            let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
            listener
                .ok_or_else(refused)?
                .send((far, from))
                .await
                .map_err(|_| refused())?;
            Ok(Box::new(near) as Box<dyn Stream>)
        })
    }

    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        let known = self.wire.0.lock().unwrap().names.get(host).copied();
        let found = known.map(IpAddr::V4).or_else(|| host.parse().ok());
        Box::pin(async move {
            let ip = found
                .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("no such host: {host}")))?;
            Ok(vec![SocketAddr::new(ip, port)])
        })
    }
}

struct MemUdp {
    wire: Wire,
    at: SocketAddr,
    receiver: AsyncMutex<mpsc::Receiver<(Vec<u8>, SocketAddr)>>,
}

impl Udp for MemUdp {
    fn recv_from<'a>(&'a self, buf: &'a mut [u8]) -> BoxFuture<'a, io::Result<(usize, SocketAddr)>> {
        Box::pin(async move {
            let (data, from) = self
                .receiver
                .lock()
                .await
                .recv()
                .await
                .ok_or(io::ErrorKind::BrokenPipe)?;
            let size = data.len().min(buf.len());
            buf[..size].copy_from_slice(&data[..size]);
            Ok((size, from))
        })
    }

    fn send_to<'a>(&'a self, data: &'a [u8], to: SocketAddr) -> BoxFuture<'a, io::Result<usize>> {
        let wires = self.wire.0.lock().unwrap();
        let everybody = to.ip() == IpAddr::V4(Ipv4Addr::BROADCAST);
        let reached = |at: &SocketAddr| *at == to || (everybody && at.port() == to.port() && *at != self.at);
        for (_, sender) in wires.udp.iter().filter(|(at, _)| reached(at)) {
            // A full queue drops, as a network does.
            let _ = sender.try_send((data.to_vec(), self.at));
        }
        drop(wires);
        Box::pin(async { Ok(data.len()) })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.at)
    }
}

struct MemListener {
    at: SocketAddr,
    receiver: mpsc::Receiver<(DuplexStream, SocketAddr)>,
}

impl Listener for MemListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Box<dyn Stream>, SocketAddr)>> {
        Box::pin(async {
            let (stream, from) = self.receiver.recv().await.ok_or(io::ErrorKind::BrokenPipe)?;
            Ok((Box::new(stream) as Box<dyn Stream>, from))
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.at)
    }
}

/// A vault in memory; `fail` makes it refuse.
#[derive(Default)]
pub(crate) struct MemVault {
    pub(crate) records: Mutex<BTreeMap<Key, AgentRecord>>,
    pub(crate) fail: std::sync::atomic::AtomicBool,
}

impl MemVault {
    fn check(&self) -> Result<(), VaultError> {
        match self.fail.load(std::sync::atomic::Ordering::SeqCst) {
            true => Err(VaultError("the API server is away".into())),
            false => Ok(()),
        }
    }
}

impl AgentVault for MemVault {
    fn load<'a>(&'a self, host: &'a Key) -> BoxFuture<'a, Result<Option<AgentRecord>, VaultError>> {
        let found = self
            .check()
            .map(|()| self.records.lock().unwrap().get(host).cloned());
        Box::pin(async move { found })
    }

    fn save<'a>(&'a self, host: &'a Key, record: AgentRecord) -> BoxFuture<'a, Result<(), VaultError>> {
        let done = self
            .check()
            .map(|()| _ = self.records.lock().unwrap().insert(host.clone(), record));
        Box::pin(async move { done })
    }
}

/// Ends its task with itself.
pub(crate) struct Running(#[expect(dead_code, reason = "it is held to be dropped")] tokio::task::JoinSet<()>);

impl Running {
    pub(crate) fn of(work: impl Future<Output = ()> + Send + 'static) -> Self {
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(work);
        Running(tasks)
    }
}

pub(crate) type Handler = Arc<dyn Fn(http::Request<Bytes>) -> http::Response<Bytes> + Send + Sync>;

/// A web server of somebody else, on the wire.
pub(crate) async fn web(
    net: &Arc<dyn Net>,
    port: u16,
    tls: Option<TlsAcceptor>,
    handler: Handler,
) -> Running {
    let mut listener = net.listen(SocketAddr::from(([0, 0, 0, 0], port))).await.unwrap();
    Running::of(async move {
        let mut connections = tokio::task::JoinSet::new();
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                return;
            };
            let (tls, handler) = (tls.clone(), handler.clone());
            connections.spawn(async move {
                let service = hyper::service::service_fn(|request: http::Request<hyper::body::Incoming>| {
                    let handler = handler.clone();
                    async move {
                        let (parts, body) = request.into_parts();
                        let body = body.collect().await?.to_bytes();
                        Ok::<_, hyper::Error>(handler(http::Request::from_parts(parts, body)).map(Full::new))
                    }
                });
                let http = hyper::server::conn::http1::Builder::new();
                // A client that went away is no failure of a test.
                match tls {
                    None => {
                        _ = http
                            .serve_connection(TokioIo::new(BoxedStream(stream)), service)
                            .await
                    }
                    Some(tls) => {
                        if let Ok(stream) = tls.accept(BoxedStream(stream)).await {
                            let _ = http.serve_connection(TokioIo::new(stream), service).await;
                        }
                    }
                }
            });
        }
    })
}

/// A self-signed certificate for an address: what serves with it, and its PEM.
pub(crate) fn certificate(ip: [u8; 4]) -> (TlsAcceptor, String) {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    let cert = rcgen::CertificateParams::new(vec![Ipv4Addr::from(ip).to_string()])
        .unwrap()
        .self_signed(&key)
        .unwrap();
    let der = rustls_pki_types::PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    let config =
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], der)
            .unwrap();
    (TlsAcceptor::from(Arc::new(config)), cert.pem())
}

/// One request, as curl would send it.
pub(crate) async fn ask(net: &Arc<dyn Net>, request: http::Request<Bytes>) -> http::Response<Bytes> {
    let tls = crate::tls::trust_anyone().unwrap();
    let client = crate::http_client::HttpClient::new(net.clone(), tls, std::time::Duration::from_secs(10));
    client.send(request).await.unwrap()
}

pub(crate) async fn get(net: &Arc<dyn Net>, url: &str) -> (u16, Bytes) {
    let response = ask(net, http::Request::get(url).body(Bytes::new()).unwrap()).await;
    (response.status().as_u16(), response.into_body())
}

/// Waits for a state.
pub(crate) async fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let found = async {
        loop {
            if let Some(found) = look() {
                return found;
            }
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), found)
        .await
        .unwrap_or_else(|_| panic!("waited for {what}"))
}
