//! Verified images by their SHA-256: in memory with a bound, or in a directory that survives restarts.
//!
//! ```text
//! DIR/SHA256        the image, complete and verified: it gets this name last
//! DIR/SHA256.json   its digests
//! DIR/.partial-N    being fetched; removed at start
//! ```

use super::{
    Blob,
    checksum::{Algorithm, Digest, Hasher},
};
use bytes::Bytes;
use serde_json::json;
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

#[derive(Debug, thiserror::Error)]
#[error("--image-cache {dir}: {why}")]
pub struct CacheError {
    dir: String,
    why: io::Error,
}

/// One image in the cache.
#[derive(Clone, Debug)]
pub(crate) struct Cached {
    pub(crate) blob: Blob,
    pub(crate) digests: Vec<Digest>,
    /// Left by an earlier run: to be hashed again before it is trusted.
    pub(crate) verified: bool,
    /// Counts up with each use; the smallest goes first.
    used: u64,
}

#[derive(Debug)]
pub(crate) struct Cache {
    dir: Option<PathBuf>,
    limit: u64,
    images: BTreeMap<String, Cached>,
    uses: u64,
    partials: u64,
}

impl Cache {
    pub(crate) fn open(dir: Option<&Path>, limit: u64) -> Result<Self, CacheError> {
        let mut cache = Cache {
            dir: dir.map(Path::to_owned),
            limit,
            images: BTreeMap::new(),
            uses: 0,
            partials: 0,
        };
        if let Some(dir) = dir {
            cache.read_dir(dir).map_err(|why| CacheError {
                dir: dir.display().to_string(),
                why,
            })?;
        }
        Ok(cache)
    }

    fn read_dir(&mut self, dir: &Path) -> io::Result<()> {
        fs::create_dir_all(dir)?;
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            if name.starts_with(".partial-") {
                fs::remove_file(entry.path())?;
            } else if name.len() == 64 && name.bytes().all(|b| b.is_ascii_hexdigit()) {
                let digests = read_sidecar(&sidecar(dir, &name)).unwrap_or_default();
                let blob = Blob::File {
                    path: entry.path().into(),
                    size: entry.metadata()?.len(),
                };
                self.images.insert(
                    name,
                    Cached {
                        blob,
                        digests,
                        verified: false,
                        used: 0,
                    },
                );
            }
        }
        Ok(())
    }

    pub(crate) fn get(&mut self, sha256: &str) -> Option<Cached> {
        self.uses += 1;
        let uses = self.uses;
        let cached = self.images.get_mut(sha256)?;
        cached.used = uses;
        Some(cached.clone())
    }

    /// The SHA-256 of the image that has this digest.
    pub(crate) fn find(&self, digest: &Digest) -> Option<String> {
        if digest.algorithm == Algorithm::Sha256 {
            return self.images.contains_key(&digest.hex).then(|| digest.hex.clone());
        }
        self.images
            .iter()
            .find(|(_, cached)| cached.digests.contains(digest))
            .map(|(sha256, _)| sha256.clone())
    }

    pub(crate) fn trust(&mut self, sha256: &str) {
        if let Some(cached) = self.images.get_mut(sha256) {
            cached.verified = true;
        }
    }

    pub(crate) fn remove(&mut self, sha256: &str) {
        if let Some(cached) = self.images.remove(sha256)
            && let Blob::File { path, .. } = &cached.blob
        {
            // Who still reads it keeps the open file. A file that stays behind is found again at the next start.
            for path in [path.to_path_buf(), path.with_extension("json")] {
                if let Err(error) = fs::remove_file(&path) {
                    tracing::debug!(path = %path.display(), %error, "cached image not removed");
                }
            }
        }
    }

    /// Where the next download goes.
    pub(crate) fn partial(&mut self) -> Partial {
        self.partials += 1;
        let to = self
            .dir
            .as_ref()
            .map(|dir| dir.join(format!(".partial-{}", self.partials)));
        Partial {
            to,
            file: None,
            memory: Vec::new(),
            size: 0,
            limit: self.limit,
            kept: false,
        }
    }

    /// Takes a complete, verified download; returns what had to go for it.
    pub(crate) fn keep(&mut self, mut partial: Partial, digests: Vec<Digest>) -> io::Result<Vec<String>> {
        let sha256 = digests
            .iter()
            .find(|d| d.algorithm == Algorithm::Sha256)
            .map(|d| d.hex.clone());
        let Some(sha256) = sha256 else {
            return Err(io::Error::other("no SHA-256 was computed"));
        };
        let evicted = self.make_room(partial.size, &sha256);
        let blob = match (&self.dir, partial.to.take()) {
            (Some(dir), Some(from)) => {
                let path = dir.join(&sha256);
                if let Some(file) = partial.file.take() {
                    file.sync_all()?;
                }
                write_sidecar(&sidecar(dir, &sha256), &digests)?;
                fs::rename(&from, &path)?;
                Blob::File {
                    path: path.into(),
                    size: partial.size,
                }
            }
            _ => Blob::Memory(Bytes::from(std::mem::take(&mut partial.memory))),
        };
        partial.kept = true;
        self.uses += 1;
        self.images.insert(
            sha256,
            Cached {
                blob,
                digests,
                verified: true,
                used: self.uses,
            },
        );
        Ok(evicted)
    }

    fn make_room(&mut self, size: u64, except: &str) -> Vec<String> {
        let mut evicted = Vec::new();
        loop {
            let total: u64 = self
                .images
                .iter()
                .filter(|(s, _)| *s != except)
                .map(|(_, c)| c.blob.size())
                .sum();
            if total.saturating_add(size) <= self.limit {
                return evicted;
            }
            let oldest = self
                .images
                .iter()
                .filter(|(s, _)| *s != except)
                .min_by_key(|(_, c)| c.used);
            let Some(oldest) = oldest.map(|(sha256, _)| sha256.clone()) else {
                return evicted;
            };
            tracing::info!(sha256 = oldest, "image dropped from the cache to make room");
            self.remove(&oldest);
            evicted.push(oldest);
        }
    }
}

