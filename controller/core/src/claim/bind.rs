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
use serde_json::{Map, Value, json};
use steelyard_api::{
    loft::{AllocatedAddress, HostReference, NetworkReference, NodeClaim, NodeProvider, NodeType, claim_condition as condition},
    metal3::{BareMetalHost, ClaimRecord},
    names::{annotation, finalizer, label, property},
};

/// Fields of a host's spec that a claim sets, at once or later: all of them are in the restore record.
const SPEC_FIELDS: [&str; 5] = ["consumerRef", "image", "userData", "networkData", "online"];

pub(super) fn bind(pass: &mut Pass<'_>) -> Rule {
    let remembered = pass.status.bare_metal_host.clone();
    if let Some(host) = &remembered
        && !may_be_taken_again(pass, host)
    {
        return lost_host(pass, &host.namespace, &host.name);
    }
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
    match choose::choose(pass.view, remembered.as_ref()) {
        Choice::Nothing { reason, message } => unscheduled(pass, "claim.no-host", reason, message),
        Choice::Found { node_type, provider, host } => take(pass, node_type, provider, host),
    }
}

fn unscheduled(pass: &mut Pass<'_>, rule: &'static str, reason: &'static str, message: String) -> Rule {
    pass.problem(condition::SCHEDULED, reason, &message);
    pass.wait(rule, message)
}

/// The host that the status names is there and free: either it was given back by hand, or we see it as it was before
/// we took it. In the second case the write that takes it again is refused, and a newer view is gathered.
fn may_be_taken_again(pass: &Pass<'_>, remembered: &HostReference) -> bool {
    let same = |host: &&BareMetalHost| host.metadata.uid.as_deref() == Some(remembered.uid.as_str());
    pass.view.hosts.iter().copied().find(same).is_some_and(|host| eligible::unavailable(host).is_none())
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

fn take(pass: &mut Pass<'_>, node_type: &NodeType, provider: &NodeProvider, host: &BareMetalHost) -> Rule {
    let merged = properties::effective(pass.view, Some(provider), Some(node_type));
    let checked = merged.and_then(|effective| properties::image(&effective).map(|_| effective));
    let effective = match checked {
        Ok(effective) => effective,
        Err(error) => return unusable(pass, &error),
    };
    let gateway = match network(pass, &effective) {
        Ok(gateway) => gateway,
        Err(rule) => return rule,
    };
    let address = match address::choose(pass.view, &effective, host, gateway) {
        Ok(address) => address,
        Err(error) => return unscheduled(pass, "claim.no-address", "NoAddress", error.to_string()),
    };
    let type_name = node_type.metadata.name.clone().unwrap_or_default();
    let patch = bind_patch(pass, host, &effective, address.as_ref(), &type_name);
    pass.patch_host(host, patch);
    let message = format!(
        "host {}/{} of type {type_name} was chosen",
        host.metadata.namespace.as_deref().unwrap_or_default(),
        host.metadata.name.as_deref().unwrap_or_default()
    );
    pass.status.bare_metal_host = Some(reference(host));
    pass.status.address = address;
    pass.achieved(condition::SCHEDULED, "HostChosen", &message);
    pass.pending(condition::PROVISIONED, "Preparing", "its user data is about to be made");
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
    pass.status.network = Some(NetworkReference { name: network.name.clone(), create: network.create });
    match &pass.view.network {
        Observed::Known { value, .. } if value.name == network.name => Ok(value.gateway),
        seen => {
            // Facts about another network are none about this one.
            let why = seen.ignorance().unwrap_or(&Ignorance::NotAsked);
            let message = match why {
                Ignorance::NotAsked => format!("waiting for network {}", network.name),
                Ignorance::Unreachable(why) | Ignorance::Unreadable(why) | Ignorance::Refused { why, .. } => {
                    format!("network {} cannot be made or read, it is tried again: {why}", network.name)
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
        (annotation::IP_ADDRESS, address.map(|address| address.address.clone())),
        (annotation::GATEWAY, address.and_then(|address| address.gateway.clone())),
        (annotation::DNS_SERVERS, servers(property::DNS_SERVERS)),
        (annotation::NTP_SERVERS, servers(property::NTP_SERVERS)),
    ];
    values.into_iter().filter_map(|(key, value)| Some((key.to_owned(), json!(value?)))).collect()
}

/// The same claim with another address, where two had been given the same one.
pub(super) fn readdress(pass: &Pass<'_>, effective: &Effective, host: &BareMetalHost) -> Option<AllocatedAddress> {
    let gateway = pass.view.network.known().and_then(|network| network.gateway);
    let mut without = host.clone();
    if let Some(annotations) = &mut without.metadata.annotations {
        annotations.remove(annotation::IP_ADDRESS);
    }
    address::choose(pass.view, effective, &without, gateway).ok().flatten()
}
