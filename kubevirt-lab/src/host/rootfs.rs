//! The OS's root file system: a log of files in the root partition, so that what the OS writes is really on the disk.
//!
//! ```text
//! superblock | record | record | ... | zero header          record = header, path, content, checksum over all of it
//! ```
//! The newest record of a path holds; a removal is a record as well. When the log is full it is rewritten with what is alive,
//! and bytes of dead files stay behind it, as on any file system: only an erased disk forgets.

use std::collections::BTreeMap;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::disk::{Disk, Region};
use super::image::RootArea;

const MAGIC: &[u8; 16] = b"STEELYARD-ROOT\0\x01";
const RECORD: u32 = 0x5359_4652;
/// magic, kind, mode, path length, content length, checksum
const HEADER: usize = 20;
const FILE_MAX: usize = 8 << 20;
const PATH_MAX: usize = 4096;

#[derive(Debug, thiserror::Error)]
pub(crate) enum FsError {
    #[error("{path}: No such file or directory")]
    NotFound { path: String },
    #[error("{path}: Is a directory")]
    IsDirectory { path: String },
    #[error("{path}: No space left on device")]
    NoSpace { path: String },
    #[error("{path}: File too large")]
    TooLarge { path: String },
    #[error("{path}: Invalid argument")]
    BadPath { path: String },
    #[error("root device: {0}")]
    Io(#[from] io::Error),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Kind {
    File = 1,
    Directory = 2,
    Removed = 3,
}

#[derive(Clone)]
struct Node {
    kind: Kind,
    mode: u16,
    content: Arc<[u8]>,
}

/// The mounted file system; clones are the same one. Paths are absolute; `.` and `..` are resolved.
#[derive(Clone)]
pub(crate) struct RootFs {
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    region: Region,
    length: u64,
    end: u64,
    nodes: BTreeMap<String, Node>,
}

impl RootFs {
    /// Mounts the root partition; one that holds no file system yet gets one (an image brings its root empty).
    pub(crate) fn mount(disk: &Disk, area: RootArea) -> Result<Self, FsError> {
        let mut region = disk.region(area.start, area.length);
        let mut magic = [0; MAGIC.len()];
        region.read_exact(&mut magic)?;
        let mut inner = Inner { region, length: area.length, end: MAGIC.len() as u64, nodes: BTreeMap::new() };
        if magic == *MAGIC {
            inner.replay()?;
        } else {
            inner.rewrite("/")?;
        }
        Ok(Self { inner: Arc::new(Mutex::new(inner)) })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn read(&self, path: &str) -> Result<Arc<[u8]>, FsError> {
        let path = normal(path)?;
        match self.lock().nodes.get(&path) {
            Some(Node { kind: Kind::File, content, .. }) => Ok(content.clone()),
            Some(_) => Err(FsError::IsDirectory { path }),
            None if self.is_dir(&path) => Err(FsError::IsDirectory { path }),
            None => Err(FsError::NotFound { path }),
        }
    }

    pub(crate) fn read_text(&self, path: &str) -> Option<String> {
        self.read(path).ok().map(|content| String::from_utf8_lossy(&content).into_owned())
    }

    pub(crate) fn write(&self, path: &str, mode: u16, content: &[u8]) -> Result<(), FsError> {
        let path = normal(path)?;
        if content.len() > FILE_MAX {
            return Err(FsError::TooLarge { path });
        }
        if path == "/" || self.is_dir(&path) {
            return Err(FsError::IsDirectory { path });
        }
        self.lock().put(&path, Node { kind: Kind::File, mode, content: content.into() })
    }

    pub(crate) fn append(&self, path: &str, mode: u16, content: &[u8]) -> Result<(), FsError> {
        let mut whole = self.read(path).map(|content| content.to_vec()).unwrap_or_default();
        whole.extend_from_slice(content);
        self.write(path, mode, &whole)
    }

    pub(crate) fn make_dir(&self, path: &str) -> Result<(), FsError> {
        let path = normal(path)?;
        if path == "/" || self.is_dir(&path) {
            return Ok(());
        }
        self.lock().put(&path, Node { kind: Kind::Directory, mode: 0o755, content: Arc::default() })
    }

    pub(crate) fn chmod(&self, path: &str, mode: u16) -> Result<(), FsError> {
        let path = normal(path)?;
        let node = self.lock().nodes.get(&path).cloned();
        match node {
            Some(node) => self.lock().put(&path, Node { mode, ..node }),
            None if self.is_dir(&path) => Ok(()),
            None => Err(FsError::NotFound { path }),
        }
    }

    /// Removes a file, or with `all` a directory and what is in it; false if there was nothing.
    pub(crate) fn remove(&self, path: &str, all: bool) -> Result<bool, FsError> {
        let path = normal(path)?;
        let below = format!("{}/", path.trim_end_matches('/'));
        let mut inner = self.lock();
        let doomed: Vec<String> =
            inner.nodes.keys().filter(|p| **p == path || (all && p.starts_with(&below))).cloned().collect();
        for path in &doomed {
            inner.put(path, Node { kind: Kind::Removed, mode: 0, content: Arc::default() })?;
        }
        Ok(!doomed.is_empty())
    }

    pub(crate) fn is_file(&self, path: &str) -> bool {
        let Ok(path) = normal(path) else { return false };
        self.lock().nodes.get(&path).is_some_and(|node| node.kind == Kind::File)
    }

    pub(crate) fn is_dir(&self, path: &str) -> bool {
        let Ok(path) = normal(path) else { return false };
        if path == "/" {
            return true;
        }
        let below = format!("{path}/");
        let inner = self.lock();
        inner.nodes.get(&path).is_some_and(|node| node.kind == Kind::Directory)
            || inner.nodes.range(below.clone()..).next().is_some_and(|(p, _)| p.starts_with(&below))
    }

    pub(crate) fn mode(&self, path: &str) -> Option<u16> {
        let path = normal(path).ok()?;
        self.lock().nodes.get(&path).map(|node| node.mode)
    }

    /// Names directly in a directory.
    pub(crate) fn list(&self, path: &str) -> Vec<String> {
        let Ok(path) = normal(path) else { return Vec::new() };
        let below = format!("{}/", path.trim_end_matches('/'));
        let inner = self.lock();
        let mut names: Vec<String> = inner
            .nodes
            .range(below.clone()..)
            .take_while(|(p, _)| p.starts_with(&below))
            .filter_map(|(p, _)| p[below.len()..].split('/').next().map(str::to_owned))
            .collect();
        names.dedup();
        names
    }
}

impl Inner {
    fn put(&mut self, path: &str, node: Node) -> Result<(), FsError> {
        let record = record(path, &node);
        // Room for the zero header that ends the log.
        if self.end + (record.len() + HEADER) as u64 > self.length {
            let old = self.set(path, node);
            if let Err(error) = self.rewrite(path) {
                match old {
                    Some(old) => self.nodes.insert(path.to_owned(), old),
                    None => self.nodes.remove(path),
                };
                self.rewrite(path)?;
                return Err(error);
            }
            return Ok(());
        }
        self.region.seek(SeekFrom::Start(self.end))?;
        self.region.write_all(&record)?;
        self.region.write_all(&[0; HEADER])?;
        self.end += record.len() as u64;
        self.set(path, node);
        Ok(())
    }

