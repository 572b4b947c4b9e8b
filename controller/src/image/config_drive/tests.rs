//! The drive, read back by a reader of its own: it knows ISO 9660, Rock Ridge and Joliet from their specifications, and
//! nothing of the crate that writes.

use super::*;
use flate2::read::GzDecoder;
use std::{collections::BTreeMap, io::Read};

fn host() -> DriveHost {
    DriveHost {
        namespace: "metal3-system".into(),
        name: "bare-metal-1".into(),
        uid: "uid-1".into(),
    }
}

fn contents() -> DriveContents {
    DriveContents {
        user_data: Some(b"#cloud-config\nhostname: x\n".to_vec()),
        meta_data: Some("local-hostname: machine-1\nrack: 7\n".into()),
        network_data: Some("{\"links\": [], \"networks\": [], \"services\": []}".into()),
    }
}

fn at() -> Timestamp {
    "2026-02-03T04:05:06Z".parse().unwrap()
}

fn unpack(drive: &ConfigDrive) -> Vec<u8> {
    let packed = STANDARD.decode(drive.reveal()).unwrap();
    let mut image = Vec::new();
    GzDecoder::new(packed.as_slice()).read_to_end(&mut image).unwrap();
    image
}

#[derive(Clone, Copy, PartialEq)]
enum Names {
    RockRidge,
    Joliet,
}

fn le32(bytes: &[u8]) -> usize {
    u32::from_le_bytes(bytes[..4].try_into().unwrap()) as usize
}

fn walk(image: &[u8], record: &[u8], names: Names, path: &str, found: &mut BTreeMap<String, Vec<u8>>) {
    let (start, size) = (le32(&record[2..]) * 2048, le32(&record[10..]));
    let mut at = start;
    while at < start + size {
        let length = usize::from(image[at]);
        if length == 0 {
            at = (at / 2048 + 1) * 2048;
            continue;
        }
        let entry = &image[at..at + length];
        at += length;
        assert_eq!(
            entry[18..25],
            [126, 2, 3, 4, 5, 6, 0],
            "recording date in {path:?}"
        );
        let id = &entry[33..33 + usize::from(entry[32])];
        if id == [0] || id == [1] {
            continue;
        }
        let name = match names {
            Names::Joliet => {
                let units: Vec<u16> = id.chunks(2).map(|c| u16::from_be_bytes([c[0], c[1]])).collect();
                String::from_utf16(&units)
                    .unwrap()
                    .trim_end_matches(";1")
                    .to_owned()
            }
            Names::RockRidge => rock_ridge_name(&entry[(33 + id.len()).next_multiple_of(2)..]),
        };
        let path = format!("{path}/{name}");
        if entry[25] & 2 != 0 {
            walk(image, entry, names, &path, found);
        } else {
            let data = le32(&entry[2..]) * 2048;
            found.insert(path, image[data..data + le32(&entry[10..])].to_vec());
        }
    }
}

fn rock_ridge_name(mut area: &[u8]) -> String {
    let mut name = String::new();
    while area.len() >= 4 && area[2] >= 4 {
        let entry = &area[..usize::from(area[2])];
        match &entry[..2] {
            b"NM" => name.push_str(std::str::from_utf8(&entry[5..]).unwrap()),
            b"TF" => assert!(entry[5..].chunks(7).all(|date| date == [126, 2, 3, 4, 5, 6, 0])),
            _ => {}
        }
        area = &area[entry.len()..];
    }
    assert!(!name.is_empty(), "a Rock Ridge name");
    name
}

fn files(image: &[u8], names: Names) -> BTreeMap<String, Vec<u8>> {
    let wanted = if names == Names::Joliet { 2 } else { 1 };
    let descriptor = (16..)
        .map(|n| &image[n * 2048..(n + 1) * 2048])
        .find(|d| d[0] == wanted)
        .unwrap();
    assert_eq!(descriptor[1..6], *b"CD001");
    let mut found = BTreeMap::new();
    walk(image, &descriptor[156..190], names, "", &mut found);
    found
}

#[test]
fn is_a_labelled_volume_with_everything_twice() {
    let image = unpack(&ConfigDrive::build(&host(), &contents(), at()).unwrap());
    assert_eq!(
        image[16 * 2048 + 40..16 * 2048 + 72],
        *b"config-2                        "
    );
    assert_eq!(image[16 * 2048 + 813..16 * 2048 + 830], *b"2026020304050600\0");
    assert_eq!(image.len() % 2048, 0);
    for names in [Names::RockRidge, Names::Joliet] {
        let found = files(&image, names);
        for version in ["latest", "2012-08-10"] {
            let file = |name: &str| &found[&format!("/openstack/{version}/{name}")];
            assert_eq!(file("user_data"), &contents().user_data.unwrap());
            insta::allow_duplicates! {
                insta::assert_snapshot!(String::from_utf8_lossy(file("meta_data.json")), @r#"{"uuid":"uid-1","metal3-namespace":"metal3-system","metal3-name":"bare-metal-1","local-hostname":"machine-1","local_hostname":"bare-metal-1","name":"bare-metal-1","rack":7}"#);
            }
            assert_eq!(
                file("network_data.json"),
                br#"{"links":[],"networks":[],"services":[]}"#
            );
        }
        assert_eq!(found.len(), 6);
    }
}

#[tokio::test]
async fn the_same_twice_is_the_same_bytes() {
    let first = ConfigDrive::build(&host(), &contents(), at()).unwrap();
    // The writer's own clock has second resolution: a later second must not show.
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    assert!(first == ConfigDrive::build(&host(), &contents(), at()).unwrap());
    assert!(!format!("{first:?}").contains(&first.reveal()[..20]));
}

#[test]
fn what_is_not_given_is_not_there() {
    let image = unpack(&ConfigDrive::build(&host(), &DriveContents::default(), at()).unwrap());
    let found = files(&image, Names::RockRidge);
    assert_eq!(
        found.keys().collect::<Vec<_>>(),
        [
            "/openstack/2012-08-10/meta_data.json",
            "/openstack/latest/meta_data.json"
        ]
    );
}

#[test]
fn a_large_file_survives() {
    let user_data: Vec<u8> = (0..3_000_000u32).map(|n| (n % 253) as u8).collect();
    let contents = DriveContents {
        user_data: Some(user_data.clone()),
        ..DriveContents::default()
    };
    let image = unpack(&ConfigDrive::build(&host(), &contents, at()).unwrap());
    assert!(files(&image, Names::Joliet)["/openstack/latest/user_data"] == user_data);
}

#[test]
fn refusals() {
    let build = |contents| {
        ConfigDrive::build(&host(), &contents, at())
            .unwrap_err()
            .to_string()
    };
    let too_large = DriveContents {
        user_data: Some(vec![0; 33 << 20]),
        ..DriveContents::default()
    };
    assert!(build(too_large).contains("64 MiB"));
    let list = DriveContents {
        meta_data: Some("- a".into()),
        ..DriveContents::default()
    };
    assert!(build(list).starts_with("metaData"));
    let partial = DriveContents {
        network_data: Some("links: []".into()),
        ..DriveContents::default()
    };
    assert!(build(partial).contains("networks is missing"));
}
