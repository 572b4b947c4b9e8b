//! VirtualClusterInstance: a tenant cluster, and the nodes that it should have.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ConfigError, Other, Owner, Phase, VclusterConfig, VirtualClusterReference};
use crate::condition::Condition;
use crate::crds::{Column, Described};
use crate::kind::kind;
use crate::schema::is_default;

kind! {
    /// A tenant cluster.
    pub struct VirtualClusterInstance("storage.loft.sh" / "v1", "virtualclusterinstances", NamespaceResourceScope) {
        spec: VirtualClusterInstanceSpec,
        status: VirtualClusterInstanceStatus,
    }
}

impl Described for VirtualClusterInstance {
    const SHORT_NAMES: &'static [&'static str] = &["vci"];
    const COLUMNS: &'static [Column] = &[
        Column::new("Phase", "string", ".status.phase"),
        Column::new(
            "Ready",
            "string",
            r#".status.conditions[?(@.type=="Ready")].status"#,
        ),
        Column::new("Nodes", "string", ".status.nodes").about("Ready and wanted static nodes"),
        Column::new("Message", "string", ".status.message").wide(),
        Column::AGE,
    ];
    const ABOUT: &'static str = "A tenant cluster, and the nodes that it should have.";
}

/// Condition types.
pub mod condition {
    pub const READY: &str = "Ready";
    pub const CONFIG_VALID: &str = "ConfigValid";
    pub const CONTROL_PLANE_READY: &str = "ControlPlaneReady";
    pub const NODES_READY: &str = "NodesReady";
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct VirtualClusterInstanceSpec {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<Owner>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<VirtualClusterTemplate>,
    /// Where its control plane runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster_ref: Option<VirtualClusterReference>,
    #[serde(flatten)]
    pub other: Other,
}

impl VirtualClusterInstanceSpec {
    /// The parsed `template.helmRelease.values`; none are as good as empty ones.
    pub fn config(&self) -> Result<VclusterConfig, ConfigError> {
        VclusterConfig::parse(self.values())
    }

    /// The text of `template.helmRelease.values`.
    pub fn values(&self) -> &str {
        let release = self
            .template
            .as_ref()
            .and_then(|template| template.helm_release.as_ref());
        release.map_or("", |release| release.values.as_str())
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct VirtualClusterTemplate {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub helm_release: Option<HelmRelease>,
    #[serde(flatten)]
    pub other: Other,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct HelmRelease {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chart: Option<HelmChart>,
    /// A vcluster.yaml.
    #[serde(skip_serializing_if = "is_default")]
    pub values: String,
    #[serde(flatten)]
    pub other: Other,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct HelmChart {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    #[serde(flatten)]
    pub other: Other,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct VirtualClusterInstanceStatus {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// `ready/wanted` static nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nodes: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    #[serde(flatten)]
    pub other: Other,
}
