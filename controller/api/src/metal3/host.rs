//! BareMetalHost: what an operator wants of one server.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    AutomatedCleaningMode, BareMetalHostStatus, BootMode, CustomDeploy, Image, ObjectReference, RaidConfig,
    RootDeviceHints, SecretReference, Taint,
};
use crate::crds::{Column, Described};
use crate::kind::kind;
use crate::schema::{MAC, is_default};
use crate::words::words;

kind! {
    /// One physical server.
    pub struct BareMetalHost("metal3.io" / "v1alpha1", "baremetalhosts", NamespaceResourceScope) {
        spec: BareMetalHostSpec,
        status: BareMetalHostStatus,
    }
}

impl Described for BareMetalHost {
    const SHORT_NAMES: &'static [&'static str] = &["bmh", "bmhost"];
    const COLUMNS: &'static [Column] = &[
        Column::new("Status", "string", ".status.operationalStatus")
            .about("Operational status")
            .wide(),
        Column::new("State", "string", ".status.provisioning.state").about("Provisioning state"),
        Column::new("Consumer", "string", ".spec.consumerRef.name").about("Who uses the host"),
        Column::new("BMC", "string", ".spec.bmc.address")
            .about("Address of the BMC")
            .wide(),
        Column::new("Online", "string", ".spec.online").about("Whether it should be powered on"),
        Column::new("Error", "string", ".status.errorType").about("Kind of the last error"),
        Column::AGE.about("Time since creation"),
    ];
    const ABOUT: &'static str = "One physical server and what is wanted of it.";
}

words! {
    /// How the inventory is found.
    pub enum InspectionMode { Disabled = "disabled", Agent = "agent", Fast = "fast", }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct BareMetalHostSpec {
    /// CPU architecture; found by inspection where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub architecture: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-steelyard-default" = "metadata"))]
    pub automated_cleaning_mode: Option<AutomatedCleaningMode>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bmc: Option<BmcDetails>,
    /// The NIC that the server boots from over the network.
    #[serde(rename = "bootMACAddress", skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = MAC))]
    pub boot_mac_address: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot_mode: Option<BootMode>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consumer_ref: Option<ObjectReference>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub custom_deploy: Option<CustomDeploy>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Reboot instead of switching off.
    #[serde(skip_serializing_if = "is_default")]
    pub disable_power_off: bool,
    /// Only power and inventory are managed; what runs on it is somebody else's.
    #[serde(skip_serializing_if = "is_default")]
    pub externally_provisioned: bool,
    /// Deprecated, and without effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub firmware: Option<FirmwareConfig>,
    /// Deprecated: names a default for the root device hints.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hardware_profile: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<Image>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inspection_mode: Option<InspectionMode>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub meta_data: Option<SecretReference>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network_data: Option<SecretReference>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub network_interfaces: Vec<NetworkInterface>,
    /// Whether it should be powered on. Also the gate: nothing is written to a host that should be off.
    #[schemars(schema_with = "crate::schema::default_false")]
    pub online: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preprovisioning_network_data_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub raid: Option<RaidConfig>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root_device_hints: Option<RootDeviceHints>,
    /// Deprecated, and without effect.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub taints: Vec<Taint>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_data: Option<SecretReference>,
}

/// How to reach the BMC. An empty address together with an empty Secret name means: not managed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["address", "credentialsName"]))]
pub struct BmcDetails {
    /// A URL; its scheme picks the driver.
    pub address: String,
    /// A Secret of the same namespace with `username` and `password`.
    pub credentials_name: String,
    #[serde(skip_serializing_if = "is_default")]
    pub disable_certificate_verification: bool,
}

/// Deprecated BIOS switches.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct FirmwareConfig {
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = [true, false]))]
    pub simultaneous_multithreading_enabled: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = [true, false]))]
    pub sriov_enabled: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = [true, false]))]
    pub virtualization_enabled: Option<bool>,
}

/// One NIC and what its switch port should carry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct NetworkInterface {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_network_attachment: Option<HostNetworkAttachmentReference>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}$"))]
    pub mac_address: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^[a-zA-Z0-9._-]+$"))]
    pub name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub switch_port: Option<SwitchPort>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct HostNetworkAttachmentReference {
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub namespace: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(extend("required" = ["portID", "switchID"]))]
pub struct SwitchPort {
    #[serde(rename = "portID")]
    pub port_id: String,
    #[serde(rename = "switchID")]
    #[schemars(regex(pattern = "^[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}$"))]
    pub switch_id: String,
}
