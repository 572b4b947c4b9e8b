//! Kernel and initrd of the deploy ramdisk: small, but shaped as the real ones, so that a truncated, swapped or foreign
//! download is noticed where a real machine would notice it.

use std::io::{self, Read, Write};

use bytes::Bytes;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::build::hex;
use super::cpio;

/// A thousand hosts load them through real frames: 64 KiB and about 96 KiB.
const KERNEL_SIZE: usize = 64 * 1024;
const MODULES_SIZE: usize = 96 * 1024;
/// An unpacked initrd of ours is below 128 KiB; anything larger is not ours.
const UNPACKED_MAX: u64 = 8 << 20;
const MANIFEST: &str = "etc/steelyard/ramdisk.yaml";
const MODULES: &str = "lib/modules.bin";
/// Linux x86 boot protocol (Documentation/arch/x86/boot.rst): offsets in the first sectors of a bzImage.
const BOOT_FLAG: usize = 0x1fe;
const MAGIC: usize = 0x202;
const VERSION_POINTER: usize = 0x20e;
const VERSION_AT: usize = 0x400;

/// Kernel and ramdisk of the deploy agent.
#[derive(Debug, Clone)]
pub struct Artefacts {
    pub kernel: Bytes,
    pub initrd: Bytes,
}

/// Why a kernel or an initrd doesn't start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadArtefact {
    #[error("kernel: not a bzImage")]
    NotAKernel,
    #[error("kernel: release {0:?} is not one that this lab runs")]
    Foreign(String),
    #[error("initrd: not a gzipped cpio: {0}")]
    NotAnInitrd(String),
    #[error("initrd: {0}")]
    Unusable(String),
}

#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    kind: String,
    agent: String,
    kernel: String,
    modules_sha256: String,
}

fn release() -> String {
    format!("6.8.0-steelyard-lab ({})", env!("CARGO_PKG_VERSION"))
}

/// Makes both from a seed.
pub fn artefacts(seed: u64) -> io::Result<Artefacts> {
    let mut noise = ChaCha8Rng::seed_from_u64(seed);
    // Noise, because code doesn't compress to nothing either.
    let mut kernel = vec![0; KERNEL_SIZE];
    noise.fill_bytes(&mut kernel);
    kernel[..2].copy_from_slice(b"MZ");
    kernel[BOOT_FLAG..BOOT_FLAG + 2].copy_from_slice(&[0x55, 0xaa]);
    kernel[MAGIC..MAGIC + 4].copy_from_slice(b"HdrS");
    let pointer = (VERSION_AT - 0x200) as u16;
    kernel[VERSION_POINTER..VERSION_POINTER + 2].copy_from_slice(&pointer.to_le_bytes());
    let version = format!("{}\0", release());
    kernel[VERSION_AT..VERSION_AT + version.len()].copy_from_slice(version.as_bytes());

    let mut modules = vec![0; MODULES_SIZE];
    noise.fill_bytes(&mut modules);
    let manifest = Manifest {
        kind: "deploy-agent".to_owned(),
        agent: steelyard_agent::VERSION.to_owned(),
        kernel: release(),
        modules_sha256: hex(&Sha256::digest(&modules)),
    };
    let manifest = serde_saphyr::to_string(&manifest).map_err(io::Error::other)?;
    let archive = cpio::pack(&[
        ("init", b"#!steelyard-agent\n"),
        (MANIFEST, manifest.as_bytes()),
        (MODULES, &modules),
    ]);
    // The header's time is zero by default: the same seed gives the same bytes.
    let mut gz = GzEncoder::new(Vec::new(), Compression::default());
    gz.write_all(&archive)?;
    Ok(Artefacts {
        kernel: kernel.into(),
        initrd: gz.finish()?.into(),
    })
}

/// Starts the kernel and looks into the initrd: both must be whole and belong together.
pub(crate) fn check(kernel: &[u8], initrd: &[u8]) -> Result<(), BadArtefact> {
    let release = kernel_release(kernel).ok_or(BadArtefact::NotAKernel)?;
    if !release.contains("steelyard-lab") {
        return Err(BadArtefact::Foreign(release));
    }
    let mut archive = Vec::new();
    let unpacked = GzDecoder::new(initrd)
        .take(UNPACKED_MAX)
        .read_to_end(&mut archive);
    unpacked.map_err(|error| BadArtefact::NotAnInitrd(error.to_string()))?;
    let files = cpio::unpack(&archive)
        .ok_or_else(|| BadArtefact::NotAnInitrd("the archive is damaged".to_owned()))?;
    let file = |wanted: &str| {
        let found = files
            .iter()
            .find(|(name, _)| name == wanted)
            .map(|(_, content)| *content);
        found.ok_or_else(|| BadArtefact::Unusable(format!("{wanted} is missing")))
    };
    let yaml = String::from_utf8_lossy(file(MANIFEST)?).into_owned();
    let manifest: Manifest = serde_saphyr::from_str(&yaml)
        .map_err(|error| BadArtefact::Unusable(format!("{MANIFEST}: {error}")))?;
    if manifest.kind != "deploy-agent" {
        return Err(BadArtefact::Unusable(format!(
            "it is a {}, not a deploy-agent",
            manifest.kind
        )));
    }
    if manifest.kernel != release {
        return Err(BadArtefact::Unusable(format!(
            "it was built for kernel {}, this is {release}",
            manifest.kernel
        )));
    }
    if hex(&Sha256::digest(file(MODULES)?)) != manifest.modules_sha256 {
        return Err(BadArtefact::Unusable(format!("{MODULES} is damaged")));
    }
    file("init").map(|_| ())
}

fn kernel_release(kernel: &[u8]) -> Option<String> {
    let has = |at: usize, magic: &[u8]| kernel.get(at..at + magic.len()) == Some(magic);
    if !has(BOOT_FLAG, &[0x55, 0xaa]) || !has(MAGIC, b"HdrS") || kernel.len() < KERNEL_SIZE {
        return None;
    }
    let pointer = u16::from_le_bytes([kernel[VERSION_POINTER], kernel[VERSION_POINTER + 1]]);
    let text = kernel.get(usize::from(pointer) + 0x200..)?;
    let end = text.iter().position(|&byte| byte == 0)?;
    std::str::from_utf8(&text[..end]).ok().map(str::to_owned)
}
