//! The OS's root file system, as its programs use it: the FAT of the image's root partition, so that every file is in blocks of
//! the disk where an erase has to find it, and stock tools (mtools) can look.
//!
//! FAT has no owners and modes: as on a Linux vfat mount, everything belongs to root and may be executed. Names are
//! compared without case.

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::sync::{Arc, Mutex, PoisonError};

use fatfs::{Dir, FileSystem, FsOptions};

use super::disk::{Disk, Region};
use super::image::RootArea;

/// The root partition has some 2 MiB.
const FILE_MAX: usize = 4 << 20;
const PATH_MAX: usize = 4096;
/// Directories inside each other that `remove` follows.
const DEPTH_MAX: usize = 32;

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
    #[error("{path}: {source}")]
    Io { path: String, source: io::Error },
}

/// The mounted file system; clones are the same one. Paths are absolute; `.` and `..` are resolved by name.
///
/// fatfs' volume cannot move between threads, so each call opens it anew (two sectors are read) and leaves it clean.
#[derive(Clone)]
pub(crate) struct RootFs {
    disk: Disk,
    area: RootArea,
    /// One call at a time changes the volume.
    lock: Arc<Mutex<()>>,
}

impl RootFs {
    pub(crate) fn mount(disk: &Disk, area: RootArea) -> Result<Self, FsError> {
        let fs = Self {
            disk: disk.clone(),
            area,
            lock: Arc::default(),
        };
        fs.with(|_| Ok(())).map_err(|source| failed("/", source))?;
        Ok(fs)
    }

    fn with<T>(&self, work: impl FnOnce(&FileSystem<Region>) -> io::Result<T>) -> io::Result<T> {
        let _one = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        let volume = FileSystem::new(
            self.disk.region(self.area.start, self.area.length),
            FsOptions::new(),
        )?;
        let out = work(&volume);
        volume.unmount()?;
        out
    }

    pub(crate) fn read(&self, path: &str) -> Result<Vec<u8>, FsError> {
        let path = normal(path)?;
        if self.is_dir(&path) {
            return Err(FsError::IsDirectory { path });
        }
        let read = self.with(|volume| {
            let file = volume.root_dir().open_file(relative(&path))?;
            let mut content = Vec::new();
            file.take(FILE_MAX as u64).read_to_end(&mut content)?;
            Ok(content)
        });
        read.map_err(|source| failed(&path, source))
    }

    pub(crate) fn read_text(&self, path: &str) -> Option<String> {
        self.read(path)
            .ok()
            .map(|content| String::from_utf8_lossy(&content).into_owned())
    }

    pub(crate) fn write(&self, path: &str, content: &[u8]) -> Result<(), FsError> {
        self.put(path, content, true)
    }

    pub(crate) fn append(&self, path: &str, content: &[u8]) -> Result<(), FsError> {
        self.put(path, content, false)
    }

    fn put(&self, path: &str, content: &[u8], truncate: bool) -> Result<(), FsError> {
        let path = normal(path)?;
        if content.len() > FILE_MAX {
            return Err(FsError::TooLarge { path });
        }
        if self.is_dir(&path) {
            return Err(FsError::IsDirectory { path });
        }
        let written = self.with(|volume| {
            let (directory, name) = parent(volume, &path)?;
            let mut file = directory.create_file(name)?;
            if truncate {
                file.truncate()?;
            } else {
                file.seek(SeekFrom::End(0))?;
            }
            file.write_all(content)?;
            file.flush()
        });
        written.map_err(|source| failed(&path, source))
    }

    /// Also makes the directories above.
    pub(crate) fn make_dir(&self, path: &str) -> Result<(), FsError> {
        let path = normal(path)?;
        let made = self.with(|volume| {
            let mut directory = volume.root_dir();
            for part in parts(&path) {
                directory = directory.create_dir(part)?;
            }
            Ok(())
        });
        made.map_err(|source| failed(&path, source))
    }

    /// Removes a file, or with `all` a directory and what is in it; false if there was nothing.
    pub(crate) fn remove(&self, path: &str, all: bool) -> Result<bool, FsError> {
        let path = normal(path)?;
        let (file, directory) = (self.is_file(&path), self.is_dir(&path));
        if path == "/" || (directory && !all) {
            return Err(FsError::IsDirectory { path });
        }
        if !file && !directory {
            return Ok(false);
        }
        let removed = self.with(|volume| {
            let root = volume.root_dir();
            if directory {
                empty(&root.open_dir(relative(&path))?, DEPTH_MAX)?;
            }
            root.remove(relative(&path))
        });
        removed.map(|()| true).map_err(|source| failed(&path, source))
    }

    pub(crate) fn is_file(&self, path: &str) -> bool {
        let Ok(path) = normal(path) else { return false };
        self.with(|volume| volume.root_dir().open_file(relative(&path)).map(|_| ()))
            .is_ok()
    }

    pub(crate) fn is_dir(&self, path: &str) -> bool {
        let Ok(path) = normal(path) else { return false };
        path == "/"
            || self
                .with(|volume| volume.root_dir().open_dir(relative(&path)).map(|_| ()))
                .is_ok()
    }

