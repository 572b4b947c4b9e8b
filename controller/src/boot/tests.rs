//! The boot services as a whole, over a network in memory: a host's way from DISCOVER to its job.

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
const SHA: &str = "0101010101010101010101010101010101010101010101010101010101010101";

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
    fn new() -> Self {
        Site::with_vault(Wire::default(), Arc::default())
    }

    fn with_vault(wire: Wire, vault: Arc<MemVault>) -> Self {
        let net = wire.host(VIP);
        let clock = Clock::starting_at(Timestamp::from_second(1_800_000_000).unwrap());
        let tls = crate::tls::trust_anyone().unwrap();
        let images = Images::new(ImageConfig::in_memory(), net.clone(), tls, clock, Arc::new(|_| {})).unwrap();
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
        let world = BootWorld { net, clock, dice, vault: vault.clone(), images: images.clone(), hooks };
        let mut config = BootConfig::new(VIP.into(), assets);
        config.heartbeat_timeout = Duration::from_secs(10);
        let boot = BootServices::new(config, world);
        let (serving, fetching) = (boot.clone(), images.clone());
        let _running = vec![
            Running::of(async move { panic!("{}", serving.run().await) }),
            Running::of(async move { match fetching.run().await {} }),
        ];
        Site { wire, boot, vault, images, changes, strangers, _running }
    }

    fn host(&self) -> Arc<dyn Net> {
        self.wire.host(HOST)
    }

    async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        let request = Request::post(format!("{URL}{path}")).body(body.to_string().into()).unwrap();
        let response = ask(&self.host(), request).await;
        let json = serde_json::from_slice(response.body()).unwrap_or_default();
        (response.status().as_u16(), json)
    }

    async fn lookup(&self) -> (u16, Value) {
        let (status, body) = get(&self.host(), &format!("{URL}/v1/lookup?addresses=0a:00:00:00:00:09,{MAC}")).await;
        (status, serde_json::from_slice(&body).unwrap())
    }

    async fn token(&self) -> String {
        let (status, answer) = self.lookup().await;
        assert_eq!(status, 200, "{answer}");
        answer["config"]["agent_token"].as_str().unwrap().to_owned()
    }

    async fn beat(&self, token: &str, url: &str, pem: &str) -> (u16, Value) {
        let beat = json!({"callback_url": url, "agent_token": token, "agent_version": "1", "agent_verify_ca": pem});
        self.post("/v1/heartbeat/uuid-1", beat).await
    }
}

