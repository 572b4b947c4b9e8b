//! A virtual disk: sparse, copy-on-write over blocks that hosts share.
//!
//! ```text
//! Disk (3.84 TB, empty: no blocks) ──> { block number: Arc<[u8]> } ──┐
//! Disk of another host             ──> { block number: Arc<[u8]> } ──┴─> BlockPool: digest -> Weak<[u8]>
//! ```
//! A thousand hosts that were written the same image hold its blocks once. Zeros are the absence of a block, so that an
//! erased disk costs nothing and a raw search (`find`) sees every byte that is really kept.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use sha2::{Digest, Sha256};

/// Unit of sharing. Big enough that 4 MiB of image are 64 entries, small enough that one changed file copies little.
pub const BLOCK: usize = 64 * 1024;
static ZEROS: [u8; BLOCK] = [0; BLOCK];
/// Dead pool entries are dropped when the pool has grown to this, then at each doubling.
const POOL_PURGE_MIN: usize = 1024;

/// How a disk is attached; it decides its erase methods and its kernel name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    Nvme,
    Sata,
    Virtio,
}

/// What a disk says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskModel {
    /// Kernel name in the ramdisk and in the OS: `/dev/nvme0n1`.
    pub name: String,
    pub vendor: Option<String>,
    pub model: String,
    pub serial: String,
    pub wwn: Option<String>,
    /// Bytes.
    pub size: u64,
    pub rotational: bool,
    pub transport: Transport,
    /// Bytes of a logical sector: 512 or 4096.
    pub logical_sector: u32,
}

/// An access that a disk can't serve.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DiskError {
    #[error("{name}: {length} bytes at {offset} are beyond the end of the disk ({size} bytes)")]
    OutOfRange {
        name: String,
        offset: u64,
        length: u64,
        size: u64,
    },
}

impl From<DiskError> for io::Error {
    fn from(error: DiskError) -> Self {
        Self::new(io::ErrorKind::InvalidInput, error)
    }
}

/// Blocks with equal content, held once among all disks that were made with the same pool.
#[derive(Clone, Default)]
pub struct BlockPool {
    known: Arc<Mutex<Known>>,
}

#[derive(Default)]
struct Known {
    blocks: BTreeMap<[u8; 32], Weak<[u8]>>,
    purge_at: usize,
}

impl BlockPool {
    /// The shared block of this content, which is a whole [`BLOCK`].
    fn share(&self, content: &[u8]) -> Arc<[u8]> {
        let key: [u8; 32] = Sha256::digest(content).into();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(block) = known.blocks.get(&key).and_then(Weak::upgrade) {
            return block;
        }
        if known.blocks.len() >= known.purge_at.max(POOL_PURGE_MIN) {
            known.blocks.retain(|_, block| block.strong_count() > 0);
            known.purge_at = known.blocks.len() * 2;
        }
        let block: Arc<[u8]> = Arc::from(content);
        known.blocks.insert(key, Arc::downgrade(&block));
        block
    }

    /// Distinct blocks that some disk still holds.
    pub fn blocks(&self) -> usize {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known
            .blocks
            .values()
            .filter(|block| block.strong_count() > 0)
            .count()
    }
}

/// One disk; clones are handles to the same disk.
#[derive(Clone)]
pub struct Disk {
    model: Arc<DiskModel>,
    pool: BlockPool,
    blocks: Arc<Mutex<BTreeMap<u64, Arc<[u8]>>>>,
}

impl Disk {
    /// An empty disk.
    pub fn new(model: DiskModel, pool: &BlockPool) -> Self {
        Self {
            model: Arc::new(model),
            pool: pool.clone(),
            blocks: Arc::default(),
        }
    }

    /// What the disk says about itself.
    pub fn model(&self) -> &DiskModel {
        &self.model
    }

    /// Bytes.
    pub fn size(&self) -> u64 {
        self.model.size
    }