    pub(crate) fn exists(&self, path: &str) -> bool {
        self.is_file(path) || self.is_dir(path)
    }

    /// Names in a directory, sorted.
    pub(crate) fn list(&self, path: &str) -> Vec<String> {
        let Ok(path) = normal(path) else { return Vec::new() };
        let listed = self.with(|volume| {
            let root = volume.root_dir();
            if path == "/" {
                entries(&root)
            } else {
                entries(&root.open_dir(relative(&path))?)
            }
        });
        let mut names = listed.unwrap_or_default();
        names.sort();
        names
    }
}

type FatDir<'a> = Dir<'a, Region>;

fn entries(directory: &FatDir<'_>) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in directory.iter() {
        let name = entry?.file_name();
        if name != "." && name != ".." {
            names.push(name);
        }
    }
    Ok(names)
}

fn empty(directory: &FatDir<'_>, depth: usize) -> io::Result<()> {
    if depth == 0 {
        return Err(io::Error::other("directories are nested too deeply"));
    }
    for name in entries(directory)? {
        if let Ok(inner) = directory.open_dir(&name) {
            empty(&inner, depth - 1)?;
        }
        directory.remove(&name)?;
    }
    Ok(())
}

/// The directory of a path, made if it is not there, and the last name.
fn parent<'a, 'p>(volume: &'a FileSystem<Region>, path: &'p str) -> io::Result<(FatDir<'a>, &'p str)> {
    let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
    let mut directory = volume.root_dir();
    for part in parts(above) {
        directory = directory.create_dir(part)?;
    }
    Ok((directory, name))
}

fn parts(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|part| !part.is_empty())
}

fn relative(path: &str) -> &str {
    path.trim_start_matches('/')
}

fn failed(path: &str, source: io::Error) -> FsError {
    let path = path.to_owned();
    match source.kind() {
        io::ErrorKind::NotFound => FsError::NotFound { path },
        io::ErrorKind::InvalidInput => FsError::BadPath { path },
        // fatfs says so in words only.
        _ if source.to_string().contains("No space") || source.kind() == io::ErrorKind::StorageFull => {
            FsError::NoSpace { path }
        }
        _ => FsError::Io { path, source },
    }
}

fn normal(path: &str) -> Result<String, FsError> {
    if !path.starts_with('/') || path.len() > PATH_MAX || path.contains('\0') {
        return Err(FsError::BadPath {
            path: path.to_owned(),
        });
    }
    let mut kept = Vec::new();
    for part in parts(path) {
        match part {
            "." => {}
            ".." => drop(kept.pop()),
            part => kept.push(part),
        }
    }
    Ok(format!("/{}", kept.join("/")))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::disk::{BlockPool, DiskModel, Transport};
    use super::*;

    pub(crate) const AREA: RootArea = RootArea {
        start: 1 << 20,
        length: 1 << 20,
    };

    /// A disk with an empty root partition at `AREA`.
    pub(crate) fn disk() -> Disk {
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
        let disk = Disk::new(model, &BlockPool::default());
        fatfs::format_volume(
            disk.region(AREA.start, AREA.length),
            fatfs::FormatVolumeOptions::new(),
        )
        .unwrap();
        disk
    }

    #[test]
    fn files_survive_a_reboot_as_bytes_of_the_disk() {
        let disk = disk();
        let fs = RootFs::mount(&disk, AREA).unwrap();
        fs.write("/etc/../etc/marker", b"tenant-secret").unwrap();
        fs.append("/etc/marker", b"-more").unwrap();
        fs.write("/gone", b"x").unwrap();
        assert!(fs.remove("/gone", false).unwrap() && !fs.remove("/gone", false).unwrap());
        fs.make_dir("/var/lib/empty").unwrap();
        assert!(disk.find(b"tenant-secret-more").is_some());
        drop(fs);
        let again = RootFs::mount(&disk, AREA).unwrap();
        assert_eq!(again.read("/etc/marker").unwrap(), b"tenant-secret-more");
        assert!(!again.is_file("/gone") && again.is_dir("/var/lib/empty") && again.is_dir("/etc"));
        assert_eq!(again.list("/"), ["etc", "var"]);
        assert!(again.remove("/var", true).unwrap());
        assert!(!again.exists("/var/lib/empty"));
    }

    #[test]
    fn errors_say_what_linux_says() {
        let fs = RootFs::mount(&disk(), AREA).unwrap();
        assert_eq!(
            fs.read("/a/b").unwrap_err().to_string(),
            "/a/b: No such file or directory"
        );
        fs.make_dir("/a").unwrap();
        assert_eq!(fs.write("/a", b"").unwrap_err().to_string(), "/a: Is a directory");
        assert_eq!(
            fs.remove("/a", false).unwrap_err().to_string(),
            "/a: Is a directory"
        );
        assert_eq!(
            fs.write("relative", b"").unwrap_err().to_string(),
            "relative: Invalid argument"
        );
        assert_eq!(
            fs.write("/big", &[1; 2 << 20]).unwrap_err().to_string(),
            "/big: No space left on device"
        );
    }
}
