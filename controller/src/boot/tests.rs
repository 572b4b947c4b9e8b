//! The boot services as a whole, over a network in memory: a host's way from DISCOVER to its agent's heartbeat.

mod agent;

use super::{
    testing::{Handler, MemVault, Running, Wire, ask, certificate, get, until, web},
    *,
};
use crate::image::ImageConfig;
use bytes::Bytes;
use http::{Request, Response};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use std::sync::{
    Mutex,
    atomic::{AtomicUsize, Ordering},
};
use steelyard_api::metal3::Image;
use steelyard_core::{
    Ignorance,
    host::view::JobState,
    intent::{AgentJob, BootPurpose},
};

const VIP: [u8; 4] = [192, 168, 100, 4];
const HOST: [u8; 4] = [192, 168, 100, 10];
const MAC: &str = "52:54:00:00:00:01";
const URL: &str = "http://192.168.100.4:8080";

fn key() -> Key {
    Key::new("metal3-system", "bare-metal-1")
}

fn plan(operation: &str, purpose: BootPurpose) -> BootPlan {
    BootPlan {
        operation: operation.into(),
        purpose,
        mac: MAC.into(),
        address: "192.168.100.10/24".parse().unwrap(),
        gateway: None,
        dns: vec![],
        ntp: vec![],
        node_uuid: "uuid-1".into(),
    }
}

/// A controller's boot services on the wire, and what they told.
struct Site {
    wire: Wire,
    boot: BootServices,
    vault: Arc<MemVault>,
    images: Images,
    changes: Arc<AtomicUsize>,
    strangers: Arc<Mutex<Vec<Stranger>>>,
    _running: Vec<Running>,
}

impl Site {
    async fn new() -> Self {
        Site::with_vault(Wire::default(), Arc::default()).await
    }

    async fn with_vault(wire: Wire, vault: Arc<MemVault>) -> Self {
        let net = wire.host(VIP);
        let clock = Clock::starting_at(Timestamp::from_second(1_800_000_000).unwrap());
        let tls = crate::tls::trust_anyone().unwrap();
        let images = Images::new(
            ImageConfig::in_memory(),
            net.clone(),
            tls,
            clock,
            Arc::new(|_| {}),
        )
        .unwrap();
        let assets = BootAssets::new()
            .with("vmlinuz", &b"kernel"[..])
            .with("initramfs", &b"0123456789"[..])
            .with("snponly.efi", vec![7; 1000]);
        let (changes, strangers) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
        let (counted, seen) = (changes.clone(), strangers.clone());
        let hooks = BootHooks {
            changed: Arc::new(move |_| _ = counted.fetch_add(1, Ordering::SeqCst)),
            stranger: Arc::new(move |s| seen.lock().unwrap().push(s.clone())),
        };
        let dice = Dice::seeded(1);
        let world = BootWorld {
            net,
            clock,
            dice,
            vault: vault.clone(),
            images: images.clone(),
            hooks,
        };
        let mut config = BootConfig::new(VIP.into(), assets);
        config.heartbeat_timeout = Duration::from_secs(10);
        let boot = BootServices::new(config, world);
        let (serving, fetching) = (boot.clone(), images.clone());
        let _running = vec![
            Running::of(async move { panic!("{}", serving.run().await) }),
            Running::of(async move { match fetching.run().await {} }),
        ];
        wire.listening((VIP, 8080)).await;
        Site {
            wire,
            boot,
            vault,
            images,
            changes,
            strangers,
            _running,
        }
    }

    fn host(&self) -> Arc<dyn Net> {
        self.wire.host(HOST)
    }

    async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        let request = Request::post(format!("{URL}{path}"))
            .body(body.to_string().into())
            .unwrap();
        let response = ask(&self.host(), request).await;
        let json = serde_json::from_slice(response.body()).unwrap_or_default();
        (response.status().as_u16(), json)
    }

    async fn lookup(&self) -> (u16, Value) {
        let (status, body) = get(
            &self.host(),
            &format!("{URL}/v1/lookup?addresses=0a:00:00:00:00:09,{MAC}"),
        )
        .await;
        (status, serde_json::from_slice(&body).unwrap())
    }

    async fn token(&self) -> String {
        let (status, answer) = self.lookup().await;
        assert_eq!(status, 200, "{answer}");
        answer["config"]["agent_token"].as_str().unwrap().to_owned()
    }

    async fn beat(&self, token: &str, url: &str, pem: &str) -> (u16, Value) {
        let beat =
            json!({"callback_url": url, "agent_token": token, "agent_version": "1", "agent_verify_ca": pem});
        self.post("/v1/heartbeat/uuid-1", beat).await
    }
}