#[tokio::test]
async fn dhcp_leases_and_drops_are_facts() {
    let site = Site::new();
    let socket = site.host().udp(([0, 0, 0, 0], 68).into()).await.unwrap();
    let mut discover = vec![0; 236];
    discover[..4].copy_from_slice(&[1, 1, 6, 0]);
    discover[28..34].copy_from_slice(&[0x52, 0x54, 0, 0, 0, 1]);
    discover.extend_from_slice(&[99, 130, 83, 99, 53, 1, 1, 255]);
    let to = ([255, 255, 255, 255], 67).into();
    let send = || async { socket.send_to(&discover, to).await.unwrap() };
    // The server may not be up yet: as a client does, ask again.
    let told = async {
        while site.strangers.lock().unwrap().is_empty() {
            send().await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), told).await.expect("a stranger is told of");
    assert_eq!(site.strangers.lock().unwrap()[0].mac.to_string(), MAC);
    site.boot.publish(&key(), plan("op-1", BootPurpose::Inspect)).unwrap();
    assert!(site.boot.strangers().is_empty(), "it is no stranger any more");
    send().await;
    let mut buffer = [0; 1500];
    let (size, from) = tokio::time::timeout(Duration::from_secs(10), socket.recv_from(&mut buffer)).await.unwrap().unwrap();
    assert_eq!((from.to_string().as_str(), &buffer[16..20]), ("192.168.100.4:67", HOST.as_slice()), "{size}");
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
    let site = Site::new();
    let net = site.host();
    let socket = net.udp(([0, 0, 0, 0], 2070).into()).await.unwrap();
    let fetch = async {
        let (mut buffer, mut got) = ([0; 1500], Vec::new());
        let mut server = ([192, 168, 100, 4], 69).into();
        socket.send_to(b"\0\x01snponly.efi\0octet\0", server).await.unwrap();
        loop {
            let received = tokio::time::timeout(Duration::from_millis(100), socket.recv_from(&mut buffer)).await;
            let Ok(Ok((size, from))) = received else {
                socket.send_to(b"\0\x01snponly.efi\0octet\0", server).await.unwrap();
                continue;
            };
            server = from;
            got.extend_from_slice(&buffer[4..size]);
            socket.send_to(&[0, 4, buffer[2], buffer[3]], from).await.unwrap();
            if size < 516 {
                return got;
            }
        }
    };
    let got = tokio::time::timeout(Duration::from_secs(10), fetch).await.unwrap();
    assert_eq!(got, vec![7; 1000]);

    assert_eq!(get(&net, &format!("{URL}/boot/vmlinuz")).await, (200, Bytes::from_static(b"kernel")));
    let part = Request::get(format!("{URL}/boot/initramfs")).header("range", "bytes=2-4").body(Bytes::new()).unwrap();
    let part = ask(&net, part).await;
    assert_eq!((part.status().as_u16(), part.body().as_ref()), (206, b"234".as_slice()));
    assert_eq!(part.headers()["content-range"], "bytes 2-4/10");
    let head = Request::head(format!("{URL}/boot/initramfs")).body(Bytes::new()).unwrap();
    let head = ask(&net, head).await;
    assert_eq!((head.headers()["content-length"].as_bytes(), head.body().len()), (b"10".as_slice(), 0));
    for (path, status) in [("/boot/../secret", 404), ("/images/00", 404), ("/ipxe/nonsense", 404), ("/v1/nothing", 404)] {
        assert_eq!(get(&net, &format!("{URL}{path}")).await.0, status, "{path}");
    }
    let (status, _) = site.post("/boot/vmlinuz", json!({})).await;
    assert_eq!(status, 405);
}

#[tokio::test]
async fn a_script_for_whoever_has_a_plan() {
    let site = Site::new();
    let script = |mac: &str| {
        let (net, url) = (site.host(), format!("{URL}/ipxe/{mac}"));
        async move { String::from_utf8(get(&net, &url).await.1.to_vec()).unwrap() }
    };
    assert!(script("52-54-00-00-00-01").await.ends_with("exit\n"));
    site.boot.publish(&key(), plan("op-1", BootPurpose::Deploy)).unwrap();
    assert!(site.boot.facts(&key()).script_at.is_none());
    let text = script("52-54-00-00-00-01").await;
    assert!(text.contains("kernel http://192.168.100.4:8080/boot/vmlinuz") && text.ends_with("boot\n"), "{text}");
    assert!(site.boot.facts(&key()).script_at.is_some());
    assert!(site.changes.load(Ordering::SeqCst) > 0);
}

#[tokio::test]
async fn plans_must_not_collide() {
    let site = Site::new();
    site.boot.publish(&key(), plan("op-1", BootPurpose::Deploy)).unwrap();
    let other = Key::new("ns", "other");
    let same_mac = site.boot.publish(&other, plan("op-2", BootPurpose::Deploy)).unwrap_err().to_string();
    assert!(same_mac.contains("bare-metal-1") && same_mac.contains(MAC), "{same_mac}");
    let mut same_address = plan("op-2", BootPurpose::Deploy);
    same_address.mac = "52:54:00:00:00:02".into();
    let error = site.boot.publish(&other, same_address.clone()).unwrap_err().to_string();
    assert!(error.contains("192.168.100.10"), "{error}");
    same_address.mac = "nonsense".into();
    assert!(matches!(site.boot.publish(&other, same_address), Err(PlanError::Mac(_))));
    site.boot.retract(&key());
    site.boot.publish(&other, plan("op-2", BootPurpose::Deploy)).unwrap();
}

