//! A claim without a host: what must be known first, which type and host, and the one write that takes it.

use super::{
    Effective, address,
    choose::{self, Choice},
    eligible,
    pass::{Pass, reference},
    properties::{self, PropertyError},
    view::ClaimIntent,
};
use crate::{Ignorance, Observed, Rule, restore::RestoreRecord};
use ipnet::Ipv4Net;
use jiff::SignedDuration;
use serde_json::{Map, Value, json};
use steelyard_api::{
    Conditions,
    loft::{
        AllocatedAddress, NetworkReference, NodeClaim, NodeProvider, NodeType, claim_condition as condition,
    },
    metal3::{BareMetalHost, ClaimRecord},
    names::{annotation, finalizer, label, property},
};

/// Fields of a host's spec that a claim sets, at once or later: all of them are in the restore record.
const SPEC_FIELDS: [&str; 5] = ["consumerRef", "image", "userData", "networkData", "online"];

pub(super) fn bind(pass: &mut Pass<'_>) -> Rule {
    if !pass.has_finalizer() {
        let all = pass.claim().metadata.finalizers.iter().flatten().cloned();
        let all: Vec<_> = all.chain([finalizer::CLAIM.to_owned()]).collect();
        pass.patch_claim(json!({ "metadata": { "finalizers": all } }));
        return pass.wait("claim.finalizer", "about to look for a host");
    }
    if pass.claim().spec.vcluster_ref.is_some() && pass.view.tenant.is_none() {
        let tenant = pass.claim().spec.vcluster_ref.clone().unwrap_or_default();
        let message = format!(
            "VirtualClusterInstance {}/{tenant} does not exist: create it, or change spec.vClusterRef",
            pass.namespace()
        );
        return unscheduled(pass, "claim.no-tenant", "TenantNotFound", message);
    }
    let remembered = pass.status.bare_metal_host.clone();
    let Some(remembered) = remembered else {
        return settle_on(pass, None);
    };
    let same = |host: &&BareMetalHost| host.metadata.uid.as_deref() == Some(remembered.uid.as_str());
    let seen = pass.view.hosts.iter().copied().find(same);
    let free = seen.is_some_and(|host| eligible::unavailable(host).is_none());
    if free
        && let Choice::Found {
            node_type,
            provider,
            host,
        } = choose::choose(pass.view, Some(&remembered))
    {
        return take(pass, node_type, provider, host);
    }
    if pass.status.conditions.is_condition_true(condition::SCHEDULED) {
        return lost_host(pass, &remembered.namespace, &remembered.name);
    }
    // It was chosen, but somebody else was faster, or it does not do any more.
    settle_on(pass, seen)
}

/// Chooses a host and writes down which, before it is taken: after a crash between the two the claim knows which
/// host may be its own already. `instead_of` is the host that was written down before.
fn settle_on(pass: &mut Pass<'_>, instead_of: Option<&BareMetalHost>) -> Rule {
    if let Some(host) = instead_of {
        // Changes nothing, but is refused if the host is not the one that we see: it may be ours after all.
        pass.patch_host(host, json!({}));
    }
    pass.status.bare_metal_host = None;
    let (node_type, provider, host) = match choose::choose(pass.view, None) {
        Choice::Nothing { reason, message } => return unscheduled(pass, "claim.no-host", reason, message),
        Choice::Found {
            node_type,
            provider,
            host,
        } => (node_type, provider, host),
    };
    if let Err(rule) = ready_for(pass, node_type, provider, host) {
        return rule;
    }
    let message = format!("host {} is about to be taken", place(host));
    pass.status.bare_metal_host = Some(reference(host));
    pass.pending(condition::SCHEDULED, "Binding", &message);
    pass.look_again(SignedDuration::ZERO);
    pass.wait("claim.choose", message)
}

fn place(host: &BareMetalHost) -> String {
    let host = reference(host);
    format!("{}/{}", host.namespace, host.name)
}

fn unscheduled(pass: &mut Pass<'_>, rule: &'static str, reason: &'static str, message: String) -> Rule {
    pass.problem(condition::SCHEDULED, reason, &message);
    pass.wait(rule, message)
}

/// The host that the status names is not this claim's any more: deleted, or given to somebody by hand. Another one
/// is not taken silently, since what ran on this one is gone.
fn lost_host(pass: &mut Pass<'_>, namespace: &str, name: &str) -> Rule {
    let message = format!(
        "host {namespace}/{name} does not belong to this claim any more (deleted, or spec.consumerRef changed): \
         delete the claim to get another machine"
    );
    pass.problem(condition::PROVISIONED, "HostLost", &message);
    pass.fail("HostLost", &message);
    pass.wait("claim.host-lost", message)
}

/// Everything that a host of this type needs to be of use to the claim; else what is missing was told.
fn ready_for(
    pass: &mut Pass<'_>,
    node_type: &NodeType,
    provider: &NodeProvider,
    host: &BareMetalHost,
) -> Result<(Effective, Option<AllocatedAddress>), Rule> {
    let merged = properties::effective(pass.view, Some(provider), Some(node_type));
    let checked = merged.and_then(|effective| properties::image(&effective).map(|_| effective));
    let effective = checked.map_err(|error| unusable(pass, &error))?;
    let gateway = network(pass, &effective)?;
    match address::choose(pass.view, &effective, host, gateway) {
        Ok(address) => Ok((effective, address)),
        Err(error) => Err(unscheduled(
            pass,
            "claim.no-address",
            "NoAddress",
            error.to_string(),
        )),
    }
}

