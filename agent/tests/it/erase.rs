//! Erasing: the right method, evidence, and disks that lie.

use serde_json::{Value, json};
use steelyard_agent::EraseMethod;
use steelyard_agent_api::{CommandResult, CommandStatus, EraseReport};

use crate::bench::Bench;
use crate::machine::{Lie, Machine, NVME, SATA};

const GIB: u64 = 1 << 30;

fn fill(machine: &Machine, name: &str, size: u64) {
    for at in [0, 512, 1 << 20, size / 2, size - 4096] {
        machine.write(name, at, b"tenant data");
    }
}

fn erase(machine: Machine, step: &str, args: Value, node: Value) -> (Bench, CommandResult) {
    let mut bench = Bench::serving(machine);
    let id = bench.step("clean", step, args, node);
    bench.run();
    while bench
        .agent
        .poll_at()
        .is_some_and(|at| at <= bench.now + std::time::Duration::from_secs(2))
    {
        bench.wait();
        bench.run();
    }
    let record = bench.ended(&id);
    (bench, record)
}

fn report(record: &CommandResult) -> EraseReport {
    assert_eq!(record.command_status, CommandStatus::Succeeded, "{record:?}");
    serde_json::from_value(record.command_result.as_ref().unwrap()["clean_result"].clone()).unwrap()
}

fn plain() -> Value {
    json!({"uuid": "u"})
}

#[test]
fn every_disk_by_its_fastest_method_with_evidence() {
    let machine = Machine::new()
        .with_drive("/dev/sda", 20 * GIB, SATA, Lie::None)
        .with_drive("/dev/nvme0n1", 3840 * 1_000_000_000, NVME, Lie::EraseTakesTime)
        .with_drive("/dev/sdb", 40 << 20, &[], Lie::None)
        .with_drive("/dev/sr0", GIB, &[], Lie::None);
    machine.change("/dev/sr0", |drive| drive.device.removable = true);
    for (name, size) in [
        ("/dev/sda", 20 * GIB),
        ("/dev/nvme0n1", 3840 * 1_000_000_000),
        ("/dev/sdb", 40 << 20),
        ("/dev/sr0", GIB),
    ] {
        fill(&machine, name, size);
    }
    let (bench, record) = erase(machine, "erase_devices", json!({}), plain());
    let report = report(&record);
    let methods: Vec<(&str, &str, &str)> = report
        .disks
        .iter()
        .map(|d| {
            (
                d.name.as_str(),
                d.method.as_str(),
                d.verification.expectation.as_str(),
            )
        })
        .collect();
    assert_eq!(
        methods,
        [
            ("/dev/nvme0n1", "nvme-crypto", "changed"),
            ("/dev/sda", "write-zeroes", "zeros"),
            ("/dev/sdb", "overwrite", "zeros"),
        ]
    );
    for disk in &report.disks {
        assert_eq!(disk.verification.canaries, 16);
        // Both ends whole (2 MiB) and a thousand samples of 4 KiB.
        assert!(
            disk.verification.bytes_read >= (2 << 20) + 1024 * 4096,
            "{disk:?}"
        );
        assert!(disk.serial.is_some());
    }
    assert!(bench.machine.is_empty("/dev/sda") && bench.machine.is_empty("/dev/sdb"));
    assert_eq!(
        bench.machine.read("/dev/sr0", 0, 11),
        b"tenant data",
        "removable media are not ours"
    );
    assert_ne!(bench.machine.read("/dev/nvme0n1", 0, 11), b"tenant data");
}

#[test]
fn disks_that_lie_fail_the_step() {
    let size = 20 * GIB;
    for (case, methods, lie, part) in [
        ("does nothing", SATA, Lie::EraseDoesNothing, "is still there"),
        (
            "crypto that does nothing",
            NVME,
            Lie::EraseDoesNothing,
            "is still there",
        ),
        (
            "spares the first MiB",
            SATA,
            Lie::EraseSpares(0, 1 << 20),
            "byte 0 is not zero",
        ),
        (
            "spares the end",
            SATA,
            Lie::EraseSpares(size - (1 << 20), size),
            "is not zero after the erase",
        ),
        (
            "spares a sixteenth",
            SATA,
            Lie::EraseSpares(5 * GIB, 7 * GIB),
            "is still there",
        ),
        ("forgets writes", SATA, Lie::WritesVanish, "the disk is broken"),
        (
            "refuses",
            NVME,
            Lie::EraseFails,
            "agent_continue_if_secure_erase_failed",
        ),
    ] {
        let machine = Machine::new()
            .with_drive("/dev/sda", size, methods, lie)
            .with_drive("/dev/sdb", GIB, SATA, Lie::None);
        fill(&machine, "/dev/sda", size);
        fill(&machine, "/dev/sdb", GIB);
        let (bench, record) = erase(machine, "erase_devices", json!({}), plain());
        assert_eq!(record.command_status, CommandStatus::Failed, "{case}");
        let error = record.command_error.unwrap();
        assert_eq!(error.class, "BlockDeviceEraseError", "{case}");
        assert!(
            error.message.contains(part) && error.message.contains("/dev/sda"),
            "{case}: {}",
            error.message
        );
        assert!(
            bench.machine.is_empty("/dev/sdb"),
            "{case}: the other disks are erased all the same"
        );
    }
}

