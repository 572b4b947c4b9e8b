//! GUID partition table (UEFI 2.10, section 5.3).

use flate2::Crc;

use super::{CONFIG_DRIVE_MAX, Kind, Partition, TableError, max_end};

const SIGNATURE: &[u8; 8] = b"EFI PART";
/// Bytes of the header that are defined; the rest of its sector is zero.
const HEADER: usize = 92;
/// 128 is usual; more than this is an attack or garbage.
const ENTRIES_MAX: u32 = 1024;
/// Linux file system data, 0FC63DAF-8483-4772-8E79-3D69D8477DE4.
const LINUX_DATA: [u8; 16] = *b"\xaf\x3d\xc6\x0f\x83\x84\x72\x47\x8e\x79\x3d\x69\xd8\x47\x7d\xe4";
/// Partitions start at multiples of this many bytes, as all tools have it.
const ALIGNMENT: u64 = 1 << 20;

/// A table with a valid primary header.
pub(crate) struct Gpt {
    sector: u64,
    header: [u8; HEADER],
    entries: Vec<u8>,
    entry_size: usize,
    entries_lba: u64,
    first_usable: u64,
    last_usable: u64,
    /// LBA of the backup header.
    last: u64,
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes
        .get(at..at + 4)
        .and_then(|b| b.try_into().ok())
        .map_or(0, u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes
        .get(at..at + 8)
        .and_then(|b| b.try_into().ok())
        .map_or(0, u64::from_le_bytes)
}

fn crc(bytes: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum()
}

impl Gpt {
    /// Reads the primary header; `None` when there is none.
    pub(super) fn parse(head: &[u8], sector: u64) -> Result<Option<Self>, TableError> {
        let bad = |why: &str| TableError::BadGpt(why.to_owned());
        let at = sector as usize;
        let Some(raw) = head.get(at..at + HEADER).filter(|raw| raw.starts_with(SIGNATURE)) else {
            return Ok(None);
        };
        let mut header = [0; HEADER];
        header.copy_from_slice(raw);
        let size = u32_at(&header, 12);
        if size as usize != HEADER {
            return Err(bad(&format!("header size {size}, not {HEADER}")));
        }
        let stored = u32_at(&header, 16);
        header[16..20].fill(0);
        if crc(&header) != stored {
            return Err(bad("the checksum of the header is wrong"));
        }
        if u64_at(&header, 24) != 1 {
            return Err(bad("the primary header is not at LBA 1"));
        }
        let (entries_lba, count, entry_size) =
            (u64_at(&header, 72), u32_at(&header, 80), u32_at(&header, 84));
        if count == 0 || count > ENTRIES_MAX || !(128..=1024).contains(&entry_size) || entry_size % 8 != 0 {
            return Err(bad(&format!("{count} entries of {entry_size} bytes")));
        }
        let start = entries_lba
            .checked_mul(sector)
            .and_then(|start| usize::try_from(start).ok());
        let length = count as usize * entry_size as usize;
        let entries = start
            .filter(|_| entries_lba >= 2)
            .and_then(|start| head.get(start..start.checked_add(length)?))
            .ok_or_else(|| bad("the entries are not in the first MiB"))?;
        if crc(entries) != u32_at(&header, 88) {
            return Err(bad("the checksum of the entries is wrong"));
        }
        let gpt = Self {
            sector,
            entries: entries.to_vec(),
            entry_size: entry_size as usize,
            entries_lba,
            first_usable: u64_at(&header, 40),
            last_usable: u64_at(&header, 48),
            last: u64_at(&header, 32),
            header,
        };
        gpt.check_entries()?;
        Ok(Some(gpt))
    }

    fn check_entries(&self) -> Result<(), TableError> {
        for (index, entry) in self.entries.chunks_exact(self.entry_size).enumerate() {
            let (first, last) = (u64_at(entry, 32), u64_at(entry, 40));
            let sane = first >= self.first_usable && first <= last && last < u64::MAX / self.sector;
            if entry[..16] != [0; 16] && !sane {
                let why = format!("partition {} runs from LBA {first} to {last}", index + 1);
                return Err(TableError::BadGpt(why));
            }
        }
        Ok(())
    }

