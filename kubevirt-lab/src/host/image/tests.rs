//! Artefacts are deterministic, boot, and stop booting when they are damaged.

use std::io::{Read, Write};
use std::process::Command;

use super::*;
use crate::host::disk::{BlockPool, Disk, DiskModel, Region, Transport};

fn disk(size: u64) -> Disk {
    let model = DiskModel {
        name: "/dev/vda".to_owned(),
        vendor: None,
        model: "m".to_owned(),
        serial: "s".to_owned(),
        wwn: None,
        size,
        rotational: false,
        transport: Transport::Virtio,
        logical_sector: 512,
    };
    Disk::new(model, &BlockPool::default())
}

fn image(seed: u64) -> Vec<u8> {
    let image = OsImage {
        name: "Ubuntu".to_owned(),
        version: "24.04".to_owned(),
        cloud_init: vec!["write_files".to_owned(), "runcmd".to_owned()],
        seed,
    };
    os_image(&image).unwrap()
}

/// The root file system of a bootable disk.
fn root(disk: &Disk) -> fatfs::FileSystem<Region> {
    let area = boot_disk(disk).unwrap().root.unwrap();
    fatfs::FileSystem::new(disk.region(area.start, area.length), fatfs::FsOptions::new()).unwrap()
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    assert!(image(1) == image(1));
    assert!(image(1) != image(2));
    let (one, again) = (artefacts(1).unwrap(), artefacts(1).unwrap());
    assert!(one.kernel == again.kernel && one.initrd == again.initrd);
    assert!(one.kernel != artefacts(2).unwrap().kernel);
    assert!(image(1).len() <= 4 << 20);
    assert!(one.kernel.len() + one.initrd.len() <= 256 * 1024);
    // The golden bytes: a change of the layout must be meant.
    insta::assert_snapshot!(sha256sums(&[("os.img", &image(1))]));
}

#[test]
fn an_image_boots_from_any_larger_disk() {
    let disk = disk(20 << 30);
    disk.write_at(0, &image(1)).unwrap();
    let manifest = boot_disk(&disk).unwrap();
    assert_eq!(
        (manifest.name.as_str(), manifest.version.as_str()),
        ("Ubuntu", "24.04")
    );
    assert_eq!(manifest.cloud_init, ["write_files", "runcmd"]);

    let root = root(&disk);
    let mut release = String::new();
    root.root_dir()
        .open_file("etc/os-release")
        .unwrap()
        .read_to_string(&mut release)
        .unwrap();
    assert!(release.starts_with("NAME=\"Ubuntu\""), "{release}");
    root.root_dir()
        .create_file("marker")
        .unwrap()
        .write_all(b"tenant-marker-42")
        .unwrap();
    root.unmount().unwrap();
    let at = disk.find(b"tenant-marker-42").expect("it is in the raw blocks");
    let area = manifest.root.unwrap();
    assert!((area.start..area.start + area.length).contains(&at));
    disk.erase();
    assert_eq!(disk.find(b"tenant-marker"), None);
    assert_eq!(boot_disk(&disk), Err(NotBootable::NoTable));
}

#[test]
fn what_does_not_boot_says_why() {
    let mut no_esp = image(1);
    no_esp[1024..1040].copy_from_slice(&[0x11; 16]);
    let esp = 1 << 20;
    for (case, change, why) in [
        ("no signature", (510, 1, 0), "no partition table"),
        ("both tables damaged", (512, 1, 0), "damaged"),
        ("no file system", (esp, 512, 0), "can't be read"),
        ("no loader", (esp + 512, 64 * 1024, 0), "BOOTX64.EFI"),
    ] {
        let (at, length, value): (usize, usize, u8) = change;
        let mut bytes = image(1);
        bytes[at..at + length].fill(value);
        if case == "both tables damaged" {
            let end = bytes.len();
            bytes[end - 512..].fill(0);
        }
        let disk = disk(4 << 20);
        disk.write_at(0, &bytes).unwrap();
        let error = boot_disk(&disk).expect_err(case).to_string();
        assert!(error.contains(why), "{case}: {error}");
    }
}

#[test]
fn the_backup_table_is_enough() {
    let mut bytes = image(1);
    bytes[512..1024].fill(0);
    let disk = disk(4 << 20);
    disk.write_at(0, &bytes).unwrap();
    assert!(
        boot_disk(&disk).is_ok(),
        "as UEFI does when the primary header is damaged"
    );
}

#[test]
fn sfdisk_agrees() {
    let Ok(version) = Command::new("sfdisk").arg("--version").output() else {
        return;
    };
    assert!(version.status.success());
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), image(1)).unwrap();
    let output = Command::new("sfdisk")
        .arg("-V")
        .arg(file.path())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn artefacts_that_are_not_ours_or_not_whole() {
    let good = artefacts(1).unwrap();
    check(&good.kernel, &good.initrd).unwrap();
    let mut foreign = good.kernel.to_vec();
    foreign[0x400..0x410].fill(b'x');
    let cut = &good.initrd[..good.initrd.len() - 100];
    let mut flipped = good.initrd.to_vec();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    for (kernel, initrd, why) in [
        (&b"<html>404</html>"[..], &good.initrd[..], "not a bzImage"),
        (&good.kernel[..1000], &good.initrd, "not a bzImage"),
        (&foreign, &good.initrd, "not one that this lab runs"),
        (&good.kernel, cut, "not a gzipped cpio"),
        (&good.kernel, &flipped, "not a gzipped cpio"),
        (&good.kernel, &good.kernel, "not a gzipped cpio"),
    ] {
        let error = check(kernel, initrd).unwrap_err().to_string();
        assert!(error.contains(why), "{error} should say {why}");
    }
}

#[test]
fn checksum_files_are_as_sha256sum_prints_them() {
    let text = sha256sums(&[("a.img", b""), ("b.img", b"x")]);
    assert_eq!(
        text,
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 *a.img\n\
         2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881 *b.img\n"
    );
}

#[test]
fn archives_survive_a_round_trip_and_damage() {
    let packed = cpio::pack(&[("a", b"one"), ("dir/b", b""), ("c", &[7; 1000])]);
    assert_eq!(packed.len() % 4, 0);
    let files = cpio::unpack(&packed).unwrap();
    assert_eq!(files[0], ("a".to_owned(), &b"one"[..]));
    assert_eq!(files[2].1.len(), 1000);
    for length in 0..packed.len() - 4 {
        assert!(cpio::unpack(&packed[..length]).is_none(), "{length}");
    }
}
