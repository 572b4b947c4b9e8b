//! Writing images: bytes in chunks, and a disk that boots only when all of them were right.

use std::io::{Cursor, Write};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use steelyard_agent::{Action, BodyMode, Event, HttpEvent, HttpFailure, HttpId};
use steelyard_agent_api::{CommandResult, CommandStatus, ImageWritten};

use crate::bench::{Bench, TOKEN};
use crate::machine::{Lie, Machine, SATA};

const MIB: u64 = 1 << 20;
const SIZE: u64 = 20 << 30;
const URL: &str = "http://svc:8080/images/noble.img";

/// A GPT image of 4 MiB whose second partition area has recognisable content.
fn image() -> Vec<u8> {
    let size = 4 * MIB;
    let mut device = Cursor::new(vec![0; size as usize]);
    gpt::mbr::ProtectiveMBR::with_lb_size((size / 512 - 1) as u32)
        .overwrite_lba0(&mut device)
        .unwrap();
    let mut disk = gpt::GptConfig::new()
        .writable(true)
        .create_from_device(device, None)
        .unwrap();
    disk.add_partition("root", 2 * MIB, gpt::partition_types::LINUX_FS, 0, Some(2048))
        .unwrap();
    let mut bytes = disk.write().unwrap().into_inner();
    for at in (MIB..3 * MIB).step_by(4096) {
        bytes[at as usize..at as usize + 8].copy_from_slice(&at.to_be_bytes());
    }
    bytes
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn drive(label: &str) -> String {
    let mut iso = vec![0x11; 400 * 1024];
    iso[32768..32774].copy_from_slice(b"\x01CD001");
    iso[32768 + 40..32768 + 72].copy_from_slice(format!("{label:<32}").as_bytes());
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(&iso).unwrap();
    STANDARD.encode(gz.finish().unwrap())
}

struct Deploy {
    bench: Bench,
    id: String,
}

impl Deploy {
    fn start(lie: Lie, image_info: Value, configdrive: Value) -> Self {
        let machine = Machine::new().with_drive("/dev/sda", SIZE, SATA, lie);
        Self::on(machine, image_info, configdrive, json!({"uuid": "u"}))
    }

    fn on(machine: Machine, info: Value, configdrive: Value, node: Value) -> Self {
        let mut image_info = json!({"id": "noble", "urls": [URL], "disk_format": "raw"});
        for (key, value) in info.as_object().unwrap() {
            image_info[key] = value.clone();
        }
        let mut bench = Bench::serving(machine);
        let args = json!({"image_info": image_info, "configdrive": configdrive});
        let id = bench.step("deploy", "write_image", args, node);
        bench.run();
        Self { bench, id }
    }

    /// The download that the agent asks for.
    fn get(&mut self, url: &str) -> HttpId {
        let request = self.bench.http();
        assert_eq!((request.method, request.url.as_str()), ("GET", url));
        request.id
    }

    fn event(&mut self, id: HttpId, event: HttpEvent) {
        self.bench.event(Event::Http(id, event));
        self.bench.run();
    }

    fn send(&mut self, id: HttpId, body: &[u8], length: Option<u64>) {
        self.event(id, HttpEvent::Head { status: 200, length });
        // Odd pieces: nothing may depend on how the network cuts.
        for piece in body.chunks(77_777) {
            self.event(id, HttpEvent::Chunk(Bytes::copy_from_slice(piece)));
        }
        self.event(id, HttpEvent::End);
    }

    fn ended(&mut self) -> CommandResult {
        self.bench.ended(&self.id)
    }

    fn succeeded(&mut self) -> ImageWritten {
        let record = self.ended();
        assert_eq!(record.command_status, CommandStatus::Succeeded, "{record:?}");
        serde_json::from_value(record.command_result.unwrap()["deploy_result"].clone()).unwrap()
    }

    fn failed(&mut self) -> (String, String) {
        let record = self.ended();
        assert_eq!(record.command_status, CommandStatus::Failed, "{record:?}");
        let error = record.command_error.unwrap();
        (error.class, error.message)
    }

    /// Neither a table nor anything else at either end of the disk.
    fn is_unbootable(&self) -> bool {
        let zero = |at| self.bench.machine.read("/dev/sda", at, MIB as usize) == vec![0; MIB as usize];
        zero(0) && zero(SIZE - MIB)
    }
}

fn open(bench: &Bench) -> gpt::GptDisk<Cursor<Vec<u8>>> {
    // The gpt crate wants a whole disk; what lies between is cut out, with the primary table only.
    let head = bench.machine.read("/dev/sda", 0, 4 * MIB as usize);
    gpt::GptConfig::new()
        .only_valid_headers(false)
        .open_from_device(Cursor::new(head))
        .unwrap()
}

#[test]
fn an_image_and_its_config_drive() {
    let image = image();
    let mut deploy = Deploy::start(
        Lie::None,
        json!({"checksum": sha256(&image)}),
        json!(drive("config-2")),
    );
    let machine = deploy.bench.machine.clone();
    let id = deploy.get(URL);
    deploy.send(id, &image, Some(image.len() as u64));
    let report = deploy.succeeded();
    assert_eq!((report.device.as_str(), report.bytes), ("/dev/sda", 4 * MIB));
    assert_eq!(
        (report.algorithm.as_str(), report.digest),
        ("sha256", sha256(&image))
    );
    assert_eq!(report.configdrive_bytes, Some(400 * 1024));
    assert!(
        report.result.contains("root_uuid=0x00000000"),
        "{}",
        report.result
    );
    assert_eq!(machine.read("/dev/sda", 2 * MIB, 8), (2 * MIB).to_be_bytes());

    let disk = open(&deploy.bench);
    let header = disk.primary_header().unwrap();
    assert_eq!(
        header.backup_lba,
        SIZE / 512 - 1,
        "the backup is at the end of this disk"
    );
    let config = &disk.partitions()[&2];
    assert_eq!(config.name, "config-2");
    assert_eq!(config.last_lba, SIZE / 512 - 34);
    assert_eq!(
        machine.read("/dev/sda", config.first_lba * 512 + 32769, 5),
        b"CD001"
    );
    assert_eq!(machine.read("/dev/sda", SIZE - 512, 8), b"EFI PART");
    let (_, uuids) = deploy.bench.command("standby.get_partition_uuids", json!({}));
    assert_eq!(uuids["command_result"]["root uuid"], "0x00000000");
}

#[test]
fn until_the_last_write_nothing_boots() {
    let image = image();
    let mut deploy = Deploy::start(Lie::None, json!({"checksum": sha256(&image)}), Value::Null);
    // What an earlier owner left must not boot either while we write.
    let id = deploy.get(URL);
    deploy.event(
        id,
        HttpEvent::Head {
            status: 200,
            length: None,
        },
    );
    for piece in image.chunks(100_000) {
        deploy.event(id, HttpEvent::Chunk(Bytes::copy_from_slice(piece)));
        assert!(deploy.is_unbootable());
    }
    deploy.event(id, HttpEvent::End);
    assert!(!deploy.is_unbootable());
    deploy.succeeded();
}

#[test]
fn a_wrong_checksum_names_both_and_leaves_nothing_bootable() {
    let image = image();
    let wrong = "ab".repeat(32);
    let machine = Machine::new().with_drive("/dev/sda", SIZE, SATA, Lie::None);
    // An old table at both ends.
    machine.write("/dev/sda", 510, &[0x55, 0xaa]);
    machine.write("/dev/sda", SIZE - 512, b"EFI PART");
    let mut deploy = Deploy::on(
        machine,
        json!({"checksum": wrong}),
        json!(drive("config-2")),
        json!({"uuid": "u"}),
    );
    let id = deploy.get(URL);
    deploy.send(id, &image, None);
    let (class, message) = deploy.failed();
    assert_eq!(class, "ImageChecksumError");
    assert!(
        message.contains(&wrong) && message.contains(&sha256(&image)),
        "{message}"
    );
    assert!(deploy.is_unbootable());
}

#[test]
fn a_wrong_image_that_fills_the_disk_leaves_no_backup_table_either() {
    // The image's own backup table is in the last sector of this disk: firmware would boot by it.
    let image = image();
    let size = image.len() as u64;
    let machine = Machine::new().with_drive("/dev/sda", size, SATA, Lie::None);
    let node = json!({"uuid": "u", "instance_info": {"root_device": {"name": "/dev/sda"}}});
    let mut deploy = Deploy::on(machine, json!({"checksum": "ab".repeat(32)}), Value::Null, node);
    let id = deploy.get(URL);
    deploy.send(id, &image, Some(size));
    assert_eq!(deploy.failed().0, "ImageChecksumError");
    let read = |at| deploy.bench.machine.read("/dev/sda", at, MIB as usize);
    assert!(read(0) == vec![0; MIB as usize] && read(size - MIB) == vec![0; MIB as usize]);
}

#[test]
fn checksums_from_a_file() {
    let image = image();
    let sums = format!("{}  other.img\n{} *noble.img\n", "c".repeat(64), sha256(&image));
    let url = "http://svc:8080/images/SHA256SUMS";
    for (body, expected) in [
        (sums.as_str(), None),
        ("# nothing here\n", Some("is empty")),
        ("a b\nc d\n", Some("none for")),
    ] {
        let mut deploy = Deploy::start(Lie::None, json!({"checksum": url}), Value::Null);
        let id = deploy.get(url);
        let body = Bytes::from(body.to_owned());
        deploy.event(id, HttpEvent::Response { status: 200, body });
        match expected {
            None => {
                let id = deploy.get(URL);
                deploy.send(id, &image, None);
                deploy.succeeded();
            }
            Some(part) => {
                let (class, message) = deploy.failed();
                assert_eq!(class, "ImageChecksumError");
                assert!(message.contains(part) && message.contains(url), "{message}");
            }
        }
    }
}

#[test]
fn other_formats_are_refused() {
    // Declared, then lied about.
    let mut deploy = Deploy::start(
        Lie::None,
        json!({"checksum": "a".repeat(64), "disk_format": "qcow2"}),
        Value::Null,
    );
    let (class, message) = deploy.failed();
    assert_eq!(class, "InvalidImage");
    assert!(message.contains("qcow2") && message.contains("raw"), "{message}");
    assert!(
        deploy
            .bench
            .out
            .iter()
            .all(|action| !matches!(action, Action::Http(r) if r.url == URL))
    );

    let mut deploy = Deploy::start(Lie::None, json!({"checksum": "a".repeat(64)}), Value::Null);
    let id = deploy.get(URL);
    deploy.event(
        id,
        HttpEvent::Head {
            status: 200,
            length: None,
        },
    );
    deploy.event(id, HttpEvent::Chunk(Bytes::from_static(b"QF")));
    deploy.event(id, HttpEvent::Chunk(Bytes::from_static(b"I\xfb\0\0\0\x03")));
    let (class, message) = deploy.failed();
    assert_eq!(class, "InvalidImage");
    assert!(message.contains("qemu-img convert -O raw"), "{message}");
    assert!(
        deploy
            .bench
            .out
            .iter()
            .any(|action| matches!(action, Action::CancelHttp(of) if *of == id))
    );
    assert!(deploy.is_unbootable());
}

#[test]
fn an_image_without_a_partition_table_is_refused() {
    let body = vec![7; 3 * MIB as usize];
    let mut deploy = Deploy::start(Lie::None, json!({"checksum": sha256(&body)}), Value::Null);
    let id = deploy.get(URL);
    deploy.send(id, &body, None);
    let (class, message) = deploy.failed();
    assert_eq!(class, "DeploymentError");
    assert!(message.contains("no partition table"), "{message}");
    assert!(deploy.is_unbootable());
}

#[test]
fn broken_transfers_are_repeated_and_refusals_are_not() {
    let image = image();
    let broken = |why: &str| HttpEvent::Failed {
        kind: HttpFailure::Broken,
        why: why.to_owned(),
    };
    let mut deploy = Deploy::start(Lie::None, json!({"checksum": sha256(&image)}), Value::Null);
    let first = deploy.get(URL);
    deploy.event(
        first,
        HttpEvent::Head {
            status: 200,
            length: None,
        },
    );
    deploy.event(
        first,
        HttpEvent::Chunk(Bytes::copy_from_slice(&image[..2 * MIB as usize])),
    );
    deploy.event(first, broken("reset"));
    // A late piece of the old transfer must not end up in the new one.
    deploy.event(first, HttpEvent::Chunk(Bytes::from_static(b"late")));
    assert_eq!(pause(&mut deploy), Duration::from_secs(10));
    let second = deploy.get(URL);
    deploy.event(
        second,
        HttpEvent::Head {
            status: 503,
            length: None,
        },
    );
    assert!(matches!(deploy.bench.out.pop_front(), Some(Action::CancelHttp(of)) if of == second));
    pause(&mut deploy);
    let third = deploy.get(URL);
    deploy.send(third, &image[..3 * MIB as usize], Some(image.len() as u64));
    pause(&mut deploy);
    let fourth = deploy.get(URL);
    deploy.send(fourth, &image, Some(image.len() as u64));
    deploy.succeeded();

    let mut deploy = Deploy::start(Lie::None, json!({"checksum": sha256(&image)}), Value::Null);
    let id = deploy.get(URL);
    deploy.event(
        id,
        HttpEvent::Head {
            status: 404,
            length: None,
        },
    );
    let (class, message) = deploy.failed();
    assert_eq!(class, "ImageDownloadError");
    assert!(message.contains(URL) && message.contains("404"), "{message}");

    let mut deploy = Deploy::start(Lie::None, json!({"checksum": sha256(&image)}), Value::Null);
    for _ in 0..9 {
        let id = deploy.get(URL);
        deploy.event(id, broken("refused"));
        pause(&mut deploy);
    }
    let id = deploy.get(URL);
    deploy.event(id, broken("refused"));
    assert!(deploy.failed().1.contains("attempt 10 of 10"));
}

/// Waits for the retry, answering heartbeats that come before it.
fn pause(deploy: &mut Deploy) -> Duration {
    let began = deploy.bench.now;
    loop {
        deploy.bench.wait();
        match deploy.bench.out.front() {
            Some(Action::Http(request)) if request.url.contains("heartbeat") => {
                let beat = deploy.bench.http();
                deploy.bench.answer(beat.id, 202, json!({}));
            }
            _ => return deploy.bench.now - began,
        }
    }
}

#[test]
fn sizes_are_checked_before_they_hurt() {
    let machine = Machine::new().with_drive("/dev/sda", 5 << 30, SATA, Lie::None);
    let mut deploy = Deploy::on(
        machine,
        json!({"checksum": "a".repeat(64)}),
        Value::Null,
        json!({"uuid": "u"}),
    );
    let id = deploy.get(URL);
    deploy.event(
        id,
        HttpEvent::Head {
            status: 200,
            length: Some(6 << 30),
        },
    );
    let (class, message) = deploy.failed();
    assert_eq!(class, "ImageWriteError");
    assert!(
        message.contains("6442450944") && message.contains("5368709120"),
        "{message}"
    );
}

#[test]
fn a_disk_that_forgets_what_is_written_fails() {
    let image = image();
    let mut deploy = Deploy::start(
        Lie::WritesVanish,
        json!({"checksum": sha256(&image)}),
        Value::Null,
    );
    let id = deploy.get(URL);
    deploy.send(id, &image, None);
    let (class, message) = deploy.failed();
    assert_eq!(class, "ImageWriteError");
    assert!(message.contains("reads back different"), "{message}");
}

#[test]
fn config_drives_by_url_and_wrong_ones() {
    let image = image();
    let url = "http://svc:8080/configdrive/1";
    let mut deploy = Deploy::start(Lie::None, json!({"checksum": sha256(&image)}), json!(url));
    let id = deploy.get(url);
    deploy.event(
        id,
        HttpEvent::Response {
            status: 200,
            body: Bytes::from(drive("CONFIG-2")),
        },
    );
    let id = deploy.get(URL);
    deploy.send(id, &image, None);
    assert_eq!(deploy.succeeded().configdrive_bytes, Some(400 * 1024));

    let mut deploy = Deploy::start(
        Lie::None,
        json!({"checksum": sha256(&image)}),
        json!(drive("cidata")),
    );
    let (class, message) = deploy.failed();
    assert_eq!(class, "InstanceDeployFailure");
    assert!(message.contains("cidata"), "{message}");
}

#[test]
fn hints_choose_the_disk() {
    let image = image();
    let machine = Machine::new()
        .with_drive("/dev/sda", 3 << 30, SATA, Lie::None)
        .with_drive("/dev/sdb", SIZE, SATA, Lie::None)
        .with_drive("/dev/sdc", SIZE, SATA, Lie::None);
    let node = json!({"uuid": "u", "instance_info": {"root_device": {"serial": "s== s-/dev/sdc"}}});
    let mut deploy = Deploy::on(machine, json!({"checksum": sha256(&image)}), Value::Null, node);
    let id = deploy.get(URL);
    deploy.send(id, &image, None);
    assert_eq!(deploy.succeeded().device, "/dev/sdc");
    assert!(deploy.bench.machine.is_empty("/dev/sdb"));
}

#[test]
fn the_old_entry_point_and_credentials() {
    let image = image();
    let machine = Machine::new().with_drive("/dev/sda", SIZE, SATA, Lie::None);
    let mut bench = Bench::serving(machine);
    let info = json!({"id": "noble", "urls": [URL], "os_hash_algo": "sha256", "os_hash_value": sha256(&image),
        "image_server_auth_strategy": "http_basic", "image_server_user": "u", "image_server_password": "p"});
    let (_, record) = bench.command("standby.prepare_image", json!({"image_info": info}));
    assert_eq!(record["command_status"], "RUNNING");
    bench.run();
    let request = bench.http();
    assert_eq!(request.mode, BodyMode::Chunks);
    assert_eq!(
        request.headers,
        [("Authorization", format!("Basic {}", STANDARD.encode("u:p")))]
    );
    assert!(
        !format!("{request:?}").contains("Basic"),
        "credentials are not shown"
    );
    let mut deploy = Deploy {
        bench,
        id: record["id"].as_str().unwrap().to_owned(),
    };
    deploy.send(request.id, &image, None);
    let record = deploy.ended();
    let text = record.command_result.unwrap()["result"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(
        text.starts_with("prepare_image: image (noble) written to device /dev/sda root_uuid="),
        "{text}"
    );
    let (_, list) = deploy
        .bench
        .call("GET", &format!("/v1/commands/?agent_token={TOKEN}"), "");
    assert_eq!(list["commands"].as_array().unwrap().len(), 1);
}
