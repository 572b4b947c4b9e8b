//! A claim with a host: prepare it, have it installed, then say how it does.

use super::{
    Effective, address, bind, choose,
    pass::{Pass, reference},
    properties,
    view::{ClaimIntent, RenderFacts, RenderPlan},
};
use crate::{Ignorance, Observed, Rule};
use serde_json::{Value, json};
use steelyard_api::{
    loft::{AllocatedAddress, NetworkReference, NodeType, PowerState, claim_condition as condition},
    metal3::{BareMetalHost, BareMetalHostStatus, ErrorType, Image, ProvisioningState, SecretReference},
    names::{annotation, label, property, secret},
};

pub(super) fn follow(pass: &mut Pass<'_>, host: &BareMetalHost) -> Rule {
    let label = host
        .metadata
        .labels
        .as_ref()
        .and_then(|labels| labels.get(label::NODE_TYPE));
    let type_name = label.or(pass.claim().spec.type_ref.as_ref()).cloned();
    let node_type = pass
        .view
        .types
        .iter()
        .copied()
        .find(|t| t.metadata.name == type_name);
    if pass.claim().spec.type_ref.is_none() && type_name.is_some() {
        // Written after the bond, not with it: taking a host is one write.
        pass.patch_claim(json!({ "spec": { "typeRef": type_name } }));
    }
    remember(pass, host);
    if is_installed(pass, host) {
        return watch(pass, host, node_type);
    }
    prepare(pass, host, node_type)
}

/// What the host itself says of the bond goes into the status, where a crash between two writes had lost it.
fn remember(pass: &mut Pass<'_>, host: &BareMetalHost) {
    pass.status.bare_metal_host = Some(reference(host));
    let annotated = |key: &str| host.metadata.annotations.as_ref()?.get(key).cloned();
    pass.status.address = address::annotated(host).map(|net| AllocatedAddress {
        address: net.to_string(),
        gateway: annotated(annotation::GATEWAY),
    });
    pass.achieved(
        condition::SCHEDULED,
        "HostChosen",
        &format!("host {} was chosen", place(host)),
    );
}

fn place(host: &BareMetalHost) -> String {
    let metadata = &host.metadata;
    format!(
        "{}/{}",
        metadata.namespace.as_deref().unwrap_or_default(),
        metadata.name.as_deref().unwrap_or_default()
    )
}

/// Our own user data is on it: from here on the image is the host's affair.
fn is_installed(pass: &Pass<'_>, host: &BareMetalHost) -> bool {
    let wanted = secret::user_data_of(pass.namespace(), pass.name());
    let named = host.spec.user_data.as_ref().and_then(SecretReference::name);
    named == Some(&wanted) && host.spec.image.is_some()
}

// ---- before the installation

fn prepare(pass: &mut Pass<'_>, host: &BareMetalHost, node_type: Option<&NodeType>) -> Rule {
    let provider = node_type.and_then(|node_type| choose::provider_of(pass.view, node_type));
    let merged = properties::effective(pass.view, provider, node_type);
    let effective = match merged {
        Ok(effective) => effective,
        Err(error) => return blocked(pass, "claim.properties", error.reason(), error.to_string()),
    };
    let image = match properties::image(&effective) {
        Ok(image) => image,
        Err(error) => return blocked(pass, "claim.properties", error.reason(), error.to_string()),
    };
    pass.status.network = effective
        .network(pass.claim())
        .filter(|_| pass.view.fabric)
        .map(|network| NetworkReference {
            name: network.name,
            create: network.create,
        });
    if let Some(rule) = settle_address(pass, &effective, host) {
        return rule;
    }
    if pass.claim().spec.vcluster_ref.is_some() && !pass.view.tenant.as_ref().is_some_and(|t| t.reachable) {
        let tenant = pass.claim().spec.vcluster_ref.clone().unwrap_or_default();
        let message = format!(
            "waiting for the control plane of VirtualClusterInstance {tenant}: its Secret {} is not there yet",
            secret::kubeconfig_of(&tenant)
        );
        pass.pending(condition::PROVISIONED, "WaitingForControlPlane", &message);
        return pass.wait("claim.await-tenant", message);
    }
    render(pass, host, &effective, image)
}

