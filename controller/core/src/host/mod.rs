//! The lifecycle of a host (BareMetalHost).
//!
//! ```text
//! "" -> registering -> inspecting -> preparing -> available -> provisioning -> provisioned
//!                                                    ^                            |
//!                                                    +------- deprovisioning <----+
//! ```
//!
//! One file per state, and [`decide`] in one visible order. [`TRANSITIONS`] lists every change of state that a
//! rule may make, [`violations`] what must hold of every decision; tests hold both, `docs/states/host.md` is
//! generated from the first.
//!
//! An operation's id is in the status that a decision returns, and status is saved before any intent runs: the
//! decision that makes an operation may already use it.

mod annotations;
mod available;
mod boot;
mod conditions;
mod delete;
mod deprovision;
mod detach;
mod failure;
mod inspect;
mod invariants;
mod network;
mod pass;
mod power;
mod prepare;
mod provision;
mod provisioned;
mod register;
mod step;
mod transitions;
pub mod view;

pub use invariants::{Violation, violations};
pub use transitions::{TRANSITIONS, Transition};

use crate::{Decision, Moment, Rule, intent::HostIntent};
use pass::{Flow, Pass, Verdict};
use serde_json::json;
use steelyard_api::metal3::{BareMetalHostStatus, ProvisioningState as State};
use view::{HostView, Policy};

/// The whole next status of a host and what to ask of the world. Total: every view has a decision.
pub fn decide(view: &HostView<'_>, policy: &Policy, at: Moment) -> Decision<BareMetalHostStatus, HostIntent> {
    if annotations::get(view.host, annotations::PAUSED).is_some() {
        // Not even deletion, by contract with Cluster API: not a byte of the object changes.
        return Decision::settled(Rule("host.paused"), view.host.status.clone().unwrap_or_default());
    }
    let mut pass = Pass::new(view, policy, at);
    let (Flow::Continue(rule) | Flow::Break(rule)) = rules(&mut pass);
    pass.finish(rule)
}

/// The rules of every state, in their order, then those of the state.
fn rules(p: &mut Pass<'_>) -> Verdict {
    finalizer(p);
    delete::initiate(p)?;
    detach::detached(p)?;
    match p.state() {
        State::None | State::Unmanaged => return register::begin(p),
        State::Deleting => return delete::forget(p),
        _ => register::ensure(p)?,
    }
    power::forced_reboot(p);
    match p.state() {
        State::Registering => register::decide(p),
        State::Inspecting => {
            failure::backoff(p)?;
            inspect::decide(p)
        }
        State::Preparing => prepare::decide(p),
        State::MatchProfile => {
            Flow::Continue(p.go(State::Preparing, "host.legacy-profile", "settings are next"))
        }
        State::Available | State::Ready => available::decide(p),
        State::Provisioning => provision::decide(p),
        State::Provisioned => provisioned::decide(p),
        State::ExternallyProvisioned => provisioned::external(p),
        State::Deprovisioning => deprovision::decide(p),
        State::PoweringOffBeforeDelete => delete::power_off(p),
        // A newer version's word: this version must not touch the host.
        _ => Flow::Continue(p.wait(
            "host.unknown-state",
            "this version does not know the host's state",
        )),
    }
}

/// Nothing is asked of a server before its object is sure to wait for us at its end.
fn finalizer(p: &mut Pass<'_>) {
    let finalizers = p.host().metadata.finalizers.clone().unwrap_or_default();
    if p.deleting() || p.state() == State::Deleting || finalizers.iter().any(|f| f == annotations::FINALIZER)
    {
        return;
    }
    let all: Vec<String> = finalizers
        .into_iter()
        .chain([annotations::FINALIZER.to_owned()])
        .collect();
    p.patch_host(json!({ "metadata": { "finalizers": all } }));
}