fn take(pass: &mut Pass<'_>, node_type: &NodeType, provider: &NodeProvider, host: &BareMetalHost) -> Rule {
    let (effective, address) = match ready_for(pass, node_type, provider, host) {
        Ok(ready) => ready,
        Err(rule) => return rule,
    };
    let type_name = node_type.metadata.name.clone().unwrap_or_default();
    let patch = bind_patch(pass, host, &effective, address.as_ref(), &type_name);
    // Changes nothing, but is refused unless this is the claim that wrote down this host: one that has settled on
    // another host since must not take both.
    pass.patch_claim(json!({}));
    pass.patch_host(host, patch);
    let message = format!("host {} of type {type_name} was chosen", place(host));
    pass.status.bare_metal_host = Some(reference(host));
    pass.status.address = address;
    pass.achieved(condition::SCHEDULED, "HostChosen", &message);
    pass.pending(
        condition::PROVISIONED,
        "Preparing",
        "its user data is about to be made",
    );
    pass.wait("claim.bind", message)
}

fn unusable(pass: &mut Pass<'_>, error: &PropertyError) -> Rule {
    unscheduled(pass, "claim.properties", error.reason(), error.to_string())
}

/// The gateway of the machine's network, once that network is there. Without a fabric, or without a network of
/// its own, there is none to wait for.
fn network(pass: &mut Pass<'_>, effective: &Effective) -> Result<Option<Ipv4Net>, Rule> {
    let Some(network) = effective.network(pass.claim()).filter(|_| pass.view.fabric) else {
        pass.status.network = None;
        return Ok(None);
    };
    pass.status.network = Some(NetworkReference {
        name: network.name.clone(),
        create: network.create,
    });
    match &pass.view.network {
        Observed::Known { value, .. } if value.name == network.name => Ok(value.gateway),
        seen => {
            // Facts about another network are none about this one.
            let why = seen.ignorance().unwrap_or(&Ignorance::NotAsked);
            let message = match why {
                Ignorance::NotAsked => format!("waiting for network {}", network.name),
                Ignorance::Unreachable(why) | Ignorance::Unreadable(why) | Ignorance::Refused { why, .. } => {
                    format!(
                        "network {} cannot be made or read, it is tried again: {why}",
                        network.name
                    )
                }
            };
            match why {
                Ignorance::NotAsked => pass.pending(condition::SCHEDULED, "NetworkPending", &message),
                _ => pass.problem(condition::SCHEDULED, "NetworkNotAvailable", &message),
            }
            pass.intend(ClaimIntent::Network(network));
            Err(pass.wait("claim.network", message))
        }
    }
}

/// Everything that marks the host as this claim's, with the way back, in one write.
fn bind_patch(
    pass: &Pass<'_>,
    host: &BareMetalHost,
    effective: &Effective,
    address: Option<&AllocatedAddress>,
    type_name: &str,
) -> Value {
    let mut patch = json!({
        "metadata": {
            "labels": {
                label::NODE_CLAIM: pass.name(),
                label::NODE_CLAIM_NAMESPACE: pass.namespace(),
                label::NODE_TYPE: type_name,
            },
            "annotations": annotations(effective, address),
        },
        "spec": {
            "consumerRef": {
                "apiVersion": NodeClaim::API_VERSION,
                "kind": NodeClaim::KIND,
                "namespace": pass.namespace(),
                "name": pass.name(),
                "uid": pass.uid(),
            },
        },
    });
    let record = record(pass, host, &patch);
    patch["metadata"]["annotations"][annotation::RESTORE] = json!(record.to_annotation());
    patch
}

/// What the host was before: also of the fields that only the installation will set, so that the way back is whole
/// from the first write on.
pub(super) fn record(pass: &Pass<'_>, host: &BareMetalHost, patch: &Value) -> RestoreRecord {
    let mut whole = patch.clone();
    for field in SPEC_FIELDS {
        if whole["spec"].get(field).is_none() {
            whole["spec"][field] = Value::Null;
        }
    }
    let claim = ClaimRecord {
        namespace: pass.namespace().to_owned(),
        name: pass.name().to_owned(),
        uid: pass.uid().to_owned(),
    };
    RestoreRecord::capture(claim, host, &whole)
}

/// What DHCP and people read of the machine's address.
fn annotations(effective: &Effective, address: Option<&AllocatedAddress>) -> Map<String, Value> {
    let servers = |name: &str| effective.get(name).map(str::to_owned);
    let values = [
        (
            annotation::IP_ADDRESS,
            address.map(|address| address.address.clone()),
        ),
        (
            annotation::GATEWAY,
            address.and_then(|address| address.gateway.clone()),
        ),
        (annotation::DNS_SERVERS, servers(property::DNS_SERVERS)),
        (annotation::NTP_SERVERS, servers(property::NTP_SERVERS)),
    ];
    values
        .into_iter()
        .filter_map(|(key, value)| Some((key.to_owned(), json!(value?))))
        .collect()
}

/// The same claim with another address, where two had been given the same one.
pub(super) fn readdress(
    pass: &Pass<'_>,
    effective: &Effective,
    host: &BareMetalHost,
) -> Option<AllocatedAddress> {
    let gateway = pass.view.network.known().and_then(|network| network.gateway);
    let mut without = host.clone();
    if let Some(annotations) = &mut without.metadata.annotations {
        annotations.remove(annotation::IP_ADDRESS);
    }
    address::choose(pass.view, effective, &without, gateway)
        .ok()
        .flatten()
}
