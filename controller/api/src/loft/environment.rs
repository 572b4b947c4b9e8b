//! NodeEnvironment: properties that the machines of a tenant share.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Other, Phase, Properties};
use crate::condition::Condition;
use crate::crds::{Column, Described};
use crate::kind::kind;

kind! {
    /// Properties that several claims share, named by `spec.environmentRef` or by a property.
    pub struct NodeEnvironment("storage.loft.sh" / "v1", "nodeenvironments", NamespaceResourceScope) {
        spec: NodeEnvironmentSpec,
        status: NodeEnvironmentStatus,
    }
}

impl Described for NodeEnvironment {
    const SHORT_NAMES: &'static [&'static str] = &[];
    const COLUMNS: &'static [Column] = &[
        Column::new("Provider", "string", ".spec.providerRef"),
        Column::new("Phase", "string", ".status.phase"),
        Column::AGE,
    ];
    const ABOUT: &'static str = "Properties that the machines of one tenant share.";
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeEnvironmentSpec {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider_ref: Option<String>,
    #[serde(skip_serializing_if = "Properties::is_empty")]
    pub properties: Properties,
    #[serde(rename = "vClusterRef", skip_serializing_if = "Option::is_none")]
    pub vcluster_ref: Option<String>,
    #[serde(flatten)]
    pub other: Other,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeEnvironmentStatus {
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
