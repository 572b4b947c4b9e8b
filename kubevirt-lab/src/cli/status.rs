//! `status`: a table of the lab, read from its Kubernetes API.

use super::{kubectl::Kubectl, up::running};
use crate::files::LabFiles;
use anyhow::bail;
use std::path::Path;

const COLUMNS: &str = "NAME:.metadata.name,PROFILE:.metadata.labels.profile,STATE:.status.provisioning.state,\
                       ON:.status.poweredOn,NETWORK:.status.steelyard.network,CLAIM:.spec.consumerRef.name,\
                       BMC:.spec.bmc.address,MESSAGE:.status.steelyard.message";

pub(super) fn run(dir: &Path) -> anyhow::Result<()> {
    let files = LabFiles::new(dir);
    let Some(pid) = running(&files) else {
        bail!("no lab runs in {}: start one with make lab-up", dir.display());
    };
    let ready = if files.is_ready() { "ready" } else { "starting" };
    println!("Lab: process {pid}, {ready}, {} MiB", resident_mib(pid));
    let kubectl = Kubectl::new(&files.kubeconfig());
    print!(
        "{}",
        kubectl.run(&format!("-n metal3-system get bmh -o custom-columns={COLUMNS}"))?
    );
    print!("{}", kubectl.run("get virtualclusterinstances,nodeclaims -A")?);
    Ok(())
}

/// Memory that a process holds, from /proc.
pub(super) fn resident_mib(pid: i32) -> u64 {
    memory(pid, "VmRSS:")
}

/// The most that it ever held.
pub(super) fn peak_mib(pid: i32) -> u64 {
    memory(pid, "VmHWM:")
}

fn memory(pid: i32, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix(field));
    line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok())
        .unwrap_or(0)
        / 1024
}
