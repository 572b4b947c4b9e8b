//! Master boot record: four primary partitions at byte 446 (the format has no norm; UEFI 2.10, section 5.2 describes it).

use super::{CONFIG_DRIVE_MAX, Kind, Partition, TableError, max_end};

const ENTRIES: usize = 446;
/// FAT32 with LBA, what parted writes for `fat32`.
const FAT32_LBA: u8 = 0x0c;
const PROTECTIVE: u8 = 0xee;
const ALIGNMENT: u64 = 1 << 20;

/// A record with at least one sane partition.
pub(crate) struct Mbr {
    sector: u64,
    entries: [[u8; 16]; 4],
    disk_bytes: u64,
}

impl Mbr {
    /// `None` for no record, and for boot sectors of file systems, whose code looks like nonsensical partitions.
    pub(super) fn parse(head: &[u8], sector: u64) -> Option<Self> {
        if head.get(510..512)? != [0x55, 0xaa] {
            return None;
        }
        let mut entries = [[0; 16]; 4];
        for (entry, raw) in entries.iter_mut().zip(head[ENTRIES..510].chunks_exact(16)) {
            entry.copy_from_slice(raw);
        }
        let mbr = Self {
            sector,
            entries,
            disk_bytes: u64::MAX,
        };
        let sane = |entry: &[u8; 16]| {
            entry[4] == 0 || (entry[0] & 0x7f == 0 && start(entry) > 0 && sectors(entry) > 0)
        };
        (mbr.entries.iter().all(sane) && mbr.entries.iter().any(|entry| entry[4] != 0)).then_some(mbr)
    }

    pub(super) fn is_protective(&self) -> bool {
        self.entries.iter().any(|entry| entry[4] == PROTECTIVE)
    }

    pub(super) fn partitions(&self) -> Vec<Partition> {
        let used = self.entries.iter().enumerate().filter(|(_, entry)| entry[4] != 0);
        used.map(|(index, entry)| Partition {
            number: index as u32 + 1,
            start: u64::from(start(entry)) * self.sector,
            length: u64::from(sectors(entry)) * self.sector,
            kind: Kind::Byte(entry[4]),
        })
        .collect()
    }

    pub(super) fn fit(&mut self, disk_bytes: u64) -> Result<(), TableError> {
        self.disk_bytes = disk_bytes;
        for partition in self.partitions() {
            let end = partition.start + partition.length;
            if end > disk_bytes {
                return Err(TableError::TooLong {
                    number: partition.number,
                    end,
                    usable: disk_bytes,
                });
            }
        }
        Ok(())
    }

    pub(super) fn add_config_drive(&mut self) -> Result<Partition, TableError> {
        // A record can't say where a partition beyond 2^32 sectors is; ironic ends at 2097151 MiB then.
        let reach = (1u64 << 32) * self.sector - ALIGNMENT;
        let end = self.disk_bytes.min(reach) / self.sector * self.sector;
        let start = end.saturating_sub(CONFIG_DRIVE_MAX) / ALIGNMENT * ALIGNMENT;
        if let Some(other) = max_end(&self.partitions()).filter(|other| other.start + other.length > start) {
            let (number, end) = (other.number, other.start + other.length);
            return Err(TableError::NoRoom {
                needed: self.disk_bytes - start,
                number,
                end,
            });
        }
        let index = self
            .entries
            .iter()
            .position(|entry| entry[4] == 0)
            .ok_or(TableError::Full)?;
        let length = end - start;
        let mut entry = [0; 16];
        // Cylinders, heads and sectors say "use LBA".
        entry[1..4].copy_from_slice(&[0xfe, 0xff, 0xff]);
        entry[4] = FAT32_LBA;
        entry[5..8].copy_from_slice(&[0xfe, 0xff, 0xff]);
        entry[8..12].copy_from_slice(&((start / self.sector) as u32).to_le_bytes());
        entry[12..16].copy_from_slice(&((length / self.sector) as u32).to_le_bytes());
        self.entries[index] = entry;
        Ok(Partition {
            number: index as u32 + 1,
            start,
            length,
            kind: Kind::Byte(FAT32_LBA),
        })
    }

    pub(super) fn store(&self, head: &mut [u8]) {
        for (raw, entry) in head[ENTRIES..510].chunks_exact_mut(16).zip(&self.entries) {
            raw.copy_from_slice(entry);
        }
    }
}

fn start(entry: &[u8; 16]) -> u32 {
    u32::from_le_bytes([entry[8], entry[9], entry[10], entry[11]])
}

fn sectors(entry: &[u8; 16]) -> u32 {
    u32::from_le_bytes([entry[12], entry[13], entry[14], entry[15]])
}
