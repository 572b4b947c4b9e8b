//! From a disk to an operating system, as UEFI goes: MBR, GPT, ESP, loader; then as the loader goes: manifest, root.

use std::io::Read;

use fatfs::{FileSystem, FsOptions};

use super::{LOADER, MANIFEST, OsManifest, RootArea};
use crate::host::disk::{Disk, DiskError, Region};

/// A manifest is a page of YAML; a loader is read up to its magic.
const MANIFEST_MAX: u64 = 64 * 1024;
const PROTECTIVE: u8 = 0xee;
const MBR_ESP: u8 = 0xef;

/// Why firmware can't boot a disk: it goes on to the next entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotBootable {
    #[error("no partition table")]
    NoTable,
    #[error("the partition table is damaged: {0}")]
    BadTable(String),
    #[error("no EFI system partition")]
    NoEsp,
    #[error("the EFI system partition can't be read: {0}")]
    BadEsp(String),
    #[error("the EFI system partition has no \\{}", LOADER.replace('/', "\\"))]
    NoLoader,
    #[error("the loader is not an EFI program")]
    BadLoader,
    #[error("the loader finds no system: {0}")]
    NoSystem(String),
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// What a partition is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartKind {
    Esp,
    Linux,
    Other,
}

/// A partition, in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    pub number: u32,
    pub start: u64,
    pub length: u64,
    pub kind: PartKind,
    /// GPT's name; empty for MBR.
    pub name: String,
}

/// The partitions of a disk, by GPT if its MBR is protective, else by MBR (UEFI 2.10, 5.2 and 5.3).
pub fn partitions(disk: &Disk) -> Result<Vec<Part>, NotBootable> {
    let mut mbr = [0; 512];
    disk.read_at(0, &mut mbr).map_err(|_| NotBootable::NoTable)?;
    if mbr[510..] != [0x55, 0xaa] {
        return Err(NotBootable::NoTable);
    }
    let entries: Vec<&[u8]> = mbr[446..510].chunks_exact(16).collect();
    let parts = if entries.iter().any(|entry| entry[4] == PROTECTIVE) {
        by_gpt(disk)?
    } else {
        entries
            .iter()
            .enumerate()
            .filter(|(_, entry)| entry[4] != 0)
            .map(|(i, entry)| by_mbr(i, entry))
            .collect()
    };
    let fits = |part: &Part| {
        part.start
            .checked_add(part.length)
            .is_some_and(|end| end <= disk.size())
    };
    match parts.iter().find(|part| !fits(part)) {
        Some(part) => Err(NotBootable::BadTable(format!(
            "partition {} ends beyond the disk",
            part.number
        ))),
        None => Ok(parts),
    }
}

fn by_mbr(index: usize, entry: &[u8]) -> Part {
    let number = |at: usize| {
        u64::from(u32::from_le_bytes([
            entry[at],
            entry[at + 1],
            entry[at + 2],
            entry[at + 3],
        ]))
    };
    Part {
        number: index as u32 + 1,
        start: number(8) * 512,
        length: number(12) * 512,
        kind: match entry[4] {
            MBR_ESP => PartKind::Esp,
            0x83 => PartKind::Linux,
            _ => PartKind::Other,
        },
        name: String::new(),
    }
}

fn by_gpt(disk: &Disk) -> Result<Vec<Part>, NotBootable> {
    let bad = |error: String| NotBootable::BadTable(error);
    let size = gpt::disk::LogicalBlockSize::try_from(u64::from(disk.model().logical_sector));
    let size = size.map_err(|error| bad(error.to_string()))?;
    let config = gpt::GptConfig::new().logical_block_size(size);
    let table = config
        .open_from_device(disk.region(0, disk.size()))
        .map_err(|error| bad(error.to_string()))?;
    let sector = u64::from(disk.model().logical_sector);
    let mut parts = Vec::new();
    for (&number, part) in table.partitions().iter().filter(|(_, part)| part.is_used()) {
        let sectors = part
            .last_lba
            .checked_sub(part.first_lba)
            .and_then(|sectors| sectors.checked_add(1));
        let area =
            sectors.and_then(|count| Some((part.first_lba.checked_mul(sector)?, count.checked_mul(sector)?)));
        let (start, length) = area.ok_or_else(|| bad(format!("partition {number} has no sane extent")))?;
        let kind = if part.part_type_guid.guid == gpt::partition_types::EFI.guid {
            PartKind::Esp
        } else if part.part_type_guid.guid == gpt::partition_types::LINUX_FS.guid {
            PartKind::Linux
        } else {
            PartKind::Other
        };
        parts.push(Part {
            number,
            start,
            length,
            kind,
            name: part.name.clone(),
        });
    }
    Ok(parts)
}

/// Walks partition table, ESP, loader and manifest.
pub fn boot_disk(disk: &Disk) -> Result<OsManifest, NotBootable> {
    let parts = partitions(disk)?;
    let esp = parts
        .iter()
        .find(|part| part.kind == PartKind::Esp)
        .ok_or(NotBootable::NoEsp)?;
    let region = disk.region(esp.start, esp.length);
    let volume =
        FileSystem::new(region, FsOptions::new()).map_err(|error| NotBootable::BadEsp(error.to_string()))?;
    let loader = read(&volume, LOADER, 64).map_err(|_| NotBootable::NoLoader)?;
    if !loader.starts_with(b"MZ") {
        return Err(NotBootable::BadLoader);
    }
    let no_system = |error: String| NotBootable::NoSystem(error);
    let yaml =
        read(&volume, MANIFEST, MANIFEST_MAX).map_err(|error| no_system(format!("{MANIFEST}: {error}")))?;
    let yaml = String::from_utf8(yaml).map_err(|_| no_system(format!("{MANIFEST} is not text")))?;
    let mut manifest: OsManifest =
        serde_saphyr::from_str(&yaml).map_err(|error| no_system(format!("{MANIFEST}: {error}")))?;
    let root = parts
        .iter()
        .find(|part| part.name == "root" && part.kind == PartKind::Linux);
    manifest.root = root.map(|part| RootArea {
        start: part.start,
        length: part.length,
    });
    Ok(manifest)
}

fn read(volume: &FileSystem<Region>, path: &str, max: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    volume
        .root_dir()
        .open_file(path)?
        .take(max)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}