    pub(super) fn partitions(&self) -> Vec<Partition> {
        let used = self.entries.chunks_exact(self.entry_size).enumerate();
        used.filter(|(_, entry)| entry[..16] != [0; 16])
            .map(|(index, entry)| {
                let (first, last) = (u64_at(entry, 32), u64_at(entry, 40));
                let mut guid = [0; 16];
                guid.copy_from_slice(&entry[..16]);
                Partition {
                    number: index as u32 + 1,
                    start: first * self.sector,
                    length: (last + 1 - first) * self.sector,
                    kind: Kind::Guid(guid),
                }
            })
            .collect()
    }

    fn entries_sectors(&self) -> u64 {
        (self.entries.len() as u64).div_ceil(self.sector)
    }

    /// Moves the backup to the end of the disk and opens the room between (what `sgdisk -e` does).
    pub(super) fn fit(&mut self, disk_bytes: u64) -> Result<(), TableError> {
        let sectors = disk_bytes / self.sector;
        let reserved = self.entries_sectors() + 1;
        self.last = sectors.saturating_sub(1);
        self.last_usable = self.last.saturating_sub(reserved);
        let usable = (self.last_usable + 1) * self.sector;
        for partition in self.partitions() {
            let end = partition.start + partition.length;
            if end > usable {
                return Err(TableError::TooLong {
                    number: partition.number,
                    end,
                    usable,
                });
            }
        }
        Ok(())
    }

    pub(super) fn add_config_drive(&mut self, guid: [u8; 16]) -> Result<Partition, TableError> {
        let end = (self.last_usable + 1) * self.sector;
        let start = end.saturating_sub(CONFIG_DRIVE_MAX) / ALIGNMENT * ALIGNMENT;
        if let Some(other) = max_end(&self.partitions()).filter(|other| other.start + other.length > start) {
            return Err(TableError::NoRoom {
                needed: self.last * self.sector + self.sector - start,
                number: other.number,
                end: other.start + other.length,
            });
        }
        let free = self
            .entries
            .chunks_exact(self.entry_size)
            .position(|entry| entry[..16] == [0; 16]);
        let index = free.ok_or(TableError::Full)?;
        let entry = &mut self.entries[index * self.entry_size..(index + 1) * self.entry_size];
        entry.fill(0);
        entry[..16].copy_from_slice(&LINUX_DATA);
        entry[16..32].copy_from_slice(&guid);
        entry[32..40].copy_from_slice(&(start / self.sector).to_le_bytes());
        entry[40..48].copy_from_slice(&self.last_usable.to_le_bytes());
        for (at, unit) in "config-2".encode_utf16().enumerate() {
            entry[56 + at * 2..58 + at * 2].copy_from_slice(&unit.to_le_bytes());
        }
        Ok(Partition {
            number: index as u32 + 1,
            start,
            length: end - start,
            kind: Kind::Guid(LINUX_DATA),
        })
    }

    fn sealed_header(&self, own: u64, other: u64, entries_lba: u64) -> [u8; HEADER] {
        let mut header = self.header;
        header[16..20].fill(0);
        header[24..32].copy_from_slice(&own.to_le_bytes());
        header[32..40].copy_from_slice(&other.to_le_bytes());
        header[48..56].copy_from_slice(&self.last_usable.to_le_bytes());
        header[72..80].copy_from_slice(&entries_lba.to_le_bytes());
        header[88..92].copy_from_slice(&crc(&self.entries).to_le_bytes());
        let sum = crc(&header);
        header[16..20].copy_from_slice(&sum.to_le_bytes());
        header
    }

    pub(super) fn store(&self, head: &mut [u8]) {
        let sector = self.sector as usize;
        head[sector..sector + HEADER].copy_from_slice(&self.sealed_header(1, self.last, self.entries_lba));
        let at = self.entries_lba as usize * sector;
        head[at..at + self.entries.len()].copy_from_slice(&self.entries);
        // The protective MBR covers the disk as it is now (5.2.3).
        if head[510..512] == [0x55, 0xaa] && head[450] == 0xee {
            let covered = u32::try_from(self.last).unwrap_or(u32::MAX);
            head[458..462].copy_from_slice(&covered.to_le_bytes());
        }
    }

    /// The backup: entries, then the header in the last sector.
    pub(super) fn backup(&self) -> (u64, Vec<u8>) {
        let first = self.last - self.entries_sectors();
        let mut bytes = self.entries.clone();
        bytes.resize((self.entries_sectors() * self.sector) as usize, 0);
        bytes.extend_from_slice(&self.sealed_header(self.last, 1, first));
        bytes.resize(((self.entries_sectors() + 1) * self.sector) as usize, 0);
        (first * self.sector, bytes)
    }
}
