//! Registration: credentials, identity, errors and their end.

use super::{METAL3_API, METAL3_STATES, STEELYARD};
use crate::{
    check::{Check, Level, Objection, no_evidence, verdict},
    history::History,
    target::Capability,
};
use serde_json::Value;
use std::time::Duration;

pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "host.register.refused-password-is-not-repeated",
        title: "A password that a BMC refused is not sent again",
        requirement: "A controller MUST NOT send credentials again that a BMC has refused, until their Secret changes.",
        level: Level::Must,
        features: &[],
        needs: &[Capability::Spares],
        sources: &[STEELYARD],
        since: Some("0.1"),
        mutant: "retry-password",
        judge: not_repeated,
    },
    Check {
        id: "host.register.recovers-when-the-secret-is-mended",
        title: "A host recovers once its Secret is right, and forgets the error",
        requirement: "When the cause of a registration error is gone, a host MUST become available and MUST NOT show the error any more.",
        level: Level::Must,
        features: &[],
        needs: &[Capability::Spares],
        sources: &[METAL3_STATES],
        since: Some("0.1"),
        mutant: "keep-error",
        judge: recovers,
    },
    Check {
        id: "host.register.refuses-a-foreign-boot-mac",
        title: "A boot MAC that the server does not have is refused, by name",
        requirement: "A host whose bootMACAddress no NIC of its BMC has MUST show a registration error that names the MAC.",
        level: Level::Must,
        features: &[],
        needs: &[Capability::Spares],
        sources: &[METAL3_API, STEELYARD],
        since: Some("0.1"),
        mutant: "ignore-boot-mac",
        judge: foreign_mac,
    },
];

fn errors(object: &Value) -> i64 {
    object["status"]["errorCount"].as_i64().unwrap_or(0)
}

/// Between the mistake and its mending one try is seen, however long that is.
fn not_repeated(history: &History) -> Result<(), Objection> {
    let Some((from, server)) = history.steps("refused").next() else {
        return no_evidence("no wrong password was tried");
    };
    let Some(to) = history.step("mended", server) else {
        return no_evidence("the wrong password was never mended");
    };
    let Some(key) = history.host_of(server) else {
        return no_evidence("the host was never seen");
    };
    let during: Vec<(Duration, &Value)> = history
        .versions("BareMetalHost", &key)
        .filter(|(at, _)| *at >= from && *at <= to)
        .filter_map(|(at, o)| Some((at, o?)))
        .collect();
    if !during
        .iter()
        .any(|(_, o)| o["status"]["errorType"] == "registration error")
    {
        return verdict(vec![format!(
            "host {key} never said that its credentials were refused"
        )]);
    }
    let tries = during.iter().map(|(_, o)| errors(o)).max().unwrap_or(0);
    verdict(
        (tries > 1)
            .then(|| format!("host {key}: the refused password was tried {tries} times"))
            .into_iter()
            .collect(),
    )
}

fn recovers(history: &History) -> Result<(), Objection> {
    let Some((_, server)) = history.steps("mended").next() else {
        return no_evidence("nothing was mended");
    };
    let Some(recovered) = history.step("recovered", server) else {
        return verdict(vec![format!(
            "host {server} did not become available after its Secret was mended"
        )]);
    };
    let Some(key) = history.host_of(server) else {
        return no_evidence("the host was never seen");
    };
    // The version that made the workload go on is the last one before the step, or a later one.
    let last = history
        .versions("BareMetalHost", &key)
        .filter(|(at, _)| *at <= recovered)
        .filter_map(|(_, o)| o)
        .last();
    let Some(last) = last else {
        return no_evidence("the recovered host was never seen");
    };
    let mut findings = Vec::new();
    if !last["status"]["errorType"].is_null()
        || last["status"]["errorMessage"]
            .as_str()
            .is_some_and(|m| !m.is_empty())
    {
        findings.push(format!(
            "host {key} is available and still says {}",
            last["status"]["errorMessage"]
        ));
    }
    verdict(findings)
}

fn foreign_mac(history: &History) -> Result<(), Objection> {
    let Some((from, server)) = history.steps("foreign-mac").next() else {
        return no_evidence("no foreign MAC was tried");
    };
    let Some(key) = history.host_of(server) else {
        return no_evidence("the host was never seen");
    };
    let to = history.step("foreign-mac-done", server).unwrap_or(Duration::MAX);
    let mut objects = history
        .versions("BareMetalHost", &key)
        .filter(|(at, _)| *at >= from && *at <= to)
        .filter_map(|(_, o)| o);
    let named = objects.any(|o| {
        let message = o["status"]["errorMessage"]
            .as_str()
            .unwrap_or_default()
            .to_ascii_lowercase();
        let mac = o["spec"]["bootMACAddress"]
            .as_str()
            .unwrap_or_default()
            .to_ascii_lowercase();
        o["status"]["errorType"] == "registration error" && message.contains(&mac)
    });
    verdict(
        (!named)
            .then(|| format!("host {key} does not name the boot MAC that its server lacks"))
            .into_iter()
            .collect(),
    )
}
