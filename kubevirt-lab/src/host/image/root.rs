//! The root file system of the lab's OS: FAT, so that what the OS writes lands in real blocks of the disk, where an erase
//! has to find it.

use std::io::{self, Read, Write};

use fatfs::{FileSystem, FsOptions};

use super::OsManifest;
use crate::host::disk::{Disk, Region};

/// Largest file: the partition has some 2 MiB.
const FILE_MAX: u64 = 4 << 20;

/// A mounted root. Changes are on the disk when a call returns.
pub struct RootFs {
    volume: FileSystem<Region>,
}

impl RootFs {
    /// Mounts the root partition that the manifest of a booted disk names.
    pub fn mount(disk: &Disk, manifest: &OsManifest) -> io::Result<Self> {
        let area = manifest.root.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no root partition"))?;
        let volume = FileSystem::new(disk.region(area.start, area.length), FsOptions::new())?;
        Ok(Self { volume })
    }

    /// Writes a file and the directories above it.
    pub fn write(&self, path: &str, content: &[u8]) -> io::Result<()> {
        let mut directory = self.volume.root_dir();
        let mut parts = path.split('/').filter(|part| !part.is_empty()).peekable();
        while let Some(part) = parts.next() {
            if parts.peek().is_some() {
                directory = directory.create_dir(part)?;
                continue;
            }
            let mut file = directory.create_file(part)?;
            file.truncate()?;
            file.write_all(content)?;
            return file.flush();
        }
        Err(io::Error::new(io::ErrorKind::InvalidInput, "an empty path"))
    }

    /// Reads a file.
    pub fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        let file = self.volume.root_dir().open_file(path.trim_start_matches('/'))?;
        file.take(FILE_MAX).read_to_end(&mut content)?;
        Ok(content)
    }
}
