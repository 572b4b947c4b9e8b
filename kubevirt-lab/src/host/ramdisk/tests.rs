//! The whole ramdisk against a small Ironic: real HTTP, real TLS, in-memory streams.

use std::convert::Infallible;
use std::io::{Cursor, Write};
use std::sync::Mutex;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hadris_iso::read::PathSeparator;
use hadris_iso::write::options::{CreationFeatures, IsoFormatOptions};
use hadris_iso::write::{File, InputFiles, IsoImageWriter};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use tokio::io::DuplexStream;

use super::*;
use crate::host::disk::{BlockPool, DiskModel, Transport};
use crate::host::image::{NotBootable, OsImage, artefacts, boot_disk, os_image, sha256sums};
use crate::host::iso::find_config_drive;

const TOKEN: &str = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFG";
const HOST: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 168, 100, 10));
const CMDLINE: &str = "nofb ipa-api-url=http://192.168.100.4:8080 \
    ipa-inspection-callback-url=http://192.168.100.4:8080/v1/continue_inspection BOOTIF=52-54-00-00-00-01";

/// Both directions of a network with two machines.
struct Wire {
    to_service: mpsc::UnboundedSender<DuplexStream>,
    to_agent: mpsc::UnboundedSender<DuplexStream>,
    agent: Mutex<Option<mpsc::UnboundedReceiver<DuplexStream>>>,
}

struct Listener(mpsc::UnboundedReceiver<DuplexStream>);

impl HostListener for Listener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Box<dyn HostStream>, SocketAddr)>> {
        Box::pin(async {
            let stream = self.0.recv().await.ok_or(io::ErrorKind::NotConnected)?;
            Ok((Box::new(stream) as Box<dyn HostStream>, SocketAddr::new(HOST, 1)))
        })
    }
}

impl HostNet for Wire {
    fn source(&self, _: IpAddr) -> Option<IpAddr> {
        Some(HOST)
    }