/// Something that a user must change before the installation can start.
fn blocked(pass: &mut Pass<'_>, rule: &'static str, reason: &'static str, message: String) -> Rule {
    pass.problem(condition::PROVISIONED, reason, &message);
    pass.fail(reason, &message);
    pass.wait(rule, message)
}

/// Two claims that were decided at one time may have been given one address: the one that is not installed yet
/// gives way, of two such the one with the greater uid.
fn settle_address(pass: &mut Pass<'_>, effective: &Effective, host: &BareMetalHost) -> Option<Rule> {
    let own = address::annotated(host)?;
    let other = pass.view.addresses.get(&own.addr())?;
    if !other.installed && other.uid.as_str() > pass.uid() {
        return None;
    }
    let Some(next) = bind::readdress(pass, effective, host).filter(|next| next.address != own.to_string())
    else {
        let message = format!("address {own} is used by somebody else, and no other is free");
        return Some(blocked(pass, "claim.address-clash", "NoAddress", message));
    };
    pass.patch_host(
        host,
        json!({ "metadata": { "annotations": { annotation::IP_ADDRESS: next.address, annotation::GATEWAY: next.gateway } } }),
    );
    let message = format!(
        "address {own} was taken meanwhile: the machine gets {}",
        next.address
    );
    pass.status.address = Some(next);
    Some(pass.wait("claim.address-clash", message))
}

fn render(pass: &mut Pass<'_>, host: &BareMetalHost, effective: &Effective, image: Image) -> Rule {
    let plan = plan(pass, host, effective);
    let failed = match &pass.view.rendered {
        Observed::Known {
            value: RenderFacts::Ready { key },
            ..
        } if *key == plan.key => {
            return install(pass, host, &plan, image);
        }
        Observed::Known {
            value: RenderFacts::Failed { key, message },
            ..
        } if *key == plan.key => Some(message.clone()),
        Observed::Unknown {
            why: Ignorance::Unreachable(why) | Ignorance::Unreadable(why),
            ..
        } => Some(why.clone()),
        _ => None,
    };
    // Asked for in either case: the executor renders again when what it lacked may be there.
    pass.intend(ClaimIntent::Render(plan));
    match failed {
        Some(why) => {
            let message = format!("the user data of the machine cannot be made: {why}");
            blocked(pass, "claim.render-failed", "UserDataFailed", message)
        }
        None => {
            let message = "the user data of the machine is being made";
            pass.pending(condition::PROVISIONED, "Preparing", message);
            pass.wait("claim.render", message)
        }
    }
}

fn plan(pass: &Pass<'_>, host: &BareMetalHost, effective: &Effective) -> RenderPlan {
    let address = pass.status.address.clone();
    let described = address.is_some()
        || effective.get(property::NETWORK_DATA).is_some()
        || effective.get(property::NETWORK_DATA_TEMPLATE).is_some();
    let at = address.as_ref().map_or("", |address| address.address.as_str());
    RenderPlan {
        key: format!("{}@{at}", pass.uid()),
        host: reference(host),
        user_data_secret: secret::user_data_of(pass.namespace(), pass.name()),
        network_data_secret: described.then(|| secret::network_data_of(pass.namespace(), pass.name())),
        properties: effective.properties.clone(),
        address,
        tenant: pass.claim().spec.vcluster_ref.clone(),
        node_name: pass.name().to_owned(),
    }
}

/// Image, data and power, in one write: from here on the host's own lifecycle installs it.
fn install(pass: &mut Pass<'_>, host: &BareMetalHost, plan: &RenderPlan, image: Image) -> Rule {
    let namespace = plan.host.namespace.as_str();
    let data = |name: &String| json!({ "name": name, "namespace": namespace });
    let mut patch = json!({
        "spec": {
            "image": replacing(host, &image),
            "userData": data(&plan.user_data_secret),
            "networkData": plan.network_data_secret.as_ref().map(data),
            "online": true,
        },
    });
    let annotations = host.metadata.annotations.as_ref();
    if annotations.is_none_or(|all| !all.contains_key(annotation::RESTORE)) {
        // Somebody removed the way back before anything was changed for good: it is written anew.
        let record = bind::record(pass, host, &patch);
        patch["metadata"] = json!({ "annotations": { annotation::RESTORE: record.to_annotation() } });
    }
    pass.patch_host(host, patch);
    let message = format!("{} is to be written to host {}", image.url, place(host));
    pass.tell("Installing", message.clone());
    pass.pending(condition::PROVISIONED, "Installing", &message);
    pass.wait("claim.install", message)
}

