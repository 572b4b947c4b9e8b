//! Reads a config drive (seam; the reader follows).

use std::collections::BTreeMap;

use super::disk::Disk;

/// The files of a config drive.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ConfigDrive {
    /// By path, such as `openstack/latest/user_data`.
    pub files: BTreeMap<String, Vec<u8>>,
}

/// The config drive of a disk: the partition whose file system has the label `config-2`.
pub fn find_config_drive(_disk: &Disk) -> Option<ConfigDrive> {
    None
}
