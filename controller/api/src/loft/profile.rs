//! NodeProfile: labels, annotations and taints that nodes keep.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Other;
use crate::crds::{Column, Described, NoStatus};
use crate::kind::kind;
use crate::metal3::Taint;

kind! {
    /// What the nodes of a pool carry.
    pub struct NodeProfile("storage.loft.sh" / "v1", "nodeprofiles", ClusterResourceScope) {
        spec: NodeProfileSpec,
        status: NoStatus,
    }
}

impl Described for NodeProfile {
    const SHORT_NAMES: &'static [&'static str] = &[];
    const COLUMNS: &'static [Column] = &[Column::AGE];
    const HAS_STATUS: bool = false;
    const ABOUT: &'static str = "Labels, annotations and taints that nodes keep.";
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeProfileSpec {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub node_labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub node_annotations: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub taints: Vec<Taint>,
    /// Set once, gone when the node is Ready.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub startup_taints: Vec<Taint>,
    #[serde(flatten)]
    pub other: Other,
}
