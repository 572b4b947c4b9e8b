//! Everything that a decision about a host may look at.
//!
//! Desired state and what we said last come with the object; the rest are facts with their age.

use crate::{Observed, intent::BootDevice};
use ipnet::Ipv4Net;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use steelyard_api::metal3::{BareMetalHost, HardwareData, HardwareDetails};

#[derive(Clone, Debug)]
pub struct HostView<'a> {
    /// Spec, last status, generation, deletion, annotations.
    pub host: &'a BareMetalHost,
    /// The claim that holds the host, if the object names one that exists.
    pub claim: Option<ClaimFacts>,
    /// The BMC's Secret: which version, never the secret.
    pub credentials: Observed<CredentialFacts>,
    pub bmc: Observed<BmcFacts>,
    /// What our own boot services saw of this host.
    pub boot: BootFacts,
    pub agent: Observed<AgentFacts>,
    /// `None`: this site has no fabric to drive.
    pub fabric: Option<Observed<FabricFacts>>,
    pub node: Observed<NodeFacts>,
    pub image: Observed<ImageFacts>,
    pub hardware_data: Option<&'a HardwareData>,
    /// The address that this host shall boot with: its own annotation, the one in its status, or a free
    /// one of the site's range; `Err` says why there is none.
    pub boot_address: Result<Ipv4Net, String>,
    /// Room for one more host in an expensive state?
    pub slots: Slots,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum CredentialFacts {
    /// The Secret is there and has both keys; its resourceVersion.
    Version(String),
    /// Not there. It is asked for again every few seconds.
    Missing { secret: String },
    /// There, but unusable; the text names the key. Waits for the Secret to change.
    Unusable { secret: String, why: String },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClaimFacts {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    /// The tenant's network (a server cluster); `None` for a stand-alone machine without one.
    pub network: Option<crate::intent::NetworkName>,
    /// A node shall join a tenant's cluster.
    pub joins: bool,
    pub deleting: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BmcFacts {
    /// The version of the Secret that the BMC accepted.
    pub credentials: String,
    pub power: Power,
    /// The device of the next boot, as far as it is one that we set.
    pub boot: Option<BootDevice>,
    /// What the BMC says of the operating system; `None`: it does not say.
    pub os_running: Option<bool>,
    pub system: SystemFacts,
}

/// What identifies the machine behind the BMC.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SystemFacts {
    /// The path of the ComputerSystem.
    pub id: String,
    pub uuid: Option<String>,
    pub manufacturer: Option<String>,
    pub model: Option<String>,
    pub serial: Option<String>,
    pub bios_version: Option<String>,
    /// Redfish Status.HealthRollup or Health: OK, Warning, Critical.
    pub health: Option<String>,
    /// Lower-case MACs of the system's EthernetInterfaces; empty: the BMC lists none.
    pub macs: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Power {
    On,
    Off,
    /// On its way; neither may be assumed.
    Changing,
}

/// What the boot services saw since the current plan was published.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BootFacts {
    /// The operation whose plan is published.
    pub published: Option<String>,
    /// A DISCOVER of this host's boot MAC that we answered (leased) last.
    pub leased_at: Option<Timestamp>,
    /// A DISCOVER of this host's boot MAC that we had to drop last: when, and why in words.
    pub dropped: Option<(Timestamp, String)>,
    /// The boot script was fetched.
    pub script_at: Option<Timestamp>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentFacts {
    /// The operation whose boot plan brought this agent up.
    pub operation: String,
    /// The last heartbeat; `None` until the first.
    pub heartbeat_at: Option<Timestamp>,
    /// What it found, when it was asked to inspect.
    pub inventory: Option<HardwareDetails>,
    /// Devices that HardwareDetails has no field for, by resource name, e.g. `nvidia.com/gpu: 8`.
    #[serde(default)]
    pub devices: BTreeMap<String, u64>,
    /// What it says went wrong during inspection.
    pub inspection_error: Option<String>,
    pub job: Option<JobFacts>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobFacts {
    /// The operation id that the job was started with, plus its kind's name (`write`, `erase`, `power-off`).
    pub operation: String,
    pub kind: String,
    pub state: JobState,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum JobState {
    Running,
    Succeeded {
        /// Erase: per disk what was done and how much was read back.
        wiped: Vec<steelyard_api::metal3::WipedDisk>,
    },
    Failed {
        /// The agent's error type, e.g. `ImageChecksumError`, or ours, e.g. `ImageUnavailable`.
        kind: String,
        message: String,
    },
}

/// Which network the server is in, as the fabric says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FabricFacts {
    /// Networks (server clusters) that list the server.
    pub networks: Vec<String>,
    /// The switches carry what the management says.
    pub converged: bool,
    /// The fabric does not know the server, or one of its ports is not where the management says: in words,
    /// with MAC, port and network.
    pub mismatch: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeFacts {
    pub exists: bool,
    pub ready: bool,
    pub uid: Option<String>,
}

/// An image of the host's spec, as fetched by us.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ImageFacts {
    /// Here and verified.
    Ready {
        sha256: String,
        size: u64,
    },
    Fetching,
    /// 404, wrong checksum, unsupported format ...: the text names the URL and the fix.
    Failed {
        message: String,
        at: Timestamp,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Slots {
    pub free: bool,
}

/// What a site has decided; flags of the controller, never read by the core from anywhere else.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Policy {
    /// The network that servers are inspected, written and wiped in (Netris: a server cluster).
    pub home_network: Option<String>,
    /// Wipe metadata only between users (a site's opt-out of the full wipe).
    pub metadata_clean: bool,
    pub backoff: crate::backoff::Backoff,
    /// From power-on to the agent's inventory.
    pub inspect_within: SignedDuration,
    /// From power-on to the agent's heartbeat.
    pub agent_within: SignedDuration,
    pub write_within: SignedDuration,
    pub erase_within: SignedDuration,
    pub power_within: SignedDuration,
    pub fabric_within: SignedDuration,
    pub join_within: SignedDuration,
    /// How often the BMC of a host in a steady state is asked.
    pub bmc_poll: SignedDuration,
    /// How often the BMC and the fabric are asked while something is awaited of them.
    pub bmc_watch: SignedDuration,
    /// After so many failed deployments of one image no more are tried until it changes; 0 = no limit.
    pub max_provisioning_retries: u32,
}