    /// Fills `into` from `offset`.
    pub fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), DiskError> {
        self.check(offset, into.len())?;
        let blocks = self.lock();
        for piece in pieces(offset, into.len()) {
            let target = &mut into[piece.from..piece.from + piece.length];
            match blocks.get(&piece.block) {
                Some(block) => target.copy_from_slice(&block[piece.within..piece.within + piece.length]),
                None => target.fill(0),
            }
        }
        Ok(())
    }

    /// Writes `data` at `offset`.
    pub fn write_at(&self, offset: u64, data: &[u8]) -> Result<(), DiskError> {
        self.check(offset, data.len())?;
        let mut blocks = self.lock();
        for piece in pieces(offset, data.len()) {
            let source = &data[piece.from..piece.from + piece.length];
            if piece.length == BLOCK {
                if source == &ZEROS[..] {
                    blocks.remove(&piece.block);
                } else {
                    blocks.insert(piece.block, self.pool.share(source));
                }
                continue;
            }
            let zero = source == &ZEROS[..source.len()];
            let Some(old) = blocks.get_mut(&piece.block) else {
                if !zero {
                    let mut fresh = vec![0; BLOCK];
                    fresh[piece.within..piece.within + piece.length].copy_from_slice(source);
                    blocks.insert(piece.block, Arc::from(fresh));
                }
                continue;
            };
            // Weak references (the pool's) count: a pooled block is never changed in place.
            if Arc::get_mut(old).is_none() {
                *old = Arc::from(&old[..]);
            }
            if let Some(own) = Arc::get_mut(old) {
                own[piece.within..piece.within + piece.length].copy_from_slice(source);
                if zero && *own == ZEROS[..] {
                    blocks.remove(&piece.block);
                }
            }
        }
        Ok(())
    }

    /// What a secure erase, a format or a discard of the whole disk does: nothing is left.
    pub fn erase(&self) {
        self.lock().clear();
    }

    /// Blocks that hold something.
    pub fn allocated_blocks(&self) -> usize {
        self.lock().len()
    }

    /// Where `needle` first is in the raw blocks, also when it crosses a border between two. For tests that ask whether a
    /// former tenant's bytes are really gone.
    pub fn find(&self, needle: &[u8]) -> Option<u64> {
        if needle.is_empty() || needle.len() > BLOCK {
            return None;
        }
        let blocks = self.lock();
        for (&number, block) in blocks.iter() {
            let mut window = block.to_vec();
            if let Some(next) = blocks.get(&(number + 1)) {
                window.extend_from_slice(&next[..needle.len() - 1]);
            }
            if let Some(at) = window.windows(needle.len()).position(|bytes| bytes == needle) {
                return Some(number * BLOCK as u64 + at as u64);
            }
        }
        None
    }

    /// A reader and writer over `length` bytes from `start`, such as a partition; the whole disk is `region(0, size())`.
    pub fn region(&self, start: u64, length: u64) -> Region {
        let length = length.min(self.size().saturating_sub(start));
        Region {
            disk: self.clone(),
            start,
            length,
            at: 0,
        }
    }

    fn check(&self, offset: u64, length: usize) -> Result<(), DiskError> {
        let length = length as u64;
        match offset.checked_add(length) {
            Some(end) if end <= self.size() => Ok(()),
            _ => {
                let name = self.model.name.clone();
                Err(DiskError::OutOfRange {
                    name,
                    offset,
                    length,
                    size: self.size(),
                })
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<[u8]>>> {
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Piece {
    block: u64,
    /// Offset in the block.
    within: usize,
    /// Offset in the caller's bytes.
    from: usize,
    length: usize,
}

/// Cuts an access at the borders of blocks.
fn pieces(offset: u64, length: usize) -> impl Iterator<Item = Piece> {
    let mut from = 0;
    std::iter::from_fn(move || {
        if from == length {
            return None;
        }
        let at = offset + from as u64;
        let within = (at % BLOCK as u64) as usize;
        let piece = Piece {
            block: at / BLOCK as u64,
            within,
            from,
            length: (BLOCK - within).min(length - from),
        };
        from += piece.length;
        Some(piece)
    })
}

/// A part of a disk as a stream of bytes, as file system and partition table crates want it.
pub struct Region {
    disk: Disk,
    start: u64,
    length: u64,
    at: u64,
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}+{}]", self.disk.model.name, self.start, self.length)
    }
}

impl Region {
    fn room(&self, wanted: usize) -> usize {
        usize::try_from(self.length.saturating_sub(self.at))
            .unwrap_or(usize::MAX)
            .min(wanted)
    }
}

impl Read for Region {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.room(into.len());
        self.disk.read_at(self.start + self.at, &mut into[..count])?;
        self.at += count as u64;
        Ok(count)
    }
}

