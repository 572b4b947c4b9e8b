//! Detached: the host is left alone as it is, in the states where that is safe.

use super::{
    annotations,
    pass::{Flow, Pass},
};
use steelyard_api::metal3::{ErrorType, OperationalStatus, ProvisioningState as State};

/// Stops the pass while the host is detached.
pub(super) fn detached(p: &mut Pass<'_>) -> Flow {
    let is = p.status.operational_status == OperationalStatus::Detached;
    let Some(wish) = annotations::detached(p.host()) else {
        if is {
            let sick = p.status.error_type.is_some();
            p.status.operational_status = if sick {
                OperationalStatus::Error
            } else {
                OperationalStatus::Ok
            };
        }
        return Flow::Continue(());
    };
    let safe = matches!(
        p.state(),
        State::Provisioned | State::ExternallyProvisioned | State::Available | State::Ready
    );
    if p.state() == State::Deleting || !(safe || wish.force || is) {
        return Flow::Continue(());
    }
    if p.status.error_type == Some(ErrorType::Detach) {
        p.clear_error();
    }
    if !safe {
        p.clear_step();
    }
    p.status.operational_status = OperationalStatus::Detached;
    Flow::Break(p.wait(
        "host.detached",
        format!(
            "the host is detached: nothing is done to it until annotation {} is removed",
            annotations::DETACHED
        ),
    ))
}
