//! What the suite runs against, as far as it may know.

use futures::future::BoxFuture;
use serde::Serialize;
use std::path::PathBuf;

/// What a target may claim to be able to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Feature {
    /// NodeProvider, NodeType, NodeClaim, VirtualClusterInstance.
    Platform,
    /// Tenants have networks of their own, and servers are moved between them.
    Isolation,
    /// `status.steelyard.wipe`: evidence of the erasure.
    WipeEvidence,
}

/// What the suite may use on a target beside its Kubernetes API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Capability {
    /// A look into the fabric: which networks a server's ports are in, and power, at any time.
    Taps,
    /// A look at raw disk blocks.
    Disks,
    /// Servers may be wiped, handed to a tenant, and deleted.
    Destructive,
    /// Two servers more than the story needs: they are registered with mistakes.
    Spares,
}

impl Feature {
    pub fn as_str(self) -> &'static str {
        match self {
            Feature::Platform => "platform",
            Feature::Isolation => "isolation",
            Feature::WipeEvidence => "wipe-evidence",
        }
    }
}

impl Capability {
    pub fn as_str(self) -> &'static str {
        match self {
            Capability::Taps => "taps",
            Capability::Disks => "disks",
            Capability::Destructive => "destructive",
            Capability::Spares => "spares",
        }
    }
}

/// What a target says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TargetInfo {
    pub name: String,
    pub features: Vec<Feature>,
    pub capabilities: Vec<Capability>,
}

/// A server to test with: its Secret and BareMetalHost as an owner writes them.
#[derive(Clone, Debug)]
pub struct Server {
    pub name: String,
    pub namespace: String,
    pub secret: serde_json::Value,
    pub host: serde_json::Value,
}

/// What a tap says of a server now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TapSample {
    pub powered_on: bool,
    /// Networks that its ports are in, as the switches have it.
    pub networks: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    #[error("{0}")]
    Broken(String),
    #[error("the Kubernetes API: {0}")]
    Kubernetes(#[from] Box<kube::Error>),
}

impl From<kube::Error> for TargetError {
    fn from(error: kube::Error) -> Self {
        TargetError::Kubernetes(Box::new(error))
    }
}

/// A target: an embedded lab, or any cluster with any BareMetalHost controller.
pub trait Target: Send + Sync {
    fn info(&self) -> TargetInfo;
    fn kube(&self) -> kube::Client;
    /// Servers that the suite may use, not registered yet.
    fn servers(&self) -> BoxFuture<'_, Result<Vec<Server>, TargetError>>;
    /// YAML files that make a provider, an image and a tenant named `one` with one static node in `p-default`.
    fn platform_files(&self) -> Vec<PathBuf>;
    /// A client for the cluster of tenant `one`, once it is up.
    fn tenant(&self) -> BoxFuture<'_, Result<Option<kube::Client>, TargetError>>;
    /// With [`Capability::Taps`].
    fn tap(&self, _server: &str) -> Option<TapSample> {
        None
    }
    /// With [`Capability::Disks`]: whether any raw block of the server's disks holds these bytes.
    fn disks_hold(&self, _server: &str, _needle: &[u8]) -> Option<bool> {
        None
    }
}
