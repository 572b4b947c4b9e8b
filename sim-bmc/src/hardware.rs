//! What a server is made of: the data the resource tree is rendered from, and from which a lab builds its simulated host.
//!
//! Texts that are equal on every server of a kind (models, part numbers) are shared `Arc<str>`s handed out by the
//! personality; only serial numbers, MACs and the UUID are held per server.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A text shared by all servers of one personality.
pub type Text = Arc<str>;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Hardware {
    pub manufacturer: Text,
    pub model: Text,
    pub sku: Text,
    pub part_number: Text,
    pub serial: String,
    pub uuid: Uuid,
    pub bios_version: Text,
    pub bmc_version: Text,
    pub processors: Vec<Processor>,
    pub gpus: Vec<Gpu>,
    pub memory: Vec<Dimm>,
    pub storage: Vec<StorageController>,
    pub nics: Vec<Nic>,
    /// The BMC's own port, not one of the host's.
    pub bmc_mac: Mac,
}

impl Hardware {
    pub fn threads(&self) -> u32 {
        self.processors.iter().map(|p| p.threads).sum()
    }

    pub fn cores(&self) -> u32 {
        self.processors.iter().map(|p| p.cores).sum()
    }

    pub fn memory_mib(&self) -> u64 {
        self.memory.iter().map(|d| d.capacity_mib).sum()
    }

    pub fn drives(&self) -> impl Iterator<Item = &Drive> {
        self.storage
            .iter()
            .flat_map(|controller| controller.drives.iter())
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Processor {
    pub id: String,
    pub manufacturer: Text,
    pub model: Text,
    pub architecture: Architecture,
    pub cores: u32,
    pub threads: u32,
    pub max_mhz: u32,
    pub tdp_watts: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Architecture {
    X86_64,
    Aarch64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Gpu {
    pub id: String,
    pub manufacturer: Text,
    pub model: Text,
    pub part_number: Text,
    pub serial: String,
    pub memory_mib: u64,
    pub firmware: Text,
    /// PCI vendor and device, as the host's bus shows them.
    pub pci_id: (u16, u16),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Dimm {
    pub id: String,
    pub manufacturer: Text,
    pub part_number: Text,
    pub serial: String,
    pub capacity_mib: u64,
    pub device_type: Text,
    pub speed_mhz: u32,
    pub ecc: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StorageController {
    pub id: String,
    pub name: Text,
    pub manufacturer: Text,
    pub model: Text,
    pub firmware: Text,
    pub protocol: DriveProtocol,
    pub drives: Vec<Drive>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DriveProtocol {
    #[serde(rename = "NVMe")]
    Nvme,
    #[serde(rename = "SATA")]
    Sata,
    #[serde(rename = "SAS")]
    Sas,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Drive {
    pub id: String,
    pub manufacturer: Text,
    pub model: Text,
    pub serial: String,
    pub firmware: Text,
    pub capacity_bytes: u64,
    pub block_size_bytes: u32,
    pub protocol: DriveProtocol,
    pub rotational: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Nic {
    pub id: String,
    pub name: Text,
    pub mac: Mac,
    pub speed_mbps: u32,
    pub manufacturer: Text,
    pub model: Text,
}

/// An Ethernet address; printed in lower case with colons.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not an Ethernet address; write six hexadecimal pairs, for example 52:54:00:12:34:56")]
pub struct MacError(String);

impl FromStr for Mac {
    type Err = MacError;

    fn from_str(text: &str) -> Result<Mac, MacError> {
        let mut bytes = [0_u8; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut bytes {
            let part = parts
                .next()
                .filter(|p| p.len() == 2)
                .ok_or_else(|| MacError(text.to_owned()))?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| MacError(text.to_owned()))?;
        }
        if parts.next().is_some() {
            return Err(MacError(text.to_owned()));
        }
        Ok(Mac(bytes))
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> String {
        mac.to_string()
    }
}

impl TryFrom<String> for Mac {
    type Error = MacError;

    fn try_from(text: String) -> Result<Mac, MacError> {
        text.parse()
    }
}
