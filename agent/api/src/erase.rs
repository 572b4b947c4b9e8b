//! Evidence of an erase: what our agent puts into `clean_result` of `erase_devices` and `erase_devices_metadata`.
//!
//! IPA returns nothing there. Ours tells for each disk how it was erased and what was read back afterwards, because
//! "the step succeeded" is no proof that a drive did what it was told.

use serde::{Deserialize, Serialize};

/// All disks of one step, in order of their names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EraseReport {
    pub disks: Vec<DiskErased>,
}

/// One disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskErased {
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wwn: Option<String>,
    pub size: u64,
    /// `nvme-crypto`, `nvme-user-data`, `ata-enhanced`, `ata-secure`, `write-zeroes`, `overwrite`, or `metadata`.
    pub method: String,
    pub verification: Verification,
    pub duration_ms: u64,
}

/// What was read back after the erase.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verification {
    /// `zeros`: every byte read must be zero. `changed`: a key was thrown away, so nothing may read as before.
    pub expectation: String,
    /// Ranges that were read.
    pub samples: u64,
    pub bytes_read: u64,
    /// Patterns that were written before the erase, proven to be on the disk, and gone after it.
    pub canaries: u64,
}
