//! Everything that we may ask of the world, as data.
//!
//! **No intent is an edge.** An intent is a level ("the power is off", "the port is in this network"),
//! safe to repeat, or a job with an operation id that was saved before. Order across devices exists only
//! through observation: a power cycle is "off", observed, then "on".

use ipnet::Ipv4Net;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;
use steelyard_api::metal3;

/// What a host's decision may ask; at most one intent per device.
#[allow(
    clippy::large_enum_variant,
    reason = "a decision holds at most one of each, and briefly"
)]
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum HostIntent {
    Bmc(BmcIntent),
    Boot(BootIntent),
    Fabric(Attachment),
    Agent(AgentTask),
    Image(ImageWanted),
}

/// What the BMC shall bring about. `deadline`: a stale leader must not act after it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum BmcIntent {
    PowerOn,
    /// Off at once.
    ForceOff,
    /// Ask the operating system to shut down.
    SoftOff,
    /// The device of the next boot.
    BootFrom(BootDevice),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum BootDevice {
    /// The network, once.
    NetworkOnce,
    /// The disk, for good.
    Disk,
}

/// What our boot services shall answer to this host. Both are levels: published again after a restart.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum BootIntent {
    Publish(BootPlan),
    Retract,
}

/// How a host boots from the network into the deploy agent.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BootPlan {
    /// The operation that this boot serves; facts that the boot services report carry it.
    pub operation: String,
    pub purpose: BootPurpose,
    pub mac: String,
    pub address: Ipv4Net,
    pub gateway: Option<Ipv4Addr>,
    pub dns: Vec<Ipv4Addr>,
    pub ntp: Vec<Ipv4Addr>,
    /// The host object's uid: the node uuid of the agent protocol.
    pub node_uuid: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum BootPurpose {
    /// Inventory only.
    Inspect,
    /// The agent stays and takes commands (write, erase).
    Deploy,
}

/// Which network all ports of a server shall be in. `network: None` = in none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Attachment {
    pub server: String,
    pub network: Option<NetworkName>,
}

/// A network as the fabric's management names it (Netris: a server cluster).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkName {
    pub name: String,
    /// Make it from the site's tenant template if it is not there.
    pub create: bool,
}

/// A job for the agent on this host.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentTask {
    pub operation: String,
    pub job: AgentJob,
    /// Not started after this time.
    pub deadline: Timestamp,
}

#[allow(
    clippy::large_enum_variant,
    reason = "a decision holds at most one of each, and briefly"
)]
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum AgentJob {
    /// Erase every disk and verify it.
    Erase { metadata_only: bool },
    /// Write the image, then the config drive.
    Write {
        image: metal3::Image,
        root_device_hints: Option<metal3::RootDeviceHints>,
        user_data: Option<metal3::SecretReference>,
        network_data: Option<metal3::SecretReference>,
        meta_data: Option<metal3::SecretReference>,
    },
    /// Flush the disks and power the server off.
    PowerOff,
}

/// An image that shall be fetched, verified and served to agents.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageWanted {
    pub image: metal3::Image,
}
