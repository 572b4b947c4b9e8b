//! What one type costs, and how many of its hosts are free.

use crate::claim;
use jiff::Timestamp;
use kube_core::SelectorExt;
use std::collections::{BTreeMap, BTreeSet};
use steelyard_api::{
    ConditionStatus, Conditions,
    loft::{
        NodeCapacity, NodeClaim, NodeProvider, NodeType, NodeTypeStatus, Phase, Requirement,
        node_type_condition as condition,
    },
    metal3::{BareMetalHost, ProvisioningState},
};

/// Hosts named in a message; the rest is counted.
const TOLD: usize = 5;

/// The next status of a type, counted over all hosts of the cluster.
pub fn type_status(
    node_type: &NodeType,
    provider: Option<&NodeProvider>,
    hosts: &[&BareMetalHost],
    now: Timestamp,
) -> NodeTypeStatus {
    let mut status = node_type.status.clone().unwrap_or_default();
    status.cost = Some(claim::cost(node_type));
    status.requirements = claim::type_properties(node_type, provider)
        .into_iter()
        .map(|(key, value)| Requirement {
            key,
            values: value.split(',').map(|value| value.trim().to_owned()).collect(),
            ..Requirement::default()
        })
        .collect();
    let counted = count(node_type, provider, hosts);
    let synced = provider.map_or_else(
        || Err(("ProviderMissing", "its NodeProvider does not exist".to_owned())),
        |_| {
            counted
                .as_ref()
                .map(|_| ())
                .map_err(|problem| ("Invalid", problem.clone()))
        },
    );
    let (capacity, has) = match counted {
        Ok(counted) => (counted.capacity, counted.verdict),
        Err(problem) => (NodeCapacity::default(), Err(("Invalid", problem))),
    };
    status.capacity = Some(capacity);
    let mut set = |kind: &str, result: &Result<(), (&'static str, String)>, fine: &str| {
        let (state, reason, message) = match result {
            Ok(()) => (ConditionStatus::True, fine, ""),
            Err((reason, message)) => (ConditionStatus::False, *reason, message.as_str()),
        };
        status.conditions.set_condition(kind, state, reason, message, now);
    };
    set(condition::SYNCED, &synced, "Synced");
    set(condition::HAS_CAPACITY, &has, "HostsAvailable");
    status.phase = Some(if synced.is_ok() {
        Phase::Available
    } else {
        Phase::Failed
    });
    let trouble = synced.err().or(has.err());
    status.reason = trouble.as_ref().map(|(reason, _)| (*reason).to_owned());
    status.message = trouble.map(|(_, message)| message);
    status
}

struct Counted {
    capacity: NodeCapacity,
    verdict: Result<(), (&'static str, String)>,
}

fn count(
    node_type: &NodeType,
    provider: Option<&NodeProvider>,
    hosts: &[&BareMetalHost],
) -> Result<Counted, String> {
    let selector = claim::type_selector(node_type)?;
    let namespace = provider.and_then(claim::provider_namespace).unwrap_or_default();
    let none = BTreeMap::new();
    let matches = |host: &&BareMetalHost| selector.matches(host.metadata.labels.as_ref().unwrap_or(&none));
    let (mut own, elsewhere): (Vec<_>, Vec<_>) = hosts
        .iter()
        .copied()
        .filter(matches)
        .partition(|host| host.metadata.namespace.as_deref() == Some(namespace));
    own.sort_by(|a, b| claim::by_number(name(a), name(b)));
    let mut capacity = NodeCapacity::default();
    let mut why_not = Vec::new();
    for host in &own {
        capacity.total += 1;
        let state = host.status.as_ref().map(|status| status.provisioning.state);
        capacity.provisioned += i64::from(state == Some(ProvisioningState::Provisioned));
        let consumer = host.spec.consumer_ref.as_ref();
        capacity.claimed += i64::from(consumer.is_some_and(|c| c.kind.as_deref() == Some(NodeClaim::KIND)));
        match claim::unavailable(host) {
            None => capacity.available += 1,
            Some(why) => why_not.push(format!("{} {why}", name(host))),
        }
    }
    let verdict = if capacity.available > 0 {
        Ok(())
    } else if own.is_empty() {
        Err(("NoHosts", no_hosts(namespace, &elsewhere)))
    } else {
        let shown = why_not[..why_not.len().min(TOLD)].join("; ");
        let rest = why_not.len().saturating_sub(TOLD);
        let rest = if rest > 0 {
            format!("; and {rest} more")
        } else {
            String::new()
        };
        Err((
            "NoneAvailable",
            format!("none of {} hosts is free: {shown}{rest}", own.len()),
        ))
    };
    Ok(Counted { capacity, verdict })
}

fn no_hosts(namespace: &str, elsewhere: &[&BareMetalHost]) -> String {
    if namespace.is_empty() {
        return "its NodeProvider does not say where its hosts are: set spec.metal3.clusterRef.namespace"
            .to_owned();
    }
    let others: BTreeSet<_> = elsewhere
        .iter()
        .filter_map(|host| host.metadata.namespace.as_deref())
        .collect();
    if others.is_empty() {
        return format!(
            "no BareMetalHost in namespace {namespace} matches the selector: register one, or change it"
        );
    }
    let others: Vec<_> = others.into_iter().collect();
    format!(
        "no BareMetalHost in namespace {namespace} matches the selector, but {} in namespace {} would: set \
         spec.metal3.clusterRef.namespace of the NodeProvider",
        elsewhere.len(),
        others.join(", ")
    )
}

fn name(host: &BareMetalHost) -> &str {
    host.metadata.name.as_deref().unwrap_or_default()
}
