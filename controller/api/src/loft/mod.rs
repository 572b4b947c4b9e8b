//! `storage.loft.sh/v1`: the platform's kinds, as far as Steelyard acts on them.
//!
//! What we don't use is kept, not refused: users' files come from newer and older platforms. Specs therefore
//! carry an `other` map, and their schemas preserve unknown fields. `management.loft.sh/v1` is the same objects
//! with another group ([`management`]).

mod assets;
mod claim;
mod common;
mod environment;
pub mod management;
mod node_type;
mod profile;
mod properties;
mod provider;
mod vcluster_config;
mod virtual_cluster;

pub use assets::{
    MachineConfigTemplate, MachineConfigTemplateSpec, OSImage, OSImageSpec, SSHKey, SSHKeySpec,
};
pub use claim::{
    AllocatedAddress, HostReference, MachinePower, NetworkReference, NodeClaim, NodeClaimSpec,
    NodeClaimStatus, PowerState, Requirement, RequirementOperator, condition as claim_condition,
};
pub use common::{Other, Owner, Phase, VirtualClusterReference};
pub use environment::{NodeEnvironment, NodeEnvironmentSpec, NodeEnvironmentStatus};
pub use node_type::{
    BareMetalHostsSelector, NodeCapacity, NodeType, NodeTypeSpec, NodeTypeStatus, Overhead,
    condition as node_type_condition,
};
pub use profile::{NodeProfile, NodeProfileSpec};
pub use properties::{Properties, lenient_properties};
pub use provider::{
    ClusterReference, Deploy, DeployComponent, Metal3Provider, NamedNodeType, Netris, NodeProvider,
    NodeProviderSpec, NodeProviderStatus, condition as provider_condition,
};
pub use vcluster_config::{AutoNodes, ConfigError, SelectorTerm, StaticPool, VclusterConfig};
pub use virtual_cluster::{
    HelmChart, HelmRelease, VirtualClusterInstance, VirtualClusterInstanceSpec, VirtualClusterInstanceStatus,
    VirtualClusterTemplate, condition as virtual_cluster_condition,
};
