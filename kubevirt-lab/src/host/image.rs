//! The lab's boot artefacts and what a machine finds on a disk (seam; the builder follows).

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::disk::Disk;

/// What the OS image says about itself: the file `\EFI\steelyard\os.yaml` on the ESP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OsManifest {
    pub name: String,
    pub version: String,
    /// Modules of cloud-init that this OS carries out.
    pub cloud_init: Vec<String>,
    /// Where the OS keeps its files: bytes from the start of the disk.
    #[serde(skip)]
    pub root: Option<RootArea>,
}

/// The root partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RootArea {
    pub start: u64,
    pub length: u64,
}

/// Kernel and ramdisk of the deploy agent.
#[derive(Debug, Clone)]
pub struct Artefacts {
    pub kernel: Bytes,
    pub initrd: Bytes,
}

/// Why firmware can't boot a disk: it goes on to the next entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotBootable {
    #[error("no partition table")]
    NoTable,
    #[error("{0}")]
    Other(String),
}

/// Walks partition table, ESP, loader and manifest as UEFI would.
pub fn boot_disk(_disk: &Disk) -> Result<OsManifest, NotBootable> {
    Err(NotBootable::NoTable)
}
