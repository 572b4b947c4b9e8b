//! What stands in the data centre: racks, servers and who each of them is.
//!
//! Everything a server is known by (serial, UUID, MACs, BMC password, addresses) is computed from the seed
//! and its place (rack, slot), so that a file written yesterday still fits the lab of today.

use serde::Deserialize;
use sha2::{Digest, Sha256};
use sim_bmc::{Hardware, Identity, Mac, Personality, PersonalityError};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};
use uuid::Uuid;

/// Servers of one rack: a standard 48 U rack with room for switches and power.
pub const SLOTS: u8 = 18;
/// Racks: the third byte of a BMC's address.
const RACKS: u16 = 250;

pub const HOST_NAMESPACE: &str = "metal3-system";
pub const PROJECT_NAMESPACE: &str = "p-default";

#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    #[error("{hosts} hosts are more than {max}, which is what {RACKS} racks of {SLOTS} hold")]
    TooMany { hosts: usize, max: usize },
    #[error("{file}: {why}")]
    File { file: String, why: String },
    #[error("host {host:?}: {why}")]
    Host { host: String, why: String },
    #[error(transparent)]
    Personality(#[from] PersonalityError),
}

/// A lab as a file: `LAB=file.yaml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct LabFile {
    hosts: Vec<LabHost>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct LabHost {
    name: String,
    profile: String,
    #[serde(default)]
    rack: Option<u8>,
    #[serde(default)]
    slot: Option<u8>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    /// Cabled to a port of no network: what a wrong VLAN looks like.
    #[serde(default)]
    miscabled: bool,
}

#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub hosts: Vec<PlannedHost>,
}

/// One server and its place.
#[derive(Clone, Debug)]
pub struct PlannedHost {
    pub name: String,
    /// The name of a personality.
    pub profile: String,
    pub rack: u8,
    pub slot: u8,
    pub labels: BTreeMap<String, String>,
    pub identity: Identity,
    pub hardware: Hardware,
    pub bmc_password: String,
    pub miscabled: bool,
}

impl PlannedHost {
    pub fn bmc_address(&self) -> Ipv4Addr {
        Ipv4Addr::new(127, 100, self.rack, self.slot)
    }

    /// The NIC that it boots from.
    pub fn boot_mac(&self) -> Mac {
        self.identity.macs[0]
    }
}

pub const BMC_USER: &str = "admin";
pub const BMC_PORT: u16 = 8443;

impl Plan {
    /// `bare-metal-1` ... : four small VMs first, then CPU and GPU servers in turn.
    pub fn standard(hosts: usize, seed: u64) -> Result<Self, PlanError> {
        let hosts = (0..hosts)
            .map(|i| LabHost {
                name: format!("bare-metal-{}", i + 1),
                profile: match i {
                    0..4 => "small-vm",
                    i if i % 2 == 0 => "cpu-epyc",
                    _ => "dgx-h100",
                }
                .into(),
                rack: None,
                slot: None,
                labels: BTreeMap::new(),
                miscabled: false,
            })
            .collect();
        Plan::from_hosts(hosts, seed)
    }

    pub fn from_yaml(file: &str, text: &str, seed: u64) -> Result<Self, PlanError> {
        let parsed: LabFile = serde_saphyr::from_str(text).map_err(|e| PlanError::File {
            file: file.into(),
            why: e.to_string(),
        })?;
        Plan::from_hosts(parsed.hosts, seed)
    }

    fn from_hosts(hosts: Vec<LabHost>, seed: u64) -> Result<Self, PlanError> {
        let max = usize::from(RACKS) * usize::from(SLOTS);
        if hosts.len() > max {
            return Err(PlanError::TooMany {
                hosts: hosts.len(),
                max,
            });
        }
        let mut names = BTreeSet::new();
        let mut places = BTreeSet::new();
        let mut planned = Vec::with_capacity(hosts.len());
        for (i, host) in hosts.into_iter().enumerate() {
            let bad = |why: String| PlanError::Host {
                host: host.name.clone(),
                why,
            };
            if !names.insert(host.name.clone()) {
                return Err(bad("the name is taken".into()));
            }
            let rack = host.rack.unwrap_or((i / usize::from(SLOTS) + 1) as u8);
            let slot = host.slot.unwrap_or((i % usize::from(SLOTS) + 1) as u8);
            if rack == 0 || slot == 0 || u16::from(rack) > RACKS || slot == 255 {
                return Err(bad(format!(
                    "rack {rack} slot {slot} is no place: racks 1 to {RACKS}, slots 1 to 254"
                )));
            }
            if !places.insert((rack, slot)) {
                return Err(bad(format!("rack {rack} slot {slot} is taken")));
            }
            planned.push(place(host, rack, slot, seed)?);
        }
        Ok(Plan { seed, hosts: planned })
    }
}

