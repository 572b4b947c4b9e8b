//! Partition tables, as much as a deployment needs: read what the image brought, move GPT's backup to the end of this disk,
//! add a partition for the config drive. All of it happens on the held-back first MiB in memory; the disk gets a table
//! only when everything else is on it.

mod gpt;
mod mbr;

pub(crate) use gpt::Gpt;
pub(crate) use mbr::Mbr;

/// A table that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TableError {
    #[error("the image has no partition table (neither GPT nor MBR): it can't boot")]
    None,
    #[error("the image's GPT is damaged: {0}")]
    BadGpt(String),
    #[error("partition {number} ends at byte {end}, beyond the usable end of the disk at byte {usable}")]
    TooLong { number: u32, end: u64, usable: u64 },
    #[error("no free entry in the partition table for the config drive")]
    Full,
    #[error(
        "no room for the config drive: it needs the last {needed} bytes of the disk, partition {number} ends at byte {end}"
    )]
    NoRoom { needed: u64, number: u32, end: u64 },
}

/// A partition, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Partition {
    /// From 1 on.
    pub(crate) number: u32,
    pub(crate) start: u64,
    pub(crate) length: u64,
    pub(crate) kind: Kind,
}

/// A partition's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// GUID in the byte order of the disk.
    Guid([u8; 16]),
    Byte(u8),
}

/// A table that was read.
pub(crate) enum Table {
    Gpt(Gpt),
    Mbr(Mbr),
}

/// Size of the partition that holds a config drive (ironic: `MAX_CONFIG_DRIVE_SIZE_MB`).
pub(crate) const CONFIG_DRIVE_MAX: u64 = 64 << 20;

impl Table {
    /// Reads the table from the first bytes of a disk.
    pub(crate) fn parse(head: &[u8], sector: u64) -> Result<Self, TableError> {
        if let Some(gpt) = Gpt::parse(head, sector)? {
            return Ok(Self::Gpt(gpt));
        }
        match Mbr::parse(head, sector) {
            Some(mbr) if mbr.is_protective() => Err(TableError::BadGpt(
                "there is a protective MBR, but no GPT header behind it".to_owned(),
            )),
            Some(mbr) => Ok(Self::Mbr(mbr)),
            None => Err(TableError::None),
        }
    }

    pub(crate) fn partitions(&self) -> Vec<Partition> {
        match self {
            Self::Gpt(gpt) => gpt.partitions(),
            Self::Mbr(mbr) => mbr.partitions(),
        }
    }

    /// Fits the table to a disk of this size.
    pub(crate) fn fit(&mut self, disk_bytes: u64) -> Result<(), TableError> {
        match self {
            Self::Gpt(gpt) => gpt.fit(disk_bytes),
            Self::Mbr(mbr) => mbr.fit(disk_bytes),
        }
    }

    /// Adds the partition at the end of the disk that a config drive goes to; call [`Table::fit`] first.
    pub(crate) fn add_config_drive(&mut self, guid: [u8; 16]) -> Result<Partition, TableError> {
        match self {
            Self::Gpt(gpt) => gpt.add_config_drive(guid),
            Self::Mbr(mbr) => mbr.add_config_drive(),
        }
    }

    /// Writes the table into the first bytes of the disk.
    pub(crate) fn store(&self, head: &mut [u8]) {
        match self {
            Self::Gpt(gpt) => gpt.store(head),
            Self::Mbr(mbr) => mbr.store(head),
        }
    }

    /// What belongs to the end of the disk: offset and bytes.
    pub(crate) fn backup(&self) -> Option<(u64, Vec<u8>)> {
        match self {
            Self::Gpt(gpt) => Some(gpt.backup()),
            Self::Mbr(_) => None,
        }
    }
}

/// The MBR's disk identifier, which Ironic calls the root uuid of a whole disk image.
pub(crate) fn disk_identifier(head: &[u8]) -> String {
    let bytes = head
        .get(440..444)
        .and_then(|bytes| bytes.try_into().ok())
        .unwrap_or([0; 4]);
    format!("0x{:08x}", u32::from_le_bytes(bytes))
}

/// File systems that several machines may share at once; erasing one from here would destroy others' data
/// (ipa `hardware.py` `_check_for_special_partitions_filesystems`).
pub(crate) fn shared_file_system(partition: &Partition) -> Option<&'static str> {
    // GUIDs in disk order: the first three groups are little endian.
    const VMFS: [u8; 16] = *b"\x2a\xe0\x31\xaa\x0f\x40\xdb\x11\x95\x90\x00\x0c\x29\x11\xd1\xb8";
    const GPFS: [u8; 16] = *b"\x90\xfc\xaf\x37\x7d\xef\x96\x4e\x91\xc3\x2d\x7a\xe0\x55\xb1\x74";
    match partition.kind {
        Kind::Guid(VMFS) | Kind::Byte(0xfb) => Some("VMFS"),
        Kind::Guid(GPFS) => Some("GPFS"),
        _ => None,
    }
}

fn max_end(partitions: &[Partition]) -> Option<&Partition> {
    partitions
        .iter()
        .max_by_key(|partition| partition.start + partition.length)
}

#[cfg(test)]
mod tests;
