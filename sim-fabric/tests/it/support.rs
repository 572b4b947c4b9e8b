//! A site to test on, a clock that only tests move, frames by hand, and an HTTP client over memory.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use sim_fabric::{FabricHandle, Mac, Now, Port, PortName, Settings, Topology, serve_connection};
use tokio::task::JoinSet;

pub(crate) const SITE: &str = include_str!("../../examples/site.yaml");
/// Of the site under test; long enough that no test meets it by accident.
pub(crate) const COMMIT_DELAY: Duration = Duration::from_secs(5);
pub(crate) const USER: &str = "netris";
pub(crate) const PASSWORD: &str = "p@ss word";

#[derive(Clone)]
pub(crate) struct Clock(Arc<AtomicI64>);

impl Clock {
    /// Stands at 2026-01-01T00:00:00Z.
    pub(crate) fn new() -> Clock {
        Clock(Arc::new(AtomicI64::new(1_767_225_600_000_000_000)))
    }

    pub(crate) fn now(&self) -> Now {
        let at = self.0.clone();
        Arc::new(move || jiff::Timestamp::from_nanosecond(at.load(Ordering::SeqCst).into()).unwrap())
    }

    pub(crate) fn pass(&self, time: Duration) {
        self.0
            .fetch_add(i64::try_from(time.as_nanos()).unwrap(), Ordering::SeqCst);
    }
}

pub(crate) fn site() -> Topology {
    serde_saphyr::from_str(SITE).unwrap()
}

pub(crate) struct Lab {
    pub(crate) fabric: FabricHandle,
    pub(crate) clock: Clock,
}

impl Lab {
    pub(crate) fn new() -> Lab {
        Lab::with(
            site(),
            Settings {
                commit_delay: COMMIT_DELAY,
                ..Settings::default()
            },
        )
    }

    pub(crate) fn with(topology: Topology, settings: Settings) -> Lab {
        let clock = Clock::new();
        let fabric = FabricHandle::with_settings(topology, clock.now(), settings).unwrap();
        Lab { fabric, clock }
    }

    pub(crate) fn attach(&self, port: &str) -> Port {
        self.fabric.attach(&port.parse().unwrap()).unwrap()
    }

    pub(crate) fn pass(&self, time: Duration) {
        self.clock.pass(time);
        self.fabric.poll();
    }

    /// Lets what was accepted reach the switches.
    pub(crate) fn converge(&self) {
        self.pass(COMMIT_DELAY);
    }

    pub(crate) async fn api(&self) -> Client {
        let mut client = Client::connect(&self.fabric).await;
        let login = serde_json::json!({ "user": USER, "password": PASSWORD, "auth_scheme_id": 1 });
        let (status, _) = client.call("POST", "/api/auth", &login).await;
        assert_eq!(status, 200);
        client
    }
}

/// One HTTP/1.1 connection through the real server stack, with a cookie jar of one.
pub(crate) struct Client {
    sender: http1::SendRequest<Full<Bytes>>,
    pub(crate) cookie: Option<String>,
    _tasks: JoinSet<()>,
}