impl Write for Region {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let count = self.room(data.len());
        if count == 0 && !data.is_empty() {
            return Err(io::Error::new(io::ErrorKind::WriteZero, "end of the region"));
        }
        self.disk.write_at(self.start + self.at, &data[..count])?;
        self.at += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Region {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.length.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "seek before the start"))?;
        Ok(self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(pool: &BlockPool, size: u64) -> Disk {
        let model = DiskModel {
            name: "/dev/sda".to_owned(),
            vendor: None,
            model: "m".to_owned(),
            serial: "s".to_owned(),
            wwn: None,
            size,
            rotational: false,
            transport: Transport::Sata,
            logical_sector: 512,
        };
        Disk::new(model, pool)
    }

    #[test]
    fn empty_disks_cost_nothing_and_read_as_zeros() {
        let disk = disk(&BlockPool::default(), 3_840_000_000_000);
        let mut read = [1; 100];
        disk.read_at(3_840_000_000_000 - 100, &mut read).unwrap();
        assert_eq!(read, [0; 100]);
        disk.write_at(5_000_000_000, &[0; 3 * BLOCK]).unwrap();
        assert_eq!(disk.allocated_blocks(), 0);
    }

    #[test]
    fn equal_blocks_are_shared_until_one_disk_writes() {
        let pool = BlockPool::default();
        let (one, two) = (disk(&pool, 1 << 30), disk(&pool, 1 << 30));
        let image: Vec<u8> = (0..4 * BLOCK).map(|i| (i / BLOCK) as u8 + 1).collect();
        one.write_at(0, &image).unwrap();
        two.write_at(BLOCK as u64, &image).unwrap();
        assert_eq!(
            (pool.blocks(), one.allocated_blocks(), two.allocated_blocks()),
            (4, 4, 4)
        );
        two.write_at(BLOCK as u64 + 7, b"mine").unwrap();
        let mut theirs = [0; 4];
        one.read_at(7, &mut theirs).unwrap();
        assert_eq!(theirs, [1; 4], "the other disk must not see the write");
        two.read_at(BLOCK as u64 + 7, &mut theirs).unwrap();
        assert_eq!(&theirs, b"mine");
        one.erase();
        two.erase();
        assert_eq!(pool.blocks(), 0, "the pool must not keep blocks alive");
    }

    #[test]
    fn find_sees_across_borders_and_nothing_after_erase() {
        let disk = disk(&BlockPool::default(), 1 << 30);
        disk.write_at(3 * BLOCK as u64 - 2, b"secret").unwrap();
        assert_eq!(disk.find(b"secret"), Some(3 * BLOCK as u64 - 2));
        assert_eq!(disk.find(b"secrets"), None);
        disk.erase();
        assert_eq!(disk.find(b"secret"), None);
    }

    #[test]
    fn accesses_beyond_the_end_are_refused() {
        let disk = disk(&BlockPool::default(), 1000);
        assert!(disk.write_at(999, b"ab").is_err());
        assert!(disk.read_at(u64::MAX, &mut [0]).is_err());
        assert_eq!(disk.region(990, 100).write(&[1; 50]).unwrap(), 10);
    }

    #[test]
    fn matches_a_plain_vector_on_random_writes() {
        // A small generator (SplitMix64) instead of a crate: the sequence is the test.
        let mut state = 42u64;
        let mut next = |below: usize| {
            state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            (z ^ (z >> 27)) as usize % below
        };
        let size = 5 * BLOCK;
        let (disk, mut model) = (disk(&BlockPool::default(), size as u64), vec![0u8; size]);
        for _ in 0..300 {
            let (at, value) = (next(size), next(3) as u8);
            let length = next((size - at).min(2 * BLOCK)) + 1;
            disk.write_at(at as u64, &vec![value; length]).unwrap();
            model[at..at + length].fill(value);
        }
        let mut read = vec![9; size];
        disk.read_at(0, &mut read).unwrap();
        assert!(read == model);
    }
}
