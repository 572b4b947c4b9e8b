//! Which hosts can be taken: the same answer for a claim that chooses and for a provider that counts.

use steelyard_api::{
    loft::NodeClaim,
    metal3::{BareMetalHost, ProvisioningState},
    names::{annotation, label},
};

/// Whether the host says that this claim has it. The uid decides where there is one: a claim that was deleted and
/// made anew under its old name is another claim.
pub fn is_held_by(host: &BareMetalHost, claim: &NodeClaim) -> bool {
    let Some(consumer) = &host.spec.consumer_ref else {
        return false;
    };
    if consumer.kind.as_deref() != Some(NodeClaim::KIND) {
        return false;
    }
    match (
        consumer.uid.as_deref().filter(|uid| !uid.is_empty()),
        claim.metadata.uid.as_deref(),
    ) {
        (Some(uid), Some(own)) => uid == own,
        _ => {
            consumer.name == claim.metadata.name
                && consumer.namespace.as_deref().unwrap_or_default()
                    == claim.metadata.namespace.as_deref().unwrap_or_default()
        }
    }
}

/// Who has the host, in words; `None`: nobody.
pub fn holder(host: &BareMetalHost) -> Option<String> {
    if let Some(consumer) = &host.spec.consumer_ref {
        let kind = consumer.kind.as_deref().unwrap_or("object");
        let name = consumer.name.as_deref().unwrap_or_default();
        return Some(match consumer.namespace.as_deref() {
            Some(namespace) => format!("{kind} {namespace}/{name}"),
            None => format!("{kind} {name}"),
        });
    }
    let labels = host.metadata.labels.as_ref()?;
    labels
        .get(label::NODE_CLAIM)
        .map(|name| format!("NodeClaim {name} (label {})", label::NODE_CLAIM))
}

/// Why the host cannot be taken now; `None`: it can.
pub fn unavailable(host: &BareMetalHost) -> Option<String> {
    let annotated = |key: &str| {
        host.metadata
            .annotations
            .as_ref()
            .is_some_and(|all| all.contains_key(key))
    };
    if host.metadata.deletion_timestamp.is_some() {
        return Some("is being deleted".to_owned());
    }
    if let Some(holder) = holder(host) {
        return Some(format!("is taken by {holder}"));
    }
    for (key, why) in [
        (annotation::PAUSED, "is paused"),
        (annotation::DETACHED, "is detached"),
        (annotation::UNHEALTHY, "is marked unhealthy"),
        (annotation::RESTORE, "is still being restored"),
    ] {
        if annotated(key) {
            return Some(format!("{why} (annotation {key})"));
        }
    }
    let status = host.status.as_ref();
    let state = status.map(|s| s.provisioning.state).unwrap_or_default();
    if !matches!(state, ProvisioningState::Available | ProvisioningState::Ready) {
        let error = status.filter(|s| !s.error_message.is_empty());
        return Some(match (state, error) {
            (_, Some(status)) => format!("is {state}, with an error: {}", status.error_message),
            (ProvisioningState::None, _) => "is not registered yet".to_owned(),
            _ => format!("is {state}"),
        });
    }
    if let Some(status) = status.filter(|s| s.error_type.is_some()) {
        return Some(format!("has an error: {}", status.error_message));
    }
    if host.spec.externally_provisioned {
        return Some("is provisioned by somebody else (spec.externallyProvisioned)".to_owned());
    }
    if host.spec.online {
        return Some(
            "is meant to be on (spec.online is true): only hosts that are off are given out".to_owned(),
        );
    }
    if host
        .spec
        .image
        .as_ref()
        .is_some_and(|image| !image.url.is_empty())
        || host.spec.custom_deploy.is_some()
    {
        return Some("is meant for another image (spec.image)".to_owned());
    }
    None
}
