//! Discs as hadris-iso writes them, in all its ways, and broken ones.

use std::io::Cursor;
use std::sync::Arc;

use hadris_iso::joliet::JolietLevel;
use hadris_iso::read::PathSeparator;
use hadris_iso::write::options::{BaseIsoLevel, CreationFeatures, IsoFormatOptions};
use hadris_iso::write::{File, InputFiles, IsoImageWriter};

use super::*;
use crate::host::disk::{BlockPool, DiskModel, Transport};

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

const USER_DATA: &[u8] = b"#cloud-config\nruncmd: []\n";

fn written(features: CreationFeatures, label: &str) -> Vec<u8> {
    let file = |name: &str, contents: &[u8]| File::File {
        name: Arc::new(name.to_owned()),
        contents: contents.to_vec(),
    };
    let folder = |name: &str, children| File::Directory {
        name: Arc::new(name.to_owned()),
        children,
    };
    let many: Vec<File> = (0..60)
        .map(|i| file(&format!("file-with-a-longer-name-{i}.json"), b"x"))
        .collect();
    let latest = vec![
        file("meta_data.json", b"{\"uuid\": 1}"),
        file("user_data", USER_DATA),
        file("empty", b""),
    ];
    let files = InputFiles {
        path_separator: PathSeparator::ForwardSlash,
        files: vec![folder(
            "openstack",
            vec![folder("latest", latest), folder("2012-08-10", many)],
        )],
    };
    let options = IsoFormatOptions {
        volume_name: label.to_owned(),
        system_id: None,
        volume_set_id: None,
        publisher_id: None,
        preparer_id: None,
        application_id: None,
        sector_size: 2048,
        path_separator: PathSeparator::ForwardSlash,
        strict_charset: false,
        features,
    };
    IsoImageWriter::create(Cursor::new(vec![0; 2 << 20]), files, options)
        .unwrap()
        .into_inner()
}

fn plain() -> CreationFeatures {
    let filenames = BaseIsoLevel::Level2 {
        supports_lowercase: true,
        supports_rrip: false,
    };
    CreationFeatures {
        filenames,
        ..CreationFeatures::default()
    }
}

#[test]
fn all_kinds_of_names() {
    for (case, features) in [
        ("plain", plain()),
        ("joliet", CreationFeatures::joliet(JolietLevel::Level3)),
        ("rock ridge", CreationFeatures::rock_ridge()),
        ("both", CreationFeatures::extensions()),
    ] {
        let disk = disk(64 << 20);
        disk.write_at(0, &written(features, "config-2")).unwrap();
        let drive = find_config_drive(&disk).expect(case);
        assert_eq!(drive.latest("user_data"), Some(USER_DATA), "{case}");
        assert_eq!(
            drive.latest("meta_data.json"),
            Some(&b"{\"uuid\": 1}"[..]),
            "{case}"
        );
        assert_eq!(drive.latest("empty"), Some(&b""[..]), "{case}");
        if case != "plain" {
            assert!(
                drive
                    .files
                    .contains_key("openstack/2012-08-10/file-with-a-longer-name-59.json"),
                "{case}"
            );
            assert_eq!(drive.files.len(), 63, "{case}");
        }
        assert!(
            !format!("{drive:?}").contains("cloud-config"),
            "contents are never shown"
        );
    }
}

#[test]
fn labels_in_any_case_and_no_others() {
    for (label, found) in [("CONFIG-2", true), ("cidata", false)] {
        let disk = disk(64 << 20);
        disk.write_at(0, &written(CreationFeatures::extensions(), label))
            .unwrap();
        assert_eq!(find_config_drive(&disk).is_some(), found, "{label}");
    }
    assert!(find_config_drive(&disk(64 << 20)).is_none());
    assert!(find_config_drive(&disk(100)).is_none());
}

#[test]
fn damaged_discs_never_panic_nor_hang() {
    let image = written(CreationFeatures::extensions(), "config-2");
    let mut state = 1u64;
    for _ in 0..400 {
        let mut broken = image.clone();
        for _ in 0..4 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            // Within the descriptors and directories, where it hurts.
            let at = 32 * 1024 + (state >> 33) as usize % (64 * 1024);
            broken[at] = (state >> 20) as u8;
        }
        let disk = disk(4 << 20);
        disk.write_at(0, &broken).unwrap();
        let _ = find_config_drive(&disk);
    }
}
