//! The end of a host.

use super::METAL3_STATES;
use crate::{
    check::{Check, Level, Objection, no_evidence, verdict},
    history::History,
    target::Capability,
};

pub(super) const CHECKS: &[Check] = &[Check {
    id: "host.delete.is-switched-off-first",
    title: "A deleted host is switched off before it is forgotten",
    requirement: "A controller MUST switch a registered host off before it lets its object go.",
    level: Level::Must,
    features: &[],
    needs: &[Capability::Taps, Capability::Destructive],
    sources: &[METAL3_STATES],
    since: Some("0.1"),
    mutant: "delete-without-power-off",
    judge: off_first,
}];

fn off_first(history: &History) -> Result<(), Objection> {
    let Some((from, server)) = history.steps("deleted-while-on").next() else {
        return no_evidence("no host was deleted while it was on");
    };
    let Some(key) = history.host_of(server) else {
        return no_evidence("the host was never seen");
    };
    let Some((gone, _)) = history
        .versions("BareMetalHost", &key)
        .find(|(at, o)| *at > from && o.is_none())
    else {
        return verdict(vec![format!("host {key} was never let go")]);
    };
    let on = history
        .taps(server)
        .filter(|(at, _)| *at <= gone)
        .last()
        .is_some_and(|(_, s)| s.powered_on);
    verdict(
        on.then(|| format!("host {key} was forgotten while its server was on"))
            .into_iter()
            .collect(),
    )
}