impl Client {
    pub(crate) async fn connect(fabric: &FabricHandle) -> Client {
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        let router = fabric.netris(USER, PASSWORD);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let _ = serve_connection(router, None, theirs).await;
        });
        let (sender, connection) = http1::handshake(TokioIo::new(ours)).await.unwrap();
        tasks.spawn(async move {
            let _ = connection.await;
        });
        Client {
            sender,
            cookie: None,
            _tasks: tasks,
        }
    }

    pub(crate) async fn raw(&mut self, method: &str, path: &str, body: Bytes) -> (u16, Value) {
        let mut request = http::Request::builder()
            .method(method)
            .uri(path)
            .header("host", "netris");
        if let Some(cookie) = &self.cookie {
            request = request.header("cookie", cookie);
        }
        let request = request.body(Full::new(body)).unwrap();
        let response = tokio::time::timeout(Duration::from_secs(30), self.sender.send_request(request));
        let response = response.await.expect("the API answers").unwrap();
        if let Some(cookie) = response.headers().get("set-cookie") {
            self.cookie = Some(cookie.to_str().unwrap().split(';').next().unwrap().to_owned());
        }
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (
            status,
            serde_json::from_slice(&body).unwrap_or_else(|_| panic!("{path}: {body:?} is no JSON")),
        )
    }

    pub(crate) async fn call(&mut self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let body = if body.is_null() {
            Bytes::new()
        } else {
            body.to_string().into()
        };
        self.raw(method, path, body).await
    }

    /// The data of a good answer.
    pub(crate) async fn ok(&mut self, method: &str, path: &str, body: Value) -> Value {
        let (status, answer) = self.call(method, path, &body).await;
        assert!(
            status == 200 && answer["isSuccess"] == true,
            "{method} {path} {body}: {status} {answer}"
        );
        answer["data"].clone()
    }

    pub(crate) async fn get(&mut self, path: &str) -> Value {
        self.ok("GET", path, Value::Null).await
    }

    /// Status and message of a refusal.
    pub(crate) async fn refused(&mut self, method: &str, path: &str, body: Value) -> (u16, String) {
        let (status, answer) = self.call(method, path, &body).await;
        assert!(
            status != 200 && answer["isSuccess"] == false,
            "{method} {path} {body}: {status} {answer}"
        );
        assert_eq!(answer["meta"]["statusCode"], status);
        (status, answer["message"].as_str().unwrap().to_owned())
    }

    pub(crate) async fn cluster(&mut self, name: &str) -> Value {
        let all = self.get("/api/v2/server-cluster").await;
        let found = all.as_array().unwrap().iter().find(|c| c["name"] == name);
        found
            .unwrap_or_else(|| panic!("no cluster {name} in {all}"))
            .clone()
    }

    /// A tenant's cluster out of the template.
    pub(crate) async fn tenant(&mut self, name: &str, servers: &[&str]) -> Value {
        let servers: Vec<Value> = servers
            .iter()
            .map(|name| serde_json::json!({ "name": name }))
            .collect();
        let body = serde_json::json!({
            "name": name, "admin": { "id": 1, "name": "Admin" }, "site": { "id": 1 },
            "vpc": { "id": 0, "name": "Create New" }, "srvClusterTemplate": { "name": "tenant" },
            "tags": [], "servers": servers,
        });
        self.ok("POST", "/api/v2/server-cluster", body).await
    }

    /// The whole-list write: exactly these servers are members of the cluster.
    pub(crate) async fn put_servers(&mut self, cluster: &str, servers: &[&str]) {
        let id = self.cluster(cluster).await["id"].clone();
        let servers: Vec<Value> = servers
            .iter()
            .map(|name| serde_json::json!({ "name": name }))
            .collect();
        let path = format!("/api/v2/server-cluster/{id}");
        self.ok("PUT", &path, serde_json::json!({ "servers": servers }))
            .await;
    }
}

pub(crate) fn mac(text: &str) -> Mac {
    text.parse().unwrap()
}

/// The MAC of `ethK` of server `n`, as the site's file says.
pub(crate) fn nic(server: u8, eth: u8) -> Mac {
    Mac([0x52, 0x54, 0, 0, server, eth])
}

pub(crate) fn port(text: &str) -> PortName {
    text.parse().unwrap()
}

pub(crate) fn frame(dst: Mac, src: Mac, payload: &[u8]) -> Bytes {
    // An experimental EtherType (IEEE 802): no gateway reads it.
    ether(dst, src, 0x88b5, payload)
}

pub(crate) fn ether(dst: Mac, src: Mac, ethertype: u16, payload: &[u8]) -> Bytes {
    let mut frame = Vec::new();
    frame.extend(dst.0);
    frame.extend(src.0);
    frame.extend(ethertype.to_be_bytes());
    frame.extend(payload);
    frame.into()
}

/// What waits at a port, as text.
pub(crate) fn heard(port: &mut Port) -> Vec<String> {
    let frames = std::iter::from_fn(|| port.try_recv());
    frames
        .map(|frame| String::from_utf8_lossy(&frame[14..]).into_owned())
        .collect()
}
