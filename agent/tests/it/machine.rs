//! A machine of memory, honest or lying.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use steelyard_agent::{BlockDevice, DiskError, EraseMethod, Platform, Progress};
use steelyard_agent_api::{Disk, Interface, Inventory, PciDevice};

const BLOCK: u64 = 4096;
static ZEROS: [u8; 4096] = [0; 4096];

/// How a disk misbehaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lie {
    None,
    /// Says "done" and does nothing.
    EraseDoesNothing,
    /// Erases all but this byte range.
    EraseSpares(u64, u64),
    /// The command fails.
    EraseFails,
    /// Takes writes and forgets them.
    WritesVanish,
    /// The first poll says "working".
    EraseTakesTime,
}

pub(crate) struct Drive {
    pub(crate) device: BlockDevice,
    pub(crate) lie: Lie,
    pub(crate) blocks: BTreeMap<u64, Vec<u8>>,
    pub(crate) erased_with: Vec<EraseMethod>,
    pub(crate) flushes: u32,
    polls: u32,
}

#[derive(Clone)]
pub(crate) struct Machine {
    pub(crate) drives: Arc<Mutex<Vec<Drive>>>,
    pub(crate) macs: Vec<&'static str>,
}

pub(crate) const SATA: &[EraseMethod] = &[EraseMethod::WriteZeroes];
pub(crate) const NVME: &[EraseMethod] = &[EraseMethod::NvmeUserData, EraseMethod::NvmeCrypto];

impl Machine {
    pub(crate) fn new() -> Self {
        Self {
            drives: Arc::default(),
            macs: vec!["52:54:00:00:00:01", "52:54:00:00:00:02"],
        }
    }

    pub(crate) fn with_drive(self, name: &str, size: u64, methods: &[EraseMethod], lie: Lie) -> Self {
        let facts = Disk {
            name: name.to_owned(),
            size,
            serial: Some(format!("S-{name}")),
            logical_sectors: 512,
            ..Disk::default()
        };
        let device = BlockDevice {
            facts,
            erase_methods: methods.to_vec(),
            ..BlockDevice::default()
        };
        let drive = Drive {
            device,
            lie,
            blocks: BTreeMap::new(),
            erased_with: Vec::new(),
            flushes: 0,
            polls: 0,
        };
        self.drives.lock().unwrap().push(drive);
        self
    }

    pub(crate) fn change(&self, name: &str, change: impl FnOnce(&mut Drive)) {
        let mut drives = self.drives.lock().unwrap();
        change(
            drives
                .iter_mut()
                .find(|drive| drive.device.facts.name == name)
                .unwrap(),
        );
    }

    pub(crate) fn read(&self, name: &str, offset: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.change(name, |drive| drive.read(offset, &mut bytes));
        bytes
    }

    pub(crate) fn write(&self, name: &str, offset: u64, data: &[u8]) {
        self.change(name, |drive| drive.write(offset, data));
    }

    /// Whether any block holds anything but zeros.
    pub(crate) fn is_empty(&self, name: &str) -> bool {
        let mut empty = false;
        self.change(name, |drive| {
            empty = drive.blocks.values().all(|block| block == &ZEROS)
        });
        empty
    }
}

impl Drive {
    fn read(&self, offset: u64, into: &mut [u8]) {
        let mut done = 0;
        while done < into.len() {
            let at = offset + done as u64;
            let within = (at % BLOCK) as usize;
            let count = (into.len() - done).min(BLOCK as usize - within);
            match self.blocks.get(&(at / BLOCK)) {
                Some(block) => into[done..done + count].copy_from_slice(&block[within..within + count]),
                None => into[done..done + count].fill(0),
            }
            done += count;
        }
    }