    fn set(&mut self, path: &str, node: Node) -> Option<Node> {
        match node.kind {
            Kind::Removed => self.nodes.remove(path),
            Kind::File | Kind::Directory => self.nodes.insert(path.to_owned(), node),
        }
    }

    /// Writes the log anew with what is alive; `path` is whose write needs the room.
    fn rewrite(&mut self, path: &str) -> Result<(), FsError> {
        let mut log = MAGIC.to_vec();
        for (path, node) in &self.nodes {
            log.extend(record(path, node));
        }
        let end = log.len() as u64;
        log.extend([0; HEADER]);
        if log.len() as u64 > self.length {
            return Err(FsError::NoSpace { path: path.to_owned() });
        }
        self.region.seek(SeekFrom::Start(0))?;
        self.region.write_all(&log)?;
        self.end = end;
        Ok(())
    }

    /// Reads the log; it ends at the first record that is not whole (the power was cut while it was written).
    fn replay(&mut self) -> Result<(), FsError> {
        loop {
            self.region.seek(SeekFrom::Start(self.end))?;
            let mut header = [0; HEADER];
            if self.end + HEADER as u64 > self.length {
                return Ok(());
            }
            self.region.read_exact(&mut header)?;
            let Some((kind, mode, path, content)) = lengths(&header) else { return Ok(()) };
            if self.end + (HEADER + path + content) as u64 > self.length {
                return Ok(());
            }
            let mut body = vec![0; path + content];
            self.region.read_exact(&mut body)?;
            if checksum(&header[..16], &body).to_le_bytes() != header[16..] {
                return Ok(());
            }
            self.end += (HEADER + body.len()) as u64;
            let content: Arc<[u8]> = body[path..].into();
            body.truncate(path);
            if let Ok(path) = String::from_utf8(body) {
                self.set(&path, Node { kind, mode, content });
            }
        }
    }
}

fn record(path: &str, node: &Node) -> Vec<u8> {
    let mut record = RECORD.to_le_bytes().to_vec();
    record.extend((node.kind as u16).to_le_bytes());
    record.extend(node.mode.to_le_bytes());
    record.extend((path.len() as u32).to_le_bytes());
    record.extend((node.content.len() as u32).to_le_bytes());
    let body = [path.as_bytes(), &node.content[..]].concat();
    record.extend(checksum(&record, &body).to_le_bytes());
    record.extend(body);
    record
}

fn lengths(header: &[u8; HEADER]) -> Option<(Kind, u16, usize, usize)> {
    let word = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let half = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
    let kind = match half(4) {
        1 => Kind::File,
        2 => Kind::Directory,
        3 => Kind::Removed,
        _ => return None,
    };
    let (path, content) = (word(8) as usize, word(12) as usize);
    (word(0) == RECORD && path <= PATH_MAX && content <= FILE_MAX).then_some((kind, half(6), path, content))
}

fn checksum(header: &[u8], body: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(header);
    crc.update(body);
    crc.sum()
}

fn normal(path: &str) -> Result<String, FsError> {
    if !path.starts_with('/') || path.len() > PATH_MAX || path.contains('\0') {
        return Err(FsError::BadPath { path: path.to_owned() });
    }
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    Ok(format!("/{}", parts.join("/")))
}

#[cfg(test)]
mod tests {
    use super::super::disk::{BlockPool, DiskModel, Transport};
    use super::*;