    fn connect(&self, to: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn HostStream>>> {
        Box::pin(async move {
            if to != "192.168.100.4:8080".parse().unwrap() {
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            let (near, far) = tokio::io::duplex(16 * 1024);
            self.to_service
                .send(far)
                .map_err(|_| io::ErrorKind::ConnectionRefused)?;
            Ok(Box::new(near) as Box<dyn HostStream>)
        })
    }

    fn listen(&self, bind: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn HostListener>>> {
        Box::pin(async move {
            assert_eq!(bind.port(), 9999);
            let agent = self
                .agent
                .lock()
                .unwrap()
                .take()
                .ok_or(io::ErrorKind::AddrInUse)?;
            Ok(Box::new(Listener(agent)) as Box<dyn HostListener>)
        })
    }
}

/// What the service saw, and what it serves.
#[derive(Default)]
struct Ironic {
    image: Vec<u8>,
    sums: String,
    inspections: Vec<Value>,
    lookups: usize,
}

struct Rack {
    wire: Arc<Wire>,
    ironic: Arc<Mutex<Ironic>>,
    beats: mpsc::UnboundedReceiver<Value>,
    tasks: JoinSet<()>,
}

impl Rack {
    fn new(image: Vec<u8>) -> Self {
        let (to_service, mut connections) = mpsc::unbounded_channel();
        let (to_agent, agent) = mpsc::unbounded_channel();
        let (seen, beats) = mpsc::unbounded_channel();
        let sums = sha256sums(&[("os.img", &image)]);
        let ironic = Arc::new(Mutex::new(Ironic {
            image,
            sums,
            ..Ironic::default()
        }));
        let wire = Arc::new(Wire {
            to_service,
            to_agent,
            agent: Mutex::new(Some(agent)),
        });
        let mut tasks = JoinSet::new();
        let state = ironic.clone();
        tasks.spawn(async move {
            let mut serving = JoinSet::new();
            while let Some(stream) = connections.recv().await {
                let (state, seen) = (state.clone(), seen.clone());
                serving.spawn(async move {
                    let service = service_fn(move |request| answer(request, state.clone(), seen.clone()));
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self {
            wire,
            ironic,
            beats,
            tasks,
        }
    }

    /// The next heartbeat.
    async fn beat(&mut self) -> Value {
        tokio::time::timeout(Duration::from_secs(20), self.beats.recv())
            .await
            .expect("a heartbeat")
            .unwrap()
    }

    /// Calls the agent as a service does that pins the certificate of the heartbeat.
    async fn call(&self, beat: &Value, method: &str, target: &str, body: Value) -> (u16, Value) {
        let pem = beat["agent_verify_ca"].as_str().unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap())
            .unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let (near, far) = tokio::io::duplex(16 * 1024);
        self.wire.to_agent.send(far).unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(tls));
        let stream = connector
            .connect(ServerName::from(HOST), near)
            .await
            .expect("the pinned certificate is right");
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let _ = connection.await;
        });
        let request = http::Request::builder()
            .method(method)
            .uri(target)
            .header("host", "192.168.100.10:9999")
            .body(Full::new(Bytes::from(body.to_string())))
            .unwrap();
        let response = sender.send_request(request).await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap())
    }

    async fn command(&self, beat: &Value, name: &str, params: Value, wait: bool) -> Value {
        let target = format!("/v1/commands/?wait={wait}&agent_token={TOKEN}");
        let (status, record) = self
            .call(beat, "POST", &target, json!({"name": name, "params": params}))
            .await;
        assert_eq!(status, 200, "{record}");
        record
    }
}

async fn answer(
    request: http::Request<Incoming>,
    state: Arc<Mutex<Ironic>>,
    seen: mpsc::UnboundedSender<Value>,
) -> Result<http::Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body
        .collect()
        .await
        .map(|body| body.to_bytes())
        .unwrap_or_default();
    let json_body = || serde_json::from_slice::<Value>(&body).unwrap();
    let mut ironic = state.lock().unwrap();
    let (status, body) = match head.uri.path() {
        "/" => (
            200,
            json!({"default_version": {"version": "1.109"}})
                .to_string()
                .into_bytes(),
        ),
        "/v1/continue_inspection" => {
            ironic.inspections.push(json_body());
            (202, json!({"uuid": "node-1"}).to_string().into_bytes())
        }
        "/v1/lookup" => {
            ironic.lookups += 1;
            let token = if ironic.lookups == 1 { TOKEN } else { "******" };
            let config = json!({"heartbeat_timeout": 4, "agent_token": token});
            (
                200,
                json!({"node": {"uuid": "node-1"}, "config": config})
                    .to_string()
                    .into_bytes(),
            )
        }
        "/v1/heartbeat/node-1" => {
            seen.send(json_body()).unwrap();
            (202, b"{}".to_vec())
        }
        "/images/os.img" => (200, ironic.image.clone()),
        "/images/SHA256SUMS" => (200, ironic.sums.clone().into_bytes()),
        _ => (404, b"{}".to_vec()),
    };
    let mut response = http::Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = http::StatusCode::from_u16(status).unwrap();
    Ok(response)
}

fn disk() -> Disk {
    let model = DiskModel {
        name: "/dev/nvme0n1".to_owned(),
        vendor: Some("Samsung".to_owned()),
        model: "PM9A3".to_owned(),
        serial: "S1".to_owned(),
        wwn: Some("eui.1".to_owned()),
        size: 1_920_000_000_000,
        rotational: false,
        transport: Transport::Nvme,
        logical_sector: 512,
    };
    Disk::new(model, &BlockPool::default())
}

fn boot(rack: &Rack, disk: &Disk, cmdline: &str) -> Boot {
    let artefacts = artefacts(1).unwrap();
    let nic = Nic {
        name: "eth0".to_owned(),
        mac: [0x52, 0x54, 0, 0, 0, 1],
        link: true,
        address: Some(HOST),
        speed_mbps: 25_000,
        driver: "mlx5_core".to_owned(),
        pci_address: None,
        vendor: None,
        product: None,
    };
    Boot {
        cmdline: cmdline.to_owned(),
        kernel: artefacts.kernel,
        initrd: artefacts.initrd,
        hardware: Hardware {
            hostname: "bare-metal-1".to_owned(),
            cpu: Cpu {
                count: 128,
                ..Cpu::default()
            },
            memory: 512 << 30,
            nics: vec![nic],
            disks: vec![disk.clone()],
            pci: vec![PciDevice {
                class: "030200".to_owned(),
                ..PciDevice::default()
            }],
            bmc_address: Some(IpAddr::from([127, 100, 1, 1])),
            bmc_mac: None,
            system: SystemVendor::default(),
            uefi: true,
        },
        net: rack.wire.clone(),
        seed: 3,
        wall_clock: jiff::Timestamp::now(),
    }
}

fn config_drive() -> String {
    let file = |name: &str, contents: &[u8]| File::File {
        name: Arc::new(name.to_owned()),
        contents: contents.to_vec(),
    };
    let folder = |name: &str, children| File::Directory {
        name: Arc::new(name.to_owned()),
        children,
    };
    let latest = vec![
        file("meta_data.json", b"{}"),
        file("user_data", b"#cloud-config\n# join-secret\n"),
    ];
    let options = IsoFormatOptions {
        volume_name: "config-2".to_owned(),
        system_id: None,
        volume_set_id: None,
        publisher_id: None,
        preparer_id: None,
        application_id: None,
        sector_size: 2048,
        path_separator: PathSeparator::ForwardSlash,
        strict_charset: false,
        features: CreationFeatures::extensions(),
    };
    let files = InputFiles {
        path_separator: PathSeparator::ForwardSlash,
        files: vec![folder("openstack", vec![folder("latest", latest)])],
    };
    let iso = IsoImageWriter::create(Cursor::new(vec![0; 1 << 20]), files, options)
        .unwrap()
        .into_inner();
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(&iso).unwrap();
    STANDARD.encode(gz.finish().unwrap())
}

fn image(seed: u64) -> Vec<u8> {
    let cloud_init = vec!["runcmd".to_owned()];
    os_image(&OsImage {
        name: "Ubuntu".to_owned(),
        version: "24.04".to_owned(),
        cloud_init,
        seed,
    })
    .unwrap()
}

fn step(kind: &str, name: &str, args: Value) -> Value {
    let mut params = json!({"step": {"step": name, "interface": "deploy", "args": args}, "node": {"uuid": "node-1"}, "ports": []});
    params[format!("{kind}_version")] = Value::Null;
    params
}

/// Runs the ramdisk beside what the test does, and gives back what both came to.
async fn beside<T>(boot: Boot, work: impl Future<Output = T>) -> (Result<Next, RamdiskError>, T) {
    let both = futures::future::join(run(boot), work);
    tokio::time::timeout(Duration::from_secs(60), both)
        .await
        .expect("the ramdisk ends")
}

#[tokio::test]
async fn a_host_is_erased_written_and_powered_off() {
    let mut rack = Rack::new(image(1));
    let disk = disk();
    // A former tenant's disk.
    disk.write_at(0, &image(9)).unwrap();
    let area = boot_disk(&disk).unwrap().root.unwrap();
    disk.write_at(area.start + 1_000_000, b"former-tenant").unwrap();
    assert!(disk.find(b"former-tenant").is_some());

    let boot = boot(&rack, &disk, CMDLINE);
    let work = async {
        let beat = rack.beat().await;
        assert_eq!(beat["callback_url"], "https://192.168.100.10:9999");
        assert_eq!(beat["agent_token"], TOKEN);
        let (status, _) = rack
            .call(&beat, "GET", "/v1/commands/?agent_token=wrong", json!({}))
            .await;
        assert_eq!(status, 401);

        let erased = rack
            .command(
                &beat,
                "clean.execute_clean_step",
                step("clean", "erase_devices", json!({})),
                true,
            )
            .await;
        assert_eq!(erased["command_status"], "SUCCEEDED", "{erased}");
        let evidence = &erased["command_result"]["clean_result"]["disks"][0];
        assert_eq!(
            (&evidence["method"], &evidence["serial"]),
            (&json!("nvme-crypto"), &json!("S1"))
        );
        assert_eq!(
            disk.find(b"former-tenant"),
            None,
            "nothing of it is in any raw block"
        );
        assert_eq!(boot_disk(&disk), Err(NotBootable::NoTable));

        let info = json!({"id": "ubuntu", "urls": ["http://192.168.100.4:8080/images/os.img"],
            "checksum": "http://192.168.100.4:8080/images/SHA256SUMS", "disk_format": "raw"});
        let args = json!({"image_info": info, "configdrive": config_drive()});
        let record = rack
            .command(
                &beat,
                "deploy.execute_deploy_step",
                step("deploy", "write_image", args),
                false,
            )
            .await;
        assert_eq!(record["command_status"], "RUNNING");
        // The end of a command forces a heartbeat; then the service reads the list.
        let written = loop {
            let beat = rack.beat().await;
            let target = format!("/v1/commands/?agent_token={TOKEN}");
            let (_, list) = rack.call(&beat, "GET", &target, json!({})).await;
            let last = list["commands"].as_array().unwrap().last().unwrap().clone();
            if last["command_status"] != "RUNNING" {
                break last;
            }
        };
        assert_eq!(written["command_status"], "SUCCEEDED", "{written}");
        assert_eq!(written["command_result"]["deploy_step"]["step"], "write_image");

        let off = rack.command(&beat, "standby.power_off", json!({}), true).await;
        assert_eq!(off["command_status"], "SUCCEEDED");
    };
    let (next, ()) = beside(boot, work).await;
    assert_eq!(next.unwrap(), Next::PowerOff);
    rack.tasks.shutdown().await;

    let manifest = boot_disk(&disk).unwrap();
    assert_eq!(manifest.name, "Ubuntu");
    assert!(manifest.root.is_some());
    let drive = find_config_drive(&disk).expect("the config drive is found again");
    assert_eq!(
        drive.latest("user_data"),
        Some(&b"#cloud-config\n# join-secret\n"[..])
    );
    let ironic = rack.ironic.lock().unwrap();
    let inventory = &ironic.inspections[0]["inventory"];
    assert_eq!(inventory["interfaces"][0]["mac_address"], "52:54:00:00:00:01");
    assert_eq!(inventory["disks"][0]["size"], 1_920_000_000_000u64);
    assert_eq!(ironic.inspections[0]["pci_devices"][0]["class"], "030200");
    assert_eq!(ironic.inspections[0]["boot_interface"], "52:54:00:00:00:01");
    assert_eq!(ironic.lookups, 1);
}

#[tokio::test]
async fn a_wrong_checksum_leaves_a_disk_that_does_not_boot() {
    let mut rack = Rack::new(image(1));
    let disk = disk();
    disk.write_at(0, &image(9)).unwrap();
    let boot = boot(&rack, &disk, CMDLINE);
    let work = async {
        let beat = rack.beat().await;
        let info = json!({"id": "ubuntu", "urls": ["http://192.168.100.4:8080/images/os.img"], "checksum": "ab".repeat(32)});
        let args = json!({"image_info": info});
        let record = rack
            .command(
                &beat,
                "deploy.execute_deploy_step",
                step("deploy", "write_image", args),
                true,
            )
            .await;
        assert_eq!(record["command_error"]["type"], "ImageChecksumError", "{record}");
        rack.command(&beat, "standby.run_image", json!({}), false).await;
    };
    let (next, ()) = beside(boot, work).await;
    assert_eq!(next.unwrap(), Next::Reboot);
    assert_eq!(boot_disk(&disk), Err(NotBootable::NoTable));
    rack.tasks.shutdown().await;
}

#[tokio::test]
async fn foreign_artefacts_and_useless_command_lines_do_not_start() {
    let rack = Rack::new(Vec::new());
    let mut broken = boot(&rack, &disk(), CMDLINE);
    broken.initrd = broken.initrd.slice(..1000);
    assert!(matches!(run(broken).await, Err(RamdiskError::Artefact(_))));
    let lost = boot(&rack, &disk(), "quiet");
    let error = run(lost).await.unwrap_err().to_string();
    assert!(error.contains("ipa-api-url"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_finds_nobody_starts_again() {
    let rack = Rack::new(Vec::new());
    // Nobody listens there: lookup gives up after its timeout, the service manager starts the agent again, and so on.
    let cmdline = "ipa-api-url=http://192.168.100.5:8080 ipa-lookup-timeout=30";
    let lonely = run(boot(&rack, &disk(), cmdline));
    assert!(
        tokio::time::timeout(Duration::from_secs(3600), lonely)
            .await
            .is_err(),
        "it never gives up for good"
    );
}

#[tokio::test]
async fn an_agent_that_lost_its_token_locks_itself_down() {
    let mut rack = Rack::new(Vec::new());
    rack.ironic.lock().unwrap().lookups = 1;
    let work = run(boot(&rack, &disk(), CMDLINE));
    let ended = tokio::time::timeout(Duration::from_secs(3), work).await;
    assert!(ended.is_err(), "it does nothing for ever");
    assert_eq!(rack.ironic.lock().unwrap().lookups, 2);
    assert!(rack.beats.try_recv().is_err(), "and does not serve");
}
