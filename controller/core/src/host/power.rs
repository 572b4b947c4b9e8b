//! Power: off, observed, then on. Nothing here is an edge.

use super::{
    annotations::{self, REBOOT},
    failure, network,
    pass::{Flow, Pass},
    step::Step,
    view::Power,
};
use crate::{
    Ignorance, Observed, Question,
    intent::{BmcIntent, NetworkName},
};
use jiff::SignedDuration;
use steelyard_api::metal3::{ErrorType, ProvisioningState as State};

/// How long an operating system may take to shut down before it is switched off (Metal3: 180 s).
const SOFT_OFF_WITHIN: SignedDuration = SignedDuration::from_secs(180);

/// A reboot with `force` in the middle of an inspection or a deployment begins it anew, which begins with "off".
/// An erasure is not interrupted.
pub(super) fn forced_reboot(p: &mut Pass<'_>) {
    let reboot = annotations::reboot(p.host());
    if reboot.once && reboot.force && matches!(p.state(), State::Inspecting | State::Provisioning) {
        p.drop_annotation(REBOOT);
        p.event(
            "PowerOff",
            "a forced reboot was asked for: the operation begins anew",
        );
        p.clear_step();
        p.own().retry_at = None;
    }
}

/// Goes on once the server is seen off; asks for it otherwise.
pub(super) fn off(p: &mut Pass<'_>) -> Flow {
    match p.bmc()?.power {
        Power::Off => Flow::Continue(()),
        Power::Changing => Flow::Break(p.wait("power.changing", "the server's power is changing")),
        Power::On => {
            p.intend_bmc(BmcIntent::ForceOff);
            Flow::Break(p.wait("power.off", "waiting for the server to be off"))
        }
    }
}

/// Keeps the power of a host in a steady state as `spec.online` and the reboot annotations want it. `network`:
/// where the server must be seen before it is switched on.
pub(super) fn steady(p: &mut Pass<'_>, network: Option<&NetworkName>) -> Flow {
    let reboot = annotations::reboot(p.host());
    if let Some((key, why)) = &reboot.unreadable
        && p.status.error_message.is_empty()
    {
        p.report(
            "power.bad-annotation",
            "InvalidAnnotationValue",
            format!("annotation {key} is no JSON: {why}"),
        );
    }
    p.ask(Question::Bmc, p.policy.bmc_poll);
    let bmc = match &p.view.bmc {
        Observed::Known { value, .. } => value,
        Observed::Unknown {
            why: Ignorance::Unreachable(why) | Ignorance::Unreadable(why),
            ..
        } => {
            return Flow::Break(unreachable(p, why));
        }
        Observed::Unknown { .. } => {
            return Flow::Break(p.wait("power.ask", "waiting for the answer of the BMC"));
        }
    };
    if p.step() == Some(Step::Verify) {
        p.clear_step();
    }
    let want_on = p.host().spec.online && !reboot.wanted();
    if bmc.power == Power::Off && reboot.once && !broken!(KeepRebootAnnotation) {
        p.drop_annotation(REBOOT);
        return Flow::Break(p.wait("power.rebooting", "the server is off for its reboot"));
    }
    match (bmc.power, want_on) {
        (Power::Changing, _) => {
            p.watch(Question::Bmc);
            Flow::Break(p.wait("power.changing", "the server's power is changing"))
        }
        (Power::On, true) | (Power::Off, false) => settle(p),
        (Power::On, false) if p.host().spec.disable_power_off => Flow::Break(p.report(
            "power.off-disabled",
            "PowerOff",
            "the server stays on: spec.disablePowerOff forbids to switch it off",
        )),
        (Power::On, false) => go_off(p, reboot.hard),
        (Power::Off, true) => go_on(p, network),
    }
}

/// The power is as it shall be.
fn settle(p: &mut Pass<'_>) -> Flow {
    if matches!(
        p.step(),
        Some(Step::PowerOn | Step::PowerOff | Step::PowerOffSoft)
    ) {
        p.clear_step();
    }
    if p.status.error_type == Some(ErrorType::PowerManagement) {
        p.clear_error();
    }
    if p.status.error_type.is_none() {
        p.status.error_count = 0;
    }
    Flow::Continue(())
}

/// A BMC that was silent for a while is an error; before that it may only be busy.
fn unreachable(p: &mut Pass<'_>, why: &str) -> crate::Rule {
    let address = p.bmc_address().to_owned();
    p.enter(Step::Verify, p.policy.power_within);
    if !p.late(p.policy.power_within) {
        return p.wait(
            "power.no-answer",
            format!("the BMC at {address} gives no usable answer, it is asked again: {why}"),
        );
    }
    let kind = failure::bmc_error(p.state());
    let message = format!("the BMC at {address} can't be used: {why}; check its power, network and address");
    failure::blocked(p, "power.unreachable", kind, None, message)
}

fn go_off(p: &mut Pass<'_>, hard: bool) -> Flow {
    // After a failure the operating system is not asked again.
    let soft = !hard && p.status.error_count == 0;
    if soft && !matches!(p.step(), Some(Step::PowerOff | Step::PowerOffSoft)) {
        p.enter(Step::PowerOffSoft, SOFT_OFF_WITHIN);
        p.event("PowerOff", "the server is asked to shut down");
    }
    if soft && p.step() == Some(Step::PowerOffSoft) && !p.late(SOFT_OFF_WITHIN) {
        p.intend_bmc(BmcIntent::SoftOff);
        return Flow::Break(p.wait("power.off-soft", "waiting for the operating system to shut down"));
    }
    if p.step() != Some(Step::PowerOff) {
        p.enter(Step::PowerOff, p.policy.power_within);
        p.event("PowerOff", "the server is switched off");
    }
    let flow = off(p);
    failure::within(
        p,
        p.policy.power_within,
        ErrorType::PowerManagement,
        "power.off-failed",
        flow,
    )
}

fn go_on(p: &mut Pass<'_>, network: Option<&NetworkName>) -> Flow {
    if p.step() != Some(Step::PowerOn) {
        p.enter(Step::PowerOn, on_within(p));
        p.event("PowerOn", "the server is switched on");
    }
    let flow = on(p, network);
    failure::within(
        p,
        on_within(p),
        ErrorType::PowerManagement,
        "power.on-failed",
        flow,
    )
}

/// Moving into a network, then switching on.
fn on_within(p: &Pass<'_>) -> SignedDuration {
    p.policy.fabric_within.saturating_add(p.policy.power_within)
}

fn on(p: &mut Pass<'_>, network: Option<&NetworkName>) -> Flow {
    if let Some(network) = network {
        network::be_in(p, network)?;
    }
    p.intend_bmc(BmcIntent::PowerOn);
    Flow::Break(p.wait("power.on", "waiting for the server to be on"))
}