    const AREA: RootArea = RootArea { start: 1 << 20, length: 64 << 10 };

    fn disk() -> Disk {
        let model = DiskModel {
            name: "/dev/sda".to_owned(),
            vendor: None,
            model: "m".to_owned(),
            serial: "s".to_owned(),
            wwn: None,
            size: 4 << 20,
            rotational: false,
            transport: Transport::Sata,
            logical_sector: 512,
        };
        Disk::new(model, &BlockPool::default())
    }

    #[test]
    fn files_survive_a_reboot_as_bytes_of_the_disk() {
        let disk = disk();
        let fs = RootFs::mount(&disk, AREA).unwrap();
        fs.write("/etc/../etc/marker", 0o600, b"tenant-secret").unwrap();
        fs.write("/gone", 0o644, b"x").unwrap();
        fs.remove("/gone", false).unwrap();
        fs.make_dir("/var/lib/empty").unwrap();
        assert!(disk.find(b"tenant-secret").is_some());
        let again = RootFs::mount(&disk, AREA).unwrap();
        assert_eq!(&again.read("/etc/marker").unwrap()[..], b"tenant-secret");
        assert_eq!(again.mode("/etc/marker"), Some(0o600));
        assert!(!again.is_file("/gone") && again.is_dir("/var/lib/empty") && again.is_dir("/etc"));
        assert_eq!(again.list("/"), ["etc", "var"]);
    }

    #[test]
    fn a_full_log_is_rewritten_and_a_full_disk_refuses() {
        let disk = disk();
        let fs = RootFs::mount(&disk, AREA).unwrap();
        for round in 0..100u8 {
            fs.write("/log", 0o644, &[round; 3000]).unwrap();
        }
        let error = fs.write("/big", 0o644, &[1; 70_000]).unwrap_err();
        assert!(matches!(error, FsError::NoSpace { .. }), "{error}");
        let again = RootFs::mount(&disk, AREA).unwrap();
        assert_eq!(&again.read("/log").unwrap()[..], [99; 3000]);
        assert!(!again.is_file("/big"));
    }

    #[test]
    fn a_torn_record_ends_the_log() {
        let disk = disk();
        let fs = RootFs::mount(&disk, AREA).unwrap();
        fs.write("/a", 0o644, b"first").unwrap();
        fs.write("/b", 0o644, b"second").unwrap();
        let at = disk.find(b"second").unwrap();
        disk.write_at(at, b"S").unwrap();
        let again = RootFs::mount(&disk, AREA).unwrap();
        assert!(again.is_file("/a") && !again.is_file("/b"));
        again.write("/c", 0o644, b"third").unwrap();
        assert!(RootFs::mount(&disk, AREA).unwrap().is_file("/c"));
    }
}
