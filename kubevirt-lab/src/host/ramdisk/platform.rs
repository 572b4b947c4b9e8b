//! The agent's `Platform` on a simulated machine: its virtual disks, and the inventory that Linux would find.

use steelyard_agent::{BlockDevice, DiskError, EraseMethod, Platform, Progress};
use steelyard_agent_api as api;

use super::{Hardware, Nic};
use crate::host::disk::{Disk, Transport};

/// The machine.
pub(super) struct Machine {
    hardware: Hardware,
}

impl Machine {
    pub(super) fn new(hardware: Hardware) -> Self {
        Self { hardware }
    }

    fn disk(&self, name: &str, operation: &'static str) -> Result<&Disk, DiskError> {
        let found = self.hardware.disks.iter().find(|disk| disk.model().name == name);
        found.ok_or_else(|| error(name, operation, "no such device"))
    }
}

fn error(disk: &str, operation: &'static str, why: impl ToString) -> DiskError {
    DiskError {
        disk: disk.to_owned(),
        operation,
        why: why.to_string(),
    }
}

fn interface(nic: &Nic) -> api::Interface {
    let [a, b, c, d, e, f] = nic.mac;
    let address = nic.address.map(|address| address.to_string());
    let (ipv4_address, ipv6_address) = match nic.address {
        Some(address) if address.is_ipv6() => (None, Some(address.to_string())),
        _ => (address, None),
    };
    api::Interface {
        name: nic.name.clone(),
        mac_address: format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}"),
        ipv4_address,
        ipv6_address,
        has_carrier: nic.link,
        vendor: nic.vendor.clone(),
        product: nic.product.clone(),
        // The kernel knows a speed only where there is a link.
        speed_mbps: nic.link.then_some(nic.speed_mbps),
        pci_address: nic.pci_address.clone(),
        driver: Some(nic.driver.clone()),
        ..api::Interface::default()
    }
}

fn device(disk: &Disk) -> BlockDevice {
    let model = disk.model();
    let (tran, erase_methods) = match (model.transport, model.rotational) {
        (Transport::Nvme, _) => ("nvme", vec![EraseMethod::NvmeCrypto, EraseMethod::NvmeUserData]),
        (Transport::Sata, true) => ("sata", vec![EraseMethod::AtaSecure]),
        (Transport::Sata, false) => (
            "sata",
            vec![
                EraseMethod::AtaEnhanced,
                EraseMethod::AtaSecure,
                EraseMethod::WriteZeroes,
            ],
        ),
        (Transport::Virtio, _) => ("virtio", vec![EraseMethod::WriteZeroes]),
    };
    let facts = api::Disk {
        name: model.name.clone(),
        model: Some(model.model.clone()),
        size: model.size,
        rotational: model.rotational,
        wwn: model.wwn.clone(),
        serial: Some(model.serial.clone()),
        vendor: model.vendor.clone(),
        wwn_with_extension: model.wwn.clone(),
        logical_sectors: model.logical_sector,
        physical_sectors: 4096,
        tran: Some(tran.to_owned()),
        ..api::Disk::default()
    };
    BlockDevice {
        facts,
        removable: false,
        read_only: false,
        erase_methods,
    }
}

impl Platform for Machine {
    fn inventory(&mut self) -> api::Inventory {
        let hardware = &self.hardware;
        let bmc = |v6: bool| {
            hardware
                .bmc_address
                .filter(|address| address.is_ipv6() == v6)
                .map(|a| a.to_string())
        };
        api::Inventory {
            interfaces: hardware.nics.iter().map(interface).collect(),
            cpu: hardware.cpu.clone(),
            disks: Vec::new(),
            memory: api::Memory {
                total: hardware.memory,
                physical_mb: hardware.memory >> 20,
            },
            bmc_address: bmc(false),
            bmc_v6address: bmc(true),
            bmc_mac: hardware.bmc_mac.clone(),
            system_vendor: hardware.system.clone(),
            boot: api::BootInfo {
                current_boot_mode: if hardware.uefi { "uefi" } else { "bios" }.to_owned(),
                pxe_interface: None,
            },
            hostname: Some(hardware.hostname.clone()),
        }
    }

    fn pci_devices(&mut self) -> Vec<api::PciDevice> {
        self.hardware.pci.clone()
    }

    fn disks(&mut self) -> Vec<BlockDevice> {
        self.hardware.disks.iter().map(device).collect()
    }

    fn read_at(&mut self, disk: &str, offset: u64, into: &mut [u8]) -> Result<(), DiskError> {
        self.disk(disk, "read")?
            .read_at(offset, into)
            .map_err(|why| error(disk, "read", why))
    }

    fn write_at(&mut self, disk: &str, offset: u64, data: &[u8]) -> Result<(), DiskError> {
        self.disk(disk, "write")?
            .write_at(offset, data)
            .map_err(|why| error(disk, "write", why))
    }

    fn erase(&mut self, disk: &str, method: EraseMethod) -> Result<Progress, DiskError> {
        let found = self.disk(disk, "erase")?;
        if !device(found).erase_methods.contains(&method) {
            return Err(error(
                disk,
                "erase",
                format!("the drive does not support {method}"),
            ));
        }
        found.erase();
        Ok(Progress::Done)
    }

    fn flush(&mut self, disk: &str) -> Result<(), DiskError> {
        self.disk(disk, "flush").map(|_| ())
    }

    fn reread_partitions(&mut self, disk: &str) -> Result<(), DiskError> {
        self.disk(disk, "reread partitions").map(|_| ())
    }
}
