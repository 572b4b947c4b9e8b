//! What the agent needs of the machine it runs on. Two implementations: Linux, and the lab's virtual hardware.
//!
//! All calls return soon: an access moves at most a few hundred KiB, and a long erase is polled. The shell therefore
//! decides on which thread the agent runs, and heartbeats go on while disks work.

use std::fmt;

use steelyard_agent_api::{Disk, Inventory, PciDevice};

/// A disk as the agent works with it: the facts that inspection reports, and what can be done to it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BlockDevice {
    /// `facts.name` is the handle for every other call.
    pub facts: Disk,
    /// USB sticks, CDs, virtual media of a BMC: never erased, never written.
    pub removable: bool,
    pub read_only: bool,
    /// In no order; overwriting is always possible and need not be listed.
    pub erase_methods: Vec<EraseMethod>,
}

impl BlockDevice {
    /// Bytes of a logical sector; drives that don't say have 512.
    pub(crate) fn sector(&self) -> u64 {
        match self.facts.logical_sectors {
            4096 => 4096,
            _ => 512,
        }
    }
}

/// Ways to erase a whole disk, the fastest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum EraseMethod {
    /// `nvme format -s 2`: the media key is replaced.
    NvmeCrypto,
    /// `nvme format -s 1`: the controller erases user data.
    NvmeUserData,
    /// ATA SECURITY ERASE UNIT, enhanced.
    AtaEnhanced,
    /// ATA SECURITY ERASE UNIT.
    AtaSecure,
    /// WRITE ZEROES, WRITE SAME, or UNMAP with guaranteed zeros (`blkdiscard -z`).
    WriteZeroes,
    /// Zeros, written block after block through the bus.
    Overwrite,
}

impl EraseMethod {
    pub(crate) fn is_nvme(self) -> bool {
        matches!(self, Self::NvmeCrypto | Self::NvmeUserData)
    }

    pub(crate) fn is_ata(self) -> bool {
        matches!(self, Self::AtaEnhanced | Self::AtaSecure)
    }

    /// Whether every byte reads as zero afterwards. A new key leaves noise; enhanced ATA erase writes a vendor's pattern.
    pub(crate) fn leaves_zeros(self) -> bool {
        !matches!(self, Self::NvmeCrypto | Self::AtaEnhanced)
    }
}

impl fmt::Display for EraseMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NvmeCrypto => "nvme-crypto",
            Self::NvmeUserData => "nvme-user-data",
            Self::AtaEnhanced => "ata-enhanced",
            Self::AtaSecure => "ata-secure",
            Self::WriteZeroes => "write-zeroes",
            Self::Overwrite => "overwrite",
        })
    }
}

/// Where an erase is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    Done,
    /// Ask again; the agent does so every second.
    Working,
}

/// An access to a disk that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{disk}: {operation} failed: {why}")]
pub struct DiskError {
    pub disk: String,
    pub operation: &'static str,
    pub why: String,
}

/// The machine.
pub trait Platform: Send {
    /// Everything but disks (those come from [`Platform::disks`]); read anew at each call.
    fn inventory(&mut self) -> Inventory;
    /// PCI functions; GPUs are found by their class.
    fn pci_devices(&mut self) -> Vec<PciDevice>;
    /// All block devices, removable ones included, in the kernel's order.
    fn disks(&mut self) -> Vec<BlockDevice>;
    fn read_at(&mut self, disk: &str, offset: u64, into: &mut [u8]) -> Result<(), DiskError>;
    fn write_at(&mut self, disk: &str, offset: u64, data: &[u8]) -> Result<(), DiskError>;
    /// Starts the erase at the first call, and tells where it is at each further one, until it has said `Done` or failed.
    /// Never called with [`EraseMethod::Overwrite`].
    fn erase(&mut self, disk: &str, method: EraseMethod) -> Result<Progress, DiskError>;
    /// Returns when everything written is on the medium; caches of what is read are dropped, too.
    fn flush(&mut self, disk: &str) -> Result<(), DiskError>;
    /// Tells the kernel of a new partition table.
    fn reread_partitions(&mut self, disk: &str) -> Result<(), DiskError>;
}
