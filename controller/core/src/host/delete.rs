//! Deletion: wiped if it was used, off, out of its network, forgotten. Bounded: a dead BMC never keeps an object.

use super::{
    annotations::{self, FINALIZER},
    failure, network,
    pass::{Flow, Pass, Verdict},
    power, register,
    step::Step,
};
use serde_json::json;
use steelyard_api::metal3::{ErrorType, OperationalStatus, ProvisioningState as State};

/// After so many failures deletion goes on without the step (Metal3: more than 3).
const TRIES: i64 = 3;

/// Turns a host that is being deleted onto its way out. Goes on where the state's own rules have work left.
pub(super) fn initiate(p: &mut Pass<'_>) -> Flow {
    if !p.deleting() || p.state() == State::Deleting {
        return Flow::Continue(());
    }
    let was_detached = p.status.operational_status == OperationalStatus::Detached;
    match annotations::detached(p.host()) {
        Some(detached) if detached.delete_action == "delay" => {
            return Flow::Break(p.wait(
                "delete.delayed",
                "the deletion waits until the host is no longer detached",
            ));
        }
        Some(_) => {
            let message = "the host is detached: it is forgotten as it is";
            return Flow::Break(p.go(State::Deleting, "delete.detached", message));
        }
        None if was_detached => return Flow::Continue(()),
        None => {}
    }
    match p.state() {
        State::None | State::Unmanaged | State::Registering => Flow::Break(p.go(
            State::Deleting,
            "delete.unregistered",
            "the host was never registered",
        )),
        State::Provisioning | State::Provisioned => {
            p.event("DeprovisioningStarted", "the host is deleted");
            Flow::Break(p.go(
                State::Deprovisioning,
                "delete.deprovision",
                "the host is wiped before it is forgotten",
            ))
        }
        State::Deprovisioning | State::PoweringOffBeforeDelete => give_up(p),
        State::Deleting => Flow::Continue(()),
        _ => hopeful(p),
    }
}

fn hopeful(p: &mut Pass<'_>) -> Flow {
    if broken!(DeleteWithoutPowerOff) {
        return Flow::Break(p.go(State::Deleting, "delete.off", "the host is forgotten"));
    }
    Flow::Break(p.go(
        State::PoweringOffBeforeDelete,
        "delete.power-off",
        "the server is switched off before it is forgotten",
    ))
}

/// Leaves out what can't be done.
fn give_up(p: &mut Pass<'_>) -> Flow {
    if let Some(why) = register::hopeless(p) {
        p.warn(
            "DeletedUncleaned",
            format!("the host is forgotten without having been wiped or switched off: {why}"),
        );
        return Flow::Break(p.go(State::Deleting, "delete.unmanageable", why));
    }
    if p.status.error_count <= TRIES {
        return Flow::Continue(());
    }
    let last = match p.status.error_message.as_str() {
        "" => "it failed too often".to_owned(),
        told => told.to_owned(),
    };
    if p.state() == State::PoweringOffBeforeDelete {
        p.warn(
            "DeletedUncleaned",
            format!("the host is forgotten without having been switched off: {last}"),
        );
        return Flow::Break(p.go(State::Deleting, "delete.off-gave-up", last));
    }
    p.warn(
        "DeletedUncleaned",
        format!("the host is forgotten without having been wiped: {last}"),
    );
    Flow::Break(p.go(State::PoweringOffBeforeDelete, "delete.wipe-gave-up", last))
}

/// The state "powering off before delete".
pub(super) fn power_off(p: &mut Pass<'_>) -> Verdict {
    failure::backoff(p)?;
    if !p.host().spec.disable_power_off {
        let within = p.policy.power_within;
        p.enter(Step::PowerOff, within);
        let flow = power::off(p);
        failure::within(p, within, ErrorType::PowerManagement, "delete.off-failed", flow)?;
        p.status.powered_on = false;
    }
    Flow::Continue(p.go(State::Deleting, "delete.off", "the server is off"))
}

/// The state "deleting": out of a user's network, if the fabric says where it is, then the finalizer goes.
pub(super) fn forget(p: &mut Pass<'_>) -> Verdict {
    let own = p.own();
    let home = own.home_network.clone();
    // Only what we moved is moved back; a detached host stays as it is.
    let away = own.network.is_some() && own.network != home && annotations::detached(p.host()).is_none();
    if away {
        p.enter(Step::Leave, p.policy.fabric_within);
        let flow = network::leave(p, home.as_deref());
        if flow.is_break() && !p.late(p.policy.fabric_within) {
            flow?;
        }
    }
    let finalizers = p.host().metadata.finalizers.clone().unwrap_or_default();
    if finalizers.iter().any(|f| f == FINALIZER) {
        let rest: Vec<_> = finalizers.into_iter().filter(|f| f != FINALIZER).collect();
        p.patch_host(json!({ "metadata": { "finalizers": rest } }));
    }
    p.forget_intents();
    Flow::Continue(p.wait("delete.done", "the host is forgotten"))
}
