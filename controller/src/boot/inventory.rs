//! The agent's inventory as Metal3's HardwareDetails (field rules: baremetal-operator
//! `pkg/provisioner/ironic/hardwaredetails`).

use serde_json::Value;
use std::collections::BTreeMap;
use steelyard_agent_api::{Disk, Inspection, Interface, PciDevice};
use steelyard_api::metal3::{
    Bios, Cpu, DiskType, Firmware, HardwareDetails, Lldp, Nic, Storage, SystemVendor, Vlan,
};

/// What an agent found in a machine.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Found {
    pub(crate) hardware: HardwareDetails,
    /// What HardwareDetails has no field for, by resource name.
    pub(crate) devices: BTreeMap<String, u64>,
}

pub(crate) fn found(inspection: &Inspection) -> Found {
    let devices = devices(inspection.pci_devices.as_deref().unwrap_or_default());
    Found {
        hardware: hardware(inspection),
        devices,
    }
}

fn hardware(inspection: &Inspection) -> HardwareDetails {
    let inventory = &inspection.inventory;
    let boot = inspection
        .boot_interface
        .as_deref()
        .or(inventory.boot.pxe_interface.as_deref())
        .and_then(boot_mac);
    let vendor = &inventory.system_vendor;
    let mut flags = inventory.cpu.flags.clone();
    flags.sort();
    HardwareDetails {
        cpu: Some(Cpu {
            arch: text(&inventory.cpu.architecture),
            model: text(&inventory.cpu.model_name),
            clock_megahertz: inventory
                .cpu
                .frequency
                .as_deref()
                .and_then(|f| f.trim().parse().ok()),
            flags,
            count: signed(inventory.cpu.count),
        }),
        firmware: Some(Firmware {
            bios: Some(Bios {
                date: text(&vendor.firmware.build_date),
                vendor: text(&vendor.firmware.vendor),
                version: text(&vendor.firmware.version),
            }),
        }),
        hostname: inventory.hostname.as_deref().and_then(text),
        nics: inventory
            .interfaces
            .iter()
            .flat_map(|nic| nics(nic, boot.as_deref()))
            .collect(),
        ram_mebibytes: signed(inventory.memory.physical_mb),
        storage: inventory.disks.iter().map(storage).collect(),
        system_vendor: Some(SystemVendor {
            manufacturer: text(&vendor.manufacturer),
            product_name: text(&vendor.product_name),
            serial_number: text(&vendor.serial_number),
        }),
    }
}

/// `BOOTIF` is a MAC, or pxelinux's form of one: `01-52-54-00-12-34-56`.
fn boot_mac(text: &str) -> Option<String> {
    let text = text.trim();
    let mac = if text.len() == 20 { text.get(3..)? } else { text };
    mac.parse::<super::Mac>().ok().map(|mac| mac.to_string())
}

/// One entry per address family; a NIC without an address has one entry.
fn nics(from: &Interface, boot: Option<&str>) -> Vec<Nic> {
    let mac = from.mac_address.to_ascii_lowercase();
    let lldp = Neighbour::read(from.lldp.as_ref());
    let nic = Nic {
        name: text(&from.name),
        model: match (from.vendor.as_deref(), from.product.as_deref()) {
            (Some(vendor), Some(product)) => Some(format!("{vendor} {product}")),
            (one, other) => one.or(other).map(str::to_owned),
        },
        pxe: Some(boot == Some(mac.as_str())),
        mac: text(&mac),
        ip: None,
        speed_gbps: from.speed_mbps.map(|mbps| signed(mbps / 1000)),
        vlans: lldp.vlans,
        vlan_id: lldp.untagged,
        lldp: (lldp.port != Lldp::default()).then_some(lldp.port),
        pci_address: from.pci_address.as_deref().and_then(text),
    };
    let addresses: Vec<_> = [&from.ipv4_address, &from.ipv6_address]
        .into_iter()
        .filter_map(|a| a.as_deref().and_then(text))
        .collect();
    if addresses.is_empty() {
        return vec![nic];
    }
    addresses
        .into_iter()
        .map(|ip| Nic {
            ip: Some(ip),
            ..nic.clone()
        })
        .collect()
}

fn storage(disk: &Disk) -> Storage {
    let by_path = disk.by_path.as_deref().and_then(text);
    let nvme = disk.tran.as_deref() == Some("nvme") || disk.name.starts_with("/dev/nvme");
    let kind = match (disk.rotational, nvme) {
        (true, _) => DiskType::Hdd,
        (false, true) => DiskType::Nvme,
        (false, false) => DiskType::Ssd,
    };
    Storage {
        name: by_path.clone().or_else(|| text(&disk.name)),
        alternate_names: text(&disk.name).into_iter().chain(by_path).collect(),
        rotational: Some(disk.rotational),
        kind: Some(kind),
        size_bytes: signed(disk.size),
        vendor: disk.vendor.clone(),
        model: disk.model.clone(),
        serial_number: disk.serial.clone(),
        wwn: disk.wwn.clone(),
        wwn_vendor_extension: disk.wwn_vendor_extension.clone(),
        wwn_with_extension: disk.wwn_with_extension.clone(),
        hctl: disk.hctl.clone(),
    }
}