/// The image as a merge patch: members that the present one has and this one lacks are removed.
fn replacing(host: &BareMetalHost, image: &Image) -> Value {
    let now = serde_json::to_value(&host.spec.image).unwrap_or_default();
    let want = serde_json::to_value(image).unwrap_or_default();
    crate::restore::difference(&now, &want).unwrap_or(want)
}

// ---- after the installation

fn watch(pass: &mut Pass<'_>, host: &BareMetalHost, node_type: Option<&NodeType>) -> Rule {
    pass.status.network = pass.status.network.take().filter(|_| pass.view.fabric);
    let status = host.status.clone().unwrap_or_default();
    if let Some(rule) = drift(pass, host, &status, node_type) {
        return rule;
    }
    let at_work = status
        .steelyard
        .as_ref()
        .map(|own| own.message.clone())
        .filter(|m| !m.is_empty());
    let state = status.provisioning.state;
    let provisioned = matches!(
        state,
        ProvisioningState::Provisioned | ProvisioningState::ExternallyProvisioned
    );
    if provisioned {
        pass.achieved(
            condition::PROVISIONED,
            "Provisioned",
            &format!("host {} runs its image", place(host)),
        );
    }
    if let Some((reason, message)) = host_error(&status, host) {
        if !provisioned {
            pass.problem(condition::PROVISIONED, reason, &message);
        }
        pass.fail(reason, &message);
        joined(pass, host, provisioned);
        return pass.wait("claim.host-error", message);
    }
    joined(pass, host, provisioned);
    if provisioned {
        return steer(pass, host);
    }
    let doing = at_work.map(|message| format!(": {message}")).unwrap_or_default();
    let message = format!("host {} is {state}{doing}", place(host));
    pass.pending(condition::PROVISIONED, camel(state), &message);
    pass.wait("claim.await-host", message)
}

fn host_error(status: &BareMetalHostStatus, host: &BareMetalHost) -> Option<(&'static str, String)> {
    let kind = status.error_type?;
    let reason = match kind {
        ErrorType::ProvisionedRegistration | ErrorType::Registration => "HostRegistrationError",
        ErrorType::Inspection => "HostInspectionError",
        ErrorType::Preparation => "HostPreparationError",
        ErrorType::Provisioning => "HostProvisioningError",
        ErrorType::PowerManagement => "HostPowerError",
        ErrorType::Detach => "HostDetachError",
        ErrorType::Servicing => "HostServicingError",
        ErrorType::Unknown => "HostError",
    };
    Some((reason, format!("host {}: {}", place(host), status.error_message)))
}

fn camel(state: ProvisioningState) -> &'static str {
    match state {
        ProvisioningState::Provisioning => "Provisioning",
        ProvisioningState::Deprovisioning => "Deprovisioning",
        ProvisioningState::Inspecting => "Inspecting",
        ProvisioningState::Preparing => "PreparingHost",
        ProvisioningState::Registering => "Registering",
        ProvisioningState::Deleting | ProvisioningState::PoweringOffBeforeDelete => "HostDeleting",
        _ => "HostNotProvisioned",
    }
}

