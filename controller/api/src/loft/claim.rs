//! NodeClaim, called Machine on the platform's page: somebody wants one server.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Other, Owner, Phase, Properties};
use crate::condition::Condition;
use crate::crds::{Column, Described};
use crate::kind::kind;
use crate::metal3::Taint;
use crate::quantity::Quantity;
use crate::schema::is_default;
use crate::words::words;

kind! {
    /// The wish for one machine, and the machine that it got.
    pub struct NodeClaim("storage.loft.sh" / "v1", "nodeclaims", NamespaceResourceScope) {
        spec: NodeClaimSpec,
        status: NodeClaimStatus,
    }
}

impl Described for NodeClaim {
    const SHORT_NAMES: &'static [&'static str] = &[];
    const COLUMNS: &'static [Column] = &[
        Column::new("Type", "string", ".spec.typeRef").about("The type that was chosen"),
        Column::new("Host", "string", ".status.bareMetalHost.name").about("The server that it got"),
        Column::new("Phase", "string", ".status.phase"),
        Column::new("Tenant", "string", ".spec.vClusterRef").wide(),
        Column::new("Address", "string", ".status.address.address").wide(),
        Column::new("Message", "string", ".status.message").wide(),
        Column::AGE,
    ];
    const ABOUT: &'static str = "The wish for one machine, and the machine that it got.";
}

/// Condition types.
pub mod condition {
    pub const SCHEDULED: &str = "Scheduled";
    pub const PROVISIONED: &str = "Provisioned";
    pub const JOINED: &str = "Joined";
    pub const NOT_DRIFTED: &str = "NotDrifted";
    pub const DESTROYED: &str = "Destroyed";
    pub const PREFERRED_DELETION: &str = "PreferredDeletion";
    pub const READY: &str = "Ready";
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeClaimSpec {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<Owner>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider_ref: Option<String>,
    /// The NodeType: written by whoever asks for one, else by the controller when it has chosen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub type_ref: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment_ref: Option<String>,
    #[serde(skip_serializing_if = "Properties::is_empty")]
    pub properties: Properties,
    /// Name of the VirtualClusterInstance, in the same namespace, that the machine joins. Absent: it joins none.
    #[serde(rename = "vClusterRef", skip_serializing_if = "Option::is_none")]
    pub vcluster_ref: Option<String>,
    pub control_plane: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub taints: Vec<Taint>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub startup_taints: Vec<Taint>,
    #[serde(skip_serializing_if = "is_default")]
    #[schemars(schema_with = "crate::schema::any_object")]
    pub kubelet_args: BTreeMap<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile_ref: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub desired_capacity: BTreeMap<String, Quantity>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub requirements: Vec<Requirement>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub power: Option<MachinePower>,
    #[serde(flatten)]
    pub other: Other,
}

words! {
    #[derive(Default)]
    pub enum RequirementOperator {
        #[default]
        In = "In",
        NotIn = "NotIn",
        Exists = "Exists",
        DoesNotExist = "DoesNotExist",
        NotExists = "NotExists",
        Gt = "Gt",
        Lt = "Lt",
    }
}

/// A condition on the properties of the type.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(extend("required" = ["key"]))]
pub struct Requirement {
    pub key: String,
    /// In where absent.
    pub operator: RequirementOperator,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
    #[serde(flatten)]
    pub other: Other,
}

words! {
    pub enum PowerState { On = "On", Off = "Off", }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct MachinePower {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<PowerState>,
    #[serde(flatten)]
    pub other: Other,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeClaimStatus {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What is waited for, or what is wrong, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// The server that the claim has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bare_metal_host: Option<HostReference>,
    /// The address of the machine in its tenant's network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<AllocatedAddress>,
    /// The network that the machine's ports join; absent: they stay where they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkReference>,
    /// The rule that decided last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    #[serde(flatten)]
    pub other: Other,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct HostReference {
    pub namespace: String,
    pub name: String,
    pub uid: String,
}

/// An address out of a pool, with what the machine needs to use it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct AllocatedAddress {
    /// As CIDR: the address and the length of its network's prefix.
    pub address: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
}

/// A network as the fabric's management names it (Netris: a server cluster).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct NetworkReference {
    pub name: String,
    /// It is this tenant's own, and made where it is missing; else it has to be there.
    pub create: bool,
}
