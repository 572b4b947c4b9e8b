//! Conditions: recomputed from the status at every pass, so that `kubectl wait` can be trusted.

use super::{network, view::HostView};
use crate::Observed;
use jiff::Timestamp;
use steelyard_api::{
    ConditionStatus, Conditions,
    metal3::{BareMetalHostStatus, ErrorType, OperationalStatus, ProvisioningState as State},
};

/// Ours, beside Metal3's: only on hosts that shall join a cluster.
pub(super) const JOINED: &str = "Joined";

pub(super) fn recompute(status: &mut BareMetalHostStatus, view: &HostView<'_>, now: Timestamp) {
    let state = status.provisioning.state;
    let waiting = status
        .steelyard
        .as_ref()
        .map(|s| s.message.clone())
        .unwrap_or_default();
    let error = status.error_message.clone();
    let detached = status.operational_status == OperationalStatus::Detached;
    let mut set = |kind: &str, (is, reason, message): (ConditionStatus, &str, &str)| {
        status.conditions.set_condition(kind, is, reason, message, now);
    };
    set("Manageable", manageable(state, status.error_type, &error));
    set(
        "AvailableForProvisioning",
        available(state, status.error_type, view),
    );
    let used = matches!(state, State::Provisioned | State::ExternallyProvisioned);
    set(
        "Provisioned",
        if used {
            yes("Provisioned", "")
        } else {
            no("NotProvisioned", "")
        },
    );
    set(
        "Ready",
        match (used, status.error_type) {
            _ if detached => no("Detached", &waiting),
            (_, Some(_)) => no("Error", &error),
            (true, None) => yes("Provisioned", ""),
            (false, None) => no("NotProvisioned", &waiting),
        },
    );
    set(
        "Progressing",
        match progress(state) {
            _ if detached => no("Detached", &waiting),
            Some(reason) => yes(reason, &waiting),
            None => no("NotProgressing", &waiting),
        },
    );
    set("Healthy", healthy(view));
}

fn yes<'a>(reason: &'a str, message: &'a str) -> (ConditionStatus, &'a str, &'a str) {
    (ConditionStatus::True, reason, message)
}

fn no<'a>(reason: &'a str, message: &'a str) -> (ConditionStatus, &'a str, &'a str) {
    (ConditionStatus::False, reason, message)
}

fn manageable(
    state: State,
    error: Option<ErrorType>,
    message: &str,
) -> (ConditionStatus, &'static str, &str) {
    match (state, error) {
        (_, Some(ErrorType::Registration | ErrorType::ProvisionedRegistration)) => {
            (ConditionStatus::False, "RegistrationFailed", message)
        }
        (_, Some(ErrorType::PowerManagement)) => (ConditionStatus::False, "PowerFailure", message),
        (State::None | State::Unmanaged, _) => (ConditionStatus::False, "NotManaged", ""),
        (State::Registering, _) => (ConditionStatus::False, "Registering", ""),
        _ => (ConditionStatus::True, "Registered", ""),
    }
}

fn available(
    state: State,
    error: Option<ErrorType>,
    view: &HostView<'_>,
) -> (ConditionStatus, &'static str, &'static str) {
    let held = view.host.spec.consumer_ref.is_some() || view.claim.is_some() || network::claimed(view.host);
    let leaving = view.host.metadata.deletion_timestamp.is_some();
    match state {
        State::Available | State::Ready if held && !broken!(OfferClaimed) => {
            (ConditionStatus::False, "Held", "the host has a consumer")
        }
        State::Available | State::Ready if leaving => {
            (ConditionStatus::False, "NotAvailable", "the host is deleted")
        }
        State::Available | State::Ready if error.is_some() => {
            (ConditionStatus::False, "Error", "the host has an error")
        }
        State::Available | State::Ready => (ConditionStatus::True, "Available", ""),
        _ => (ConditionStatus::False, "NotAvailable", ""),
    }
}

fn progress(state: State) -> Option<&'static str> {
    Some(match state {
        State::Registering => "Registering",
        State::Inspecting => "Inspecting",
        State::Preparing | State::MatchProfile => "Preparing",
        State::Provisioning => "Provisioning",
        State::Deprovisioning => "Deprovisioning",
        State::PoweringOffBeforeDelete => "PoweringOffBeforeDelete",
        State::Deleting => "Deleting",
        _ => return None,
    })
}

fn healthy(view: &HostView<'_>) -> (ConditionStatus, &'static str, &'static str) {
    let health = match &view.bmc {
        Observed::Known { value, .. } => value.system.health.as_deref(),
        Observed::Unknown { .. } => None,
    };
    match health {
        Some("OK") => (ConditionStatus::True, "OK", ""),
        Some("Warning") => (ConditionStatus::False, "Warning", "the BMC reports a warning"),
        Some("Critical") => (
            ConditionStatus::False,
            "CriticalError",
            "the BMC reports a critical state",
        ),
        _ => (ConditionStatus::Undecided, "Unknown", "the BMC has not said"),
    }
}
