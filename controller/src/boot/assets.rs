//! The files that servers boot: kernel, ramdisk, network boot programs.

use crate::image::Blob;
use bytes::Bytes;
use std::{collections::BTreeMap, fs, io, path::Path};

/// A kernel and a ramdisk are the two that every boot needs.
const REQUIRED: [&str; 2] = ["vmlinuz", "initramfs"];
/// Larger files are read from disk as they are sent: a stock ramdisk has 400 MiB.
const IN_MEMORY_MAX: u64 = 8 << 20;

#[derive(Debug, thiserror::Error)]
pub enum AssetError {
    #[error("--boot-assets {dir}: can't read {file}: {why}")]
    Unreadable {
        dir: String,
        file: String,
        why: io::Error,
    },
    #[error(
        "--boot-assets {dir} has no {file}: put the deploy agent's kernel there as vmlinuz and its ramdisk as initramfs"
    )]
    Missing { dir: String, file: &'static str },
}

/// Boot files by name, as in `/boot/NAME`. `vmlinuz` and `initramfs` are the deploy agent; `snponly.efi`,
/// `undionly.kpxe` and `snponly-arm64.efi` are iPXE for the firmware of x64 UEFI, x86 BIOS and arm64 UEFI.
#[derive(Clone, Debug, Default)]
pub struct BootAssets(BTreeMap<String, Blob>);

impl BootAssets {
    pub fn new() -> Self {
        BootAssets::default()
    }

    #[must_use]
    pub fn with(mut self, name: impl Into<String>, bytes: impl Into<Bytes>) -> Self {
        self.0.insert(name.into(), Blob::Memory(bytes.into()));
        self
    }

    /// Every file of a directory.
    pub fn from_dir(dir: &Path) -> Result<Self, AssetError> {
        let shown = dir.display().to_string();
        let fail = |file: &str, why| AssetError::Unreadable {
            dir: shown.clone(),
            file: file.to_owned(),
            why,
        };
        let mut assets = BTreeMap::new();
        for entry in fs::read_dir(dir).map_err(|why| fail(".", why))? {
            let entry = entry.map_err(|why| fail(".", why))?;
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            let path = entry.path();
            let meta = fs::metadata(&path).map_err(|why| fail(&name, why))?;
            if !meta.is_file() || name.starts_with('.') {
                continue;
            }
            let blob = if meta.len() <= IN_MEMORY_MAX {
                Blob::Memory(fs::read(&path).map_err(|why| fail(&name, why))?.into())
            } else {
                Blob::File {
                    path: path.into(),
                    size: meta.len(),
                }
            };
            assets.insert(name, blob);
        }
        for file in REQUIRED {
            if !assets.contains_key(file) {
                return Err(AssetError::Missing { dir: shown, file });
            }
        }
        Ok(BootAssets(assets))
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Blob> {
        self.0.get(name)
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &String> {
        self.0.keys()
    }

    /// A file for TFTP, which serves from memory: kernel and ramdisk go over HTTP.
    pub(crate) fn in_memory(&self, name: &str) -> Option<Bytes> {
        match self.0.get(name)? {
            Blob::Memory(bytes) => Some(bytes.clone()),
            Blob::File { .. } => None,
        }
    }
}