#[tokio::test]
async fn dhcp_leases_and_drops_are_facts() {
    let site = Site::new().await;
    let socket = site.host().udp(([0, 0, 0, 0], 68).into()).await.unwrap();
    let mut discover = vec![0; 236];
    discover[..4].copy_from_slice(&[1, 1, 6, 0]);
    discover[28..34].copy_from_slice(&[0x52, 0x54, 0, 0, 0, 1]);
    discover.extend_from_slice(&[99, 130, 83, 99, 53, 1, 1, 255]);
    let to = ([255, 255, 255, 255], 67).into();
    socket.send_to(&discover, to).await.unwrap();
    let stranger = until("the stranger", || site.strangers.lock().unwrap().first().cloned()).await;
    assert_eq!(stranger.mac.to_string(), MAC);
    site.boot
        .publish(&key(), plan("op-1", BootPurpose::Inspect))
        .unwrap();
    assert!(site.boot.strangers().is_empty(), "it is no stranger any more");
    socket.send_to(&discover, to).await.unwrap();
    let mut buffer = [0; 1500];
    let (size, from) = tokio::time::timeout(Duration::from_secs(10), socket.recv_from(&mut buffer))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (from.to_string().as_str(), &buffer[16..20]),
        ("192.168.100.4:67", HOST.as_slice()),
        "{size}"
    );
    let facts = site.boot.facts(&key());
    assert_eq!(facts.published.as_deref(), Some("op-1"));
    assert!(facts.leased_at.is_some() && facts.dropped.is_none());
    // Through a relay of another network.
    discover[24..28].copy_from_slice(&[10, 0, 0, 1]);
    socket.send_to(&discover, to).await.unwrap();
    let (_, why) = until("the drop", || site.boot.facts(&key()).dropped).await;
    assert!(why.contains(MAC) && why.contains("10.0.0.1"), "{why}");
    site.boot.retract(&key());
    assert_eq!(site.boot.facts(&key()), BootFacts::default());
}

#[tokio::test]
async fn files_come_over_tftp_and_http() {
    let site = Site::new().await;
    let net = site.host();
    let socket = net.udp(([0, 0, 0, 0], 2070).into()).await.unwrap();
    let fetch = async {
        let (mut buffer, mut got) = ([0; 1500], Vec::new());
        socket
            .send_to(b"\0\x01snponly.efi\0octet\0", (VIP, 69).into())
            .await
            .unwrap();
        loop {
            let (size, from) = socket.recv_from(&mut buffer).await.unwrap();
            got.extend_from_slice(&buffer[4..size]);
            socket.send_to(&[0, 4, buffer[2], buffer[3]], from).await.unwrap();
            if size < 516 {
                return got;
            }
        }
    };
    let got = tokio::time::timeout(Duration::from_secs(10), fetch)
        .await
        .unwrap();
    assert_eq!(got, vec![7; 1000]);

    assert_eq!(
        get(&net, &format!("{URL}/boot/vmlinuz")).await,
        (200, Bytes::from_static(b"kernel"))
    );
    let part = Request::get(format!("{URL}/boot/initramfs"))
        .header("range", "bytes=2-4")
        .body(Bytes::new())
        .unwrap();
    let part = ask(&net, part).await;
    assert_eq!(
        (part.status().as_u16(), part.body().as_ref()),
        (206, b"234".as_slice())
    );
    assert_eq!(part.headers()["content-range"], "bytes 2-4/10");
    let head = Request::head(format!("{URL}/boot/initramfs"))
        .body(Bytes::new())
        .unwrap();
    let head = ask(&net, head).await;
    assert_eq!(
        (head.headers()["content-length"].as_bytes(), head.body().len()),
        (b"10".as_slice(), 0)
    );
    for (path, status) in [
        ("/boot/../secret", 404),
        ("/images/00", 404),
        ("/ipxe/nonsense", 404),
        ("/v1/nothing", 404),
    ] {
        assert_eq!(get(&net, &format!("{URL}{path}")).await.0, status, "{path}");
    }
    let (status, _) = site.post("/boot/vmlinuz", json!({})).await;
    assert_eq!(status, 405);
}

#[tokio::test]
async fn a_script_for_whoever_has_a_plan() {
    let site = Site::new().await;
    let script = |mac: &str| {
        let (net, url) = (site.host(), format!("{URL}/ipxe/{mac}"));
        async move { String::from_utf8(get(&net, &url).await.1.to_vec()).unwrap() }
    };
    assert!(script("52-54-00-00-00-01").await.ends_with("exit\n"));
    site.boot
        .publish(&key(), plan("op-1", BootPurpose::Deploy))
        .unwrap();
    assert!(site.boot.facts(&key()).script_at.is_none());
    let text = script("52-54-00-00-00-01").await;
    assert!(
        text.contains("kernel http://192.168.100.4:8080/boot/vmlinuz") && text.ends_with("boot\n"),
        "{text}"
    );
    assert!(site.boot.facts(&key()).script_at.is_some());
    assert!(site.changes.load(Ordering::SeqCst) > 0);
}

