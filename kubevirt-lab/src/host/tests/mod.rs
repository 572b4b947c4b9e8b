//! A whole machine on a cable with a boot server of the tests' own: firmware, iPXE, ramdisk, OS, join.

mod bmc;
mod boot;
mod join;
mod site;

use std::io::Cursor;
use std::sync::Arc;
use std::time::Duration;

use hadris_iso::read::PathSeparator;
use hadris_iso::write::options::{CreationFeatures, IsoFormatOptions};
use hadris_iso::write::{File, InputFiles, IsoImageWriter};
use sim_bmc::{Hardware, Identity, Mac, Personality};
use uuid::Uuid;

use super::chassis::{Chassis, Now};
use super::console::Console;
use super::disk::{BlockPool, Disk};
use super::image::{OsImage, os_image};
use super::timing::Timing;
use super::{Host, HostConfig, Plug, hardware};
use crate::net::{Cable, cable};

/// Two NVMe drives, two NICs.
pub(super) fn machine() -> Arc<Hardware> {
    let macs = (1..=2).map(|last| Mac([0x52, 0x54, 0, 0, 0, last])).collect();
    let identity = Identity {
        serial: "SN1".to_owned(),
        uuid: Uuid::from_u128(7),
        macs,
        bmc_mac: Mac([0x52, 0x54, 0, 0, 1, 0]),
    };
    Arc::new(
        Personality::named("cpu-epyc")
            .unwrap()
            .hardware(&identity)
            .unwrap(),
    )
}

/// The wall clock that runs in step with tokio's, also when that is paused.
pub(super) fn clock() -> Now {
    let (start, wall) = (tokio::time::Instant::now(), jiff::Timestamp::now());
    Arc::new(move || wall + start.elapsed())
}

/// A chassis for tests of the OS' parts, whose first disk has a root partition at `rootfs::tests::AREA`.
pub(super) fn chassis() -> Chassis {
    Chassis {
        name: "host-1".into(),
        hardware: machine(),
        disks: vec![super::rootfs::tests::disk()],
        console: Console::default(),
        timing: Timing::lab(),
        clock: clock(),
        seed: 1,
        bmc: None,
        bmc_address: None,
        report: Arc::new(|_, _| {}),
    }
}

/// A host whose first NIC is on the other end of the cable.
fn host() -> (Host, Cable) {
    let (near, far) = cable(512);
    let hardware = machine();
    let nic = hardware.nics[0].id.clone();
    let config = HostConfig {
        name: "host-1".to_owned(),
        hardware,
        seed: 1,
        timing: Timing::lab(),
        clock: clock(),
        bmc_address: None,
        pool: BlockPool::default(),
    };
    (Host::new(config, vec![(nic, Plug::Cable(near))]), far)
}

fn install(disk: &Disk) {
    let image = OsImage {
        name: "lab-os".to_owned(),
        version: "1".to_owned(),
        cloud_init: Vec::new(),
        seed: 1,
    };
    disk.write_at(0, &os_image(&image).unwrap()).unwrap();
}

/// Puts a config drive on a disk of its own.
fn config_drive(disk: &Disk, files: &[(&str, &str)]) {
    let file = |(name, content): &(&str, &str)| File::File {
        name: Arc::new((*name).to_owned()),
        contents: content.as_bytes().to_vec(),
    };
    let folder = |name: &str, children| File::Directory {
        name: Arc::new(name.to_owned()),
        children,
    };
    let latest = files.iter().map(file).collect();
    let input = InputFiles {
        path_separator: PathSeparator::ForwardSlash,
        files: vec![folder("openstack", vec![folder("latest", latest)])],
    };
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
    let bytes = IsoImageWriter::create(Cursor::new(vec![0; 2 << 20]), input, options)
        .unwrap()
        .into_inner();
    disk.write_at(0, &bytes).unwrap();
}

/// Fails with the console when a test waits too long.
async fn within<T>(host: &Host, seconds: u64, what: &str, work: impl Future<Output = T>) -> T {
    match tokio::time::timeout(Duration::from_secs(seconds), work).await {
        Ok(out) => out,
        Err(_) => panic!(
            "{what} did not happen within {seconds} s; {:?}\n{}",
            host.status().borrow(),
            host.console()
        ),
    }
}

#[test]
fn the_kernel_names_disks_and_the_inventory_counts_gpus() {
    let hardware = Personality::named("dgx-h100").unwrap();
    let macs = (0..hardware.nic_count())
        .map(|n| Mac([2, 0, 0, 0, 0, n as u8]))
        .collect();
    let identity = Identity {
        serial: "S".to_owned(),
        uuid: Uuid::nil(),
        macs,
        bmc_mac: Mac([2, 0, 0, 0, 1, 0]),
    };
    let hardware = hardware.hardware(&identity).unwrap();
    let disks = hardware::disks(&hardware, &BlockPool::default());
    assert_eq!(disks.len(), 10);
    assert_eq!(disks[9].model().name, "/dev/nvme9n1");
    assert_eq!(hardware.gpus.len(), 8);
}
