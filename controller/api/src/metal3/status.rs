//! What is known of a host: Metal3's status, and the words that it is made of.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    BootMode, CustomDeploy, FirmwareConfig, HardwareDetails, Image, RaidConfig, RootDeviceHints,
    SecretReference, SteelyardStatus,
};
use crate::condition::Condition;
use crate::schema::is_default;
use crate::words::words;

words! {
    /// Where a host is in its life. Spelled exactly as Metal3 does: Cluster API compares these strings.
    #[derive(Default)]
    pub enum ProvisioningState {
        #[default]
        None = "",
        Unmanaged = "unmanaged",
        Registering = "registering",
        /// Legacy, read only.
        MatchProfile = "match profile",
        Preparing = "preparing",
        /// Legacy alias of available, read only.
        Ready = "ready",
        Available = "available",
        Provisioning = "provisioning",
        Provisioned = "provisioned",
        ExternallyProvisioned = "externally provisioned",
        Deprovisioning = "deprovisioning",
        Inspecting = "inspecting",
        PoweringOffBeforeDelete = "powering off before delete",
        Deleting = "deleting",
    }
}

words! {
    #[derive(Default)]
    pub enum OperationalStatus {
        #[default]
        None = "",
        Ok = "OK",
        Discovered = "discovered",
        Error = "error",
        Delayed = "delayed",
        Detached = "detached",
        Servicing = "servicing",
    }
}

words! {
    /// Metal3's list. `detach error` is written by Metal3's code but missing from its schema; it is in ours.
    pub enum ErrorType {
        ProvisionedRegistration = "provisioned registration error",
        Registration = "registration error",
        Inspection = "inspection error",
        Preparation = "preparation error",
        Provisioning = "provisioning error",
        PowerManagement = "power management error",
        Detach = "detach error",
        Servicing = "servicing error",
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" =
    ["errorCount", "errorMessage", "operationalStatus", "poweredOn", "provisioning", "provisioningFailCount"]))]
pub struct BareMetalHostStatus {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 32),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"])
    )]
    pub conditions: Vec<Condition>,
    /// Failures since the last success; the wait before the next try grows with it.
    #[schemars(schema_with = "crate::schema::default_zero")]
    pub error_count: i64,
    /// Empty when all is well.
    pub error_message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_type: Option<ErrorType>,
    /// The credentials that worked last.
    #[serde(skip_serializing_if = "is_default")]
    pub good_credentials: CredentialsStatus,
    /// The inventory. HardwareData holds the same; many readers look only here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hardware: Option<HardwareDetails>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hardware_profile: Option<String>,
    /// The image of the last try: another image starts the count of failures anew.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_attempted_image: Option<Image>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::time")]
    pub last_updated: Option<Time>,
    #[serde(skip_serializing_if = "is_default")]
    pub operation_history: OperationHistory,
    pub operational_status: OperationalStatus,
    /// Power as last observed.
    pub powered_on: bool,
    pub provisioning: ProvisionStatus,
    #[schemars(schema_with = "crate::schema::default_zero")]
    pub provisioning_fail_count: i64,
    /// The credentials that were sent last, whether they worked or not.
    #[serde(skip_serializing_if = "is_default")]
    pub tried_credentials: CredentialsStatus,
    /// Steelyard's own record: what could not be observed again after a crash.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steelyard: Option<SteelyardStatus>,
}

/// Which Secret, and which version of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct CredentialsStatus {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials: Option<SecretReference>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials_version: Option<String>,
}

/// When each step of the life was last taken.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct OperationHistory {
    #[serde(skip_serializing_if = "is_default")]
    pub register: OperationMetric,
    #[serde(skip_serializing_if = "is_default")]
    pub inspect: OperationMetric,
    #[serde(skip_serializing_if = "is_default")]
    pub provision: OperationMetric,
    #[serde(skip_serializing_if = "is_default")]
    pub deprovision: OperationMetric,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct OperationMetric {
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::nullable_time")]
    pub start: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::nullable_time")]
    pub end: Option<Time>,
}

/// The state, and the settings that were really applied.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["ID", "state"]))]
pub struct ProvisionStatus {
    /// The backend's id of this machine.
    #[serde(rename = "ID")]
    pub id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot_mode: Option<BootMode>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub custom_deploy: Option<CustomDeploy>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub firmware: Option<FirmwareConfig>,
    /// What is on the disk; absent or without URL: nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<Image>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub raid: Option<RaidConfig>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root_device_hints: Option<RootDeviceHints>,
    // Metal3's schema leaves the word free, so that a newer state does not fail a save.
    #[schemars(schema_with = "free_word")]
    pub state: ProvisioningState,
}

fn free_word(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": "string" })
}
