//! Everything that a decision about a claim may look at, and what it may ask for.

use super::address::AddressHolder;
use crate::{Observed, host::view::NodeFacts, intent::NetworkName};
use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, net::Ipv4Addr};
use steelyard_api::{
    loft::{
        AllocatedAddress, HostReference, NodeClaim, NodeEnvironment, NodeProvider, NodeType, OSImage,
        Properties,
    },
    metal3::BareMetalHost,
};

#[derive(Clone, Debug)]
pub struct ClaimView<'a> {
    pub claim: &'a NodeClaim,
    /// Every provider, type and OSImage of the cluster; the environments of the claim's namespace.
    pub providers: Vec<&'a NodeProvider>,
    pub types: Vec<&'a NodeType>,
    pub environments: Vec<&'a NodeEnvironment>,
    pub images: Vec<&'a OSImage>,
    /// Every host, of every namespace.
    pub hosts: Vec<&'a BareMetalHost>,
    /// Addresses that others have: [`super::addresses_in_use`].
    pub addresses: BTreeMap<Ipv4Addr, AddressHolder>,
    /// The tenant that the claim names; `None`: there is no such VirtualClusterInstance.
    pub tenant: Option<TenantFacts>,
    /// This site has a fabric to drive: tenants have networks of their own.
    pub fabric: bool,
    /// The network that the claim's machine joins ([`super::Effective::network`]).
    pub network: Observed<NetworkFacts>,
    /// The Secrets made for the claim's machine.
    pub rendered: Observed<RenderFacts>,
    /// The node in the tenant's cluster.
    pub node: Observed<NodeFacts>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TenantFacts {
    /// Its kubeconfig is there, so that nodes can be given a way in.
    pub reachable: bool,
}

/// A network as the fabric's management describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NetworkFacts {
    /// Which network: a claim that would join another one has to ask again.
    pub name: String,
    /// The gateway with the length of the prefix, e.g. 10.100.1.1/24. `None`: the network has no gateway.
    pub gateway: Option<Ipv4Net>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RenderFacts {
    Absent,
    /// The Secrets are there, made for this [`RenderPlan::key`].
    Ready {
        key: String,
    },
    /// A template, a key or a token is missing: the text names it and says what to do.
    Failed {
        key: String,
        message: String,
    },
}

/// What a claim's decision may ask of the world. All are levels.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(
    clippy::large_enum_variant,
    reason = "one at a time, made and consumed in one pass"
)]
pub enum ClaimIntent {
    /// The network is there, so that its gateway can be asked for.
    Network(NetworkName),
    /// The Secrets are there and say this.
    Render(RenderPlan),
    /// The node is not in its tenant's cluster any more: cordoned, its pods evicted, then deleted. Its join token
    /// is good for nothing.
    RemoveNode(NodeRemoval),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeRemoval {
    /// The VirtualClusterInstance, in the claim's namespace.
    pub tenant: String,
    pub node: String,
    /// Don't wait for pods that will not go.
    pub force: bool,
}

/// What goes into user data and network data. An executor writes them, because they hold a token that lets a node
/// into its tenant.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RenderPlan {
    /// For whom: [`RenderFacts`] carry it back, and the Secrets in annotation `steelyard.dev/rendered-for`.
    pub key: String,
    pub host: HostReference,
    /// In the host's namespace.
    pub user_data_secret: String,
    /// `None`: the machine finds its address itself.
    pub network_data_secret: Option<String>,
    pub properties: Properties,
    pub address: Option<AllocatedAddress>,
    /// The VirtualClusterInstance that the node joins, in the claim's namespace.
    pub tenant: Option<String>,
    /// The node's name in its tenant.
    pub node_name: String,
}
