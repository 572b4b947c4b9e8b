//! The way back: nothing of the tenant is left, and the host is what it was.

use super::{METAL3_STATES, NICO, PLATFORM};
use crate::{
    check::{Check, Level, Objection, no_evidence, verdict},
    history::History,
    target::{Capability, Feature},
};
use serde_json::Value;

pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "release.host.comes-back",
        title: "A released server is available again",
        requirement: "After a tenant is deleted, its servers MUST become available and its claims MUST be gone.",
        level: Level::Must,
        features: &[Feature::Platform],
        needs: &[Capability::Destructive],
        sources: &[METAL3_STATES, PLATFORM],
        since: Some("0.1"),
        mutant: "keep-image",
        judge: comes_back,
    },
    Check {
        id: "release.disks.hold-nothing-of-the-tenant",
        title: "What the tenant's system wrote is on no raw block any more",
        requirement: "When a server is available again, no raw block of its disks MUST hold what its tenant wrote.",
        level: Level::Must,
        features: &[Feature::Platform],
        needs: &[Capability::Disks, Capability::Destructive],
        sources: &[NICO],
        since: Some("0.1"),
        mutant: "skip-wipe",
        judge: disks,
    },
    Check {
        id: "release.wipe.is-proven",
        title: "The erasure is proven: every disk was read back",
        requirement: "A server that comes back MUST show for every disk how it was erased and that it was verified.",
        level: Level::Must,
        features: &[Feature::Platform, Feature::WipeEvidence],
        needs: &[Capability::Destructive],
        sources: &[NICO],
        since: Some("0.1"),
        mutant: "skip-wipe",
        judge: proven,
    },
    Check {
        id: "release.host.is-as-registered",
        title: "Spec, labels and annotations are as they were registered",
        requirement: "A released host's spec, labels and annotations MUST be what they were before it was claimed.",
        level: Level::Must,
        features: &[Feature::Platform],
        needs: &[Capability::Destructive],
        sources: &[PLATFORM],
        since: Some("0.1"),
        mutant: "forget-restore",
        judge: as_registered,
    },
];

fn comes_back(history: &History) -> Result<(), Objection> {
    if history.step("tenant-ready", "one").is_none() {
        return no_evidence("no tenant became Ready");
    }
    let missed: Vec<String> = history
        .missed()
        .filter(|(step, _)| *step == "returned")
        .map(|(_, m)| m.to_owned())
        .collect();
    if history.step("returned", "one").is_some() {
        return Ok(());
    }
    verdict(if missed.is_empty() {
        vec!["the servers did not come back".into()]
    } else {
        missed
    })
}

fn disks(history: &History) -> Result<(), Objection> {
    if !history
        .disk_searches()
        .any(|(_, when, found)| when == "provisioned" && found)
    {
        return no_evidence(
            "the tenant's text was not found on the disks while it ran, so its absence would say nothing",
        );
    }
    let after: Vec<_> = history
        .disk_searches()
        .filter(|(_, when, _)| *when == "returned")
        .collect();
    if after.is_empty() {
        return no_evidence("no server came back");
    }
    verdict(
        after
            .iter()
            .filter(|(_, _, found)| *found)
            .map(|(s, _, _)| format!("server {s} is available, and its disks hold what the tenant wrote"))
            .collect(),
    )
}

/// The host that was held, before it was taken and after it came back.
fn before_and_after(history: &History) -> Result<Vec<(String, &Value, &Value)>, Objection> {
    let Some(returned) = history.step("returned", "one") else {
        return no_evidence("no server came back");
    };
    let mut pairs = Vec::new();
    for key in history.claimed_hosts() {
        let versions: Vec<_> = history
            .versions("BareMetalHost", &key)
            .filter(|(at, _)| *at <= returned)
            .filter_map(|(_, o)| o)
            .collect();
        let Some(taken) = versions.iter().position(|o| !o["spec"]["consumerRef"].is_null()) else {
            continue;
        };
        if let (Some(before), Some(after)) = (taken.checked_sub(1).map(|i| versions[i]), versions.last()) {
            pairs.push((key, before, *after));
        }
    }
    if pairs.is_empty() {
        no_evidence("no host was ever held")
    } else {
        Ok(pairs)
    }
}

fn proven(history: &History) -> Result<(), Objection> {
    let mut findings = Vec::new();
    for (key, _, after) in before_and_after(history)? {
        let wipe = &after["status"]["steelyard"]["wipe"];
        let disks = wipe["disks"].as_array().map(Vec::as_slice).unwrap_or_default();
        let found = after["status"]["hardware"]["storage"]
            .as_array()
            .map_or(0, Vec::len);
        if disks.len() < found || disks.is_empty() {
            findings.push(format!(
                "host {key} has {found} disks, and evidence for {}",
                disks.len()
            ));
        }
        for disk in disks
            .iter()
            .filter(|d| d["verified"] != true || d["verifiedBytes"].as_u64().unwrap_or(0) == 0)
        {
            findings.push(format!("host {key}: disk {} is not verified", disk["name"]));
        }
    }
    verdict(findings)
}

/// What controllers write for themselves, and what belongs to the API server.
fn is_bookkeeping(annotation: &str) -> bool {
    annotation.starts_with("kubectl.kubernetes.io/")
}

fn as_registered(history: &History) -> Result<(), Objection> {
    let mut findings = Vec::new();
    for (key, before, after) in before_and_after(history)? {
        for (what, path) in [
            ("spec", "/spec"),
            ("labels", "/metadata/labels"),
            ("annotations", "/metadata/annotations"),
        ] {
            let clean = |object: &Value| {
                let mut value = object.pointer(path).cloned().unwrap_or(Value::Null);
                if let Value::Object(map) = &mut value {
                    map.retain(|k, _| !is_bookkeeping(k));
                }
                if value.as_object().is_some_and(serde_json::Map::is_empty) {
                    Value::Null
                } else {
                    value
                }
            };
            let (was, is) = (clean(before), clean(after));
            if was != is {
                findings.push(format!("host {key}: {what} was {was} and is {is}"));
            }
        }
    }
    verdict(findings)
}
