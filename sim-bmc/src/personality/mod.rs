//! Personalities: what distinguishes one server product from another, as data.
//!
//! One YAML file per product (`small-vm.yaml`, ...), parsed once per process and shared by all its BMCs. The engine
//! never asks for a vendor: a quirk is a field here.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use indexmap::IndexMap;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::bmc::BootTarget;
use crate::hardware::{
    Architecture, Dimm, Drive, DriveProtocol, Gpu, Hardware, Mac, Nic, Processor, StorageController, Text,
};

const FILES: &[(&str, &str)] = &[
    ("small-vm", include_str!("small-vm.yaml")),
    ("cpu-epyc", include_str!("cpu-epyc.yaml")),
    ("dgx-h100", include_str!("dgx-h100.yaml")),
];

/// Parsed built-in files. A file that does not parse is a defect that the test `all_parse` finds.
static BUILT_IN: LazyLock<BTreeMap<&'static str, Result<Arc<Product>, String>>> = LazyLock::new(|| {
    FILES
        .iter()
        .map(|(name, yaml)| {
            (
                *name,
                serde_saphyr::from_str(yaml)
                    .map(Arc::new)
                    .map_err(|e| e.to_string()),
            )
        })
        .collect()
});

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PersonalityError {
    #[error("personality '{name}' is not known; known ones are {known}")]
    Unknown { name: String, known: String },
    #[error("personality '{name}' cannot be read: {reason}")]
    Unreadable { name: String, reason: String },
    #[error(
        "personality '{name}' has {wanted} network interfaces, but {given} MAC addresses were given; give one for each"
    )]
    Macs { name: Text, wanted: usize, given: usize },
}

/// A product and the knobs that a user of it may turn. Cheap to clone: the product's data is shared.
#[derive(Clone, Debug)]
pub struct Personality {
    product: Arc<Product>,
    pub timings: Timings,
    pub quirks: Quirks,
    /// Shown in ManagerNetworkProtocol; the port on which the service is really reached.
    pub https_port: u16,
}

/// Who one server is. Everything else is equal among servers of a product.
#[derive(Clone, Debug)]
pub struct Identity {
    pub serial: String,
    pub uuid: Uuid,
    /// One for each network interface of the product, in its order.
    pub macs: Vec<Mac>,
    pub bmc_mac: Mac,
}

/// How long a BMC's own sequencing takes; the machine's own time (POST, shutdown) is not in here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Timings {
    /// Reset On accepted until power is good.
    pub power_on_ms: u32,
    /// Reset ForceOff accepted until power is cut.
    pub power_off_ms: u32,
    /// How long power stays off in a PowerCycle.
    pub power_cycle_ms: u32,
    /// How long the service is gone after Manager.Reset.
    pub manager_reset_ms: u32,
}

/// Where a product departs from the friendliest reading of the specification.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct Quirks {
    /// A PATCH without If-Match is answered with 428, as AMI-based BMCs do.
    pub require_if_match: bool,
}

impl Timings {
    /// The same delay for every power step, as fast labs want it; the manager's own reset stays as it is.
    pub fn with_power_ms(self, ms: u32) -> Timings {
        Timings {
            power_on_ms: ms,
            power_off_ms: ms,
            power_cycle_ms: ms,
            ..self
        }
    }

    pub(crate) fn power_on(&self) -> Duration {
        Duration::from_millis(self.power_on_ms.into())
    }

    pub(crate) fn power_off(&self) -> Duration {
        Duration::from_millis(self.power_off_ms.into())
    }

    pub(crate) fn power_cycle(&self) -> Duration {
        Duration::from_millis(self.power_cycle_ms.into())
    }

    pub(crate) fn manager_reset(&self) -> Duration {
        Duration::from_millis(self.manager_reset_ms.into())
    }
}

