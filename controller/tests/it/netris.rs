//! The Netris driver against the simulated fabric's management API.

use crate::support::{MemNet, epoch};
use serde_json::{Value, json};
use sim_fabric::{FabricHandle, Settings, Topology};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use steelyard_controller::{
    Clock,
    fabric::{
        FabricError, FabricSnapshot,
        netris::{Netris, NetrisAccess},
    },
    secret::Secret,
    tls,
};
use steelyard_core::{
    host::view::FabricFacts,
    intent::{Attachment, NetworkName},
};

/// Of the switches under test.
pub(crate) const COMMIT_DELAY: Duration = Duration::from_secs(5);
const USER: &str = "netris";
const PASSWORD: &str = "p@ss word";

fn topology() -> Topology {
    let server = |n: u8| json!({"name": format!("bm-{n}"), "nics": [{"name": "eth0", "port": format!("leaf-1/swp{n}")}]});
    serde_json::from_value(json!({
        "switches": [{"name": "leaf-1", "ports": 8}],
        "servers": [server(1), server(2), server(3)],
        "networks": [{"name": "provisioning", "gateway": "192.168.100.1/24"}, {"name": "services", "gateway": "192.168.101.1/24"}],
        "allocations": [{"name": "tenants", "prefix": "10.100.0.0/16"}],
        "templates": [{"name": "tenant", "vnets": [{
            "postfix": "net", "serverNics": ["eth0"],
            "ipv4Gateway": {"assignType": "auto", "allocation": "tenants", "childSubnetPrefixLength": 24},
        }]}],
        "clusters": [{
            "name": "provisioning", "vnets": [{"network": "provisioning", "serverNics": ["eth0"]}],
            "servers": ["bm-1", "bm-2", "bm-3"],
        }],
    }))
    .unwrap()
}

pub(crate) struct Site {
    pub(crate) fabric: FabricHandle,
    pub(crate) net: Arc<MemNet>,
}

impl Site {
    /// On a paused clock: what is accepted becomes true when that has moved on by [`COMMIT_DELAY`].
    pub(crate) fn new() -> Site {
        Site::on(Clock::starting_at(epoch()))
    }

    pub(crate) fn on(clock: Clock) -> Site {
        let settings = Settings {
            commit_delay: COMMIT_DELAY,
            ..Settings::default()
        };
        let fabric =
            FabricHandle::with_settings(topology(), Arc::new(move || clock.now()), settings).unwrap();
        let net = Arc::new(MemNet::default());
        let router = fabric.netris(USER, PASSWORD);
        net.serve("10.0.0.1:80", move |io| {
            let router = router.clone();
            async move { drop(sim_fabric::serve_connection(router, None, io).await) }
        });
        Site { fabric, net }
    }

    pub(crate) fn driver(&self, password: &str, template: &str) -> Netris {
        let access = NetrisAccess {
            url: "http://10.0.0.1/".into(),
            user: USER.into(),
            password: Secret::new(password),
        };
        Netris::new(
            self.net.clone(),
            tls::trust_anyone().unwrap(),
            access,
            template.into(),
            Duration::from_secs(20),
        )
    }

    pub(crate) fn netris(&self) -> Netris {
        self.driver(PASSWORD, "tenant")
    }

    async fn converge(&self) {
        tokio::time::sleep(COMMIT_DELAY).await;
        self.fabric.poll();
    }
}

pub(crate) fn to(server: &str, network: Option<&str>) -> Attachment {
    let network = network.map(|name| NetworkName {
        name: name.into(),
        create: name != "provisioning",
    });
    Attachment {
        server: server.into(),
        network,
    }
}

fn facts(snapshot: &FabricSnapshot, server: &str) -> (Vec<String>, bool) {
    let FabricFacts {
        networks,
        converged,
        mismatch,
    } = snapshot.servers[server].clone();
    assert_eq!(mismatch, None);
    (networks, converged)
}

/// What the driver sees of a server: the networks that list it, and whether the switches follow.
async fn seen(netris: &Netris, server: &str) -> (Vec<String>, bool) {
    facts(&netris.observe().await.unwrap(), server)
}

async fn move_to(netris: &Netris, server: &str, network: Option<&str>) {
    let failed = netris.ensure(&[to(server, network)]).await;
    assert!(failed.is_empty(), "{failed:?}");
}