#[test]
fn a_full_verification_finds_what_a_sample_may_miss() {
    // One spared sector, away from canaries and ends; the sample of this seed does not hit it.
    let spared = Lie::EraseSpares(200 << 20, (200 << 20) + 4096);
    for (verify, status) in [
        ("sample", CommandStatus::Succeeded),
        ("full", CommandStatus::Failed),
    ] {
        let machine = Machine::new().with_drive("/dev/sda", GIB, SATA, spared);
        machine.write("/dev/sda", (200 << 20) + 5, b"tenant data");
        let (_, record) = erase(machine, "erase_devices", json!({"verify": verify}), plain());
        assert_eq!(record.command_status, status, "{verify}: {record:?}");
    }
}

#[test]
fn flags_of_the_node() {
    let drives = |lie| Machine::new().with_drive("/dev/nvme0n1", 64 << 20, NVME, lie);
    let node = |flags: Value| json!({"uuid": "u", "driver_internal_info": flags});
    for (flags, lie, expected) in [
        (
            json!({"agent_enable_nvme_secure_erase": false}),
            Lie::None,
            "overwrite",
        ),
        (
            json!({"agent_continue_if_secure_erase_failed": true}),
            Lie::EraseFails,
            "overwrite",
        ),
        (json!({}), Lie::None, "nvme-crypto"),
    ] {
        let (_, record) = erase(drives(lie), "erase_devices", json!({}), node(flags.clone()));
        assert_eq!(report(&record).disks[0].method, expected, "{flags}");
    }
    let machine = drives(Lie::None).with_drive("/dev/sdb", 64 << 20, &[EraseMethod::WriteZeroes], Lie::None);
    let skip = json!({"uuid": "u", "properties": {"skip_block_devices": [{"name": "/dev/sdb"}]}});
    fill(&machine, "/dev/sdb", 64 << 20);
    let (bench, record) = erase(machine, "erase_devices", json!({}), skip);
    assert_eq!(report(&record).disks.len(), 1);
    assert!(!bench.machine.is_empty("/dev/sdb"));
}

#[test]
fn read_only_disks_are_an_error_unless_left_alone_on_purpose() {
    let machine = || {
        let machine = Machine::new().with_drive("/dev/sda", 64 << 20, SATA, Lie::None);
        machine.change("/dev/sda", |drive| drive.device.read_only = true);
        machine
    };
    let (_, record) = erase(machine(), "erase_devices", json!({}), plain());
    assert!(record.command_error.unwrap().message.contains("read-only"));
    let node = json!({"uuid": "u", "driver_internal_info": {"agent_erase_skip_read_only": true}});
    let (_, record) = erase(machine(), "erase_devices", json!({}), node);
    assert!(report(&record).disks.is_empty());
}

/// A GPT with one partition of this type at 1 MiB.
fn partitioned(machine: &Machine, name: &str, size: u64, kind: gpt::partition_types::Type) {
    let mut device = std::io::Cursor::new(vec![0; size as usize]);
    let mbr = gpt::mbr::ProtectiveMBR::with_lb_size((size / 512 - 1) as u32);
    mbr.overwrite_lba0(&mut device).unwrap();
    let mut disk = gpt::GptConfig::new()
        .writable(true)
        .create_from_device(device, None)
        .unwrap();
    disk.add_partition("p", 8 << 20, kind, 0, Some(2048)).unwrap();
    machine.write(name, 0, &disk.write().unwrap().into_inner());
}

#[test]
fn a_metadata_wipe_clears_tables_and_signatures_only() {
    let size = 64 << 20;
    let machine = Machine::new().with_drive("/dev/sda", size, SATA, Lie::None);
    partitioned(&machine, "/dev/sda", size, gpt::partition_types::LINUX_FS);
    machine.write("/dev/sda", (1 << 20) + 1080, b"\x53\xef");
    machine.write("/dev/sda", 4 << 20, b"file content");
    let (bench, record) = erase(machine, "erase_devices_metadata", json!({}), plain());
    let report = report(&record);
    assert_eq!(report.disks[0].method, "metadata");
    let zero = |at, length: usize| bench.machine.read("/dev/sda", at, length) == vec![0; length];
    assert!(zero(0, 2 << 20), "table and file system signature");
    assert!(zero(size - (1 << 20), 1 << 20), "backup table");
    assert_eq!(bench.machine.read("/dev/sda", 4 << 20, 12), b"file content");
}

#[test]
fn shared_file_systems_are_guarded() {
    let vmfs = gpt::partition_types::Type {
        guid: uuid::uuid!("AA31E02A-400F-11DB-9590-000C2911D1B8"),
        os: gpt::partition_types::OperatingSystem::None,
    };
    let size = 64 << 20;
    let machine = || {
        let machine = Machine::new().with_drive("/dev/sda", size, SATA, Lie::None);
        partitioned(&machine, "/dev/sda", size, vmfs.clone());
        machine
    };
    for step in ["erase_devices", "erase_devices_metadata"] {
        let (bench, record) = erase(machine(), step, json!({}), plain());
        assert_eq!(record.command_error.unwrap().class, "ProtectedDeviceError");
        assert!(!bench.machine.is_empty("/dev/sda"));
    }
    let node = json!({"uuid": "u", "driver_internal_info": {"wipe_special_filesystems": true}});
    let (bench, record) = erase(machine(), "erase_devices", json!({}), node);
    assert_eq!(record.command_status, CommandStatus::Succeeded);
    assert!(bench.machine.is_empty("/dev/sda"));
}
