//! The config drive: a small ISO 9660 image labelled `config-2`, gzipped, in base64, as Ironic hands it to agents
//! (as Ironic and Metal3 have it). The same contents and time give the same bytes.

use base64::{Engine, engine::general_purpose::STANDARD};
use flate2::{Compression, GzBuilder};
use hadris_iso::{
    joliet::JolietLevel,
    read::PathSeparator,
    rrip::RripOptions,
    write::{
        InputEntry, InputMetadata, InputTree, IsoImageWriter,
        options::{BaseIsoLevel, CreationFeatures, IsoFormatOptions},
    },
};
use jiff::{Timestamp, tz::TimeZone};
use serde_json::{Map, Value, json};
use std::{
    fmt,
    io::{Cursor, Write},
};

/// What the agent makes room for at the end of the disk (Ironic).
const SIZE_MAX: usize = 64 << 20;
const SECTOR: usize = 2048;

/// The finished drive, as the agent takes it. It holds user data and so join tokens: never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct ConfigDrive(String);

impl ConfigDrive {
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ConfigDrive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConfigDrive({} characters)", self.0.len())
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ConfigDriveError {
    #[error("metaData must be an object: {0}")]
    MetaData(String),
    #[error("networkData must be an object with links, networks and services: {0}")]
    NetworkData(String),
    #[error(
        "the config drive has {size} bytes, more than the 64 MiB that are reserved for it: shorten the user data"
    )]
    TooLarge { size: usize },
    #[error("can't build the config drive: {0}")]
    Iso(String),
}

/// What metadata says of every host.
#[derive(Clone, Debug)]
pub struct DriveHost {
    pub namespace: String,
    pub name: String,
    pub uid: String,
}

/// What the Secrets of a host's spec hold, as text.
#[derive(Clone, Default)]
pub struct DriveContents {
    pub user_data: Option<Vec<u8>>,
    /// YAML or JSON; its keys win over the defaults.
    pub meta_data: Option<String>,
    /// YAML or JSON.
    pub network_data: Option<String>,
}

impl ConfigDrive {
    /// `at` is the date of every file on it.
    pub fn build(
        host: &DriveHost,
        contents: &DriveContents,
        at: Timestamp,
    ) -> Result<Self, ConfigDriveError> {
        let iso = iso(&files(host, contents)?, at)?;
        let mut gzip = GzBuilder::new().write(Vec::with_capacity(8192), Compression::default());
        let packed = gzip.write_all(&iso).and_then(|()| gzip.finish());
        packed
            .map(|bytes| ConfigDrive(STANDARD.encode(bytes)))
            .map_err(|e| ConfigDriveError::Iso(e.to_string()))
    }
}

/// Names and contents below `openstack/VERSION/`.
fn files(
    host: &DriveHost,
    contents: &DriveContents,
) -> Result<Vec<(&'static str, Vec<u8>)>, ConfigDriveError> {
    let object = |text: &Option<String>| -> Result<Option<Map<String, Value>>, String> {
        let Some(text) = text.as_deref().filter(|text| !text.trim().is_empty()) else {
            return Ok(None);
        };
        match steelyard_api::yaml::read::<Value>(text).map_err(|e| e.to_string())? {
            Value::Object(map) => Ok(Some(map)),
            Value::Null => Ok(None),
            _ => Err("it is a list or a single value".into()),
        }
    };
    let mut meta = Map::from_iter([
        ("uuid".to_owned(), json!(host.uid)),
        ("metal3-namespace".to_owned(), json!(host.namespace)),
        ("metal3-name".to_owned(), json!(host.name)),
        ("local-hostname".to_owned(), json!(host.name)),
        ("local_hostname".to_owned(), json!(host.name)),
        ("name".to_owned(), json!(host.name)),
    ]);
    meta.extend(
        object(&contents.meta_data)
            .map_err(ConfigDriveError::MetaData)?
            .unwrap_or_default(),
    );
    let bytes = |value: Value| value.to_string().into_bytes();
    let mut files = vec![("meta_data.json", bytes(Value::Object(meta)))];
    if let Some(network) = object(&contents.network_data).map_err(ConfigDriveError::NetworkData)? {
        if let Some(missing) = ["links", "networks", "services"]
            .iter()
            .find(|k| !network.get(**k).is_some_and(Value::is_array))
        {
            return Err(ConfigDriveError::NetworkData(format!(
                "{missing} is missing or no list"
            )));
        }
        files.push(("network_data.json", bytes(Value::Object(network))));
    }
    if let Some(user) = contents.user_data.as_ref().filter(|data| !data.is_empty()) {
        files.push(("user_data", user.clone()));
    }
    Ok(files)
}

