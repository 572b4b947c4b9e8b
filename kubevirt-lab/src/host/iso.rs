//! Finds and reads a config drive: the partition whose ISO 9660 file system is labelled `config-2`, and the files on it.
//!
//! A reader of its own (ECMA-119, SUSP 1.12, RRIP 1.12, Joliet), because what the controller's writer and the agent put on
//! the disk must be judged by somebody else. Names come from Rock Ridge if it is there, else from Joliet, else they are
//! ISO 9660's, lower-cased, which is also the order of Linux.

use std::collections::BTreeMap;
use std::fmt;

use super::disk::{Disk, DiskError};
use super::image::partitions;

/// What cloud-init looks for, in any case.
const LABEL: &str = "config-2";
const SECTOR: u64 = 2048;
/// Volume descriptors start at sector 16 and end with a terminator; real discs have three to five.
const DESCRIPTORS_MAX: u64 = 32;
/// Bounds against damaged and malicious discs. A config drive has some ten files.
const ENTRIES_MAX: usize = 2000;
const DEPTH_MAX: usize = 16;
const FILE_MAX: u64 = 64 << 20;

/// The files of a config drive.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ConfigDrive {
    /// By path, such as `openstack/latest/user_data`.
    pub files: BTreeMap<String, Vec<u8>>,
}

// User data carries join tokens.
impl fmt::Debug for ConfigDrive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.files.keys()).finish()
    }
}

impl ConfigDrive {
    /// A file of the newest OpenStack directory, as cloud-init's ConfigDrive source reads it.
    pub fn latest(&self, name: &str) -> Option<&[u8]> {
        self.files
            .get(&format!("openstack/latest/{name}"))
            .map(Vec::as_slice)
    }
}

/// A file system that can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IsoError {
    #[error("no ISO 9660 volume")]
    NoVolume,
    #[error("ISO 9660: {0}")]
    Damaged(&'static str),
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// The config drive of a disk, if it has one that can be read.
pub fn find_config_drive(disk: &Disk) -> Option<ConfigDrive> {
    // cloud-init takes the whole disk, too, if that is labelled.
    let whole = (0, disk.size());
    let parts = partitions(disk).unwrap_or_default();
    let areas = parts.iter().map(|part| (part.start, part.length)).chain([whole]);
    areas
        .filter_map(|(start, length)| Volume::open(disk, start, length).ok())
        .find_map(|volume| {
            if !volume.label.eq_ignore_ascii_case(LABEL) {
                return None;
            }
            volume
                .files()
                .inspect_err(|error| tracing::warn!(%error, "config drive can't be read"))
                .ok()
        })
}

/// How names are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Names {
    Iso,
    Joliet,
    /// Bytes to skip in each system use area.
    RockRidge(usize),
}

#[derive(Debug, Clone, Copy)]
struct Extent {
    sector: u64,
    length: u64,
}

/// An opened file system.
struct Volume<'a> {
    disk: &'a Disk,
    start: u64,
    length: u64,
    label: String,
    root: Extent,
    names: Names,
}

/// A directory record (ECMA-119, 9.1).
struct Record {
    extent: Extent,
    directory: bool,
    raw_name: Vec<u8>,
    system_use: Vec<u8>,
}

fn u32_at(bytes: &[u8], at: usize) -> u64 {
    bytes
        .get(at..at + 4)
        .and_then(|b| b.try_into().ok())
        .map_or(0, |b| u64::from(u32::from_le_bytes(b)))
}

impl<'a> Volume<'a> {
    fn open(disk: &'a Disk, start: u64, length: u64) -> Result<Self, IsoError> {
        let mut volume = Self {
            disk,
            start,
            length,
            label: String::new(),
            root: Extent { sector: 0, length: 0 },
            names: Names::Iso,
        };
        let mut joliet = None;
        for index in 16..16 + DESCRIPTORS_MAX {
            let descriptor = volume.read(index, SECTOR)?;
            if &descriptor[1..6] != b"CD001" {
                break;
            }
            let root = Extent {
                sector: u32_at(&descriptor, 158),
                length: u32_at(&descriptor, 166),
            };
            match descriptor[0] {
                1 => {
                    volume.label = String::from_utf8_lossy(&descriptor[40..72]).trim_end().to_owned();
                    volume.root = root;
                }
                // Joliet is a supplementary volume with one of three UCS-2 escape sequences.
                2 if [&b"%/@"[..], b"%/C", b"%/E"]
                    .iter()
                    .any(|escape| descriptor[88..91] == **escape) =>
                {
                    joliet = Some(root);
                }
                255 => break,
                _ => {}
            }
        }
        if volume.root.length == 0 {
            return Err(IsoError::NoVolume);
        }
        match (volume.rock_ridge()?, joliet) {
            (Some(skip), _) => volume.names = Names::RockRidge(skip),
            (None, Some(root)) => {
                volume.root = root;
                volume.names = Names::Joliet;
            }
            (None, None) => {}
        }
        Ok(volume)
    }

    fn read(&self, sector: u64, length: u64) -> Result<Vec<u8>, IsoError> {
        let at = sector
            .checked_mul(SECTOR)
            .filter(|at| at.saturating_add(length) <= self.length);
        let at = at.ok_or(if sector < 16 + DESCRIPTORS_MAX {
            IsoError::NoVolume
        } else {
            IsoError::Damaged("an extent is beyond the end")
        })?;
        let mut bytes = vec![0; usize::try_from(length).map_err(|_| IsoError::Damaged("a huge extent"))?];
        self.disk.read_at(self.start + at, &mut bytes)?;
        Ok(bytes)
    }

