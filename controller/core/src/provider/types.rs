//! The NodeTypes that a provider lists, as objects.

use super::ProviderView;
use crate::{Change, ObjectRef, ObjectWrite, claim, restore::difference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::json;
use std::collections::BTreeSet;
use steelyard_api::{
    loft::{NamedNodeType, NodeProvider, NodeType},
    names::label,
};

type Problem = (&'static str, String);

/// Whether the provider's spec makes sense; the message names the field.
pub(super) fn check(provider: &NodeProvider) -> Result<(), Problem> {
    let Some(metal3) = &provider.spec.metal3 else {
        let message = "spec.metal3 is missing: Steelyard serves providers of type metal3 only".to_owned();
        return Err(("Unsupported", message));
    };
    if claim::provider_namespace(provider).is_none() {
        let message =
            "spec.metal3.clusterRef.namespace is missing: set it to the namespace of the BareMetalHosts";
        return Err(("NamespaceMissing", message.to_owned()));
    }
    let mut names = BTreeSet::new();
    for (index, named) in metal3.node_types.iter().enumerate() {
        let field = format!("spec.metal3.nodeTypes[{index}]");
        if !is_name(&named.name) {
            let message = format!(
                "{field}.name is {:?}: expected lower-case letters, digits, '-' and '.', starting and ending with \
                 a letter or digit",
                named.name
            );
            return Err(("NodeTypeInvalid", message));
        }
        if !names.insert(named.name.as_str()) {
            return Err((
                "NodeTypeInvalid",
                format!("{field}.name {:?} is listed twice", named.name),
            ));
        }
        let node_type = NodeType::new(&named.name, named.spec.clone());
        if let Err(error) = claim::type_selector(&node_type) {
            return Err(("NodeTypeInvalid", format!("{field}.{error}")));
        }
    }
    Ok(())
}

/// A DNS subdomain, as object names are.
fn is_name(name: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    let outer = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    (1..=253).contains(&name.len())
        && name.chars().all(inner)
        && name
            .split('.')
            .all(|part| part.starts_with(outer) && part.ends_with(outer))
}

pub(super) struct Plan {
    pub writes: Vec<ObjectWrite>,
    pub clash: Option<Problem>,
}

/// Creates what is missing, changes what differs, deletes what is not listed any more, and touches nothing that is
/// another provider's.
pub(super) fn plan(view: &ProviderView<'_>) -> Plan {
    let listed = view
        .provider
        .spec
        .metal3
        .as_ref()
        .map(|metal3| metal3.node_types.as_slice())
        .unwrap_or_default();
    let mut writes = Vec::new();
    let mut clashes = Vec::new();
    for named in listed {
        let wanted = wanted(view.provider, named);
        match view
            .types
            .iter()
            .find(|found| found.metadata.name.as_deref() == Some(&named.name))
        {
            None => writes.push(write(
                &named.name,
                Change::Create {
                    object: json!(wanted),
                },
            )),
            Some(found) if !is_own(view.provider, found) => {
                let of = found.spec.provider_ref.as_deref().unwrap_or("nobody");
                clashes.push(format!("{} (of {of})", named.name));
            }
            Some(found) => writes.extend(update(found, &wanted)),
        }
    }
    for found in view.types.iter().filter(|found| is_own(view.provider, found)) {
        let name = found.metadata.name.as_deref().unwrap_or_default();
        let gone = !listed.iter().any(|named| named.name == name);
        if gone && found.metadata.deletion_timestamp.is_none() {
            writes.push(write(
                name,
                Change::Delete {
                    uid: found.metadata.uid.clone(),
                },
            ));
        }
    }
    let clash = (!clashes.is_empty()).then(|| {
        let message = format!(
            "names of NodeTypes are unique in the whole cluster, and these are taken: {}. Rename them in \
             spec.metal3.nodeTypes",
            clashes.join(", ")
        );
        ("NameTaken", message)
    });
    Plan { writes, clash }
}

fn wanted(provider: &NodeProvider, named: &NamedNodeType) -> NodeType {
    let provider_name = provider.metadata.name.clone().unwrap_or_default();
    let mut spec = named.spec.clone();
    spec.provider_ref = Some(provider_name.clone());
    let mut node_type = NodeType::new(&named.name, spec);
    node_type.metadata.labels = Some([(label::PROVIDER.to_owned(), provider_name.clone())].into());
    node_type.metadata.owner_references = Some(vec![OwnerReference {
        api_version: NodeProvider::API_VERSION.to_owned(),
        kind: NodeProvider::KIND.to_owned(),
        name: provider_name,
        uid: provider.metadata.uid.clone().unwrap_or_default(),
        controller: Some(true),
        ..OwnerReference::default()
    }]);
    node_type
}

/// A type says whose it is; one that was left by a provider of the same name is taken over.
fn is_own(provider: &NodeProvider, node_type: &NodeType) -> bool {
    node_type.spec.provider_ref.is_some() && node_type.spec.provider_ref == provider.metadata.name
}

fn update(found: &NodeType, wanted: &NodeType) -> Option<ObjectWrite> {
    let spec = difference(&json!(found.spec), &json!(wanted.spec));
    let owners = found.metadata.owner_references != wanted.metadata.owner_references;
    if spec.is_none() && !owners {
        return None;
    }
    let mut patch = json!({});
    if let Some(spec) = spec {
        patch["spec"] = spec;
    }
    if owners {
        patch["metadata"] = json!({ "ownerReferences": wanted.metadata.owner_references });
    }
    let resource_version = found.metadata.resource_version.clone().unwrap_or_default();
    let name = found.metadata.name.as_deref().unwrap_or_default();
    Some(write(
        name,
        Change::Merge {
            resource_version,
            patch,
        },
    ))
}

fn write(name: &str, change: Change) -> ObjectWrite {
    let target = ObjectRef {
        api_version: NodeType::API_VERSION,
        kind: NodeType::KIND,
        namespace: None,
        name: name.to_owned(),
    };
    ObjectWrite { target, change }
}
