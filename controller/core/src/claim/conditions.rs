//! The summary of a claim's conditions: Ready, and the phase that the platform's page shows.

use jiff::Timestamp;
use steelyard_api::{
    ConditionStatus, Conditions,
    loft::{NodeClaim, NodeClaimStatus, Phase, claim_condition as condition},
};

/// Sets Ready and the phase from the other conditions.
pub(super) fn summarise(
    status: &mut NodeClaimStatus,
    claim: &NodeClaim,
    failed: Option<(&str, &str)>,
    off: bool,
    now: Timestamp,
) {
    let mut needed = vec![condition::SCHEDULED, condition::PROVISIONED];
    if claim.spec.vcluster_ref.is_some() {
        needed.push(condition::JOINED);
    }
    let missing = needed
        .iter()
        .find(|kind| !status.conditions.is_condition_true(kind));
    let missing = missing.map(|kind| match status.conditions.find_condition(kind) {
        Some(found) => (found.reason.clone(), found.message.clone()),
        None => (format!("Not{kind}"), format!("{kind} is not known yet")),
    });
    let verdict = match (failed, off, missing) {
        _ if claim.metadata.deletion_timestamp.is_some() => Some((
            "Deleting".to_owned(),
            "the machine is being given back".to_owned(),
        )),
        (Some((reason, message)), _, _) => Some((reason.to_owned(), message.to_owned())),
        (None, _, Some(missing)) => Some(missing),
        (None, true, None) => Some(("PoweredOff".to_owned(), "spec.power.state is Off".to_owned())),
        (None, false, None) => None,
    };
    let (state, reason, message) = match &verdict {
        None => (ConditionStatus::True, "Ready", ""),
        Some((reason, message)) => (ConditionStatus::False, reason.as_str(), message.as_str()),
    };
    status
        .conditions
        .set_condition(condition::READY, state, reason, message, now);
    status.phase = Some(match (&verdict, failed) {
        (None, _) => Phase::Available,
        (_, Some(_)) => Phase::Failed,
        _ => Phase::Pending,
    });
    status.reason = verdict.map(|(reason, _)| reason);
}