    /// SUSP's `SP` in the root's own record says that Rock Ridge may follow, and how much to skip.
    fn rock_ridge(&self) -> Result<Option<usize>, IsoError> {
        let first = self.records(self.root)?.into_iter().next();
        let area = first.map(|record| record.system_use).unwrap_or_default();
        Ok(area
            .starts_with(b"SP\x07\x01\xbe\xef")
            .then(|| usize::from(area[6])))
    }

    fn records(&self, extent: Extent) -> Result<Vec<Record>, IsoError> {
        if extent.length > FILE_MAX {
            return Err(IsoError::Damaged("a directory is huge"));
        }
        let bytes = self.read(extent.sector, extent.length)?;
        let mut records = Vec::new();
        for sector in bytes.chunks(SECTOR as usize) {
            let mut rest = sector;
            // A record never crosses a sector; a length of zero fills it up.
            while let Some(&length) = rest.first().filter(|&&length| length != 0) {
                let length = usize::from(length);
                let name = rest.get(32).map_or(0, |&name| usize::from(name));
                if length < 34 || length > rest.len() || 33 + name > length {
                    return Err(IsoError::Damaged("a directory record has a wrong length"));
                }
                let (record, later) = rest.split_at(length);
                // Names of even length are padded to an even offset.
                let area = (33 + name + (name + 1) % 2).min(length);
                records.push(Record {
                    extent: Extent {
                        sector: u32_at(record, 2),
                        length: u32_at(record, 10),
                    },
                    directory: record[25] & 2 != 0,
                    raw_name: record[33..33 + name].to_vec(),
                    system_use: record[area..].to_vec(),
                });
                rest = later;
            }
        }
        Ok(records)
    }

    fn files(&self) -> Result<ConfigDrive, IsoError> {
        let mut drive = ConfigDrive::default();
        let mut left = ENTRIES_MAX;
        self.walk(self.root, "", DEPTH_MAX, &mut left, &mut drive)?;
        Ok(drive)
    }

    fn walk(
        &self,
        directory: Extent,
        path: &str,
        depth: usize,
        left: &mut usize,
        drive: &mut ConfigDrive,
    ) -> Result<(), IsoError> {
        if depth == 0 {
            return Err(IsoError::Damaged("directories are nested too deep"));
        }
        // The first two records are the directory itself and its parent.
        for record in self.records(directory)?.into_iter().skip(2) {
            *left = left.checked_sub(1).ok_or(IsoError::Damaged("too many entries"))?;
            let path = format!("{path}{}", self.name(&record)?);
            if record.directory {
                self.walk(record.extent, &format!("{path}/"), depth - 1, left, drive)?;
            } else if record.extent.length > FILE_MAX {
                return Err(IsoError::Damaged("a file is huge"));
            } else {
                let content = if record.extent.length == 0 {
                    Vec::new()
                } else {
                    self.read(record.extent.sector, record.extent.length)?
                };
                drive.files.insert(path, content);
            }
        }
        Ok(())
    }

    fn name(&self, record: &Record) -> Result<String, IsoError> {
        let plain = || {
            let name = String::from_utf8_lossy(&record.raw_name).to_lowercase();
            name.split(';')
                .next()
                .unwrap_or_default()
                .trim_end_matches('.')
                .to_owned()
        };
        match self.names {
            Names::Iso => Ok(plain()),
            Names::Joliet => {
                let units: Vec<u16> = record
                    .raw_name
                    .chunks_exact(2)
                    .map(|unit| u16::from_be_bytes([unit[0], unit[1]]))
                    .collect();
                let name = String::from_utf16_lossy(&units);
                Ok(name.split(';').next().unwrap_or_default().to_owned())
            }
            Names::RockRidge(skip) => {
                let name = self.alternate_name(record.system_use.get(skip..).unwrap_or_default())?;
                Ok(if name.is_empty() {
                    plain()
                } else {
                    String::from_utf8_lossy(&name).into_owned()
                })
            }
        }
    }

    /// Collects the `NM` fields of a system use area, following `CE` to its continuation.
    fn alternate_name(&self, area: &[u8]) -> Result<Vec<u8>, IsoError> {
        let mut name = Vec::new();
        let mut area = area.to_vec();
        // A name of 255 bytes needs one continuation; a loop of them is an attack.
        for _ in 0..8 {
            let mut continuation = None;
            let mut rest = &area[..];
            while rest.len() >= 4 && usize::from(rest[2]) >= 4 && usize::from(rest[2]) <= rest.len() {
                let (field, later) = rest.split_at(usize::from(rest[2]));
                match &field[..2] {
                    b"NM" if field.len() > 5 => name.extend_from_slice(&field[5..]),
                    b"CE" if field.len() >= 28 => {
                        continuation = Some((u32_at(field, 4), u32_at(field, 12), u32_at(field, 20)));
                    }
                    b"ST" => break,
                    _ => {}
                }
                rest = later;
            }
            let Some((sector, offset, length)) = continuation else {
                return Ok(name);
            };
            if offset + length > SECTOR {
                return Err(IsoError::Damaged("a continuation area crosses its sector"));
            }
            let bytes = self.read(sector, SECTOR)?;
            area = bytes[offset as usize..(offset + length) as usize].to_vec();
        }
        Err(IsoError::Damaged("continuation areas without an end"))
    }
}

#[cfg(test)]
mod tests;
