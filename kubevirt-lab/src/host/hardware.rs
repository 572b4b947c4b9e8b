//! The machine as its own software sees it, derived from the one source that the BMC renders as well: `sim_bmc::Hardware`.

use std::net::IpAddr;

use sim_bmc::Hardware;
use sim_bmc::hardware::{Architecture, DriveProtocol};
use steelyard_agent_api::{Cpu, Firmware, PciDevice, SystemVendor};

use super::chassis::Chassis;
use super::disk::{BlockPool, Disk, DiskModel, Transport};
use super::nic::Nic;
use super::ramdisk;

/// The drives of a machine, empty, in the order of its controllers; named as the kernel would.
pub(crate) fn disks(hardware: &Hardware, pool: &BlockPool) -> Vec<Disk> {
    let (mut nvme, mut scsi) = (0, 0);
    let models = hardware.drives().map(|drive| {
        let (name, transport) = match drive.protocol {
            DriveProtocol::Nvme => (format!("/dev/nvme{}n1", next(&mut nvme)), Transport::Nvme),
            DriveProtocol::Sata | DriveProtocol::Sas => {
                (format!("/dev/sd{}", letters(next(&mut scsi))), Transport::Sata)
            }
        };
        DiskModel {
            name,
            vendor: Some(drive.manufacturer.to_string()),
            model: drive.model.to_string(),
            serial: drive.serial.clone(),
            wwn: None,
            size: drive.capacity_bytes,
            rotational: drive.rotational,
            transport,
            logical_sector: drive.block_size_bytes,
        }
    });
    models.map(|model| Disk::new(model, pool)).collect()
}

fn next(counter: &mut usize) -> usize {
    *counter += 1;
    *counter - 1
}

/// a .. z, aa, ab ..: how the kernel counts SCSI disks.
fn letters(mut index: usize) -> String {
    let mut name = Vec::new();
    loop {
        name.push(b'a' + (index % 26) as u8);
        match index / 26 {
            0 => break,
            rest => index = rest - 1,
        }
    }
    name.iter().rev().map(|byte| char::from(*byte)).collect()
}

/// What the deploy ramdisk finds.
pub(crate) fn inventory(
    chassis: &Chassis,
    nics: &[Nic],
    booted: usize,
    address: IpAddr,
) -> ramdisk::Hardware {
    let hardware = &chassis.hardware;
    ramdisk::Hardware {
        hostname: chassis.name.to_string(),
        cpu: cpu(hardware),
        memory: hardware.memory_mib() << 20,
        nics: nics
            .iter()
            .enumerate()
            .zip(&hardware.nics)
            .map(|((index, nic), model)| {
                let (vendor, driver) = pci(&model.manufacturer, &model.model);
                ramdisk::Nic {
                    name: nic.name.clone(),
                    mac: nic.mac.0,
                    link: nic.carrier(),
                    address: (index == booted).then_some(address),
                    speed_mbps: u64::from(model.speed_mbps),
                    driver: driver.to_owned(),
                    pci_address: Some(format!("0000:{:02x}:00.0", 0x10 + index)),
                    vendor: Some(vendor.to_owned()),
                    product: None,
                }
            })
            .collect(),
        disks: chassis.disks.clone(),
        pci: gpus(hardware),
        bmc_address: chassis.bmc_address,
        bmc_mac: Some(hardware.bmc_mac.to_string()),
        system: SystemVendor {
            product_name: hardware.model.to_string(),
            serial_number: hardware.serial.clone(),
            manufacturer: hardware.manufacturer.to_string(),
            firmware: Firmware {
                vendor: hardware.manufacturer.to_string(),
                version: hardware.bios_version.to_string(),
                build_date: String::new(),
            },
        },
        uefi: true,
    }
}

/// PCI vendor and Linux driver of a NIC.
fn pci(manufacturer: &str, model: &str) -> (&'static str, &'static str) {
    match manufacturer {
        "NVIDIA" | "Mellanox" => ("0x15b3", "mlx5_core"),
        "Intel" if model.contains("X710") || model.contains("XL710") => ("0x8086", "i40e"),
        "Intel" => ("0x8086", "ice"),
        "Broadcom" => ("0x14e4", "bnxt_en"),
        _ => ("0x1af4", "virtio_net"),
    }
}

fn cpu(hardware: &Hardware) -> Cpu {
    let first = hardware.processors.first();
    let architecture = match first.map(|cpu| cpu.architecture) {
        Some(Architecture::Aarch64) => "aarch64",
        _ => "x86_64",
    };
    Cpu {
        model_name: first.map(|cpu| cpu.model.to_string()).unwrap_or_default(),
        frequency: first.map(|cpu| cpu.max_mhz.to_string()),
        count: u64::from(hardware.threads()),
        architecture: architecture.to_owned(),
        flags: ["fpu", "sse4_2", "aes", "avx2", "lm"].map(str::to_owned).to_vec(),
        socket_count: Some(hardware.processors.len() as u64),
    }
}

fn gpus(hardware: &Hardware) -> Vec<PciDevice> {
    let device = |(index, gpu): (usize, &sim_bmc::hardware::Gpu)| PciDevice {
        vendor_id: format!("{:04x}", gpu.pci_id.0),
        product_id: format!("{:04x}", gpu.pci_id.1),
        // 3D controller.
        class: "030200".to_owned(),
        revision: "a1".to_owned(),
        bus: format!("0000:{:02x}:00.0", 0x40 + index),
        numa_node_id: None,
    };
    hardware.gpus.iter().enumerate().map(device).collect()
}

#[cfg(test)]
mod tests {
    use super::letters;

    #[test]
    fn scsi_letters() {
        let names: Vec<_> = [0, 25, 26, 27, 701, 702].map(letters).to_vec();
        assert_eq!(names, ["a", "z", "aa", "ab", "zz", "aaa"]);
    }
}