fn list(names: &[&str]) -> Vec<String> {
    names.iter().map(|n| (*n).to_owned()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_move_is_true_when_the_switches_carry_it() {
    let site = Site::new();
    let netris = site.netris();
    assert_eq!(seen(&netris, "bm-1").await, (list(&["provisioning"]), true));

    move_to(&netris, "bm-1", None).await;
    assert_eq!(
        seen(&netris, "bm-1").await,
        (list(&[]), false),
        "accepted, and still carried"
    );
    site.converge().await;
    assert_eq!(seen(&netris, "bm-1").await, (list(&[]), true));

    move_to(&netris, "bm-1", Some("p-one")).await;
    assert_eq!(seen(&netris, "bm-1").await, (list(&["p-one"]), false));
    site.converge().await;
    let snapshot = netris.observe().await.unwrap();
    assert_eq!(facts(&snapshot, "bm-1"), (list(&["p-one"]), true));
    assert_eq!(
        facts(&snapshot, "bm-2"),
        (list(&["provisioning"]), true),
        "others stay where they are"
    );
    let gateway = snapshot.networks["p-one"].expect("the gateway that the template made");
    assert_eq!(gateway.to_string(), "10.100.0.1/24");
}

#[tokio::test(start_paused = true)]
async fn what_is_so_already_writes_nothing() {
    let site = Site::new();
    let netris = site.netris();
    let writes = Arc::new(AtomicUsize::new(0));
    let count = writes.clone();
    let _watch = site.fabric.api_fault(move |method, path| {
        count.fetch_add(
            usize::from(method != "GET" && path != "/api/auth"),
            Ordering::SeqCst,
        );
        None
    });
    let moves = [to("bm-1", Some("provisioning")), to("bm-2", Some("p-one"))];
    assert!(netris.ensure(&moves).await.is_empty());
    assert_eq!(
        writes.load(Ordering::SeqCst),
        3,
        "out of the old, the new one made, into it"
    );
    assert!(netris.ensure(&moves).await.is_empty());
    assert_eq!(writes.load(Ordering::SeqCst), 3);
}

#[tokio::test(start_paused = true)]
async fn failures_are_told_of_the_servers_that_they_concern() {
    let site = Site::new();
    let netris = site.netris();
    let failed = netris
        .ensure(&[to("bm-1", Some("p-one")), to("bm-9", Some("p-one"))])
        .await;
    assert!(matches!(&failed["bm-9"], FabricError::NoServer(name) if name == "bm-9"));
    assert_eq!(failed.len(), 1);

    let broken = site
        .fabric
        .api_fault(|method, path| (method == "PUT" && path.ends_with("/server-cluster/2")).then_some(503));
    let failed = netris.ensure(&[to("bm-1", None), to("bm-2", None)]).await;
    assert_eq!(
        failed.keys().collect::<Vec<_>>(),
        ["bm-1"],
        "bm-2 was never in that cluster"
    );
    drop(broken);
    let snapshot = netris.observe().await.unwrap();
    assert_eq!(facts(&snapshot, "bm-1").0, list(&["p-one"]));
    assert_eq!(facts(&snapshot, "bm-2").0, list(&[]));
    move_to(&netris, "bm-1", None).await;
}

#[tokio::test(start_paused = true)]
async fn a_missing_template_or_network_is_named() {
    let site = Site::new();
    let netris = site.driver(PASSWORD, "gold");
    let error = netris
        .make(&NetworkName {
            name: "p-one".into(),
            create: true,
        })
        .await
        .unwrap_err();
    assert!(
        matches!(&error, FabricError::NoTemplate(name) if name == "gold"),
        "{error}"
    );
    assert!(error.to_string().contains("--tenant-template"));
    let error = netris
        .make(&NetworkName {
            name: "rack-9".into(),
            create: false,
        })
        .await
        .unwrap_err();
    assert!(
        matches!(&error, FabricError::NoNetwork(name) if name == "rack-9"),
        "{error}"
    );
    let failed = netris.ensure(&[to("bm-1", Some("p-one"))]).await;
    assert!(failed["bm-1"].to_string().contains("\"gold\""), "{failed:?}");
}

#[tokio::test(start_paused = true)]
async fn others_may_write_too() {
    let site = Site::new();
    let (netris, other) = (site.netris(), site.netris());
    move_to(&netris, "bm-1", Some("p-one")).await;
    // Somebody adds a server to the tenant's cluster: our next write keeps it.
    move_to(&other, "bm-3", Some("p-one")).await;
    move_to(&netris, "bm-2", Some("p-one")).await;
    site.converge().await;
    for server in ["bm-1", "bm-2", "bm-3"] {
        assert_eq!(seen(&netris, server).await, (list(&["p-one"]), true), "{server}");
    }
    // Somebody writes a list that lacks ours, between our write and our look.
    move_to(&other, "bm-1", None).await;
    assert_eq!(seen(&netris, "bm-1").await, (list(&[]), false));
    move_to(&netris, "bm-1", Some("p-one")).await;
    site.converge().await;
    assert_eq!(seen(&netris, "bm-1").await, (list(&["p-one"]), true));
}

#[tokio::test(start_paused = true)]
async fn only_what_we_made_and_nobody_uses_is_deleted() {
    let site = Site::new();
    let netris = site.netris();
    let network = NetworkName {
        name: "p-one".into(),
        create: true,
    };
    netris.make(&network).await.unwrap();
    netris.make(&network).await.expect("there already");
    move_to(&netris, "bm-1", Some("p-one")).await;
    assert!(!netris.remove("p-one").await.unwrap(), "in use");
    move_to(&netris, "bm-1", None).await;
    site.converge().await;
    assert!(netris.remove("p-one").await.unwrap());
    site.converge().await;
    assert!(netris.remove("p-one").await.unwrap(), "gone is done");
    let home: Vec<_> = ["bm-1", "bm-2", "bm-3"].map(|server| to(server, None)).to_vec();
    assert!(netris.ensure(&home).await.is_empty());
    assert!(
        netris.remove("provisioning").await.unwrap(),
        "not ours: nothing to do"
    );
    let names: Vec<String> = netris.observe().await.unwrap().networks.into_keys().collect();
    assert_eq!(names, ["provisioning"]);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_ends_is_made_anew() {
    let site = Site::new();
    let netris = site.netris();
    let logins = logins(&site);
    netris.observe().await.unwrap();
    site.fabric.expire_sessions();
    move_to(&netris, "bm-1", None).await;
    netris.observe().await.unwrap();
    assert_eq!(logins.0.load(Ordering::SeqCst), 2);
    assert_eq!(site.net.connected(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_wrong_password_is_not_tried_in_haste() {
    let site = Site::new();
    let netris = site.driver("wrong", "tenant");
    let logins = logins(&site);
    for _ in 0..5 {
        let error = netris.observe().await.unwrap_err();
        assert!(matches!(error, FabricError::Unauthorized { .. }), "{error}");
        assert!(
            !error.to_string().contains("wrong"),
            "the password shows: {error}"
        );
    }
    assert_eq!(logins.0.load(Ordering::SeqCst), 1);
    tokio::time::sleep(Duration::from_secs(61)).await;
    netris.observe().await.unwrap_err();
    assert_eq!(logins.0.load(Ordering::SeqCst), 2);
}

fn logins(site: &Site) -> (Arc<AtomicUsize>, sim_fabric::Guard) {
    let logins = Arc::new(AtomicUsize::new(0));
    let count = logins.clone();
    let guard = site.fabric.api_fault(move |method, path| {
        count.fetch_add(
            usize::from((method, path) == ("POST", "/api/auth")),
            Ordering::SeqCst,
        );
        None
    });
    (logins, guard)
}

#[tokio::test(start_paused = true)]
async fn a_server_error_is_not_a_refused_password() {
    let site = Site::new();
    let netris = site.netris();
    let broken = site.fabric.api_fault(|_, _| Some(503));
    let error = netris.observe().await.unwrap_err();
    assert_eq!(error.category(), "refused");
    assert!(error.to_string().contains("503"), "{error}");
    let failed = netris.ensure(&[to("bm-1", None), to("bm-2", None)]).await;
    assert_eq!(failed.len(), 2);
    drop(broken);
    netris.observe().await.expect("the next login is not put off");
}

/// A proxy without an envelope, and lists that are `null`, as Go writes empty ones.
#[tokio::test(start_paused = true)]
async fn answers_of_other_shapes() {
    let net = Arc::new(MemNet::default());
    let router = |path: String| -> (u16, Value) {
        let data = match path.as_str() {
            "/api/auth" => Value::Null,
            "/api/v2/server-cluster" => {
                json!([{"id": 1, "name": "home", "servers": null, "tags": null, "resources": null}])
            }
            "/api/v2/vnet" => json!([{"id": 1, "name": "v", "ports": null}]),
            "/api/v2/hw" => json!([{"id": 1, "name": "bm-1", "type": "server", "links": null}]),
            _ => json!([]),
        };
        (200, json!({"data": data, "isSuccess": true}))
    };
    net.serve("10.0.0.1:80", move |io| async move {
        let service =
            hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| async move {
                let (status, body) = router(request.uri().path().to_owned());
                let body = http_body_util::Full::new(bytes::Bytes::from(body.to_string()));
                http::Response::builder().status(status).body(body)
            });
        let io = hyper_util::rt::TokioIo::new(io);
        drop(
            hyper::server::conn::http1::Builder::new()
                .serve_connection(io, service)
                .await,
        );
    });
    net.serve("10.0.0.2:80", |io| async move {
        let service = hyper::service::service_fn(|_: http::Request<hyper::body::Incoming>| async {
            let body = http_body_util::Full::new(bytes::Bytes::from_static(b"<h1>Bad Gateway</h1>"));
            http::Response::builder().status(502).body(body)
        });
        let io = hyper_util::rt::TokioIo::new(io);
        drop(
            hyper::server::conn::http1::Builder::new()
                .serve_connection(io, service)
                .await,
        );
    });
    let driver = |url: &str| {
        let access = NetrisAccess {
            url: url.into(),
            user: USER.into(),
            password: Secret::new(PASSWORD),
        };
        Netris::new(
            net.clone(),
            tls::trust_anyone().unwrap(),
            access,
            "tenant".into(),
            Duration::from_secs(20),
        )
    };
    let snapshot = driver("http://10.0.0.1").observe().await.unwrap();
    assert_eq!(facts(&snapshot, "bm-1"), (list(&[]), true));
    let error = driver("http://10.0.0.2").observe().await.unwrap_err();
    assert!(error.to_string().contains("502"), "{error}");
}