/// ISO 9660 with Joliet and Rock Ridge; everything twice, under `latest` and the oldest version that readers know.
fn iso(files: &[(&'static str, Vec<u8>)], at: Timestamp) -> Result<Vec<u8>, ConfigDriveError> {
    let size: usize = files
        .iter()
        .map(|(_, data)| 2 * data.len().next_multiple_of(SECTOR))
        .sum();
    // Descriptors, path tables and directories come to less than 64 sectors.
    let size = size + 64 * SECTOR;
    if size > SIZE_MAX {
        return Err(ConfigDriveError::TooLarge { size });
    }
    let time = Some(at.as_second());
    let metadata = |mode| InputMetadata {
        mode: Some(mode),
        uid: Some(0),
        gid: Some(0),
        created: time,
        modified: time,
        accessed: time,
    };
    let version = |name: &str| {
        let children = files
            .iter()
            .map(|(name, data)| InputEntry::file(*name, data.clone()).with_metadata(metadata(0o444)));
        InputEntry::directory(name, children.collect()).with_metadata(metadata(0o555))
    };
    let versions = vec![version("2012-08-10"), version("latest")];
    let root = InputEntry::directory("openstack", versions).with_metadata(metadata(0o555));
    let options = IsoFormatOptions {
        volume_name: "config-2".into(),
        system_id: None,
        volume_set_id: None,
        publisher_id: Some("Steelyard".into()),
        preparer_id: None,
        application_id: None,
        sector_size: SECTOR,
        path_separator: PathSeparator::ForwardSlash,
        strict_charset: false,
        features: CreationFeatures {
            filenames: BaseIsoLevel::Level2 {
                supports_lowercase: true,
                supports_rrip: true,
            },
            joliet: Some(JolietLevel::Level3),
            rock_ridge: Some(RripOptions::default()),
            ..CreationFeatures::default()
        },
    };
    let image = Cursor::new(Vec::with_capacity(size));
    let image = IsoImageWriter::create(
        image,
        InputTree::new(PathSeparator::ForwardSlash, vec![root]),
        options,
    )
    .map_err(|e| ConfigDriveError::Iso(e.to_string()))?;
    let mut bytes = image.into_inner();
    bytes.resize(bytes.len().next_multiple_of(SECTOR), 0);
    set_dates(&mut bytes, at)
        .ok_or_else(|| ConfigDriveError::Iso("its directories are not where they should be".into()))?;
    Ok(bytes)
}

/// The ISO writer dates everything with the system's clock; put `at` there instead (ECMA-119 8.4.26, 9.1.5).
fn set_dates(image: &mut [u8], at: Timestamp) -> Option<()> {
    let utc = at.to_zoned(TimeZone::UTC);
    let short = [
        u8::try_from(utc.year() - 1900).ok()?,
        utc.month() as u8,
        utc.day() as u8,
        utc.hour() as u8,
        utc.minute() as u8,
        utc.second() as u8,
        0,
    ];
    let mut long = utc.strftime("%Y%m%d%H%M%S00").to_string().into_bytes();
    long.push(0);
    for sector in 16.. {
        let start = sector * SECTOR;
        let descriptor = image.get_mut(start..start + SECTOR)?;
        match descriptor[0] {
            255 => return Some(()),
            1 | 2 => {
                // Creation, modification; expiration and effective stay unset.
                descriptor[813..830].copy_from_slice(&long);
                descriptor[830..847].copy_from_slice(&long);
                descriptor[156 + 18..156 + 25].copy_from_slice(&short);
                let root: [u8; 34] = descriptor[156..190].try_into().ok()?;
                set_directory_dates(image, &root, &short, 0)?;
            }
            _ => {}
        }
    }
    None
}

fn set_directory_dates(image: &mut [u8], record: &[u8], short: &[u8; 7], depth: u8) -> Option<()> {
    let number = |at: usize| {
        record
            .get(at..at + 4)
            .and_then(|b| b.try_into().ok())
            .map(u32::from_le_bytes)
    };
    let (start, length) = (number(2)? as usize * SECTOR, number(10)? as usize);
    let end = start.checked_add(length)?;
    let mut at = start;
    while at < end {
        let size = usize::from(*image.get(at)?);
        if size == 0 {
            // The rest of this sector is empty.
            at = (at + 1).next_multiple_of(SECTOR);
            continue;
        }
        let entry = image.get_mut(at..at + size).filter(|entry| entry.len() >= 34)?;
        entry[18..25].copy_from_slice(short);
        let name_length = usize::from(entry[32]);
        set_rock_ridge_dates(entry.get_mut((33 + name_length).next_multiple_of(2)..), short);
        let is_directory = entry[25] & 2 != 0;
        let is_self_or_parent = name_length == 1 && entry[33] <= 1;
        if is_directory && !is_self_or_parent && depth < 8 {
            let entry = entry.to_vec();
            set_directory_dates(image, &entry, short, depth + 1)?;
        }
        at += size;
    }
    Some(())
}

/// `TF` entries (RRIP 4.1.6) in a record's system use area, short form.
fn set_rock_ridge_dates(area: Option<&mut [u8]>, short: &[u8; 7]) {
    let Some(mut area) = area else { return };
    while area.len() >= 5 {
        let size = usize::from(area[2]);
        if size < 4 || size > area.len() {
            return;
        }
        let (entry, rest) = area.split_at_mut(size);
        if entry.starts_with(b"TF") && entry[4] & 0x80 == 0 {
            entry[5..]
                .chunks_exact_mut(7)
                .for_each(|date| date.copy_from_slice(short));
        }
        area = rest;
    }
}

#[cfg(test)]
mod tests;