    fn write(&mut self, offset: u64, mut data: &[u8]) {
        let mut at = offset;
        while !data.is_empty() {
            let within = (at % BLOCK) as usize;
            let (now, later) = data.split_at(data.len().min(BLOCK as usize - within));
            if now != &ZEROS[..now.len()] || self.blocks.contains_key(&(at / BLOCK)) {
                let block = self
                    .blocks
                    .entry(at / BLOCK)
                    .or_insert_with(|| vec![0; BLOCK as usize]);
                block[within..within + now.len()].copy_from_slice(now);
            }
            at += now.len() as u64;
            data = later;
        }
    }
}

fn error(disk: &str, operation: &'static str, why: &str) -> DiskError {
    DiskError {
        disk: disk.to_owned(),
        operation,
        why: why.to_owned(),
    }
}

impl Machine {
    fn with<T>(
        &self,
        disk: &str,
        act: impl FnOnce(&mut Drive) -> Result<T, DiskError>,
    ) -> Result<T, DiskError> {
        let mut drives = self.drives.lock().unwrap();
        match drives.iter_mut().find(|drive| drive.device.facts.name == disk) {
            Some(drive) => act(drive),
            None => Err(error(disk, "open", "no such device")),
        }
    }
}

impl Platform for Machine {
    fn inventory(&mut self) -> Inventory {
        let nic = |(index, mac): (usize, &&str)| Interface {
            name: format!("eth{index}"),
            mac_address: (*mac).to_owned(),
            has_carrier: true,
            ..Interface::default()
        };
        Inventory {
            interfaces: self.macs.iter().enumerate().map(nic).collect(),
            ..Inventory::default()
        }
    }

    fn pci_devices(&mut self) -> Vec<PciDevice> {
        vec![PciDevice {
            vendor_id: "10de".to_owned(),
            class: "030200".to_owned(),
            ..PciDevice::default()
        }]
    }

    fn disks(&mut self) -> Vec<BlockDevice> {
        self.drives
            .lock()
            .unwrap()
            .iter()
            .map(|drive| drive.device.clone())
            .collect()
    }

    fn read_at(&mut self, disk: &str, offset: u64, into: &mut [u8]) -> Result<(), DiskError> {
        self.with(disk, |drive| {
            if offset + into.len() as u64 > drive.device.facts.size {
                return Err(error(disk, "read", "beyond the end"));
            }
            drive.read(offset, into);
            Ok(())
        })
    }

    fn write_at(&mut self, disk: &str, offset: u64, data: &[u8]) -> Result<(), DiskError> {
        self.with(disk, |drive| {
            if offset + data.len() as u64 > drive.device.facts.size {
                return Err(error(disk, "write", "beyond the end"));
            }
            if drive.lie != Lie::WritesVanish {
                drive.write(offset, data);
            }
            Ok(())
        })
    }

    fn erase(&mut self, disk: &str, method: EraseMethod) -> Result<Progress, DiskError> {
        self.with(disk, |drive| {
            assert!(
                drive.device.erase_methods.contains(&method),
                "{disk} does not offer {method}"
            );
            match drive.lie {
                Lie::EraseFails => return Err(error(disk, "erase", "the drive is frozen")),
                Lie::EraseTakesTime if drive.polls == 0 => {
                    drive.polls += 1;
                    return Ok(Progress::Working);
                }
                Lie::EraseDoesNothing => {}
                Lie::EraseSpares(from, to) => {
                    drive
                        .blocks
                        .retain(|&block, _| (from..to).contains(&(block * BLOCK)));
                }
                _ if method.to_string() == "nvme-crypto" => {
                    // A new key: what was written becomes noise.
                    drive
                        .blocks
                        .values_mut()
                        .flatten()
                        .for_each(|byte| *byte = byte.wrapping_mul(31).wrapping_add(7));
                }
                _ => drive.blocks.clear(),
            }
            drive.erased_with.push(method);
            Ok(Progress::Done)
        })
    }

    fn flush(&mut self, disk: &str) -> Result<(), DiskError> {
        self.with(disk, |drive| {
            drive.flushes += 1;
            Ok(())
        })
    }

    fn reread_partitions(&mut self, disk: &str) -> Result<(), DiskError> {
        self.with(disk, |_| Ok(()))
    }
}