#[tokio::test]
async fn a_token_is_given_once_per_boot() {
    let site = Site::new();
    assert_eq!(site.lookup().await.0, 404, "nobody is expected");
    site.boot.publish(&key(), plan("op-1", BootPurpose::Deploy)).unwrap();
    // Somebody else's machine asks in its name.
    let other = site.wire.host([192, 168, 100, 66]);
    assert_eq!(get(&other, &format!("{URL}/v1/lookup?addresses={MAC}")).await.0, 404);
    assert_eq!(get(&other, &format!("{URL}/v1/lookup")).await.0, 400);
    let first = site.token().await;
    assert_eq!(first.len(), 43);
    assert_eq!(site.vault.records.lock().unwrap()[&key()].token.reveal(), first, "written down before it was given");
    assert_eq!(site.token().await, "******");
    // Another boot, another agent; a script that somebody else fetched is no boot.
    get(&other, &format!("{URL}/ipxe/{MAC}")).await;
    assert_eq!(site.token().await, "******");
    get(&site.host(), &format!("{URL}/ipxe/{MAC}")).await;
    let second = site.token().await;
    assert!(second != first && second.len() == 43);
    assert_eq!(site.beat(&first, "https://192.168.100.10:9999", "").await.0, 400, "the old boot's token");
}

#[tokio::test]
async fn a_token_that_cannot_be_kept_is_not_given() {
    let site = Site::new();
    site.boot.publish(&key(), plan("op-1", BootPurpose::Deploy)).unwrap();
    site.vault.fail.store(true, Ordering::SeqCst);
    assert_eq!(site.lookup().await.0, 500);
    site.vault.fail.store(false, Ordering::SeqCst);
    assert_eq!(site.token().await.len(), 43);
}

#[tokio::test]
async fn heartbeats_are_checked() {
    let site = Site::new();
    let (_, pem) = certificate(HOST);
    let url = "https://192.168.100.10:9999";
    assert_eq!(site.beat("x", url, &pem).await.0, 404);
    site.boot.publish(&key(), plan("op-1", BootPurpose::Deploy)).unwrap();
    assert_eq!(site.beat("x", url, &pem).await.0, 400, "no token was given yet");
    let token = site.token().await;
    for (token, url, pem, what) in [
        ("x", url, pem.as_str(), "token"),
        (&token, "http://192.168.100.10:9999", &pem, "https"),
        (&token, "https://evil.example:9999", &pem, "ADDRESS"),
        (&token, url, "no certificate", "PEM"),
    ] {
        let (status, fault) = site.beat(token, url, pem).await;
        assert!(status == 400 && fault["faultstring"].as_str().unwrap().contains(what), "{what}: {status} {fault}");
    }
    assert!(site.boot.agent(&key()).known().unwrap().heartbeat_at.is_none());
    assert_eq!(site.beat(&token, url, &pem).await.0, 202);
    assert!(site.boot.agent(&key()).known().unwrap().heartbeat_at.is_some());
    assert_eq!(site.beat(&token, "https://192.168.100.11:9999", &pem).await.0, 400, "it moved");
    assert_eq!(site.beat(&token, url, &certificate(HOST).1).await.0, 400, "its certificate changed");
    assert_eq!(site.beat(&token, url, &pem).await.0, 202);
}

