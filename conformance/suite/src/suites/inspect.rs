//! Inspection: the inventory.

use super::{METAL3_API, METAL3_STATES};
use crate::{
    check::{Check, Level, Objection, no_evidence, verdict},
    history::History,
};

pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "host.inspect.writes-hardware-data",
        title: "Inspection leaves a HardwareData object of the host's name",
        requirement: "After inspection a HardwareData object of the host's name and namespace MUST hold its inventory.",
        level: Level::Must,
        features: &[],
        needs: &[],
        sources: &[METAL3_API],
        since: Some("0.1"),
        mutant: "no-hardware-data",
        judge: hardware_data,
    },
    Check {
        id: "host.inspect.reports-cpu-memory-disks-nics",
        title: "The inventory has CPU, memory, disks and the NIC that was booted from",
        requirement: "An available host's status.hardware MUST report CPU count, memory, at least one disk and the boot NIC.",
        level: Level::Must,
        features: &[],
        needs: &[],
        sources: &[METAL3_API, METAL3_STATES],
        since: Some("0.1"),
        mutant: "no-inventory",
        judge: inventory,
    },
];

/// Keys of hosts that became available in the story.
fn inspected(history: &History) -> Vec<String> {
    let servers: Vec<&str> = history.steps("available").map(|(_, s)| s).collect();
    history
        .keys("BareMetalHost")
        .into_iter()
        .filter(|k| servers.iter().any(|s| k.rsplit('/').next() == Some(s)))
        .collect()
}

fn hardware_data(history: &History) -> Result<(), Objection> {
    let hosts = inspected(history);
    if hosts.is_empty() {
        return no_evidence("no host became available");
    }
    let missing = |key: &String| {
        let ever = history
            .versions("HardwareData", key)
            .any(|(_, o)| o.is_some_and(|o| o["spec"]["hardware"]["cpu"]["count"].as_i64().unwrap_or(0) > 0));
        !ever
    };
    verdict(
        hosts
            .iter()
            .filter(|k| missing(k))
            .map(|k| format!("host {k} is available, and there is no HardwareData {k}"))
            .collect(),
    )
}

fn inventory(history: &History) -> Result<(), Objection> {
    let hosts = inspected(history);
    if hosts.is_empty() {
        return no_evidence("no host became available");
    }
    let mut findings = Vec::new();
    for key in &hosts {
        let available = history
            .versions("BareMetalHost", key)
            .filter_map(|(_, o)| o)
            .find(|o| o["status"]["provisioning"]["state"] == "available");
        let Some(host) = available else { continue };
        let hardware = &host["status"]["hardware"];
        let mac = host["spec"]["bootMACAddress"].as_str().unwrap_or_default();
        if hardware["cpu"]["count"].as_i64().unwrap_or(0) < 1 {
            findings.push(format!("host {key}: status.hardware.cpu.count is missing"));
        }
        if hardware["ramMebibytes"].as_i64().unwrap_or(0) < 1 {
            findings.push(format!("host {key}: status.hardware.ramMebibytes is missing"));
        }
        let disks = hardware["storage"].as_array().map_or(0, Vec::len);
        if disks == 0 {
            findings.push(format!("host {key}: status.hardware.storage is empty"));
        }
        let nics = hardware["nics"].as_array();
        if !nics
            .into_iter()
            .flatten()
            .any(|n| n["mac"].as_str().is_some_and(|m| m.eq_ignore_ascii_case(mac)))
        {
            findings.push(format!(
                "host {key}: status.hardware.nics lacks the boot NIC {mac}"
            ));
        }
    }
    verdict(findings)
}
