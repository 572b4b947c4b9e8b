//! How the machine will boot next: override, boot order, and the firmware settings that wait for the next POST.
//!
//! A BIOS reads all of this once, at POST; so the engine has one entry, [`BootConfig::post_begins`], that hands the
//! effective override to the firmware, consumes a `Once`, and turns pending settings into current ones.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::hardware::{Hardware, Mac};

/// `Boot.BootSourceOverrideTarget`, as far as any personality offers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum BootTarget {
    None,
    Pxe,
    UefiHttp,
    Hdd,
    Cd,
    Usb,
    BiosSetup,
    Diags,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum OverrideEnabled {
    Disabled,
    Once,
    Continuous,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum BootMode {
    #[serde(rename = "UEFI")]
    Uefi,
    Legacy,
}

/// What the firmware is told at POST. With `Disabled` or target `None` it walks its boot order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootOverride {
    pub target: BootTarget,
    pub enabled: OverrideEnabled,
    pub mode: BootMode,
    /// `Boot.HttpBootUri`: where UefiHttp loads from; without one, DHCP says.
    pub http_uri: Option<String>,
}

impl BootOverride {
    pub const NONE: BootOverride = BootOverride {
        target: BootTarget::None,
        enabled: OverrideEnabled::Disabled,
        mode: BootMode::Uefi,
        http_uri: None,
    };
}

/// What one entry of the boot order starts from. Ids are those of the [`Hardware`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BootDevice {
    Drive { id: String },
    Pxe { nic: String },
    Http { nic: String },
}

/// One UEFI `Boot####` variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootOption {
    pub number: u16,
    pub device: BootDevice,
    pub display_name: String,
    pub device_path: String,
    pub enabled: bool,
}

impl BootOption {
    /// `Boot0003`: the name that Redfish and UEFI use.
    pub fn reference(&self) -> String {
        reference(self.number)
    }

    pub fn target(&self) -> BootTarget {
        match self.device {
            BootDevice::Drive { .. } => BootTarget::Hdd,
            BootDevice::Pxe { .. } => BootTarget::Pxe,
            BootDevice::Http { .. } => BootTarget::UefiHttp,
        }
    }
}

pub(crate) fn reference(number: u16) -> String {
    format!("Boot{number:04X}")
}

pub(crate) fn mac_node(mac: Mac) -> String {
    let hex: String = mac.0.iter().map(|byte| format!("{byte:02X}")).collect();
    format!("MAC({hex},0x1)/IPv4(0.0.0.0,0x0,DHCP,0.0.0.0,0.0.0.0,0.0.0.0)")
}

/// The options that firmware would enumerate: drives, then PXE, then HTTP on each interface.
fn enumerate(hardware: &Hardware) -> Vec<(BootDevice, String, String)> {
    let mut found = Vec::new();
    for (index, drive) in hardware.drives().enumerate() {
        found.push((
            BootDevice::Drive { id: drive.id.clone() },
            format!("UEFI {} {}", drive.model, drive.serial),
            format!("PciRoot(0x0)/Pci(0x1,0x{index:X})/HD(1,GPT)"),
        ));
    }
    for (index, nic) in hardware.nics.iter().enumerate() {
        found.push((
            BootDevice::Pxe { nic: nic.id.clone() },
            format!("UEFI PXEv4 (MAC:{})", mac_upper(nic.mac)),
            format!("PciRoot(0x0)/Pci(0x2,0x{index:X})/{}", mac_node(nic.mac)),
        ));
    }
    for (index, nic) in hardware.nics.iter().enumerate() {
        found.push((
            BootDevice::Http { nic: nic.id.clone() },
            format!("UEFI HTTPv4 (MAC:{})", mac_upper(nic.mac)),
            format!("PciRoot(0x0)/Pci(0x2,0x{index:X})/{}/Uri()", mac_node(nic.mac)),
        ));
    }
    found
}

fn mac_upper(mac: Mac) -> String {
    mac.0.iter().map(|byte| format!("{byte:02X}")).collect()
}