#[tokio::test]
async fn an_inventory_is_taken_from_whom_it_is_asked() {
    let site = Site::new();
    let report = |error: Value| json!({"error": error, "boot_interface": MAC, "inventory": {"interfaces": [{"name": "eth0", "mac_address": MAC}],
        "memory": {"physical_mb": 1024}}, "pci_devices": [{"vendor_id": "10de", "product_id": "1", "class": "030200"}]});
    let path = "/v1/continue_inspection";
    assert_eq!(site.post(path, report(Value::Null)).await.0, 404);
    site.boot.publish(&key(), plan("op-1", BootPurpose::Deploy)).unwrap();
    assert_eq!(site.post(path, report(Value::Null)).await.0, 404, "this boot is for a job");
    site.boot.publish(&key(), plan("op-2", BootPurpose::Inspect)).unwrap();
    assert!(site.boot.agent(&key()).known().is_none());
    assert_eq!(site.post(path, json!({"inventory": {"interfaces": []}})).await.0, 400);
    assert_eq!(site.post(path, report(json!("disk sda is broken"))).await.0, 202);
    assert_eq!(site.boot.agent(&key()).known().unwrap().inspection_error.as_deref(), Some("disk sda is broken"));
    assert_eq!(site.post(path, report(Value::Null)).await, (202, json!({"uuid": "uuid-1"})));
    let agent = site.boot.agent(&key());
    let facts = agent.known().unwrap();
    assert_eq!((facts.operation.as_str(), facts.inspection_error.as_deref()), ("op-2", None));
    assert_eq!(facts.inventory.as_ref().unwrap().nics[0].pxe, Some(true));
    assert_eq!(facts.devices.get("nvidia.com/gpu"), Some(&1));
    // The token of the same boot does not cost what was found.
    site.token().await;
    assert!(site.boot.agent(&key()).known().unwrap().inventory.is_some());
}

#[tokio::test]
async fn the_api_says_its_version_and_bounds_bodies() {
    let site = Site::new();
    let (status, root) = get(&site.host(), &format!("{URL}/")).await;
    let root: Value = serde_json::from_slice(&root).unwrap();
    assert_eq!((status, root["default_version"]["version"].as_str()), (200, Some("1.68")));
    let huge = Request::post(format!("{URL}/v1/continue_inspection")).body(vec![b' '; (16 << 20) + 1].into()).unwrap();
    assert_eq!(ask(&site.host(), huge).await.status(), 413);
}

/// An agent of our own making: one command at a time, as ironic-python-agent runs them.
#[derive(Default)]
struct FakeAgent {
    commands: Mutex<Vec<Value>>,
    posted: Mutex<Vec<Value>>,
    /// Loses the answers to POSTs of steps: the command runs, nobody hears of it.
    deaf: std::sync::atomic::AtomicBool,
}

impl FakeAgent {
    async fn start(self: &Arc<Self>, site: &Site, token: &str) -> (Running, String) {
        let (tls, pem) = certificate(HOST);
        let (agent, token) = (self.clone(), token.to_owned());
        let handler: Handler = Arc::new(move |request| agent.answer(&token, request));
        (web(&site.host(), 9999, Some(tls), handler).await, pem)
    }

    fn answer(&self, token: &str, request: Request<Bytes>) -> Response<Bytes> {
        let reply = |status: u16, body: Value| Response::builder().status(status).body(body.to_string().into()).unwrap();
        assert_eq!(request.uri().path(), "/v1/commands/");
        if !request.uri().query().unwrap_or_default().contains(&format!("agent_token={token}")) {
            return reply(401, json!({"faultcode": "Client", "faultstring": "401 Unauthorized: Token invalid."}));
        }
        let mut commands = self.commands.lock().unwrap();
        if request.method() == http::Method::GET {
            return reply(200, json!({ "commands": *commands }));
        }
        if commands.last().is_some_and(|last| last["command_status"] == "RUNNING") {
            return reply(409, json!({"faultcode": "Client", "faultstring": "Agent is busy"}));
        }
        let body: Value = serde_json::from_slice(request.body()).unwrap();
        let name = body["name"].as_str().unwrap().split_once('.').unwrap().1.to_owned();
        self.posted.lock().unwrap().push(body);
        let step = |kind: &str, name: &str| json!({kind: {"M": [{"step": name, "interface": "deploy", "priority": 10}]},
            "hardware_manager_version": {"M": "1.0"}});
        let (status, result) = match name.as_str() {
            "get_clean_steps" => ("SUCCEEDED", step("clean_steps", "erase_devices")),
            "get_deploy_steps" => ("SUCCEEDED", step("deploy_steps", "write_image")),
            "sync" => ("SUCCEEDED", Value::Null),
            _ => ("RUNNING", Value::Null),
        };
        let command = json!({"id": commands.len().to_string(), "command_name": name, "command_status": status,
            "command_error": null, "command_result": result});
        commands.push(command.clone());
        if status == "RUNNING" && self.deaf.load(Ordering::SeqCst) {
            return reply(500, json!({"faultcode": "Server", "faultstring": "lost"}));
        }
        reply(200, command)
    }

