//! The driver against sim-bmc over in-memory streams: what it asks, how often, and what it makes of the answers.

use super::*;
use crate::bmc::Retry;
use crate::{
    net::{Listener, Net, Stream, Udp},
    secret::Secret,
    tls::{trust_anyone, trust_ca},
};
use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use sim_bmc::{
    BmcHandle, BootProgress, BootTarget, Config, Identity, Mac, MachineState, MemoryMachine, MemoryTimings,
    OverrideEnabled, Password, Personality,
    faults::{Effect, Rule},
};
use std::{io, net::SocketAddr, sync::Mutex as StdMutex};
use steelyard_core::{Ignorance, host::view::Power, intent::BootDevice};
use tokio::task::JoinSet;

/// A rack of one BMC. Every connection is served over a duplex, every request noted.
#[derive(Clone)]
struct Rack {
    bmc: BmcHandle,
    log: Arc<StdMutex<Vec<String>>>,
    tls: Option<Arc<rustls::ServerConfig>>,
    down: bool,
    /// Ends with the test.
    tasks: Arc<StdMutex<JoinSet<()>>>,
}

impl Net for Rack {
    fn udp(&self, _: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Udp>>> {
        Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
    }
    fn listen(&self, _: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>> {
        Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
    }
    fn connect(&self, _: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Stream>>> {
        Box::pin(async move {
            if self.down {
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            let (ours, theirs) = tokio::io::duplex(1 << 16);
            let rack = self.clone();
            self.tasks.lock().unwrap().spawn(async move {
                if let Some(tls) = rack.tls {
                    let _ = sim_bmc::serve_connection(rack.bmc, Some(tls), theirs).await;
                    return;
                }
                let service = service_fn(move |request| answer(rack.clone(), request));
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(theirs), service)
                    .await;
            });
            Ok(Box::new(ours) as Box<dyn Stream>)
        })
    }
}

async fn answer(rack: Rack, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    rack.log
        .lock()
        .unwrap()
        .push(format!("{} {}", parts.method, parts.uri));
    let response = rack.bmc.handle(Request::from_parts(parts, body)).await;
    Ok(response.map(Full::new))
}

const MAC: Mac = Mac([2, 0, 0, 0, 0, 0x1a]);

impl Rack {
    fn new(personality: &str) -> Rack {
        let personality = Personality::named(personality).unwrap();
        let macs = (0..personality.nic_count())
            .map(|n| Mac([2, 0, 0, 0, n as u8, 0x1a]))
            .collect();
        let identity = Identity {
            serial: "S1".into(),
            uuid: uuid::Uuid::from_u128(7),
            macs,
            bmc_mac: MAC,
        };
        let config = Config {
            hardware: personality.hardware(&identity).unwrap(),
            personality,
            username: "admin".into(),
            password: Password::new("correct"),
            seed: 1,
        };
        let off = MachineState {
            power: sim_bmc::Power::Off,
            boot_progress: BootProgress::None,
        };
        let quick = Duration::from_millis(5);
        let machine = MemoryMachine::new(
            off,
            MemoryTimings {
                post: quick,
                boot: quick,
                shutdown: quick,
            },
        );
        let epoch = jiff::Timestamp::from_second(1_800_000_000).unwrap();
        let start = tokio::time::Instant::now();
        let now = move || epoch + jiff::SignedDuration::try_from(start.elapsed()).unwrap();
        let bmc = BmcHandle::new(config, Arc::new(machine.clone()), Arc::new(now));
        let mut tasks = JoinSet::new();
        tasks.spawn(bmc.run());
        tasks.spawn(machine.run(bmc.clone()));
        Rack {
            bmc,
            log: Arc::default(),
            tls: None,
            down: false,
            tasks: Arc::new(StdMutex::new(tasks)),
        }
    }

    fn client_at(&self, address: &str, password: &str) -> RedfishBmc {
        let credentials = Credentials {
            username: "admin".into(),
            password: Secret::new(password),
            version: "17".into(),
        };
        let address = BmcAddress::parse(address).unwrap();
        RedfishBmc::new(
            Arc::new(self.clone()),
            address,
            credentials,
            trust_anyone().unwrap(),
            Duration::from_secs(20),
        )
    }

    fn client(&self) -> RedfishBmc {
        self.client_at("redfish+http://127.0.0.1", "correct")
    }

    /// What was asked since the last call.
    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.log.lock().unwrap())
    }
}

/// Looks until `done`; the paused clock makes the wait instant.
async fn until(client: &RedfishBmc, what: &str, done: impl Fn(&BmcFacts) -> bool) -> BmcFacts {
    for _ in 0..200 {
        let facts = client.observe().await.unwrap();
        if done(&facts) {
            return facts;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    panic!("never seen: {what}");
}

#[tokio::test(start_paused = true)]
async fn one_get_in_steady_state() {
    let rack = Rack::new("small-vm");
    let client = rack.client();
    let facts = client.observe().await.unwrap();
    assert_eq!(
        (facts.power, facts.credentials.as_str(), facts.boot),
        (Power::Off, "17", None)
    );
    assert_eq!(facts.system.macs, ["02:00:00:00:00:1a"]);
    assert_eq!(facts.system.health.as_deref(), Some("OK"));
    let first = rack.asked();
    assert!(
        first.iter().filter(|r| r.starts_with("POST")).count() == 1 && first.len() <= 7,
        "{first:?}"
    );
    client.observe().await.unwrap();
    let again = rack.asked();
    assert!(
        again.len() == 1 && again[0].starts_with("GET /redfish/v1/Systems/"),
        "{again:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_refused_password_is_sent_once() {
    let rack = Rack::new("small-vm");
    let client = rack.client_at("redfish+http://127.0.0.1", "wrong");
    for _ in 0..3 {
        let error = client.observe().await.unwrap_err();
        assert_eq!((error.category(), error.retry()), ("refused", Retry::NeedsUser));
        assert!(matches!(error.ignorance(), Ignorance::Refused { credentials, .. } if credentials == "17"));
        assert!(!format!("{error} {error:?}").contains("wrong"), "{error:?}");
    }
    client.ensure(&BmcIntent::PowerOn).await.unwrap_err();
    let posts = rack.asked().iter().filter(|r| r.starts_with("POST")).count();
    assert_eq!(posts, 1);
}

#[tokio::test(start_paused = true)]
async fn power_and_boot_override() {
    let rack = Rack::new("small-vm");
    let client = rack.client();
    client
        .ensure(&BmcIntent::BootFrom(BootDevice::NetworkOnce))
        .await
        .unwrap();
    until(&client, "network once", |f| {
        f.boot == Some(BootDevice::NetworkOnce)
    })
    .await;
    rack.asked();
    client
        .ensure(&BmcIntent::BootFrom(BootDevice::NetworkOnce))
        .await
        .unwrap();
    assert!(
        rack.asked().iter().all(|r| r.starts_with("GET")),
        "what is set already is not set again"
    );
    client.ensure(&BmcIntent::PowerOn).await.unwrap();
    client.ensure(&BmcIntent::PowerOn).await.unwrap();
    // The firmware takes the override when it starts, and once is once.
    let facts = until(&client, "running", |f| {
        f.power == Power::On && f.os_running == Some(true)
    })
    .await;
    assert_eq!(facts.boot, None);
    client
        .ensure(&BmcIntent::BootFrom(BootDevice::Disk))
        .await
        .unwrap();
    until(&client, "disk", |f| f.boot == Some(BootDevice::Disk)).await;
    client.ensure(&BmcIntent::SoftOff).await.unwrap();
    until(&client, "softly off", |f| f.power == Power::Off).await;
    client.ensure(&BmcIntent::PowerOn).await.unwrap();
    until(&client, "on", |f| f.power == Power::On).await;
    client.ensure(&BmcIntent::ForceOff).await.unwrap();
    let facts = until(&client, "off", |f| f.power == Power::Off).await;
    assert_eq!(facts.boot, Some(BootDevice::Disk), "continuous stays");
    let kept = rack.bmc.post_begins();
    assert_eq!(
        (kept.target, kept.enabled),
        (BootTarget::Hdd, OverrideEnabled::Continuous)
    );
}

#[tokio::test(start_paused = true)]
async fn an_expired_session_is_renewed() {
    let rack = Rack::new("small-vm");
    let client = rack.client();
    client.observe().await.unwrap();
    rack.asked();
    // Sessions of sim-bmc last 30 minutes.
    tokio::time::sleep(Duration::from_secs(2 * 3600)).await;
    client.observe().await.unwrap();
    let asked = rack.asked();
    let logins = asked
        .iter()
        .filter(|r| r.starts_with("POST /redfish/v1/SessionService/Sessions"))
        .count();
    assert_eq!((logins, asked.len()), (1, 3), "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn basic_where_sessions_are_used_up() {
    let rack = Rack::new("small-vm");
    let spent =
        Rule::always(Effect::Status(StatusCode::NOT_FOUND)).on(Method::POST, "/redfish/v1/SessionService");
    let guard = rack.bmc.fault(spent);
    let client = rack.client();
    client.observe().await.unwrap();
    client.ensure(&BmcIntent::PowerOn).await.unwrap();
    drop(guard);
    // With basic authentication there is no session whose end could explain a 401.
    rack.bmc.set_password("admin", &Password::new("changed"));
    for _ in 0..2 {
        assert_eq!(client.observe().await.unwrap_err().category(), "refused");
    }
    rack.asked();
    client.observe().await.unwrap_err();
    assert_eq!(rack.asked(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_lost_acknowledgement_is_success() {
    let rack = Rack::new("small-vm");
    let client = rack.client();
    client.observe().await.unwrap();
    let lost =
        Rule::always(Effect::AppliedButAnswers(StatusCode::CONFLICT)).on(Method::POST, "/redfish/v1/Systems");
    let _guard = rack.bmc.fault(lost.times(1));
    client.ensure(&BmcIntent::PowerOn).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_stale_tag_is_no_obstacle() {
    let rack = Rack::new("small-vm");
    let client = rack.client();
    let stale = Rule::always(Effect::Status(StatusCode::PRECONDITION_FAILED))
        .on(Method::PATCH, "/redfish/v1/Systems");
    let _guard = rack.bmc.fault(stale.times(1));
    client
        .ensure(&BmcIntent::BootFrom(BootDevice::NetworkOnce))
        .await
        .unwrap();
    until(&client, "network once", |f| {
        f.boot == Some(BootDevice::NetworkOnce)
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn errors_say_what_helps() {
    let mut rack = Rack::new("small-vm");
    let busy = Rule::always(Effect::Unavailable {
        retry_after_seconds: 5,
    });
    let guard = rack.bmc.fault(busy);
    let error = rack.client().observe().await.unwrap_err();
    assert_eq!((error.category(), error.retry()), ("busy", Retry::Soon));
    drop(guard);
    let error = rack
        .client_at("redfish+http://127.0.0.1/redfish/v1/Systems/none", "correct")
        .observe()
        .await
        .unwrap_err();
    assert_eq!(error.category(), "answer");
    assert!(error.to_string().contains("404"), "{error}");
    rack.down = true;
    let error = rack
        .client_at("redfish+http://10.0.0.9:8443", "correct")
        .observe()
        .await
        .unwrap_err();
    assert!(
        matches!(error.ignorance(), Ignorance::Unreachable(why) if why.contains("10.0.0.9:8443")),
        "{error}"
    );
    let error = rack
        .client_at("ipmi://10.0.0.9", "correct")
        .observe()
        .await
        .unwrap_err();
    assert_eq!(
        (error.category(), error.retry()),
        ("unsupported", Retry::NeedsUser)
    );
}

#[tokio::test(start_paused = true)]
async fn every_nic_of_a_large_server() {
    let rack = Rack::new("dgx-h100");
    let client = rack.client();
    let facts = client.observe().await.unwrap();
    assert_eq!(
        facts.system.macs.len(),
        Personality::named("dgx-h100").unwrap().nic_count()
    );
    let asked = rack.asked();
    assert!(
        asked.len() <= 16,
        "one look at {} NICs took {} requests: {asked:?}",
        facts.system.macs.len(),
        asked.len()
    );
}

#[tokio::test]
async fn certificates_are_checked() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut rack = Rack::new("small-vm");
    rack.tls = Some(sim_bmc::self_signed(&["127.0.0.1".to_owned()], "a BMC").unwrap());
    rack.client_at("redfish://127.0.0.1:8443", "correct")
        .observe()
        .await
        .unwrap();
    let other = rcgen::generate_simple_self_signed(["elsewhere".to_owned()])
        .unwrap()
        .cert
        .pem();
    let credentials = Credentials {
        username: "admin".into(),
        password: Secret::new("correct"),
        version: "17".into(),
    };
    let address = BmcAddress::parse("redfish://127.0.0.1:8443").unwrap();
    let strict = RedfishBmc::new(
        Arc::new(rack.clone()),
        address,
        credentials,
        trust_ca(&other, "other").unwrap(),
        Duration::from_secs(10),
    );
    let error = strict.observe().await.unwrap_err();
    assert_eq!((error.category(), error.retry()), ("untrusted", Retry::NeedsUser));
    assert!(
        error.to_string().contains("disableCertificateVerification"),
        "{error}"
    );
}
