//! NodeProvider: where machines come from. Steelyard acts on type `metal3` and keeps the others' fields.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{NodeTypeSpec, Other, Phase, Properties};
use crate::condition::Condition;
use crate::crds::{Column, Described};
use crate::kind::kind;
use crate::metal3::SecretReference;
use crate::schema::is_default;

kind! {
    /// A source of machines.
    pub struct NodeProvider("storage.loft.sh" / "v1", "nodeproviders", ClusterResourceScope) {
        spec: NodeProviderSpec,
        status: NodeProviderStatus,
    }
}

impl Described for NodeProvider {
    const SHORT_NAMES: &'static [&'static str] = &[];
    const COLUMNS: &'static [Column] = &[
        Column::new("Namespace", "string", ".spec.metal3.clusterRef.namespace").about("Where its hosts are"),
        Column::new("Phase", "string", ".status.phase"),
        Column::new("Message", "string", ".status.message").wide(),
        Column::AGE,
    ];
    const ABOUT: &'static str = "A source of machines, with the types that it offers.";
}

/// Condition types.
pub mod condition {
    pub const INITIALIZED: &str = "Initialized";
    pub const DEPLOYED: &str = "Deployed";
    pub const SYNCED: &str = "Synced";
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeProviderSpec {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    #[serde(skip_serializing_if = "Properties::is_empty")]
    pub properties: Properties,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metal3: Option<Metal3Provider>,
    #[serde(flatten)]
    pub other: Other,
}

/// Bare metal, as BareMetalHosts in one namespace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Metal3Provider {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster_ref: Option<ClusterReference>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deploy: Option<Deploy>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub node_types: Vec<NamedNodeType>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub netris: Option<Netris>,
    #[serde(flatten)]
    pub other: Other,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ClusterReference {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    #[serde(flatten)]
    pub other: Other,
}

/// What the platform would install. Steelyard brings these parts itself; the fields are read and kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Deploy {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub multus: Option<DeployComponent>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metal3: Option<DeployComponent>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dhcp: Option<DeployComponent>,
    #[serde(flatten)]
    pub other: Other,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct DeployComponent {
    pub enabled: bool,
    #[serde(skip_serializing_if = "is_default")]
    pub helm_values: String,
    #[serde(flatten)]
    pub other: Other,
}

/// The Netris controller that moves this provider's servers between networks.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Netris {
    /// A Secret with `url`, `username` and `password`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretReference>,
    #[serde(flatten)]
    pub other: Other,
}

/// A type as it stands in its provider: the fields of a NodeType, and its name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(extend("required" = ["name"]))]
pub struct NamedNodeType {
    pub name: String,
    #[serde(flatten)]
    pub spec: NodeTypeSpec,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeProviderStatus {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    #[serde(flatten)]
    pub other: Other,
}
