//! What inspection reports: the payload of the callback, and the inventory of `poll.get_hardware_info`.

use serde::{Deserialize, Serialize};

/// Body of the inspection callback.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Inspection {
    pub inventory: Inventory,
    #[serde(default)]
    pub root_disk: Option<Disk>,
    /// MAC of the NIC that booted (`BOOTIF`), with colons.
    #[serde(default)]
    pub boot_interface: Option<String>,
    #[serde(default)]
    pub configuration: Configuration,
    /// Why collecting failed, or null.
    #[serde(default)]
    pub error: Option<String>,
    /// Base64 of a tar.gz.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logs: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pci_devices: Option<Vec<PciDevice>>,
}

/// What ran in the agent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Configuration {
    #[serde(default)]
    pub collectors: Vec<String>,
    #[serde(default)]
    pub managers: Vec<ManagerVersion>,
}

/// A hardware manager of the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManagerVersion {
    pub name: String,
    pub version: String,
}

/// A PCI function; numbers are hexadecimal text without `0x`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PciDevice {
    pub vendor_id: String,
    pub product_id: String,
    /// Six digits: class, subclass, programming interface (`030200` is a 3D controller, that is a GPU).
    pub class: String,
    #[serde(default)]
    pub revision: String,
    #[serde(default)]
    pub bus: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub numa_node_id: Option<i64>,
}

/// The machine, as the agent sees it from inside.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Inventory {
    #[serde(default)]
    pub interfaces: Vec<Interface>,
    #[serde(default)]
    pub cpu: Cpu,
    #[serde(default)]
    pub disks: Vec<Disk>,
    #[serde(default)]
    pub memory: Memory,
    #[serde(default)]
    pub bmc_address: Option<String>,
    #[serde(default)]
    pub bmc_v6address: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bmc_mac: Option<String>,
    #[serde(default)]
    pub system_vendor: SystemVendor,
    #[serde(default)]
    pub boot: BootInfo,
    #[serde(default)]
    pub hostname: Option<String>,
}

/// A network interface.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Interface {
    pub name: String,
    /// Lower case, with colons. Required by services.
    pub mac_address: String,
    #[serde(default)]
    pub ipv4_address: Option<String>,
    #[serde(default)]
    pub ipv6_address: Option<String>,
    #[serde(default)]
    pub has_carrier: bool,
    #[serde(default)]
    pub lldp: Option<serde_json::Value>,
    /// PCI ids with `0x`.
    #[serde(default)]
    pub vendor: Option<String>,
    #[serde(default)]
    pub product: Option<String>,
    #[serde(default)]
    pub client_id: Option<String>,
    #[serde(default)]
    pub biosdevname: Option<String>,
    #[serde(default)]
    pub speed_mbps: Option<u64>,
    #[serde(default)]
    pub pci_address: Option<String>,
    #[serde(default)]
    pub driver: Option<String>,
}

/// The processors, taken together.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Cpu {
    #[serde(default)]
    pub model_name: String,
    /// MHz, as text (lscpu prints a decimal).
    #[serde(default)]
    pub frequency: Option<String>,
    /// Threads.
    #[serde(default)]
    pub count: u64,
    #[serde(default)]
    pub architecture: String,
    #[serde(default)]
    pub flags: Vec<String>,
    #[serde(default)]
    pub socket_count: Option<u64>,
}

/// A disk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// `/dev/sda`.
    pub name: String,
    #[serde(default)]
    pub model: Option<String>,
    /// Bytes.
    pub size: u64,
    #[serde(default)]
    pub rotational: bool,
    #[serde(default)]
    pub wwn: Option<String>,
    #[serde(default)]
    pub serial: Option<String>,
    #[serde(default)]
    pub vendor: Option<String>,
    #[serde(default)]
    pub wwn_with_extension: Option<String>,
    #[serde(default)]
    pub wwn_vendor_extension: Option<String>,
    #[serde(default)]
    pub hctl: Option<String>,
    #[serde(default)]
    pub by_path: Option<String>,
    #[serde(default)]
    pub logical_sectors: u32,
    #[serde(default)]
    pub physical_sectors: u32,
    #[serde(default)]
    pub tran: Option<String>,
}

/// Memory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Bytes that the kernel has.
    #[serde(default)]
    pub total: u64,
    /// What is plugged in.
    #[serde(default)]
    pub physical_mb: u64,
}

/// SMBIOS's words about the machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SystemVendor {
    #[serde(default)]
    pub product_name: String,
    #[serde(default)]
    pub serial_number: String,
    #[serde(default)]
    pub manufacturer: String,
    #[serde(default)]
    pub firmware: Firmware,
}

/// The BIOS.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Firmware {
    #[serde(default)]
    pub vendor: String,
    #[serde(default)]
    pub version: String,
    #[serde(default)]
    pub build_date: String,
}

/// How the machine booted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootInfo {
    /// `uefi` or `bios`.
    #[serde(default)]
    pub current_boot_mode: String,
    /// MAC, or null.
    #[serde(default)]
    pub pxe_interface: Option<String>,
}
