//! Builds the OS image.

use std::collections::BTreeMap;
use std::io::{self, Cursor, Write};

use fatfs::{FileSystem, FormatVolumeOptions, FsOptions};
use gpt::partition::Partition;
use gpt::partition_types::{EFI, LINUX_FS, Type};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{LOADER, MANIFEST, OsManifest};

const SECTOR: u64 = 512;
const MIB: u64 = 1 << 20;
/// The whole image: in-process hosts move it through real frames by the thousand.
const SIZE: u64 = 4 * MIB;
const ESP: (u64, u64) = (MIB, MIB);
/// Up to the backup table: 33 sectors.
const ROOT: (u64, u64) = (2 * MIB, SIZE - 2 * MIB - 64 * SECTOR);
/// DOS stub of a PE image; UEFI looks for `MZ` first.
const LOADER_CONTENT: &[u8] = b"MZ\x90\0steelyard lab loader: reads \\EFI\\steelyard\\os.yaml\n";

/// What goes into the image.
#[derive(Debug, Clone)]
pub struct OsImage {
    pub name: String,
    pub version: String,
    pub cloud_init: Vec<String>,
    /// Decides identifiers, and nothing else.
    pub seed: u64,
}

/// Building in memory fails only if the layout doesn't fit.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    #[error("partition table: {0}")]
    Table(#[from] gpt::GptError),
    #[error("protective MBR: {0}")]
    Mbr(#[from] gpt::mbr::MBRError),
    #[error("file system: {0}")]
    Fat(#[from] io::Error),
    #[error("manifest: {0}")]
    Manifest(String),
}

/// Builds the image: raw, GPT, bootable by [`super::boot_disk`].
pub fn os_image(image: &OsImage) -> Result<Vec<u8>, ImageError> {
    let manifest = OsManifest {
        name: image.name.clone(),
        version: image.version.clone(),
        cloud_init: image.cloud_init.clone(),
        root: None,
    };
    let yaml = serde_saphyr::to_string(&manifest).map_err(|error| ImageError::Manifest(error.to_string()))?;
    let release = format!(
        "NAME=\"{}\"\nVERSION=\"{}\"\nID=steelyard\n",
        image.name, image.version
    );

    let mut bytes = table(image.seed)?;
    let esp = fat(
        image.seed,
        "esp",
        *b"ESP        ",
        ESP.1,
        &[(LOADER, LOADER_CONTENT), (MANIFEST, yaml.as_bytes())],
    )?;
    bytes[ESP.0 as usize..][..esp.len()].copy_from_slice(&esp);
    let root = fat(
        image.seed,
        "root",
        *b"ROOT       ",
        ROOT.1,
        &[("etc/os-release", release.as_bytes())],
    )?;
    bytes[ROOT.0 as usize..][..root.len()].copy_from_slice(&root);
    Ok(bytes)
}

/// A `SHA256SUMS` file as Ubuntu publishes it: binary mode, one line a file.
pub fn sha256sums(files: &[(&str, &[u8])]) -> String {
    files
        .iter()
        .map(|(name, content)| format!("{} *{name}\n", hex(&Sha256::digest(content))))
        .collect()
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// 16 bytes that depend on the seed and on what they are for.
fn derived(seed: u64, purpose: &str) -> [u8; 16] {
    let mut bytes = [0; 16];
    let digest = Sha256::new()
        .chain_update(seed.to_be_bytes())
        .chain_update(purpose)
        .finalize();
    bytes.copy_from_slice(&digest[..16]);
    bytes
}

fn guid(seed: u64, purpose: &str) -> Uuid {
    uuid::Builder::from_random_bytes(derived(seed, purpose)).into_uuid()
}

fn table(seed: u64) -> Result<Vec<u8>, ImageError> {
    let mut device = Cursor::new(vec![0; SIZE as usize]);
    let covered = u32::try_from(SIZE / SECTOR - 1).unwrap_or(u32::MAX);
    gpt::mbr::ProtectiveMBR::with_lb_size(covered).overwrite_lba0(&mut device)?;
    let config = gpt::GptConfig::new().writable(true);
    let mut disk = config.create_from_device(device, Some(guid(seed, "disk")))?;
    let part = |kind: Type, name: &str, (start, length): (u64, u64)| Partition {
        part_type_guid: kind,
        part_guid: guid(seed, name),
        first_lba: start / SECTOR,
        last_lba: (start + length) / SECTOR - 1,
        flags: 0,
        name: name.to_owned(),
    };
    disk.update_partitions(BTreeMap::from([
        (1, part(EFI, "esp", ESP)),
        (2, part(LINUX_FS, "root", ROOT)),
    ]))?;
    Ok(disk.write()?.into_inner())
}

/// A FAT file system with these files; dates are FAT's zero, so that the bytes are always the same.
fn fat(seed: u64, purpose: &str, label: [u8; 11], size: u64, files: &[(&str, &[u8])]) -> io::Result<Vec<u8>> {
    let mut volume = Cursor::new(vec![0; size as usize]);
    let id = derived(seed, purpose);
    let options = FormatVolumeOptions::new()
        .volume_id(u32::from_be_bytes([id[0], id[1], id[2], id[3]]))
        .volume_label(label);
    fatfs::format_volume(&mut volume, options)?;
    let system = FileSystem::new(&mut volume, FsOptions::new())?;
    for (path, content) in files {
        let mut directory = system.root_dir();
        let mut parts = path.split('/').peekable();
        while let Some(part) = parts.next() {
            if parts.peek().is_some() {
                directory = directory.create_dir(part)?;
            } else {
                directory.create_file(part)?.write_all(content)?;
            }
        }
    }
    system.unmount()?;
    Ok(volume.into_inner())
}