#[tokio::test]
async fn plans_must_not_collide() {
    let site = Site::new().await;
    site.boot
        .publish(&key(), plan("op-1", BootPurpose::Deploy))
        .unwrap();
    let other = Key::new("ns", "other");
    let same_mac = site
        .boot
        .publish(&other, plan("op-2", BootPurpose::Deploy))
        .unwrap_err()
        .to_string();
    assert!(
        same_mac.contains("bare-metal-1") && same_mac.contains(MAC),
        "{same_mac}"
    );
    let mut same_address = plan("op-2", BootPurpose::Deploy);
    same_address.mac = "52:54:00:00:00:02".into();
    let error = site
        .boot
        .publish(&other, same_address.clone())
        .unwrap_err()
        .to_string();
    assert!(error.contains("192.168.100.10"), "{error}");
    same_address.mac = "nonsense".into();
    assert!(matches!(
        site.boot.publish(&other, same_address),
        Err(PlanError::Mac(_))
    ));
    site.boot.retract(&key());
    site.boot
        .publish(&other, plan("op-2", BootPurpose::Deploy))
        .unwrap();
}

#[tokio::test]
async fn a_token_is_given_once_per_boot() {
    let site = Site::new().await;
    assert_eq!(site.lookup().await.0, 404, "nobody is expected");
    site.boot
        .publish(&key(), plan("op-1", BootPurpose::Deploy))
        .unwrap();
    // Somebody else's machine asks in its name.
    let other = site.wire.host([192, 168, 100, 66]);
    assert_eq!(
        get(&other, &format!("{URL}/v1/lookup?addresses={MAC}")).await.0,
        404
    );
    assert_eq!(get(&other, &format!("{URL}/v1/lookup")).await.0, 400);
    let first = site.token().await;
    assert_eq!(first.len(), 43);
    assert_eq!(
        site.vault.records.lock().unwrap()[&key()].token.reveal(),
        first,
        "written down before it was given"
    );
    assert_eq!(site.token().await, "******");
    // Another boot, another agent; a script that somebody else fetched is no boot.
    get(&other, &format!("{URL}/ipxe/{MAC}")).await;
    assert_eq!(site.token().await, "******");
    get(&site.host(), &format!("{URL}/ipxe/{MAC}")).await;
    let second = site.token().await;
    assert!(second != first && second.len() == 43);
    assert_eq!(
        site.beat(&first, "https://192.168.100.10:9999", "").await.0,
        400,
        "the old boot's token"
    );
}

#[tokio::test]
async fn a_token_that_cannot_be_kept_is_not_given() {
    let site = Site::new().await;
    site.boot
        .publish(&key(), plan("op-1", BootPurpose::Deploy))
        .unwrap();
    site.vault.fail.store(true, Ordering::SeqCst);
    assert_eq!(site.lookup().await.0, 500);
    site.vault.fail.store(false, Ordering::SeqCst);
    assert_eq!(site.token().await.len(), 43);
}

#[tokio::test]
async fn heartbeats_are_checked() {
    let site = Site::new().await;
    let (_, pem) = certificate(HOST);
    let url = "https://192.168.100.10:9999";
    assert_eq!(site.beat("x", url, &pem).await.0, 404);
    site.boot
        .publish(&key(), plan("op-1", BootPurpose::Deploy))
        .unwrap();
    assert_eq!(site.beat("x", url, &pem).await.0, 400, "no token was given yet");
    let token = site.token().await;
    for (token, url, pem, what) in [
        ("x", url, pem.as_str(), "token"),
        (&token, "http://192.168.100.10:9999", &pem, "https"),
        (&token, "https://evil.example:9999", &pem, "ADDRESS"),
        (&token, url, "no certificate", "PEM"),
    ] {
        let (status, fault) = site.beat(token, url, pem).await;
        assert!(
            status == 400 && fault["faultstring"].as_str().unwrap().contains(what),
            "{what}: {status} {fault}"
        );
    }
    assert!(site.boot.agent(&key()).known().unwrap().heartbeat_at.is_none());
    assert_eq!(site.beat(&token, url, &pem).await.0, 202);
    assert!(site.boot.agent(&key()).known().unwrap().heartbeat_at.is_some());
    assert_eq!(
        site.beat(&token, "https://192.168.100.11:9999", &pem).await.0,
        400,
        "it moved"
    );
    assert_eq!(
        site.beat(&token, url, &certificate(HOST).1).await.0,
        400,
        "its certificate changed"
    );
    assert_eq!(site.beat(&token, url, &pem).await.0, 202);
}