    fn finish(&self, status: &str, error: Value, result: Value) {
        let mut commands = self.commands.lock().unwrap();
        let last = commands.last_mut().unwrap();
        last["command_status"] = json!(status);
        last["command_error"] = error;
        last["command_result"] = result;
    }

    fn posted(&self, name: &str) -> Vec<Value> {
        self.posted.lock().unwrap().iter().filter(|body| body["name"] == name).cloned().collect()
    }
}

fn task(operation: &str, job: AgentJob, site: &Site) -> AgentTask {
    AgentTask { operation: operation.into(), job, deadline: site.boot.0.now() + SignedDuration::from_secs(60) }
}

fn erase() -> AgentJob {
    AgentJob::Erase { metadata_only: false }
}

/// A site with an agent that has sent its first heartbeat.
async fn with_agent() -> (Site, Arc<FakeAgent>, Running) {
    let site = Site::new();
    site.boot.publish(&key(), plan("op-1", BootPurpose::Deploy)).unwrap();
    let error = site.boot.ensure_agent(&key(), &task("op-1", erase(), &site), Payload::default()).await.unwrap_err();
    assert!(matches!(error, AgentError::NoAgent), "{error}");
    let token = site.token().await;
    let agent = Arc::new(FakeAgent::default());
    let (running, pem) = agent.start(&site, &token).await;
    assert_eq!(site.beat(&token, "https://192.168.100.10:9999", &pem).await.0, 202);
    (site, agent, running)
}

fn state(site: &Site) -> Option<JobState> {
    let agent = site.boot.agent(&key());
    agent.known().and_then(|facts| facts.job.as_ref()).map(|job| job.state.clone())
}

#[tokio::test]
async fn an_erase_is_started_once_and_its_evidence_read() {
    let (site, agent, _running) = with_agent().await;
    let job = task("op-1", erase(), &site);
    let key = &key();
    let ensure = || site.boot.ensure_agent(key, &job, Payload::default());
    assert!(!ensure().await.unwrap().already);
    assert_eq!(state(&site), Some(JobState::Running));
    assert!(ensure().await.unwrap().already);
    site.boot.observe_agent(key).await.unwrap();
    assert_eq!(state(&site), Some(JobState::Running));
    let posted = agent.posted("clean.execute_clean_step");
    assert_eq!(posted.len(), 1);
    insta::assert_json_snapshot!(posted[0]);
    let step = posted[0]["params"]["step"].clone();
    let disk = json!({"name": "/dev/sda", "serial": "S", "size": 10, "method": "overwrite", "duration_ms": 1,
        "verification": {"expectation": "zeros", "samples": 1, "bytes_read": 5, "canaries": 1}});
    agent.finish("SUCCEEDED", Value::Null, json!({"clean_result": {"disks": [disk]}, "clean_step": step}));
    site.boot.observe_agent(key).await.unwrap();
    let Some(JobState::Succeeded { wiped }) = state(&site) else { panic!("{:?}", state(&site)) };
    assert!(wiped[0].verified && wiped[0].verified_bytes == 5);
    // A job of another operation is another job.
    assert!(!site.boot.ensure_agent(key, &task("op-2", erase(), &site), Payload::default()).await.unwrap().already);
    assert_eq!(agent.posted("clean.execute_clean_step").len(), 2);
}

