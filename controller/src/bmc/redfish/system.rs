//! The ComputerSystem: which one, what it says, and its NICs.

use super::{
    conversation::Conversation,
    document::{ComputerSystem, Document, id, members},
};
use crate::bmc::BmcError;
use http::StatusCode;
use serde_json::Value;
use steelyard_core::{
    host::view::{BmcFacts, Power, SystemFacts},
    intent::BootDevice,
};

/// More systems behind one BMC than any product has.
const MAX_SYSTEMS: usize = 64;
/// NICs whose MACs are read; the largest GPU servers show about 30.
const MAX_NICS: usize = 128;

pub(super) struct System {
    /// From the address, or found: the only one.
    path: Option<String>,
    given: bool,
    /// Lower-case MACs; read once.
    macs: Option<Vec<String>>,
}

impl System {
    pub(super) fn new(path: Option<String>) -> System {
        System {
            given: path.is_some(),
            path,
            macs: None,
        }
    }

    /// The system's document, fresh.
    pub(super) async fn document(&mut self, talk: &mut Conversation) -> Result<Document, BmcError> {
        let path = self.path(talk).await?;
        let read = talk.get(&path).await;
        if let Err(BmcError::Answer {
            status: StatusCode::NOT_FOUND,
            ..
        }) = &read
            && !self.given
        {
            // A service that was replaced or renumbered: looked for again next time.
            self.path = None;
        }
        read
    }

    pub(super) async fn observe(&mut self, talk: &mut Conversation) -> Result<BmcFacts, BmcError> {
        let document = self.document(talk).await?;
        let system: ComputerSystem = document
            .read()
            .map_err(|why| talk.unreadable(&document.path, why))?;
        let macs = self.macs(talk, &document).await?;
        let status = system.status.as_ref();
        let health = status.and_then(|s| s.health_rollup.clone().or_else(|| s.health.clone()));
        Ok(BmcFacts {
            credentials: talk.version().to_owned(),
            power: power(system.power_state.as_deref()),
            boot: boot(&system),
            os_running: system
                .boot_progress
                .as_ref()
                .and_then(|p| p.last_state.as_deref())
                .and_then(os_running),
            system: SystemFacts {
                id: document.path,
                uuid: system.uuid,
                manufacturer: system.manufacturer,
                model: system.model,
                serial: system.serial_number.or(system.sku),
                bios_version: system.bios_version,
                health,
                macs,
            },
        })
    }

    async fn path(&mut self, talk: &mut Conversation) -> Result<String, BmcError> {
        if let Some(path) = &self.path {
            return Ok(path.clone());
        }
        let root = talk.root().await?;
        let systems = root
            .link("/Systems")
            .unwrap_or_else(|| "/redfish/v1/Systems".to_owned());
        let collection = talk.get(&systems).await?;
        let mut found: Vec<String> = members(&collection, MAX_SYSTEMS).iter().filter_map(id).collect();
        match (found.pop(), found.is_empty()) {
            (Some(only), true) => {
                self.path = Some(only.clone());
                Ok(only)
            }
            (None, _) => Err(talk.unreadable(&systems, "it lists no system")),
            (Some(last), false) => {
                found.push(last);
                Err(talk.ambiguous(found))
            }
        }
    }

    async fn macs(&mut self, talk: &mut Conversation, system: &Document) -> Result<Vec<String>, BmcError> {
        if let Some(macs) = &self.macs {
            return Ok(macs.clone());
        }
        let Some(path) = system.link("/EthernetInterfaces") else {
            self.macs = Some(Vec::new());
            return Ok(Vec::new());
        };
        let mut macs = Vec::new();
        for member in interfaces(talk, &path).await? {
            let read = |key: &str| {
                member
                    .get(key)
                    .and_then(Value::as_str)
                    .filter(|mac| !mac.is_empty())
            };
            macs.extend(read("MACAddress").map(str::to_ascii_lowercase));
            macs.extend(read("PermanentMACAddress").map(str::to_ascii_lowercase));
        }
        macs.sort();
        macs.dedup();
        self.macs = Some(macs.clone());
        Ok(macs)
    }
}

/// The EthernetInterfaces: in one request where the service can expand a collection, else one by one. One that can't
/// be read is left out rather than failing the whole look.
async fn interfaces(talk: &mut Conversation, path: &str) -> Result<Vec<Value>, BmcError> {
    let root = talk.root().await?;
    let expands = |key: &str| {
        root.body
            .pointer(&format!("/ProtocolFeaturesSupported/ExpandQuery/{key}"))
    };
    let can_expand = [expands("NoLinks"), expands("ExpandAll")]
        .iter()
        .any(|v| *v == Some(&Value::Bool(true)));
    if can_expand && let Ok(all) = talk.get(&format!("{path}?$expand=.")).await {
        let found = members(&all, MAX_NICS);
        if found
            .iter()
            .all(|m| m.get("MACAddress").is_some() || m.get("PermanentMACAddress").is_some())
        {
            return Ok(found);
        }
    }
    let collection = match talk.get(path).await {
        Ok(collection) => collection,
        Err(BmcError::Answer {
            status: StatusCode::NOT_FOUND,
            ..
        }) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for member in members(&collection, MAX_NICS).iter().filter_map(id) {
        match talk.get(&member).await {
            Ok(interface) => found.push(interface.body),
            Err(BmcError::Answer { status, .. }) if status == StatusCode::NOT_FOUND => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

pub(super) fn power(state: Option<&str>) -> Power {
    match state {
        Some("On") => Power::On,
        Some("Off") => Power::Off,
        // PoweringOn, PoweringOff, Paused, and whatever a later schema adds.
        _ => Power::Changing,
    }
}

fn boot(system: &ComputerSystem) -> Option<BootDevice> {
    let boot = system.boot.as_ref()?;
    match (boot.enabled.as_deref()?, boot.target.as_deref()?) {
        ("Once" | "Continuous", "Pxe" | "UefiHttp") => Some(BootDevice::NetworkOnce),
        ("Once" | "Continuous", "Hdd") => Some(BootDevice::Disk),
        _ => None,
    }
}

/// BootProgress.LastState (ComputerSystem 1.13 and later). `None` and unknown words say nothing.
fn os_running(state: &str) -> Option<bool> {
    match state {
        "OSRunning" => Some(true),
        "None" | "OEM" | "" => None,
        _ => Some(false),
    }
}
