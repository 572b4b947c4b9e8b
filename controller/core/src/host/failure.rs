//! Failures: recorded, told once, tried again with backoff, or blocked until somebody changes something.

use super::{
    pass::{Flow, Pass},
    step::Step,
};
use crate::{Observed, Question, Rule};
use jiff::SignedDuration;
use steelyard_api::metal3::{ErrorType, OperationalStatus, ProvisioningState as State};

/// Metal3's event for an error type.
fn reason(kind: ErrorType) -> &'static str {
    match kind {
        ErrorType::ProvisionedRegistration => "ProvisionedRegistrationError",
        ErrorType::Registration => "RegistrationError",
        ErrorType::Inspection => "InspectionError",
        ErrorType::Preparation => "PreparationError",
        ErrorType::Provisioning => "ProvisioningError",
        ErrorType::PowerManagement => "PowerManagementError",
        ErrorType::Detach => "DetachError",
        ErrorType::Servicing => "ServicingError",
        ErrorType::Unknown => "Error",
    }
}

/// The error type for trouble with the BMC, which has two names.
pub(super) fn bmc_error(state: State) -> ErrorType {
    match state {
        State::Provisioned | State::ExternallyProvisioned => ErrorType::ProvisionedRegistration,
        _ => ErrorType::Registration,
    }
}

/// Records a failure that is tried again, from a clean step, after a backoff that grows with `errorCount`.
pub(super) fn fail(p: &mut Pass<'_>, rule: &'static str, kind: ErrorType, message: String) -> Rule {
    record(p, kind, &message);
    let attempt = u32::try_from(p.status.error_count).unwrap_or(u32::MAX);
    let retry_at = p.at.after(p.policy.backoff.delay(attempt, p.at.jitter));
    let generation = p.host().metadata.generation;
    let own = p.own();
    own.retry_at = Some(retry_at);
    own.failed_generation = generation;
    // The step stays, for readers; without its operation it starts anew.
    own.operation = None;
    p.forget_intents();
    p.warn(reason(kind), message);
    waiting(p, rule)
}

/// Records a failure that time alone can't mend: the message says what will. Said once, however often it is found.
pub(super) fn blocked(
    p: &mut Pass<'_>,
    rule: &'static str,
    kind: ErrorType,
    event: Option<&'static str>,
    message: String,
) -> Rule {
    let known = p.status.error_type == Some(kind) && p.status.error_message == message;
    if !known {
        record(p, kind, &message);
        p.warn(event.unwrap_or(reason(kind)), message.clone());
    }
    p.status.operational_status = OperationalStatus::Error;
    p.own().retry_at = None;
    p.forget_intents();
    p.wait(rule, message)
}

fn record(p: &mut Pass<'_>, kind: ErrorType, message: &str) {
    p.status.error_count = p.status.error_count.saturating_add(1);
    p.status.error_type = Some(kind);
    p.status.error_message = message.to_owned();
    p.status.operational_status = OperationalStatus::Error;
}

fn waiting(p: &mut Pass<'_>, rule: &'static str) -> Rule {
    let message = p.status.error_message.clone();
    let retry_at = p.own().retry_at;
    match retry_at {
        Some(at) => {
            p.wake_at(at);
            // Whole seconds are enough for people.
            let at = at.round(jiff::Unit::Second).unwrap_or(at);
            p.wait(rule, format!("{message} (next try at {at})"))
        }
        None => p.wait(rule, message),
    }
}

/// Stops the pass until the backoff of the last failure is over, or its spec was edited.
pub(super) fn backoff(p: &mut Pass<'_>) -> Flow {
    let generation = p.host().metadata.generation;
    let now = p.at.now;
    let own = p.own();
    let Some(retry_at) = own.retry_at else {
        return Flow::Continue(());
    };
    let edited = own.failed_generation != generation;
    if now < retry_at && !edited && !came_home(p) {
        return Flow::Break(waiting(p, "failure.backoff"));
    }
    let own = p.own();
    own.retry_at = None;
    own.failed_generation = None;
    p.clear_step();
    if edited {
        p.status.error_count = 0;
    }
    Flow::Continue(())
}

/// What `flow` waits for must come within `limit` of the step's beginning, else it is a failure of `kind` that
/// says what was missing.
pub(super) fn within<T>(
    p: &mut Pass<'_>,
    limit: SignedDuration,
    kind: ErrorType,
    rule: &'static str,
    flow: Flow<T>,
) -> Flow<T> {
    match flow {
        Flow::Break(waiting) if waiting.0 != rule && p.late(limit) => {
            let undone = p.step().map_or("the step was not done", Step::undone);
            let message = format!("{undone} within {} s: {}", limit.as_secs(), p.awaited());
            Flow::Break(fail(p, rule, kind, message))
        }
        other => other,
    }
}

/// A server that could not be seen in its home network is tried again as soon as it is seen there.
fn came_home(p: &mut Pass<'_>) -> bool {
    if p.step() != Some(Step::Home) || p.view.fabric.is_none() {
        return false;
    }
    p.ask(Question::Fabric, p.policy.bmc_poll);
    let home = p.own().home_network.clone();
    let facts = p.view.fabric.as_ref().and_then(Observed::known);
    facts.is_some_and(|f| {
        f.converged && f.mismatch.is_none() && f.networks.len() == 1 && f.networks.first() == home.as_ref()
    })
}
