//! A deleted claim: the host is asked back, and the claim stays until the host is as it was.
//!
//! The host's own lifecycle does the work when its image is taken away: the node removed, the ports moved, the disks
//! wiped and verified, then the restore record applied, which also ends the bond. Only a host that nothing was done
//! to yet is restored here, by the same record.

use super::{
    pass::{Pass, host_write},
    view::{ClaimIntent, NodeRemoval},
};
use crate::{ObjectWrite, Rule, restore::RestoreRecord};
use jiff::SignedDuration;
use serde_json::{Value, json};
use steelyard_api::{
    loft::claim_condition as condition,
    metal3::{BareMetalHost, ProvisioningState},
    names::{finalizer, secret},
};

pub(super) fn release(pass: &mut Pass<'_>, held: Option<&BareMetalHost>) -> Rule {
    match held {
        None => finish(pass),
        Some(host) if is_untouched(host) => undo(pass, host),
        Some(host) => match remove_node(pass) {
            Some(rule) => rule,
            None => ask_back(pass, host),
        },
    }
}

/// How long pods may take to leave before the node is taken from under them.
const DRAIN_WITHIN: SignedDuration = SignedDuration::from_secs(30);

/// The node leaves its tenant before the machine does. A tenant that can't be reached keeps no machine.
fn remove_node(pass: &mut Pass<'_>) -> Option<Rule> {
    let tenant = pass.claim().spec.vcluster_ref.clone()?;
    if !pass.view.tenant.as_ref().is_some_and(|tenant| tenant.reachable) {
        return None;
    }
    let there = pass.view.node.known().is_some_and(|node| node.exists);
    if !there {
        return None;
    }
    let deleted_at = pass
        .claim()
        .metadata
        .deletion_timestamp
        .as_ref()
        .map_or(pass.at.now, |t| t.0);
    let force = pass.at.now.duration_since(deleted_at) >= DRAIN_WITHIN;
    let node = pass.name().to_owned();
    let message = format!("node {node} is drained and removed from tenant {tenant}");
    pass.intend(ClaimIntent::RemoveNode(NodeRemoval { tenant, node, force }));
    pass.look_again(AGAIN);
    pass.pending(condition::DESTROYED, "RemovingNode", &message);
    Some(pass.wait("release.node", message))
}

/// Between two looks at a node that is drained.
const AGAIN: SignedDuration = SignedDuration::from_secs(1);

/// Nothing was written to it, and its own lifecycle has not begun to: the bond is only words.
fn is_untouched(host: &BareMetalHost) -> bool {
    let status = host.status.as_ref();
    let state = status.map(|s| s.provisioning.state).unwrap_or_default();
    let written = status
        .and_then(|s| s.provisioning.image.as_ref())
        .is_some_and(|image| !image.url.is_empty());
    let busy = matches!(
        state,
        ProvisioningState::Provisioning
            | ProvisioningState::Provisioned
            | ProvisioningState::ExternallyProvisioned
            | ProvisioningState::Deprovisioning
            | ProvisioningState::PoweringOffBeforeDelete
            | ProvisioningState::Deleting
            | ProvisioningState::Unknown
    );
    !written && !busy
}

fn undo(pass: &mut Pass<'_>, host: &BareMetalHost) -> Rule {
    let name = host.metadata.name.as_deref().unwrap_or_default();
    match RestoreRecord::of(host) {
        Ok(Some(record)) => {
            let patch = record.apply_patch(host);
            pass.patch_host(host, patch);
        }
        // The way back is gone; at least the bond ends.
        Ok(None) => pass.patch_host(host, json!({ "spec": { "consumerRef": null } })),
        Err(error) => {
            let message = format!("host {name} cannot be restored: {error}");
            pass.problem(condition::DESTROYED, "RestoreRecordUnreadable", &message);
            pass.fail("RestoreRecordUnreadable", &message);
            return pass.wait("release.unreadable", message);
        }
    }
    pass.wait(
        "release.undo",
        format!("host {name} is given back: nothing was written to it"),
    )
}