#[tokio::test]
async fn a_restarted_controller_knows_the_agent_and_its_job() {
    let (site, agent, _running) = with_agent().await;
    agent.deaf.store(true, Ordering::SeqCst);
    let job = task("op-1", erase(), &site);
    // The answer is lost, and then the controller, too.
    assert!(site.boot.ensure_agent(&key(), &job, Payload::default()).await.is_err());
    let (vault, wire) = (site.vault.clone(), site.wire.clone());
    drop(site);
    let site = Site::with_vault(wire, vault);
    site.boot.publish(&key(), plan("op-1", BootPurpose::Deploy)).unwrap();
    assert!(site.boot.agent(&key()).known().is_none(), "nothing was asked yet");
    assert!(site.boot.ensure_agent(&key(), &job, Payload::default()).await.unwrap().already);
    assert_eq!((state(&site), agent.posted("clean.execute_clean_step").len()), (Some(JobState::Running), 1));
    agent.finish("FAILED", json!({"type": "BlockDeviceEraseError", "message": "no", "code": 500, "details": ""}), Value::Null);
    site.boot.observe_agent(&key()).await.unwrap();
    let want = JobState::Failed { kind: "BlockDeviceEraseError".into(), message: "no".into() };
    assert_eq!(state(&site), Some(want));
    // A plan of another operation: the same Secret holds another boot's agent.
    site.boot.publish(&key(), plan("op-9", BootPurpose::Deploy)).unwrap();
    assert!(matches!(site.boot.observe_agent(&key()).await, Err(AgentError::NoAgent)));
}

#[tokio::test]
async fn a_busy_agent_and_a_late_job() {
    let (site, agent, _running) = with_agent().await;
    let mut late = task("op-1", erase(), &site);
    late.deadline = site.boot.0.now();
    let error = site.boot.ensure_agent(&key(), &late, Payload::default()).await.unwrap_err();
    assert!(matches!(error, AgentError::TooLate(_)) && error.retry() == Retry::Never);
    agent.commands.lock().unwrap().push(json!({"id": "0", "command_name": "burnin", "command_status": "RUNNING"}));
    assert!(site.boot.ensure_agent(&key(), &task("op-1", erase(), &site), Payload::default()).await.unwrap().already);
    assert!(agent.posted.lock().unwrap().is_empty() && state(&site).is_none());
}

#[tokio::test]
async fn an_image_is_written_from_our_cache_only_once_it_is_verified() {
    let (site, agent, _running) = with_agent().await;
    let mut disk = vec![0; 4096];
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    let served = Bytes::from(disk.clone());
    let upstream: Handler = Arc::new(move |_| Response::new(served.clone()));
    let _upstream = web(&site.wire.host([10, 0, 0, 1]), 80, None, upstream).await;
    let sha = <sha2::Sha256 as sha2::Digest>::digest(&disk).iter().map(|b| format!("{b:02x}")).collect::<String>();
    let image = Image { url: "http://10.0.0.1/disk.img".into(), checksum: Some(sha.clone()), ..Image::default() };
    let job = |image: &Image| AgentJob::Write {
        image: image.clone(),
        root_device_hints: Some(steelyard_api::metal3::RootDeviceHints { serial_number: Some("S1".into()), ..Default::default() }),
        user_data: None,
        network_data: None,
        meta_data: None,
    };
    let write = task("op-1", job(&image), &site);
    let error = site.boot.ensure_agent(&key(), &write, Payload::default()).await.unwrap_err();
    assert!(matches!(error, AgentError::Image(_)), "{error}");
    site.images.ensure(&image);
    until("the image", || site.images.open(&sha)).await;
    assert_eq!(get(&site.host(), &format!("{URL}/images/{sha}")).await, (200, disk.into()));
    let host = crate::image::DriveHost { namespace: "n".into(), name: "h".into(), uid: "u".into() };
    let drive = crate::image::ConfigDrive::build(&host, &Default::default(), Timestamp::UNIX_EPOCH).unwrap();
    let payload = Payload { config_drive: Some(drive.clone()) };
    assert!(!site.boot.ensure_agent(&key(), &write, payload).await.unwrap().already);
    let mut posted = agent.posted("deploy.execute_deploy_step")[0].clone();
    let args = &mut posted["params"]["step"]["args"];
    assert_eq!(args["configdrive"], drive.reveal());
    args["configdrive"] = json!("DRIVE");
    insta::assert_json_snapshot!(posted);
    let missing = Image { checksum: Some(SHA.into()), ..image };
    site.images.ensure(&missing);
    let message = until("the failure", || match site.images.facts(&missing).known() {
        Some(steelyard_core::host::view::ImageFacts::Failed { message, .. }) => Some(message.clone()),
        _ => None,
    })
    .await;
    assert!(message.contains(SHA) && message.contains(&sha) && message.contains("http://10.0.0.1/disk.img"), "{message}");
}

