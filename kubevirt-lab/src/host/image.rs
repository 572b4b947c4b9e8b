//! The lab's boot artefacts, and what firmware and an OS find on a disk that was written with them.
//!
//! ```text
//! OS image, 4 MiB, raw GPT
//!  |- ESP, FAT     \EFI\BOOT\BOOTX64.EFI (the loader), \EFI\steelyard\os.yaml (the manifest)
//!  '- root, FAT    the OS's files; what it writes lands in the disk's blocks
//! kernel, initrd   a bzImage header, and a gzipped cpio whose manifest says that it is the deploy agent
//! ```
//! All of it is made from a seed: the same seed gives the same bytes. Nothing else boots: a disk is walked as UEFI would.

mod artefacts;
mod boot;
mod build;
mod cpio;

pub(crate) use artefacts::check;
pub use artefacts::{Artefacts, BadArtefact, artefacts};
pub use boot::{NotBootable, Part, PartKind, boot_disk, partitions};
pub use build::{ImageError, OsImage, os_image, sha256sums};

use serde::{Deserialize, Serialize};

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

/// Paths on the ESP.
const LOADER: &str = "EFI/BOOT/BOOTX64.EFI";
const MANIFEST: &str = "EFI/steelyard/os.yaml";

#[cfg(test)]
mod tests;
