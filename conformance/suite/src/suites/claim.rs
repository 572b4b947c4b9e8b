//! A server in a tenant's hands.

use super::{METAL3_API, METAL3_STATES, PLATFORM, STEELYARD};
use crate::{
    check::{Check, Level, Objection, no_evidence, verdict},
    history::{History, What, holder},
    target::{Capability, Feature},
    workload::{OFFERED, condition},
};
use serde_json::Value;

pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "claim.node.joins-and-is-ready",
        title: "A tenant's static pool becomes Ready nodes of its own cluster",
        requirement: "A VirtualClusterInstance MUST say Ready only when every node of its static pools is Ready in its cluster.",
        level: Level::Must,
        features: &[Feature::Platform],
        needs: &[Capability::Destructive],
        sources: &[PLATFORM],
        since: Some("0.1"),
        mutant: "stay-home",
        judge: joins,
    },
    Check {
        id: "host.provision.provisioned-means-joined",
        title: "A claimed host says provisioned only when its node has joined",
        requirement: "A host that is meant for a tenant MUST NOT be provisioned before its node is Ready in the tenant's cluster.",
        level: Level::Must,
        features: &[Feature::Platform],
        needs: &[Capability::Destructive],
        sources: &[PLATFORM, STEELYARD],
        since: Some("0.1"),
        mutant: "provisioned-too-early",
        judge: provisioned_means_joined,
    },
    Check {
        id: "host.available.is-not-offered-while-held",
        title: "A host that somebody holds is not offered",
        requirement: "Condition AvailableForProvisioning MUST be True on an available host without a consumer, and MUST NOT be True on one whose spec.consumerRef is set.",
        level: Level::Must,
        features: &[],
        needs: &[Capability::Destructive],
        sources: &[METAL3_API],
        since: Some("0.1"),
        mutant: "offer-claimed",
        judge: not_offered,
    },
    Check {
        id: "host.power.reboot-annotation-is-taken",
        title: "The plain reboot annotation reboots once and is removed",
        requirement: "A controller MUST remove annotation reboot.metal3.io once it has seen the host off.",
        level: Level::Must,
        features: &[Feature::Platform],
        needs: &[Capability::Destructive],
        sources: &[METAL3_STATES],
        since: Some("0.1"),
        mutant: "keep-reboot-annotation",
        judge: reboots,
    },
];

fn joins(history: &History) -> Result<(), Objection> {
    if history.step("tenant-wanted", "one").is_none() {
        return no_evidence("no tenant was asked for");
    }
    let Some(ready) = history.step("tenant-ready", "one") else {
        return verdict(vec!["tenant one never became Ready".into()]);
    };
    let mut nodes = history.keys("Node").into_iter().filter_map(|n| {
        let seen = history
            .versions("Node", &n)
            .filter(|(at, _)| *at <= ready)
            .filter_map(|(_, o)| o)
            .last()?
            .clone();
        Some(condition(&seen, "Ready") == Some("True"))
    });
    // The node's own watch may be a moment behind the tenant's.
    let later = history.keys("Node").iter().any(|n| {
        history
            .versions("Node", n)
            .any(|(_, o)| o.is_some_and(|o| condition(o, "Ready") == Some("True")))
    });
    if nodes.any(|ready| ready) || later {
        return Ok(());
    }
    verdict(vec![
        "tenant one says Ready, and its cluster has no Ready node".into(),
    ])
}

fn state(host: &Value) -> &str {
    host["status"]["provisioning"]["state"]
        .as_str()
        .unwrap_or_default()
}

fn provisioned_means_joined(history: &History) -> Result<(), Objection> {
    let mut seen = false;
    let mut findings = Vec::new();
    for (index, entry) in history.entries.iter().enumerate() {
        let What::Object {
            kind: "BareMetalHost",
            key,
            object: Some(host),
        } = &entry.what
        else {
            continue;
        };
        let Some(claim) = holder(host) else { continue };
        if state(host) != "provisioned" {
            continue;
        }
        seen = true;
        // Watches of two clusters: the node's is given the time of a few looks.
        let grace = entry.at + std::time::Duration::from_millis(500);
        let joined = history.entries.iter().enumerate().any(|(i, e)| {
            (i <= index || e.at <= grace)
                && matches!(&e.what, What::Object { kind: "Node", key, object: Some(node) } if key == claim && condition(node, "Ready") == Some("True"))
        });
        if !joined {
            findings.push(format!(
                "host {key} is provisioned, and node {claim} is not Ready"
            ));
            break;
        }
    }
    if !seen {
        return no_evidence("no claimed host was ever provisioned");
    }
    verdict(findings)
}

/// Of the host that the suite itself held: the last word before it was let go.
fn not_offered(history: &History) -> Result<(), Objection> {
    let Some((from, server)) = history.steps("held").next() else {
        return no_evidence("no host was held");
    };
    let Some(to) = history.step("let-go", server) else {
        return no_evidence("the held host was never let go");
    };
    let Some(key) = history.host_of(server) else {
        return no_evidence("the host was never seen");
    };
    let before = history
        .versions("BareMetalHost", &key)
        .filter(|(at, _)| *at <= from)
        .filter_map(|(_, o)| o)
        .last();
    if before.is_none_or(|host| condition(host, OFFERED) != Some("True")) {
        return verdict(vec![format!(
            "host {key} is available, held by nobody, and does not say {OFFERED}"
        )]);
    }
    let during = history
        .versions("BareMetalHost", &key)
        .filter(|(at, _)| *at <= to)
        .filter_map(|(_, o)| o);
    let last = during.filter(|o| holder(o).is_some()).last();
    let Some(last) = last else {
        return no_evidence("the host was never seen held");
    };
    let offered = condition(last, OFFERED) == Some("True");
    verdict(
        offered
            .then(|| format!("host {key} has a consumer and says {OFFERED}"))
            .into_iter()
            .collect(),
    )
}

fn reboots(history: &History) -> Result<(), Objection> {
    let Some((from, server)) = history.steps("reboot").next() else {
        return no_evidence("no reboot was asked for");
    };
    let to = history.step("reboot-over", server);
    let Some(key) = history.host_of(server) else {
        return no_evidence("the host was never seen");
    };
    let removed = history
        .versions("BareMetalHost", &key)
        .filter(|(at, _)| *at > from && to.is_none_or(|to| *at <= to))
        .filter_map(|(_, o)| o)
        .skip_while(|o| o["metadata"]["annotations"]["reboot.metal3.io"].is_null())
        .any(|o| o["metadata"]["annotations"]["reboot.metal3.io"].is_null());
    verdict(
        (!removed)
            .then(|| format!("host {key} keeps annotation reboot.metal3.io"))
            .into_iter()
            .collect(),
    )
}
