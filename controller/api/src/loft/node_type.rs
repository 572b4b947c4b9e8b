//! NodeType: one shape of machine that can be asked for, what it costs and how many there are.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Other, Phase, Properties, Requirement};
use crate::condition::Condition;
use crate::crds::{Column, Described};
use crate::kind::kind;
use crate::quantity::Quantity;

kind! {
    /// One shape of machine. Made by its provider; the name is unique in the whole cluster.
    pub struct NodeType("storage.loft.sh" / "v1", "nodetypes", ClusterResourceScope) {
        spec: NodeTypeSpec,
        status: NodeTypeStatus,
    }
}

impl Described for NodeType {
    const SHORT_NAMES: &'static [&'static str] = &[];
    const COLUMNS: &'static [Column] = &[
        Column::new("Provider", "string", ".spec.providerRef"),
        Column::new("Available", "integer", ".status.capacity.available")
            .about("Hosts that a claim could take now"),
        Column::new("Claimed", "integer", ".status.capacity.claimed").about("Hosts that claims have"),
        Column::new("Total", "integer", ".status.capacity.total").about("Hosts that match"),
        Column::new("Cost", "integer", ".status.cost").wide(),
        Column::new("Phase", "string", ".status.phase"),
        Column::AGE,
    ];
    const ABOUT: &'static str = "One shape of machine: its resources, its cost, and how many there are.";
}

/// Condition types.
pub mod condition {
    pub const SYNCED: &str = "Synced";
    pub const HAS_CAPACITY: &str = "HasCapacity";
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeTypeSpec {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider_ref: Option<String>,
    #[serde(skip_serializing_if = "Properties::is_empty")]
    pub properties: Properties,
    /// What a machine of this type offers.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub resources: BTreeMap<String, Quantity>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overhead: Option<Overhead>,
    /// Compared with other types; made from the resources where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<i64>,
    /// Which hosts are of this type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bare_metal_hosts: Option<BareMetalHostsSelector>,
    #[serde(flatten)]
    pub other: Other,
}

/// What the node keeps for itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Overhead {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub kube_reserved: BTreeMap<String, Quantity>,
    #[serde(flatten)]
    pub other: Other,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct BareMetalHostsSelector {
    /// Over the labels of hosts in the provider's namespace. Absent or empty: every host.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::label_selector")]
    pub selector: Option<LabelSelector>,
    #[serde(flatten)]
    pub other: Other,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeTypeStatus {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capacity: Option<NodeCapacity>,
    /// What machines of this type satisfy, as schedulers ask for it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub requirements: Vec<Requirement>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    #[serde(flatten)]
    pub other: Other,
}

/// How many hosts match, and what they are doing. Newer platforms read total and claimed, older ones total,
/// available and provisioned: all are written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct NodeCapacity {
    #[schemars(schema_with = "count")]
    pub total: i64,
    #[schemars(schema_with = "count")]
    pub claimed: i64,
    #[schemars(schema_with = "count")]
    pub available: i64,
    #[schemars(schema_with = "count")]
    pub provisioned: i64,
}

fn count(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": "integer", "format": "int64" })
}
