//! The lifecycle of a claim (NodeClaim): one server for somebody, until they give it back.
//!
//! ```text
//! finalizer -> image and tenant known -> network there -> choose: type and host, written down in the status
//!    -> bind: one compare-and-swap on the host (consumerRef, labels, addresses, restore record)
//!    -> render: user data and network data in Secrets -> install: image, Secrets and online on the host
//!    -> follow the host: Provisioned, Joined, Ready -> power and reboots as asked
//! deleted -> release: image and data off the host -> the host wipes itself and restores what it was -> finalizer
//! ```
//!
//! A claim and its host decide apart and meet in the host object. Which host a claim has is what the host says
//! (`consumerRef`), never what the claim's status remembers. [`vci`] keeps a tenant's static pools of claims.

mod address;
mod bind;
mod choose;
mod conditions;
mod eligible;
mod follow;
mod pass;
mod properties;
mod release;
mod requirement;
pub mod vci;
pub mod view;

pub use address::{AddressHolder, addresses_in_use};
pub use eligible::{holder, is_held_by, unavailable};
pub use properties::{Effective, PropertyError, effective, image, type_properties};
pub use release::free_orphan;
pub use view::{ClaimIntent, ClaimView, NetworkFacts, NodeRemoval, RenderFacts, RenderPlan, TenantFacts};

use crate::{Decision, Moment};
use pass::Pass;
use steelyard_api::loft::{NodeClaimStatus, NodeType};

pub use choose::cost;
pub(crate) use choose::{by_number, namespace_of as provider_namespace, selector_of as type_selector};

/// Decides about one claim. Total, deterministic, never panics.
pub fn decide(view: &ClaimView<'_>, at: Moment) -> Decision<NodeClaimStatus, ClaimIntent> {
    let mut pass = Pass::new(view, at);
    let rule = match (pass.deleting(), pass.held()) {
        (true, held) => release::release(&mut pass, held),
        (false, Some(host)) => follow::follow(&mut pass, host),
        (false, None) => bind::bind(&mut pass),
    };
    pass.finish(rule)
}

/// Whether a NodeType is made of resources that are given only to those who ask for them.
pub fn is_special(node_type: &NodeType) -> bool {
    node_type
        .spec
        .resources
        .iter()
        .any(|(name, amount)| steelyard_api::names::resource::is_custom(name) && !amount.is_zero())
}
