//! What a provider offers (NodeProvider): its NodeTypes as objects of their own, and how many hosts each has.
//!
//! Two functions, because they are two statuses: [`decide`] writes the types that the provider lists, and
//! [`type_status`] says of one type what it costs and how many of its hosts are free.

mod capacity;
mod types;

pub use capacity::type_status;

use crate::{Decision, Moment, Notice, Rule, claim};
use std::convert::Infallible;
use steelyard_api::{
    ConditionStatus, Conditions,
    loft::{NodeProvider, NodeProviderStatus, NodeType, Phase, provider_condition as condition},
};

/// Everything that a decision about a provider may look at.
#[derive(Clone, Debug)]
pub struct ProviderView<'a> {
    pub provider: &'a NodeProvider,
    /// Every NodeType of the cluster: names are unique across providers.
    pub types: Vec<&'a NodeType>,
}

/// Decides about one provider. Total, deterministic, never panics.
pub fn decide(view: &ProviderView<'_>, at: Moment) -> Decision<NodeProviderStatus, Infallible> {
    let mut decision = Decision::settled(
        Rule("provider.synced"),
        view.provider.status.clone().unwrap_or_default(),
    );
    let mut conditions = std::mem::take(&mut decision.status.conditions);
    let mut set = |kind: &str, problem: Option<(&'static str, String)>, fine: &str| {
        let (status, reason, message) = match problem {
            None => (ConditionStatus::True, fine, String::new()),
            Some((reason, message)) => (ConditionStatus::False, reason, message),
        };
        let known = conditions
            .find_condition(kind)
            .is_some_and(|c| c.reason == reason && c.message == message);
        conditions.set_condition(kind, status, reason, &message, at.now);
        (status == ConditionStatus::False).then_some((kind.to_owned(), reason.to_owned(), message, known))
    };
    let sane = types::check(view.provider);
    let initialized = set(condition::INITIALIZED, sane.err(), "Valid");
    let mut synced = None;
    let mut deployed = None;
    if initialized.is_none() {
        // DHCP, boot services and host lifecycles are the controller itself: where it decides, they run.
        deployed = set(condition::DEPLOYED, None, "ServedByController");
        let plan = types::plan(view);
        decision.rule = Rule(if plan.writes.is_empty() {
            "provider.synced"
        } else {
            "provider.types"
        });
        decision.writes = plan.writes;
        synced = set(condition::SYNCED, plan.clash, "TypesWritten");
    } else {
        decision.rule = Rule("provider.invalid");
    }
    let trouble = initialized.or(deployed).or(synced);
    decision.status.phase = Some(if trouble.is_some() {
        Phase::Failed
    } else {
        Phase::Available
    });
    decision.status.reason = trouble.as_ref().map(|(_, reason, _, _)| reason.clone());
    decision.status.message = trouble.as_ref().map(|(_, _, message, _)| message.clone());
    if let Some((kind, _, message, known)) = trouble
        && !known
    {
        let reason = if kind == condition::SYNCED {
            "NodeTypeClash"
        } else {
            "ProviderInvalid"
        };
        decision.events.push(Notice::warning(reason, message));
    }
    decision.status.conditions = conditions;
    decision
}

/// The namespace that a provider's hosts are in.
pub fn namespace_of(provider: &NodeProvider) -> Option<&str> {
    claim::provider_namespace(provider)
}
