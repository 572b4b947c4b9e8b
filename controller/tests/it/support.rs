//! Networks and API servers in memory, with faults.

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, Response};
use hyper::body::{Body, Frame};
use jiff::Timestamp;
use kube::Client;
use sim_kube::{ApiServer, IdentifiedService, Options, ResponseBody};
use std::{
    collections::BTreeMap,
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};
use steelyard_controller::{
    Clock, Listener, Net, Stream, Udp,
    queue::{Queue, Work},
};
use tokio::{io::DuplexStream, sync::watch, task::JoinSet};
use tower::{BoxError, Service};

/// A safety net. Real time passes by the millisecond here, paused time by the minute.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

pub(crate) fn epoch() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

pub(crate) async fn soon<T>(what: &str, wait: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, wait)
        .await
        .unwrap_or_else(|_| panic!("waited in vain until {what}"))
}

/// Polls until `check` holds.
pub(crate) async fn until(what: &str, mut check: impl AsyncFnMut() -> bool) {
    soon(what, async {
        while !check().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// The next work of the queue, done at once.
pub(crate) async fn next(queue: &Queue) -> Work {
    let work = soon("there is work", queue.next()).await;
    queue.done(work.clone(), None);
    work
}

type Handler = Arc<dyn Fn(DuplexStream) -> BoxFuture<'static, ()> + Send + Sync>;

/// A network whose peers are functions of a stream.
#[derive(Default)]
pub(crate) struct MemNet {
    peers: Mutex<BTreeMap<SocketAddr, Handler>>,
    connections: Mutex<JoinSet<()>>,
    count: Mutex<usize>,
}

impl MemNet {
    pub(crate) fn serve<F>(&self, at: &str, handler: impl Fn(DuplexStream) -> F + Send + Sync + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let handler: Handler = Arc::new(move |io| Box::pin(handler(io)));
        self.peers.lock().unwrap().insert(at.parse().unwrap(), handler);
    }

    /// Connections made so far.
    pub(crate) fn connected(&self) -> usize {
        *self.count.lock().unwrap()
    }
}

impl Net for MemNet {
    fn udp(&self, _: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Udp>>> {
        Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
    }

    fn listen(&self, _: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>> {
        Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
    }

    fn connect(&self, to: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Stream>>> {
        Box::pin(async move {
            let handler = self
                .peers
                .lock()
                .unwrap()
                .get(&to)
                .cloned()
                .ok_or(io::ErrorKind::ConnectionRefused)?;
            let (ours, theirs) = tokio::io::duplex(64 << 10);
            self.connections.lock().unwrap().spawn(handler(theirs));
            *self.count.lock().unwrap() += 1;
            Ok(Box::new(ours) as Box<dyn Stream>)
        })
    }
}

/// A cluster with its loops running.
pub(crate) struct Cluster {
    pub(crate) server: ApiServer,
    _loops: JoinSet<()>,
}

pub(crate) fn cluster(clock: Clock, change: impl FnOnce(&mut Options)) -> Cluster {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut options = Options::new(Arc::new(move || clock.now()));
    change(&mut options);
    let server = ApiServer::new(options);
    let mut loops = JoinSet::new();
    loops.spawn(server.run());
    Cluster {
        server,
        _loops: loops,
    }
}

impl Cluster {
    pub(crate) fn admin(&self) -> Client {
        Client::new(self.server.as_user("admin", &["system:masters"]), "default")
    }

    /// A client whose way to the server can be broken.
    pub(crate) fn faulty(&self) -> (Client, Faults) {
        let faults = Faults::default();
        let service = Faulty {
            server: self.server.as_user("admin", &["system:masters"]),
            faults: faults.clone(),
        };
        (Client::new(service, "default"), faults)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mode {
    #[default]
    Pass,
    /// Requests are never answered.
    Silent,
    /// 503 from something in between.
    Unavailable,
}

#[derive(Clone, Default)]
pub(crate) struct Faults(Arc<FaultState>);

#[derive(Default)]
struct FaultState {
    mode: Mutex<Mode>,
    /// Answers that were begun before it changed are cut off.
    cuts: watch::Sender<usize>,
    seen: Mutex<Vec<String>>,
}

impl Faults {
    pub(crate) fn set(&self, mode: Mode) {
        *self.0.mode.lock().unwrap() = mode;
    }

    /// Cuts off every answer that is under way: watches.
    pub(crate) fn cut(&self) {
        self.0.cuts.send_modify(|n| *n += 1);
    }

    /// `METHOD path` of the requests since the last call.
    pub(crate) fn seen(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.seen.lock().unwrap())
    }
}

#[derive(Clone)]
struct Faulty {
    server: IdentifiedService,
    faults: Faults,
}

impl Service<Request<kube::client::Body>> for Faulty {
    type Response = Response<CutBody>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response<CutBody>, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<kube::client::Body>) -> Self::Future {
        let state = self.faults.0.clone();
        let mode = *state.mode.lock().unwrap();
        state
            .seen
            .lock()
            .unwrap()
            .push(format!("{} {}", request.method(), request.uri().path()));
        let mut cuts = state.cuts.subscribe();
        let answer = self.server.call(request);
        Box::pin(async move {
            match mode {
                Mode::Pass => {}
                Mode::Silent => std::future::pending::<()>().await,
                Mode::Unavailable => {
                    let body = CutBody {
                        inner: None,
                        cut: Box::pin(std::future::pending()),
                    };
                    return Ok(Response::builder().status(503).body(body)?);
                }
            }
            let cut = Box::pin(async move { drop(cuts.changed().await) });
            Ok(answer.await?.map(|body| CutBody {
                inner: Some(Box::pin(body)),
                cut,
            }))
        })
    }
}

struct CutBody {
    inner: Option<Pin<Box<ResponseBody>>>,
    cut: BoxFuture<'static, ()>,
}

impl Body for CutBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.cut.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Some(Err("the connection was cut".into())));
        }
        match &mut self.inner {
            Some(body) => body
                .as_mut()
                .poll_frame(cx)
                .map(|frame| frame.map(|f| f.map_err(Into::into))),
            None => Poll::Ready(None),
        }
    }
}
