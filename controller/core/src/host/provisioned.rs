//! Provisioned: somebody uses the host. Also the steady life of a host that somebody else provisioned.

use super::{
    conditions, failure, network,
    pass::{Flow, Pass, Verdict},
    power, provision,
};
use crate::Question;
use steelyard_api::{ConditionStatus, Conditions, metal3::ProvisioningState as State};

pub(super) fn decide(p: &mut Pass<'_>) -> Verdict {
    let there = p.status.provisioning.image.clone().unwrap_or_default();
    if !broken!(KeepImage) {
        match provision::wanted(p.host()) {
            None => {
                return Flow::Continue(leave(
                    p,
                    "provisioned.image-gone",
                    "the image was removed from the spec",
                ));
            }
            Some(image) if image.url != there.url => {
                return Flow::Continue(leave(
                    p,
                    "provisioned.image-changed",
                    "the spec wants another image",
                ));
            }
            Some(_) => {}
        }
    }
    failure::backoff(p)?;
    let late_join = await_late_join(p);
    let network = match &p.view.fabric {
        Some(_) if p.host().spec.online => network::of_user(p)?,
        _ => None,
    };
    power::steady(p, network.as_ref())?;
    Flow::Continue(match late_join {
        Some(message) => p.wait("provisioned.await-join", message),
        None => p.wait("provisioned.idle", "the host is provisioned"),
    })
}

fn leave(p: &mut Pass<'_>, rule: &'static str, why: &str) -> crate::Rule {
    p.event("DeprovisioningStarted", why);
    p.go(State::Deprovisioning, rule, why)
}

/// A node that missed its deadline may still join; then the condition says so.
fn await_late_join(p: &mut Pass<'_>) -> Option<String> {
    let condition = p.status.conditions.find_condition(conditions::JOINED)?;
    if condition.status == ConditionStatus::True {
        return None;
    }
    let message = condition.message.clone();
    p.ask(Question::Node, p.policy.bmc_poll);
    if p.view.node.known().is_some_and(|n| n.ready) {
        p.set_condition(
            conditions::JOINED,
            ConditionStatus::True,
            "NodeReady",
            "the node is Ready in its cluster",
        );
        p.event("NodeJoined", "the node has joined its cluster after its deadline");
        return None;
    }
    Some(message)
}

/// Externally provisioned: power and nothing else, until the flag is cleared.
pub(super) fn external(p: &mut Pass<'_>) -> Verdict {
    if !p.host().spec.externally_provisioned {
        p.status.provisioning.image = p.host().spec.image.clone();
        let rule = p.go(
            State::Provisioned,
            "external.flag-cleared",
            "the host is ours now, with what is on its disk",
        );
        return Flow::Continue(rule);
    }
    failure::backoff(p)?;
    power::steady(p, None)?;
    Flow::Continue(p.wait(
        "external.idle",
        "the host is provisioned by somebody else; only its power is managed",
    ))
}
