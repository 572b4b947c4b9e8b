//! Isolation: which network a server's ports are in, at every moment.

use super::{NICO, STEELYARD};
use crate::{
    check::{Check, Level, Objection, no_evidence, verdict},
    history::{History, What},
    target::{Capability, Feature, TapSample},
    workload::TENANT,
};
use std::time::Duration;

pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "isolate.tenant.runs-in-its-own-network",
        title: "A tenant's server is in the tenant's network only",
        requirement: "While a tenant's node is Ready, its server's ports MUST NOT be in the provisioning network.",
        level: Level::Must,
        features: &[Feature::Isolation],
        needs: &[Capability::Taps, Capability::Destructive],
        sources: &[NICO, STEELYARD],
        since: Some("0.1"),
        mutant: "stay-home",
        judge: own_network,
    },
    Check {
        id: "isolate.move.is-seen-in-no-network",
        title: "Between two networks a server is seen in none",
        requirement: "A server MUST be seen out of one network before it is put into another.",
        level: Level::Must,
        features: &[Feature::Isolation],
        needs: &[Capability::Taps, Capability::Destructive],
        sources: &[NICO],
        since: Some("0.1"),
        mutant: "skip-detach",
        judge: detached,
    },
    Check {
        id: "isolate.power.only-in-a-network",
        title: "A server is switched on only in the network that it is meant for",
        requirement: "A server MUST NOT be switched on while its ports are in no network.",
        level: Level::Must,
        features: &[Feature::Isolation],
        needs: &[Capability::Taps, Capability::Destructive],
        sources: &[NICO],
        since: Some("0.1"),
        mutant: "power-before-network",
        judge: power,
    },
];

type Samples<'a> = Vec<(Duration, &'a TapSample)>;

/// Servers that a claim held, with their samples.
fn held(history: &History) -> Vec<(String, Samples<'_>)> {
    let servers = history
        .claimed_hosts()
        .into_iter()
        .filter_map(|k| k.rsplit('/').next().map(str::to_owned));
    let samples_of = |server: &str| -> Samples<'_> {
        let taps = history.entries.iter().filter_map(|e| match &e.what {
            What::Tap { server: s, sample } if s == server => Some((e.at, sample)),
            _ => None,
        });
        taps.collect()
    };
    servers
        .map(|server| (server.clone(), samples_of(&server)))
        .collect()
}

/// The network that a server was in first: its home.
fn home<'a>(samples: &Samples<'a>) -> Option<&'a str> {
    samples
        .iter()
        .find_map(|(_, s)| s.networks.first().map(String::as_str))
}

fn own_network(history: &History) -> Result<(), Objection> {
    let held = held(history);
    if held.is_empty() {
        return no_evidence("no host was ever held");
    }
    let ready = history.step("tenant-ready", TENANT);
    let mut findings = Vec::new();
    for (server, samples) in &held {
        let Some(home) = home(samples) else {
            return no_evidence(format!("no tap saw {server} in a network"));
        };
        let Some(ready) = ready else {
            // No node, perhaps for this very reason.
            if samples.iter().all(|(_, s)| s.networks.iter().all(|n| n == home)) {
                findings.push(format!(
                    "server {server} is meant for a tenant and never left {home}"
                ));
            }
            continue;
        };
        let Some((_, then)) = samples.iter().rfind(|(at, _)| *at <= ready) else {
            continue;
        };
        if then.networks.iter().any(|n| n == home) || then.networks.is_empty() {
            findings.push(format!(
                "server {server} is in {:?} while its node is Ready; home is {home}",
                then.networks
            ));
        }
    }
    if ready.is_none() && findings.is_empty() {
        return no_evidence("no tenant became Ready");
    }
    verdict(findings)
}

fn detached(history: &History) -> Result<(), Objection> {
    let mut findings = Vec::new();
    let mut moved = false;
    for (server, samples) in held(history) {
        let mut last: Option<&str> = None;
        let mut between = false;
        for (at, sample) in samples {
            if sample.networks.len() > 1 {
                findings.push(format!(
                    "server {server} is in {:?} at once, {:.1} s into the run",
                    sample.networks,
                    at.as_secs_f64()
                ));
            }
            match (sample.networks.first().map(String::as_str), last) {
                (None, _) => between = true,
                (Some(now), Some(before)) if now != before => {
                    moved = true;
                    if !between {
                        findings.push(format!(
                            "server {server} went from {before} to {now} without being seen in none"
                        ));
                    }
                    (last, between) = (Some(now), false);
                }
                (Some(now), _) => (last, between) = (Some(now), false),
            }
        }
    }
    if !moved && findings.is_empty() {
        return no_evidence("no server moved between networks");
    }
    verdict(findings)
}

fn power(history: &History) -> Result<(), Objection> {
    let held = held(history);
    if held
        .iter()
        .all(|(_, samples)| !samples.iter().any(|(_, s)| s.powered_on))
    {
        return no_evidence("no tap saw a held server on");
    }
    let mut findings = Vec::new();
    for (server, samples) in held {
        if let Some((at, _)) = samples
            .iter()
            .find(|(_, s)| s.powered_on && s.networks.is_empty())
        {
            findings.push(format!(
                "server {server} is on while its ports are in no network, {:.1} s into the run",
                at.as_secs_f64()
            ));
        }
    }
    verdict(findings)
}