impl Personality {
    /// The built-in names, in their order of presentation.
    pub fn names() -> Vec<&'static str> {
        FILES.iter().map(|(name, _)| *name).collect()
    }

    pub fn named(name: &str) -> Result<Personality, PersonalityError> {
        match BUILT_IN.get(name) {
            Some(Ok(product)) => Ok(Personality::of(Arc::clone(product))),
            Some(Err(reason)) => Err(PersonalityError::Unreadable {
                name: name.to_owned(),
                reason: reason.clone(),
            }),
            None => Err(PersonalityError::Unknown {
                name: name.to_owned(),
                known: Personality::names().join(", "),
            }),
        }
    }

    /// A personality of one's own, in the format of the built-in files.
    pub fn from_yaml(name: &str, yaml: &str) -> Result<Personality, PersonalityError> {
        match serde_saphyr::from_str(yaml) {
            Ok(product) => Ok(Personality::of(Arc::new(product))),
            Err(error) => Err(PersonalityError::Unreadable {
                name: name.to_owned(),
                reason: error.to_string(),
            }),
        }
    }

    fn of(product: Arc<Product>) -> Personality {
        Personality {
            timings: product.timings,
            quirks: product.quirks,
            product,
            https_port: 443,
        }
    }

    pub fn name(&self) -> &str {
        &self.product.name
    }

    pub(crate) fn product(&self) -> &Product {
        &self.product
    }

    /// How many network interfaces, and so host MAC addresses, a server of this product has.
    pub fn nic_count(&self) -> usize {
        self.product.inventory.nics.iter().map(|group| group.count).sum()
    }

    /// The parts of one server of this product. Serial numbers of parts follow from the server's.
    pub fn hardware(&self, identity: &Identity) -> Result<Hardware, PersonalityError> {
        let product = &*self.product;
        if identity.macs.len() != self.nic_count() {
            return Err(PersonalityError::Macs {
                name: product.name.clone(),
                wanted: self.nic_count(),
                given: identity.macs.len(),
            });
        }
        let serial = identity.serial.as_str();
        let inventory = &product.inventory;
        Ok(Hardware {
            manufacturer: product.system.manufacturer.clone(),
            model: product.system.model.clone(),
            sku: product.system.sku.clone(),
            part_number: product.system.part_number.clone(),
            serial: serial.to_owned(),
            uuid: identity.uuid,
            bios_version: product.bios.version.clone(),
            bmc_version: product.manager.version.clone(),
            processors: inventory
                .processors
                .iter()
                .flat_map(ProcessorGroup::parts)
                .collect(),
            gpus: inventory
                .gpus
                .iter()
                .flat_map(|group| group.parts(serial))
                .collect(),
            memory: inventory
                .memory
                .iter()
                .flat_map(|group| group.parts(serial))
                .collect(),
            storage: inventory
                .storage
                .iter()
                .map(|controller| controller.part(serial))
                .collect(),
            nics: inventory
                .nics
                .iter()
                .flat_map(NicGroup::ports)
                .zip(&identity.macs)
                .map(|((id, group), mac)| Nic {
                    id,
                    name: group.name.clone(),
                    mac: *mac,
                    speed_mbps: group.speed_mbps,
                    manufacturer: group.manufacturer.clone(),
                    model: group.model.clone(),
                })
                .collect(),
            bmc_mac: identity.bmc_mac,
        })
    }
}

