//! Static pools: which claims there should be, which are missing, which are too many.

use super::{TenantView, doing, is_ready};
use crate::Jitter;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use std::collections::{BTreeMap, BTreeSet};
use steelyard_api::{
    loft::{
        AutoNodes, NodeClaim, NodeClaimSpec, Phase, Requirement, RequirementOperator, StaticPool,
        VclusterConfig, VirtualClusterInstance,
    },
    names::{annotation, label},
};

/// Claims made in one pass. A pool of a thousand is asked for in several, each of which sees what is there.
const AT_ONCE: usize = 32;
/// Letters at the end of a claim's name.
const SUFFIX: usize = 5;
/// A node's name is a DNS label.
const LONGEST_NAME: usize = 63;

#[derive(Default)]
pub(super) struct Plan {
    pub missing: Vec<NodeClaim>,
    pub surplus: Vec<NodeClaim>,
    /// Not all that is missing was asked for in this pass.
    pub more: bool,
    pub wanted: usize,
    pub ready: usize,
    /// What claims that are not Ready say: those in trouble, and the others.
    pub failed: Vec<String>,
    pub pending: Vec<String>,
}

pub(super) fn plan(view: &TenantView<'_>, config: &VclusterConfig) -> Plan {
    let mut plan = Plan::default();
    let mut names: BTreeSet<String> = view
        .claims
        .iter()
        .filter_map(|claim| claim.metadata.name.clone())
        .collect();
    let mut by_pool: BTreeMap<String, Vec<&NodeClaim>> = BTreeMap::new();
    for claim in view
        .claims
        .iter()
        .filter(|claim| claim.metadata.deletion_timestamp.is_none())
    {
        // Claims without the label were made by somebody else for this tenant: they are left alone.
        if let Some(pool) = claim
            .metadata
            .labels
            .as_ref()
            .and_then(|labels| labels.get(label::POOL))
        {
            by_pool.entry(pool.clone()).or_default().push(claim);
        }
    }
    let pools = config.auto_nodes.iter().filter(|_| config.private_nodes);
    let pools = pools.flat_map(|nodes| nodes.static_pools.iter().map(move |pool| (nodes, pool)));
    for (nodes, pool) in pools {
        let mut members = by_pool.remove(&pool.name).unwrap_or_default();
        let quantity = pool.quantity as usize;
        plan.wanted += quantity;
        members.sort_by_cached_key(|claim| worth(claim));
        let surplus = members.len().saturating_sub(quantity);
        plan.surplus.extend(members.drain(..surplus).cloned());
        for claim in &members {
            note(&mut plan, claim);
        }
        for _ in members.len()..quantity {
            if plan.missing.len() == AT_ONCE {
                plan.more = true;
                break;
            }
            let name = fresh_name(view.tenant, &pool.name, &names);
            names.insert(name.clone());
            plan.missing
                .push(new_claim(view.tenant, config, nodes, pool, &name));
        }
    }
    // Pools that the configuration does not have any more.
    plan.surplus.extend(by_pool.into_values().flatten().cloned());
    plan
}

fn note(plan: &mut Plan, claim: &NodeClaim) {
    if is_ready(claim) {
        plan.ready += 1;
    } else if claim
        .status
        .as_ref()
        .is_some_and(|status| status.phase == Some(Phase::Failed))
    {
        plan.failed.push(doing(claim));
    } else {
        plan.pending.push(doing(claim));
    }
}

/// The order in which claims are given back: preferred ones, those without a host, those not Ready, the youngest.
fn worth(claim: &NodeClaim) -> (bool, bool, bool, i64, String) {
    let metadata = &claim.metadata;
    let preferred = metadata
        .annotations
        .as_ref()
        .is_some_and(|all| all.contains_key(annotation::PREFERRED_DELETION));
    let has_host = claim
        .status
        .as_ref()
        .is_some_and(|status| status.bare_metal_host.is_some());
    let age = metadata
        .creation_timestamp
        .as_ref()
        .map_or(0, |created| -created.0.as_second());
    (
        !preferred,
        has_host,
        is_ready(claim),
        age,
        metadata.name.clone().unwrap_or_default(),
    )
}

/// `TENANT-xxxxx`, unlike any other name of the tenant's claims.
///
/// The letters follow from the tenant, the pool and a slot, not from dice: a decision made on an old view, which
/// lacks the claims that were just made, names the same ones again, and the API server refuses the second.
fn fresh_name(tenant: &VirtualClusterInstance, pool: &str, taken: &BTreeSet<String>) -> String {
    let prefix = tenant.metadata.name.as_deref().unwrap_or_default();
    let uid = tenant.metadata.uid.as_deref().unwrap_or_default();
    let room = LONGEST_NAME - SUFFIX - 1;
    let prefix = prefix
        .char_indices()
        .nth(room)
        .map_or(prefix, |(end, _)| &prefix[..end])
        .trim_end_matches(['-', '.']);
    (0..u64::MAX)
        .map(|slot| {
            format!(
                "{prefix}-{}",
                Jitter(digest(&[uid, pool]).wrapping_add(slot)).suffix(SUFFIX)
            )
        })
        .find(|name| !taken.contains(name))
        .unwrap_or_default()
}

/// FNV-1a, the parts kept apart.
fn digest(parts: &[&str]) -> u64 {
    let bytes = parts.iter().flat_map(|part| part.bytes().chain([0]));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn new_claim(
    tenant: &VirtualClusterInstance,
    config: &VclusterConfig,
    nodes: &AutoNodes,
    pool: &StaticPool,
    name: &str,
) -> NodeClaim {
    let tenant_name = tenant.metadata.name.clone().unwrap_or_default();
    let spec = NodeClaimSpec {
        provider_ref: Some(nodes.provider.clone()),
        vcluster_ref: Some(tenant_name.clone()),
        properties: nodes.properties.clone().overlaid(&pool.properties),
        requirements: pool.node_type_selector.iter().map(requirement).collect(),
        taints: pool.taints.clone(),
        profile_ref: pool.profile.clone().or_else(|| config.default_profile.clone()),
        owner: tenant.spec.owner.clone(),
        ..NodeClaimSpec::default()
    };
    let mut claim =
        NodeClaim::new(name, spec).within(tenant.metadata.namespace.as_deref().unwrap_or_default());
    let mut labels: BTreeMap<String, String> = pool.node_labels.0.clone();
    labels.insert(label::VIRTUAL_CLUSTER.to_owned(), tenant_name.clone());
    labels.insert(label::POOL.to_owned(), pool.name.clone());
    claim.metadata.labels = Some(labels);
    claim.metadata.owner_references = Some(vec![OwnerReference {
        api_version: VirtualClusterInstance::API_VERSION.to_owned(),
        kind: VirtualClusterInstance::KIND.to_owned(),
        name: tenant_name,
        uid: tenant.metadata.uid.clone().unwrap_or_default(),
        controller: Some(true),
        ..OwnerReference::default()
    }]);
    claim
}

fn requirement(term: &steelyard_api::loft::SelectorTerm) -> Requirement {
    let operator = match term.operator {
        RequirementOperator::NotExists => RequirementOperator::DoesNotExist,
        other => other,
    };
    Requirement {
        key: term.property.clone(),
        operator,
        values: term.values.clone(),
        ..Requirement::default()
    }
}