#[derive(Debug)]
pub(crate) struct BootConfig {
    pub(crate) over: BootOverride,
    /// `None` until somebody changes it: then firmware's own order of enumeration holds.
    order: Option<Vec<u16>>,
    disabled: BTreeSet<u16>,
    pub(crate) secure_boot_enable: bool,
    pub(crate) secure_boot_current: bool,
    /// Attributes that differ from the personality's.
    pub(crate) bios: BTreeMap<String, Value>,
    pub(crate) bios_pending: BTreeMap<String, Value>,
}

impl BootConfig {
    pub(crate) fn new() -> BootConfig {
        BootConfig {
            over: BootOverride::NONE,
            order: None,
            disabled: BTreeSet::new(),
            secure_boot_enable: false,
            secure_boot_current: false,
            bios: BTreeMap::new(),
            bios_pending: BTreeMap::new(),
        }
    }

    /// The firmware asks at POST. What was pending is current afterwards.
    pub(crate) fn post_begins(&mut self) -> BootOverride {
        self.secure_boot_current = self.secure_boot_enable;
        self.bios.append(&mut self.bios_pending);
        match self.over.enabled {
            OverrideEnabled::Disabled => BootOverride {
                mode: self.over.mode,
                ..BootOverride::NONE
            },
            OverrideEnabled::Continuous => self.over.clone(),
            OverrideEnabled::Once => {
                let effective = self.over.clone();
                // ComputerSystem schema, BootSourceOverrideEnabled `Once`: after the boot, target returns to None and
                // enabled to Disabled.
                self.over.enabled = OverrideEnabled::Disabled;
                self.over.target = BootTarget::None;
                effective
            }
        }
    }

    pub(crate) fn options(&self, hardware: &Hardware) -> Vec<BootOption> {
        (0_u16..)
            .zip(enumerate(hardware))
            .map(|(number, (device, display_name, device_path))| BootOption {
                number,
                device,
                display_name,
                device_path,
                enabled: !self.disabled.contains(&number),
            })
            .collect()
    }

    pub(crate) fn order(&self, hardware: &Hardware) -> Vec<u16> {
        match &self.order {
            Some(order) => order.clone(),
            None => (0_u16..)
                .zip(enumerate(hardware))
                .map(|(number, _)| number)
                .collect(),
        }
    }

    pub(crate) fn set_order(&mut self, order: Option<Vec<u16>>) {
        self.order = order;
    }

    pub(crate) fn set_enabled(&mut self, number: u16, enabled: bool) {
        if enabled {
            self.disabled.remove(&number);
        } else {
            self.disabled.insert(number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(enabled: OverrideEnabled) -> BootConfig {
        let mut config = BootConfig::new();
        config.over = BootOverride {
            target: BootTarget::Pxe,
            enabled,
            ..BootOverride::NONE
        };
        config
    }

    #[test]
    fn once_is_consumed_by_one_post() {
        let mut config = with(OverrideEnabled::Once);
        assert_eq!(config.post_begins().target, BootTarget::Pxe);
        assert_eq!(config.post_begins(), BootOverride::NONE);
        assert_eq!(config.over, BootOverride::NONE);
    }

    #[test]
    fn continuous_stays() {
        let mut config = with(OverrideEnabled::Continuous);
        assert_eq!(config.post_begins().target, BootTarget::Pxe);
        assert_eq!(config.post_begins().target, BootTarget::Pxe);
    }

    #[test]
    fn disabled_hides_a_stored_target() {
        let mut config = with(OverrideEnabled::Disabled);
        assert_eq!(config.post_begins().target, BootTarget::None);
        assert_eq!(config.over.target, BootTarget::Pxe);
    }

    #[test]
    fn settings_wait_for_post() {
        let mut config = BootConfig::new();
        config.secure_boot_enable = true;
        config
            .bios_pending
            .insert("BootMode".to_owned(), Value::from("Legacy"));
        assert!(!config.secure_boot_current);
        config.post_begins();
        assert!(config.secure_boot_current);
        assert_eq!(config.bios["BootMode"], "Legacy");
        assert!(config.bios_pending.is_empty());
    }
}