/// A download on its way; gone if it is dropped.
#[derive(Debug)]
pub(crate) struct Partial {
    to: Option<PathBuf>,
    file: Option<File>,
    memory: Vec<u8>,
    size: u64,
    limit: u64,
    kept: bool,
}

impl Partial {
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    pub(crate) fn in_memory(&self) -> bool {
        self.to.is_none()
    }

    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    /// Has it got larger than the whole cache may be?
    pub(crate) fn too_large(&self, more: u64) -> bool {
        self.size.saturating_add(more) > self.limit
    }

    /// A write of one chunk to the page cache: short enough to be done where the chunk arrives.
    pub(crate) fn write(&mut self, chunk: &[u8]) -> io::Result<()> {
        match &self.to {
            None => self.memory.extend_from_slice(chunk),
            Some(path) => {
                let file = match &mut self.file {
                    Some(file) => file,
                    none => none.insert(File::create(path)?),
                };
                file.write_all(chunk)?;
            }
        }
        self.size += chunk.len() as u64;
        Ok(())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if let Some(path) = self.to.take().filter(|_| !self.kept && self.file.is_some())
            && let Err(error) = fs::remove_file(&path)
        {
            tracing::debug!(path = %path.display(), %error, "partial download not removed");
        }
    }
}

/// Hashes a file of an earlier run; blocking.
pub(crate) fn rehash(path: &Path, also: Algorithm) -> io::Result<Vec<Digest>> {
    let mut file = File::open(path)?;
    let mut hasher = Hasher::new(also);
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finish()),
            read => hasher.update(&buffer[..read]),
        }
    }
}

fn sidecar(dir: &Path, sha256: &str) -> PathBuf {
    dir.join(format!("{sha256}.json"))
}

fn write_sidecar(path: &Path, digests: &[Digest]) -> io::Result<()> {
    let map: serde_json::Map<_, _> = digests
        .iter()
        .map(|d| (d.algorithm.as_str().to_owned(), json!(d.hex)))
        .collect();
    fs::write(path, serde_json::to_vec(&map)?)
}

fn read_sidecar(path: &Path) -> Option<Vec<Digest>> {
    let map: BTreeMap<String, String> = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    let known = |(name, hex): (String, String)| {
        Algorithm::ALL
            .into_iter()
            .find(|a| a.as_str() == name)
            .map(|algorithm| Digest { algorithm, hex })
    };
    Some(map.into_iter().filter_map(known).collect())
}