#[tokio::test]
async fn power_off_flushes_first() {
    let (site, agent, _running) = with_agent().await;
    let job = task("op-1", AgentJob::PowerOff, &site);
    assert!(!site.boot.ensure_agent(&key(), &job, Payload::default()).await.unwrap().already);
    let names: Vec<_> = agent.posted.lock().unwrap().iter().map(|b| b["name"].clone()).collect();
    assert_eq!(names, ["standby.sync", "standby.power_off"]);
}

#[tokio::test]
async fn silence_and_impostors_are_unknown_not_failed() {
    let (site, agent, running) = with_agent().await;
    drop(running);
    assert!(site.boot.observe_agent(&key()).await.is_err());
    assert!(matches!(site.boot.agent(&key()).ignorance(), Some(Ignorance::Unreachable(why)) if why.contains("192.168.100.10:9999")));
    // Another machine with another certificate on the same address.
    let token = site.vault.records.lock().unwrap()[&key()].token.reveal().to_owned();
    let (_running, _) = agent.start(&site, &token).await;
    let error = site.boot.observe_agent(&key()).await.unwrap_err();
    assert!(matches!(error, AgentError::Http(crate::http_client::HttpError::Untrusted { .. })), "{error}");
}

#[tokio::test]
async fn a_taken_port_is_named_with_its_fix() {
    let wire = Wire::default();
    let net = wire.host(VIP);
    let _taken = net.udp(([0, 0, 0, 0], 67).into()).await.unwrap();
    let site = Site::with_vault(Wire::default(), Arc::default());
    let world = BootWorld { net, ..site.boot.0.world.clone() };
    let boot = BootServices::new(BootConfig::new(VIP.into(), BootAssets::new()), world);
    let error = tokio::time::timeout(Duration::from_secs(10), boot.run()).await.unwrap().to_string();
    assert!(error.starts_with("DHCP can't listen on 0.0.0.0:67") && error.contains("another DHCP server"), "{error}");
}

#[test]
fn flags_are_checked() {
    let mut config = BootConfig::new(VIP.into(), BootAssets::new());
    assert!(config.check().is_ok());
    assert_eq!(config.url(), URL);
    config.inspector_params = vec!["a b".into()];
    assert!(config.check().unwrap_err().starts_with("--inspector-extra-kernel-param"));
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("vmlinuz"), b"k").unwrap();
    let missing = BootAssets::from_dir(dir.path()).unwrap_err().to_string();
    assert!(missing.contains("initramfs"), "{missing}");
    std::fs::write(dir.path().join("initramfs"), b"i").unwrap();
    assert_eq!(BootAssets::from_dir(dir.path()).unwrap().names().collect::<Vec<_>>(), ["initramfs", "vmlinuz"]);
}