/// One YAML file.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Product {
    pub(crate) name: Text,
    pub(crate) vendor: Text,
    pub(crate) product: Text,
    pub(crate) system: SystemFacts,
    pub(crate) manager: ManagerFacts,
    pub(crate) chassis_type: Text,
    pub(crate) timings: Timings,
    pub(crate) boot: BootFacts,
    pub(crate) bios: BiosFacts,
    pub(crate) limits: Limits,
    #[serde(default)]
    quirks: Quirks,
    inventory: Inventory,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct SystemFacts {
    pub(crate) manufacturer: Text,
    pub(crate) model: Text,
    pub(crate) sku: Text,
    pub(crate) part_number: Text,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct ManagerFacts {
    pub(crate) model: Text,
    pub(crate) version: Text,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct BootFacts {
    /// Allowable override targets; firmware understands each of them.
    pub(crate) targets: Vec<BootTarget>,
    pub(crate) legacy: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct BiosFacts {
    pub(crate) version: Text,
    pub(crate) secure_boot: bool,
    pub(crate) attributes: IndexMap<String, serde_json::Value>,
}

/// What a weak computer can hold. All are counts.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Limits {
    pub(crate) sessions: usize,
    pub(crate) accounts: usize,
    pub(crate) connections: usize,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Inventory {
    processors: Vec<ProcessorGroup>,
    #[serde(default)]
    gpus: Vec<GpuGroup>,
    memory: Vec<DimmGroup>,
    storage: Vec<StorageTemplate>,
    nics: Vec<NicGroup>,
}

/// In every group, `{n}` in `id` counts from `first`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct ProcessorGroup {
    id: String,
    #[serde(default)]
    first: usize,
    count: usize,
    manufacturer: Text,
    model: Text,
    architecture: Architecture,
    cores: u32,
    threads: u32,
    max_mhz: u32,
    tdp_watts: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct GpuGroup {
    id: String,
    #[serde(default)]
    first: usize,
    count: usize,
    manufacturer: Text,
    model: Text,
    part_number: Text,
    memory_mib: u64,
    firmware: Text,
    pci_id: (u16, u16),
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct DimmGroup {
    id: String,
    #[serde(default)]
    first: usize,
    count: usize,
    manufacturer: Text,
    part_number: Text,
    capacity_mib: u64,
    device_type: Text,
    speed_mhz: u32,
    ecc: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct StorageTemplate {
    id: String,
    name: Text,
    manufacturer: Text,
    model: Text,
    firmware: Text,
    protocol: DriveProtocol,
    drives: Vec<DriveGroup>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct DriveGroup {
    id: String,
    #[serde(default)]
    first: usize,
    count: usize,
    manufacturer: Text,
    model: Text,
    firmware: Text,
    capacity_bytes: u64,
    block_size_bytes: u32,
    rotational: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct NicGroup {
    id: String,
    #[serde(default)]
    first: usize,
    count: usize,
    name: Text,
    manufacturer: Text,
    model: Text,
    speed_mbps: u32,
}

fn ids(template: &str, first: usize, count: usize) -> impl Iterator<Item = String> + '_ {
    (first..first + count).map(move |n| template.replace("{n}", &n.to_string()))
}

/// A part's serial number: as good as random, and the same for the same server and place.
fn part_serial(server: &str, kind: &str, id: &str) -> String {
    let digest = Sha256::digest(format!("{server}/{kind}/{id}").as_bytes());
    digest.iter().take(6).map(|byte| format!("{byte:02X}")).collect()
}

impl ProcessorGroup {
    fn parts(&self) -> impl Iterator<Item = Processor> + '_ {
        ids(&self.id, self.first, self.count).map(|id| Processor {
            id,
            manufacturer: self.manufacturer.clone(),
            model: self.model.clone(),
            architecture: self.architecture,
            cores: self.cores,
            threads: self.threads,
            max_mhz: self.max_mhz,
            tdp_watts: self.tdp_watts,
        })
    }
}

impl GpuGroup {
    fn parts<'a>(&'a self, server: &'a str) -> impl Iterator<Item = Gpu> + 'a {
        ids(&self.id, self.first, self.count).map(move |id| Gpu {
            serial: part_serial(server, "gpu", &id),
            id,
            manufacturer: self.manufacturer.clone(),
            model: self.model.clone(),
            part_number: self.part_number.clone(),
            memory_mib: self.memory_mib,
            firmware: self.firmware.clone(),
            pci_id: self.pci_id,
        })
    }
}

impl DimmGroup {
    fn parts<'a>(&'a self, server: &'a str) -> impl Iterator<Item = Dimm> + 'a {
        ids(&self.id, self.first, self.count).map(move |id| Dimm {
            serial: part_serial(server, "dimm", &id),
            id,
            manufacturer: self.manufacturer.clone(),
            part_number: self.part_number.clone(),
            capacity_mib: self.capacity_mib,
            device_type: self.device_type.clone(),
            speed_mhz: self.speed_mhz,
            ecc: self.ecc,
        })
    }
}

impl StorageTemplate {
    fn part(&self, server: &str) -> StorageController {
        let drives = self.drives.iter().flat_map(|group| {
            ids(&group.id, group.first, group.count).map(move |id| Drive {
                serial: part_serial(server, "drive", &id),
                id,
                manufacturer: group.manufacturer.clone(),
                model: group.model.clone(),
                firmware: group.firmware.clone(),
                capacity_bytes: group.capacity_bytes,
                block_size_bytes: group.block_size_bytes,
                protocol: self.protocol,
                rotational: group.rotational,
            })
        });
        StorageController {
            id: self.id.clone(),
            name: self.name.clone(),
            manufacturer: self.manufacturer.clone(),
            model: self.model.clone(),
            firmware: self.firmware.clone(),
            protocol: self.protocol,
            drives: drives.collect(),
        }
    }
}

impl NicGroup {
    fn ports(&self) -> impl Iterator<Item = (String, &NicGroup)> {
        ids(&self.id, self.first, self.count).map(move |id| (id, self))
    }
}

#[cfg(test)]
mod tests;