/// Whether the node is in its tenant. A host says that it is provisioned only when its node has joined, or when
/// the time for that is over.
fn joined(pass: &mut Pass<'_>, host: &BareMetalHost, provisioned: bool) {
    let Some(tenant) = pass.claim().spec.vcluster_ref.clone() else {
        return;
    };
    let node = pass.name();
    match pass.view.node.known() {
        Some(facts) if facts.exists && facts.ready => {
            pass.achieved(
                condition::JOINED,
                "NodeReady",
                &format!("node {node} of tenant {tenant} is Ready"),
            );
        }
        Some(facts) if facts.exists => {
            pass.pending(
                condition::JOINED,
                "NodeNotReady",
                &format!("node {node} of tenant {tenant} is not Ready"),
            );
        }
        Some(_) if provisioned => {
            let message = format!(
                "host {} is up, but node {node} has not joined tenant {tenant}: look at cloud-init's log on its console",
                place(host)
            );
            pass.problem(condition::JOINED, "NotJoined", &message);
            pass.fail("NotJoined", &message);
        }
        Some(_) => pass.pending(
            condition::JOINED,
            "NotJoined",
            &format!("node {node} has not joined yet"),
        ),
        None => {
            if pass
                .view
                .node
                .ignorance()
                .is_some_and(|why| *why != Ignorance::NotAsked)
            {
                pass.pending(
                    condition::JOINED,
                    "TenantUnreachable",
                    &format!("tenant {tenant} does not answer"),
                );
            }
        }
    }
}

/// A newer image in the properties does not reinstall a machine that somebody works on; it is told. One that could
/// not be written yet (a wrong URL, a wrong checksum) is replaced by the corrected one.
fn drift(
    pass: &mut Pass<'_>,
    host: &BareMetalHost,
    status: &BareMetalHostStatus,
    node_type: Option<&NodeType>,
) -> Option<Rule> {
    let provider = node_type.and_then(|node_type| choose::provider_of(pass.view, node_type));
    let effective = properties::effective(pass.view, provider, node_type).ok()?;
    let named = host.spec.image.as_ref();
    let same = |wanted: &Image| named.is_some_and(|i| i.url == wanted.url && i.checksum == wanted.checksum);
    let Some(wanted) = properties::image(&effective).ok().filter(|wanted| !same(wanted)) else {
        pass.status
            .conditions
            .retain(|c| c.kind != condition::NOT_DRIFTED);
        return None;
    };
    let written = status
        .provisioning
        .image
        .as_ref()
        .is_some_and(|image| !image.url.is_empty());
    if status.error_type.is_some() && !written {
        pass.patch_host(host, json!({ "spec": { "image": replacing(host, &wanted) } }));
        let message = format!("{} is to be written to host {} instead", wanted.url, place(host));
        pass.tell("Installing", message.clone());
        return Some(pass.wait("claim.image-corrected", message));
    }
    let message =
        "the image that the properties name is not the one that was written: delete the claim to change it";
    pass.problem(condition::NOT_DRIFTED, "ImageChanged", message);
    None
}

/// Power and reboots of a machine that runs.
fn steer(pass: &mut Pass<'_>, host: &BareMetalHost) -> Rule {
    let power = pass.claim().spec.power.as_ref().and_then(|power| power.state);
    let online = power != Some(PowerState::Off) || host.spec.disable_power_off;
    pass.off = !online;
    if host.spec.online != online {
        pass.patch_host(host, json!({ "spec": { "online": online } }));
        let word = if online { "on" } else { "off" };
        return pass.wait(
            "claim.power",
            format!("host {} is being switched {word}", place(host)),
        );
    }
    let asked = pass
        .claim()
        .metadata
        .annotations
        .as_ref()
        .is_some_and(|all| all.contains_key(annotation::MACHINE_REBOOT));
    if asked && online {
        // The host first: a crash in between repeats a reboot, the other order would lose it.
        let known = host
            .metadata
            .annotations
            .as_ref()
            .is_some_and(|all| all.contains_key(annotation::REBOOT));
        if !known {
            pass.patch_host(
                host,
                json!({ "metadata": { "annotations": { annotation::REBOOT: "" } } }),
            );
        }
        pass.patch_claim(json!({ "metadata": { "annotations": { annotation::MACHINE_REBOOT: null } } }));
        pass.tell("Rebooting", format!("host {} is rebooted", place(host)));
        return pass.wait("claim.reboot", format!("host {} is being rebooted", place(host)));
    }
    pass.wait("claim.settled", "")
}