/// GPUs among the PCI functions, under the resource names of their vendors' device plugins. By class, because
/// every NVSwitch and audio function carries the same vendor id; 0x1200 is what AMD Instinct announces.
fn devices(pci: &[PciDevice]) -> BTreeMap<String, u64> {
    let mut found = BTreeMap::new();
    for device in pci {
        let resource = match (
            device.vendor_id.to_ascii_lowercase().as_str(),
            device.class.get(..4),
        ) {
            ("10de", Some("0300" | "0302")) => "nvidia.com/gpu",
            ("1002", Some("0300" | "0302" | "0380" | "1200")) => "amd.com/gpu",
            _ => continue,
        };
        *found.entry(resource.to_owned()).or_default() += 1;
    }
    found
}

/// What the switch announced by LLDP: the agent hands on `[type, hex value]` pairs.
#[derive(Default)]
struct Neighbour {
    port: Lldp,
    vlans: Vec<Vlan>,
    untagged: Option<i32>,
}

impl Neighbour {
    fn read(tlvs: Option<&Value>) -> Self {
        let mut found = Neighbour::default();
        for tlv in tlvs.and_then(Value::as_array).into_iter().flatten() {
            let (Some(kind), Some(value)) = (
                tlv.get(0).and_then(Value::as_u64),
                tlv.get(1).and_then(Value::as_str),
            ) else {
                continue;
            };
            let Some(bytes) = unhex(value) else { continue };
            found.tlv(kind, &bytes);
        }
        found
    }

    /// IEEE 802.1AB 8.5 and, for type 127, 802.1Q annex D.
    fn tlv(&mut self, kind: u64, value: &[u8]) {
        match (kind, value) {
            (1, [subtype, id @ ..]) => self.port.switch_id = name(*subtype == 4, id),
            (2, [subtype, id @ ..]) => self.port.port_id = name(*subtype == 3, id),
            (5, text) => self.port.switch_system_name = name(false, text),
            (127, [0x00, 0x80, 0xc2, 1, high, low]) => {
                self.untagged =
                    Some(i32::from(u16::from_be_bytes([*high, *low]))).filter(|id| (1..=4094).contains(id));
            }
            (127, [0x00, 0x80, 0xc2, 3, high, low, len, text @ ..]) => {
                let id = i32::from(u16::from_be_bytes([*high, *low]));
                let text = text.get(..usize::from(*len)).unwrap_or(text);
                if (0..=4094).contains(&id) {
                    self.vlans.push(Vlan {
                        id,
                        name: name(false, text),
                    });
                }
            }
            _ => {}
        }
    }
}

fn name(is_mac: bool, bytes: &[u8]) -> Option<String> {
    match <[u8; 6]>::try_from(bytes) {
        Ok(mac) if is_mac => Some(super::Mac(mac).to_string()),
        _ => text(std::str::from_utf8(bytes).ok()?.trim_end_matches('\0')),
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    // 507 bytes is what a TLV can hold.
    if !digits.len().is_multiple_of(2) || digits.len() > 1022 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}

fn text(text: &str) -> Option<String> {
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn golden() {
        let inspection: Inspection = serde_json::from_value(json!({
            "boot_interface": "01-52-54-00-00-00-01",
            "inventory": {
                "hostname": "ramdisk", "bmc_address": "127.0.0.1",
                "cpu": {"model_name": "AMD EPYC 9554", "frequency": "3100.5", "count": 128, "architecture": "x86_64",
                        "flags": ["sse2", "avx"]},
                "memory": {"total": 1, "physical_mb": 524288},
                "system_vendor": {"manufacturer": "ACME", "product_name": "R1", "serial_number": "S1",
                                  "firmware": {"vendor": "AMI", "version": "1.2", "build_date": "01/02/2026"}},
                "interfaces": [
                    {"name": "eth0", "mac_address": "52:54:00:00:00:01", "ipv4_address": "192.168.100.10",
                     "ipv6_address": "fe80::1", "speed_mbps": 25000, "vendor": "0x15b3", "product": "0x101d",
                     "has_carrier": true, "pci_address": "0000:01:00.0",
                     "lldp": [[1, "04aabbccddeeff"], [2, "0573777035"], [5, "6c6561662d31"], [127, "0080c2010064"],
                              [127, "0080c203006404686f6d65"], [9, "zz"], "junk"]},
                    {"name": "eth1", "mac_address": "52:54:00:00:00:02"}
                ],
                "disks": [
                    {"name": "/dev/sda", "size": 100, "rotational": true, "by_path": "/dev/disk/by-path/p1"},
                    {"name": "/dev/sdb", "size": 200, "serial": "D2", "model": "M", "vendor": "V", "wwn": "0x1"},
                    {"name": "/dev/nvme0n1", "size": 300, "tran": "nvme"}
                ]
            },
            "pci_devices": [
                {"vendor_id": "10de", "product_id": "2330", "class": "030200"},
                {"vendor_id": "10de", "product_id": "2330", "class": "030200"},
                {"vendor_id": "10de", "product_id": "22a3", "class": "068000"},
                {"vendor_id": "1a03", "product_id": "2000", "class": "030000"},
                {"vendor_id": "1002", "product_id": "74a1", "class": "120000"}
            ]
        }))
        .unwrap();
        let found = found(&inspection);
        assert_eq!(
            found.devices,
            BTreeMap::from([("amd.com/gpu".into(), 1), ("nvidia.com/gpu".into(), 2)])
        );
        insta::assert_yaml_snapshot!(found.hardware);
    }

    #[test]
    fn an_empty_inventory_is_no_panic() {
        let found = found(&Inspection::default());
        assert!(found.hardware.nics.is_empty() && found.devices.is_empty());
        assert_eq!(boot_mac("é1-52-54-00-00-00-0"), None);
        assert_eq!(boot_mac("52:54:00:00:00:0A"), Some("52:54:00:00:00:0a".into()));
    }
}