fn ask_back(pass: &mut Pass<'_>, host: &BareMetalHost) -> Rule {
    let name = host.metadata.name.as_deref().unwrap_or_default();
    if let Some(patch) = asking(host) {
        pass.patch_host(host, patch);
        let message = format!("host {name} is asked back");
        pass.tell("Releasing", message.clone());
        pass.pending(condition::DESTROYED, "Releasing", &message);
        return pass.wait("release.ask", message);
    }
    let status = host.status.clone().unwrap_or_default();
    if status.error_type.is_some() {
        let message = format!("host {name} is not given back yet: {}", status.error_message);
        pass.problem(condition::DESTROYED, "HostError", &message);
        pass.fail("HostError", &message);
        return pass.wait("release.host-error", message);
    }
    let doing = status.steelyard.map(|own| own.message).filter(|m| !m.is_empty());
    let doing = doing.map(|message| format!(": {message}")).unwrap_or_default();
    let message = format!("host {name} is {}{doing}", status.provisioning.state);
    pass.pending(condition::DESTROYED, "Releasing", &message);
    pass.wait("release.await-host", message)
}

/// The patch that asks a host back; `None`: it has been asked.
fn asking(host: &BareMetalHost) -> Option<Value> {
    let spec = &host.spec;
    // A host that may not be switched off may not be told to be off either.
    let online = spec.online && spec.disable_power_off;
    let asked = spec.image.is_none() && spec.user_data.is_none() && spec.network_data.is_none();
    if asked && spec.online == online {
        return None;
    }
    let nothing = Value::Null;
    Some(
        json!({ "spec": { "image": nothing, "userData": nothing, "networkData": nothing, "online": online } }),
    )
}

/// What frees a host whose claim is gone without having given it back: its finalizer was removed by hand, or the
/// write that took the host and the deletion of the claim crossed. For a host that names a claim which does not
/// exist, asked of the API server and not of a cache. `None`: the host is on its way already.
pub fn free_orphan(host: &BareMetalHost) -> Option<ObjectWrite> {
    let patch = if is_untouched(host) {
        match RestoreRecord::of(host) {
            Ok(Some(record)) => record.apply_patch(host),
            Ok(None) => json!({ "spec": { "consumerRef": null } }),
            // A human has to read the record first; the host's own lifecycle tells so.
            Err(_) => return None,
        }
    } else {
        asking(host)?
    };
    Some(host_write(host, patch))
}

/// No host is this claim's: what was made for it goes, then the claim itself.
fn finish(pass: &mut Pass<'_>) -> Rule {
    if !pass.has_finalizer() {
        return pass.wait(
            "release.done",
            "the claim is gone as soon as its other finalizers are",
        );
    }
    if let Some(host) = pass.status.bare_metal_host.clone() {
        let same = |seen: &&BareMetalHost| seen.metadata.uid.as_deref() == Some(host.uid.as_str());
        if let Some(seen) = pass.view.hosts.iter().copied().find(same) {
            // Changes nothing, but is refused if the host is not the one that we see: it may be ours after all.
            pass.patch_host(seen, json!({}));
        }
        pass.delete_secret(
            &host.namespace,
            secret::user_data_of(pass.namespace(), pass.name()),
        );
        pass.delete_secret(
            &host.namespace,
            secret::network_data_of(pass.namespace(), pass.name()),
        );
        pass.achieved(
            condition::DESTROYED,
            "Released",
            &format!("host {} was given back", host.name),
        );
    }
    let others: Vec<_> = pass
        .claim()
        .metadata
        .finalizers
        .iter()
        .flatten()
        .filter(|name| *name != finalizer::CLAIM)
        .cloned()
        .collect();
    pass.patch_claim(json!({ "metadata": { "finalizers": others } }));
    pass.wait("release.finish", "the machine was given back")
}