#[tokio::test]
async fn an_inventory_is_taken_from_whom_it_is_asked() {
    let site = Site::new().await;
    let report = |error: Value| {
        json!({"error": error, "boot_interface": MAC, "inventory": {"interfaces": [{"name": "eth0", "mac_address": MAC}],
        "memory": {"physical_mb": 1024}}, "pci_devices": [{"vendor_id": "10de", "product_id": "1", "class": "030200"}]})
    };
    let path = "/v1/continue_inspection";
    assert_eq!(site.post(path, report(Value::Null)).await.0, 404);
    site.boot
        .publish(&key(), plan("op-1", BootPurpose::Deploy))
        .unwrap();
    assert_eq!(
        site.post(path, report(Value::Null)).await.0,
        404,
        "this boot is for a job"
    );
    site.boot
        .publish(&key(), plan("op-2", BootPurpose::Inspect))
        .unwrap();
    assert!(site.boot.agent(&key()).known().is_none());
    assert_eq!(
        site.post(path, json!({"inventory": {"interfaces": []}})).await.0,
        400
    );
    assert_eq!(site.post(path, report(json!("disk sda is broken"))).await.0, 202);
    assert_eq!(
        site.boot
            .agent(&key())
            .known()
            .unwrap()
            .inspection_error
            .as_deref(),
        Some("disk sda is broken")
    );
    assert_eq!(
        site.post(path, report(Value::Null)).await,
        (202, json!({"uuid": "uuid-1"}))
    );
    let agent = site.boot.agent(&key());
    let facts = agent.known().unwrap();
    assert_eq!(
        (facts.operation.as_str(), facts.inspection_error.as_deref()),
        ("op-2", None)
    );
    assert_eq!(facts.inventory.as_ref().unwrap().nics[0].pxe, Some(true));
    assert_eq!(facts.devices.get("nvidia.com/gpu"), Some(&1));
    // The token of the same boot does not cost what was found.
    site.token().await;
    assert!(site.boot.agent(&key()).known().unwrap().inventory.is_some());
}

#[tokio::test]
async fn the_api_says_its_version_and_bounds_bodies() {
    let site = Site::new().await;
    let (status, root) = get(&site.host(), &format!("{URL}/")).await;
    let root: Value = serde_json::from_slice(&root).unwrap();
    assert_eq!(
        (status, root["default_version"]["version"].as_str()),
        (200, Some("1.68"))
    );
    let huge = Request::post(format!("{URL}/v1/continue_inspection"))
        .body(vec![b' '; (16 << 20) + 1].into())
        .unwrap();
    assert_eq!(ask(&site.host(), huge).await.status(), 413);
}

#[tokio::test]
async fn a_taken_port_is_named_with_its_fix() {
    let wire = Wire::default();
    let net = wire.host(VIP);
    let _taken = net.udp(([0, 0, 0, 0], 67).into()).await.unwrap();
    let site = Site::with_vault(Wire::default(), Arc::default()).await;
    let world = BootWorld {
        net,
        ..site.boot.0.world.clone()
    };
    let boot = BootServices::new(BootConfig::new(VIP.into(), BootAssets::new()), world);
    let error = tokio::time::timeout(Duration::from_secs(10), boot.run())
        .await
        .unwrap()
        .to_string();
    assert!(
        error.starts_with("DHCP can't listen on 0.0.0.0:67") && error.contains("another DHCP server"),
        "{error}"
    );
}

#[test]
fn flags_are_checked() {
    let mut config = BootConfig::new(VIP.into(), BootAssets::new());
    assert!(config.check().is_ok());
    assert_eq!(config.url(), URL);
    config.inspector_params = vec!["a b".into()];
    assert!(
        config
            .check()
            .unwrap_err()
            .starts_with("--inspector-extra-kernel-param")
    );
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("vmlinuz"), b"k").unwrap();
    let missing = BootAssets::from_dir(dir.path()).unwrap_err().to_string();
    assert!(missing.contains("initramfs"), "{missing}");
    std::fs::write(dir.path().join("initramfs"), b"i").unwrap();
    assert_eq!(
        BootAssets::from_dir(dir.path())
            .unwrap()
            .names()
            .collect::<Vec<_>>(),
        ["initramfs", "vmlinuz"]
    );
}