fn place(host: LabHost, rack: u8, slot: u8, seed: u64) -> Result<PlannedHost, PlanError> {
    let personality = Personality::named(&host.profile)?;
    let bytes = |what: &str| -> [u8; 32] {
        Sha256::digest(format!("steelyard lab {seed} {rack} {slot} {what}")).into()
    };
    // Locally administered (IEEE 802, bit 1 of the first byte); the place is readable in it.
    let seed_byte = Sha256::digest(format!("steelyard lab {seed}"))[0];
    let mac = |n: u8| Mac([0x52, 0x54, seed_byte, rack, slot, n]);
    let nics = personality.nic_count() as u8;
    let mut uuid = [0; 16];
    uuid.copy_from_slice(&bytes("uuid")[..16]);
    let id = bytes("serial");
    let identity = Identity {
        serial: format!(
            "SY{:02X}{:02X}{:02X}{:02X}{:02X}{:02X}",
            rack, slot, id[0], id[1], id[2], id[3]
        ),
        uuid: uuid::Builder::from_random_bytes(uuid).into_uuid(),
        macs: (0..nics).map(mac).collect(),
        bmc_mac: mac(0xff),
    };
    let hardware = personality.hardware(&identity)?;
    let role = if hardware.gpus.is_empty() {
        "compute"
    } else {
        "gpu"
    };
    let mut labels = BTreeMap::from([
        ("app.kubernetes.io/name".to_owned(), host.name.clone()),
        ("role".to_owned(), role.to_owned()),
        ("rack".to_owned(), format!("rack-{rack}")),
        ("profile".to_owned(), host.profile.clone()),
    ]);
    labels.extend(host.labels);
    Ok(PlannedHost {
        name: host.name,
        profile: host.profile,
        rack,
        slot,
        labels,
        identity,
        hardware,
        bmc_password: password(&bytes("bmc password")),
        miscabled: host.miscabled,
    })
}

/// 16 letters and digits out of 32 random bytes.
fn password(bytes: &[u8; 32]) -> String {
    const ALPHABET: &[u8; 56] = b"ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz2345678";
    bytes
        .iter()
        .take(16)
        .map(|b| char::from(ALPHABET[usize::from(*b) % 56]))
        .collect()
}

/// `Uuid` as text, for files.
pub fn uuid_text(uuid: Uuid) -> String {
    uuid.hyphenated().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identity_depends_on_the_place_and_the_seed_only() {
        let six = Plan::standard(6, 1).unwrap();
        let forty = Plan::standard(40, 1).unwrap();
        for (a, b) in six.hosts.iter().zip(&forty.hosts) {
            assert_eq!(
                (&a.identity.serial, a.boot_mac(), &a.bmc_password),
                (&b.identity.serial, b.boot_mac(), &b.bmc_password)
            );
        }
        let other = Plan::standard(6, 2).unwrap();
        assert_ne!(six.hosts[0].identity.uuid, other.hosts[0].identity.uuid);
        assert_ne!(six.hosts[0].bmc_password, six.hosts[1].bmc_password);
    }

    #[test]
    fn profiles_and_places() {
        let plan = Plan::standard(20, 1).unwrap();
        let profiles: Vec<&str> = plan.hosts.iter().take(7).map(|h| h.profile.as_str()).collect();
        assert_eq!(
            profiles,
            [
                "small-vm", "small-vm", "small-vm", "small-vm", "cpu-epyc", "dgx-h100", "cpu-epyc"
            ]
        );
        assert_eq!(plan.hosts[17].bmc_address(), Ipv4Addr::new(127, 100, 1, 18));
        assert_eq!(plan.hosts[18].bmc_address(), Ipv4Addr::new(127, 100, 2, 1));
        assert_eq!(plan.hosts[5].labels["role"], "gpu");
    }

    #[test]
    fn bad_files_name_the_host() {
        let twice = "hosts: [{name: a, profile: small-vm, rack: 1, slot: 1}, {name: b, profile: small-vm, rack: 1, slot: 1}]";
        let error = Plan::from_yaml("lab.yaml", twice, 1).unwrap_err().to_string();
        assert!(
            error.contains("\"b\"") && error.contains("rack 1 slot 1 is taken"),
            "{error}"
        );
        let typo = "hosts: [{name: a, profle: small-vm}]";
        let error = Plan::from_yaml("lab.yaml", typo, 1).unwrap_err().to_string();
        assert!(error.contains("lab.yaml") && error.contains("profle"), "{error}");
        let unknown = "hosts: [{name: a, profile: cray-1}]";
        let error = Plan::from_yaml("lab.yaml", unknown, 1).unwrap_err().to_string();
        assert!(error.contains("cray-1") && error.contains("small-vm"), "{error}");
    }
}
