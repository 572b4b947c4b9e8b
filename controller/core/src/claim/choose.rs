//! The cheapest type that fits, and one host of it.
//!
//! Every type that does not do says why, in words that a user can act on: "nothing fits" alone is the worst answer
//! that a scheduler can give.

use super::{eligible, is_special, properties, requirement, view::ClaimView};
use kube_core::{Selector, SelectorExt};
use std::{cmp::Ordering, collections::BTreeMap};
use steelyard_api::{
    loft::{HostReference, NodeProvider, NodeType, Requirement, RequirementOperator},
    metal3::BareMetalHost,
    names::{property, resource},
    quantity::Quantity,
};

/// More reasons than these are counted, not told: a message is read by people.
const TOLD: usize = 8;

pub(super) enum Choice<'a> {
    Found {
        node_type: &'a NodeType,
        provider: &'a NodeProvider,
        host: &'a BareMetalHost,
    },
    /// `reason` is the condition's, `message` tells of every type why not, and what to do.
    Nothing { reason: &'static str, message: String },
}

/// What a NodeType costs: what it says, else 10 for each CPU, 2 for each GiB of memory and 10000 for each unit of
/// anything else that is not a standard resource.
pub fn cost(node_type: &NodeType) -> i64 {
    if let Some(cost) = node_type.spec.cost {
        return cost;
    }
    let gib = 1_i128 << 30;
    let total: i128 = node_type
        .spec
        .resources
        .iter()
        .map(|(name, amount)| match name.as_str() {
            resource::CPU => ceil(amount.milli() * 10, 1000),
            resource::MEMORY => ceil(i128::from(amount.units()) * 2, gib),
            name if resource::is_custom(name) => i128::from(amount.units()) * 10_000,
            _ => 0,
        })
        .sum();
    i64::try_from(total).unwrap_or(i64::MAX)
}

fn ceil(value: i128, divisor: i128) -> i128 {
    value.div_euclid(divisor) + i128::from(value.rem_euclid(divisor) != 0)
}

/// Chooses among all hosts, or, for a claim that already had one, whether that one will do.
pub(super) fn choose<'a>(view: &ClaimView<'a>, only: Option<&HostReference>) -> Choice<'a> {
    let mut types = view.types.clone();
    types.sort_by(|a, b| {
        cost(a)
            .cmp(&cost(b))
            .then_with(|| a.metadata.name.cmp(&b.metadata.name))
    });
    let mut unfit = Vec::new();
    let mut full = Vec::new();
    for node_type in types {
        let name = node_type.metadata.name.as_deref().unwrap_or_default();
        let provider = provider_of(view, node_type);
        let provider = match (provider, misfit(view, node_type, provider)) {
            (Some(provider), None) => provider,
            (_, Some(why)) => {
                unfit.push(format!("{name}: {why}"));
                continue;
            }
            (None, None) => {
                let of = node_type.spec.provider_ref.as_deref().unwrap_or_default();
                unfit.push(format!("{name}: its NodeProvider {of:?} does not exist"));
                continue;
            }
        };
        match host_of(view, node_type, provider, only) {
            Ok(host) => {
                return Choice::Found {
                    node_type,
                    provider,
                    host,
                };
            }
            Err(why) => full.push(format!("{name}: {why}")),
        }
    }
    nothing(view, &full, &unfit)
}

fn nothing<'a>(view: &ClaimView<'a>, full: &[String], unfit: &[String]) -> Choice<'a> {
    if !full.is_empty() {
        let message = format!(
            "no host is free of the types that fit: {}. Register more such hosts, or wait until one is given back",
            told(full)
        );
        return Choice::Nothing {
            reason: "NoCapacity",
            message,
        };
    }
    if unfit.is_empty() {
        let message = "there is no NodeType: create a NodeProvider that lists some".to_owned();
        return Choice::Nothing {
            reason: "NoNodeTypes",
            message,
        };
    }
    let asked: Vec<_> = view
        .claim
        .spec
        .desired_capacity
        .iter()
        .map(|(name, amount)| format!("{name} {amount}"))
        .collect();
    let asked = if asked.is_empty() {
        String::new()
    } else {
        format!(" for {}", asked.join(", "))
    };
    let message = format!(
        "no NodeType fits{asked}: {}. Change the claim, or add a NodeType that offers what it asks for",
        told(unfit)
    );
    Choice::Nothing {
        reason: "NoNodeTypeFits",
        message,
    }
}

fn told(all: &[String]) -> String {
    let shown = all[..all.len().min(TOLD)].join("; ");
    match all.len().saturating_sub(TOLD) {
        0 => shown,
        more => format!("{shown}; and {more} more"),
    }
}

pub(super) fn provider_of<'a>(view: &ClaimView<'a>, node_type: &NodeType) -> Option<&'a NodeProvider> {
    let name = node_type.spec.provider_ref.as_deref()?;
    view.providers
        .iter()
        .copied()
        .find(|provider| provider.metadata.name.as_deref() == Some(name))
}

/// Why machines of this type are not what the claim asks for.
fn misfit(view: &ClaimView<'_>, node_type: &NodeType, provider: Option<&NodeProvider>) -> Option<String> {
    let claim = &view.claim.spec;
    let name = node_type.metadata.name.as_deref();
    let of = node_type.spec.provider_ref.as_deref();
    if let Some(wanted) = claim.type_ref.as_deref().filter(|wanted| !wanted.is_empty())
        && name != Some(wanted)
    {
        return Some(format!("spec.typeRef asks for {wanted}"));
    }
    if let Some(wanted) = claim.provider_ref.as_deref().filter(|wanted| !wanted.is_empty())
        && of != Some(wanted)
    {
        return Some(format!(
            "it is of provider {}, spec.providerRef asks for {wanted}",
            of.unwrap_or("none")
        ));
    }
    if node_type.metadata.deletion_timestamp.is_some() {
        return Some("it is being deleted".to_owned());
    }
    let offers = properties::type_properties(node_type, provider);
    let about_type = claim
        .requirements
        .iter()
        .filter(|requirement| requirement.key != property::SERVER_NAME);
    if let Some(why) = about_type
        .clone()
        .find_map(|requirement| requirement::unmet(requirement, &offers))
    {
        return Some(why);
    }
    if let Some(why) = too_small(node_type, &claim.desired_capacity) {
        return Some(why);
    }
    let named = claim.type_ref.is_some() || about_type.clone().any(names_type);
    if is_special(node_type) && !named {
        let unasked = node_type.spec.resources.keys().find(|name| {
            resource::is_custom(name)
                && claim
                    .desired_capacity
                    .get(*name)
                    .is_none_or(|amount| amount.is_zero())
        });
        if let Some(unasked) = unasked {
            return Some(format!("it offers {unasked}, which is not asked for"));
        }
    }
    None
}

/// A claim that names the type has asked for all that is in it.
fn names_type(requirement: &Requirement) -> bool {
    requirement.operator == RequirementOperator::In
        && [property::NODE_TYPE, property::INSTANCE_TYPE].contains(&requirement.key.as_str())
}

fn too_small(node_type: &NodeType, desired: &BTreeMap<String, Quantity>) -> Option<String> {
    let reserved = node_type
        .spec
        .overhead
        .as_ref()
        .map(|overhead| &overhead.kube_reserved);
    desired.iter().find_map(|(name, wanted)| {
        let offered = node_type.spec.resources.get(name);
        let kept = reserved
            .and_then(|reserved| reserved.get(name))
            .copied()
            .unwrap_or_default();
        match offered {
            Some(offered) if *wanted + kept <= *offered => None,
            Some(offered) if kept.is_zero() => {
                Some(format!("it has {name} {offered}, {wanted} is asked for"))
            }
            Some(offered) => Some(format!(
                "it has {name} {offered} of which it keeps {kept}, {wanted} is asked for"
            )),
            // What a type leaves open, its hosts say themselves.
            None if !resource::is_custom(name) || wanted.is_zero() => None,
            None => Some(format!("it has no {name}, {wanted} is asked for")),
        }
    })
}

/// A free host of the type, or why there is none. The first by name, counting numbers as numbers.
fn host_of<'a>(
    view: &ClaimView<'a>,
    node_type: &NodeType,
    provider: &NodeProvider,
    only: Option<&HostReference>,
) -> Result<&'a BareMetalHost, String> {
    let namespace = namespace_of(provider).ok_or("its provider has no spec.metal3.clusterRef.namespace")?;
    let selector = selector_of(node_type)?;
    let pinned = pinned(view);
    let matching = view.hosts.iter().copied().filter(|host| {
        host.metadata.namespace.as_deref() == Some(namespace)
            && only.is_none_or(|only| host.metadata.uid.as_deref() == Some(only.uid.as_str()))
            && selector.matches(host.metadata.labels.as_ref().unwrap_or(&BTreeMap::new()))
    });
    let mut matching: Vec<_> = matching.collect();
    matching.sort_by(|a, b| by_number(name(a), name(b)));
    if matching.is_empty() {
        return Err(format!("no host in namespace {namespace} matches its selector"));
    }
    let mut why_not = Vec::new();
    for host in &matching {
        let why = match &pinned {
            Some(names) if !names.iter().any(|wanted| wanted == name(host)) => continue,
            _ => eligible::unavailable(host).or_else(|| too_weak(host, &view.claim.spec.desired_capacity)),
        };
        match why {
            None => return Ok(host),
            Some(why) => why_not.push(format!("{} {why}", name(host))),
        }
    }
    match pinned {
        Some(names) if why_not.is_empty() => Err(format!("none of its hosts is {}", names.join(" or "))),
        _ => Err(told(&why_not)),
    }
}

fn name(host: &BareMetalHost) -> &str {
    host.metadata.name.as_deref().unwrap_or_default()
}

/// The hosts that the claim insists on.
fn pinned(view: &ClaimView<'_>) -> Option<Vec<String>> {
    let claim = &view.claim.spec;
    let list = |text: &str| {
        text.split(',')
            .map(|name| name.trim().to_owned())
            .collect::<Vec<_>>()
    };
    if let Some(names) = claim
        .properties
        .get(property::SERVER_NAME)
        .filter(|names| *names != "*")
    {
        return Some(list(names));
    }
    let required = claim
        .requirements
        .iter()
        .find(|r| r.key == property::SERVER_NAME && r.operator == RequirementOperator::In);
    required.map(|requirement| requirement.values.clone())
}

pub(crate) fn namespace_of(provider: &NodeProvider) -> Option<&str> {
    let cluster = provider.spec.metal3.as_ref()?.cluster_ref.as_ref()?;
    cluster
        .namespace
        .as_deref()
        .filter(|namespace| !namespace.is_empty())
}

/// The selector of a type; the error names the field.
pub(crate) fn selector_of(node_type: &NodeType) -> Result<Selector, String> {
    let selector = node_type
        .spec
        .bare_metal_hosts
        .as_ref()
        .and_then(|hosts| hosts.selector.clone());
    Selector::try_from(selector.unwrap_or_default())
        .map_err(|error| format!("bareMetalHosts.selector is not usable: {error}"))
}

/// What inspection found is less than what is asked for.
fn too_weak(host: &BareMetalHost, desired: &BTreeMap<String, Quantity>) -> Option<String> {
    let status = host.status.as_ref()?;
    let hardware = status.hardware.as_ref()?;
    desired.iter().find_map(|(name, wanted)| {
        let found = match name.as_str() {
            resource::CPU => hardware.cpu.as_ref().map(|cpu| Quantity::from_units(cpu.count)),
            resource::MEMORY => Some(Quantity::from_bytes(
                hardware.ram_mebibytes.saturating_mul(1 << 20),
            )),
            name if resource::is_custom(name) => {
                let devices = &status.steelyard.as_ref()?.devices;
                let count = devices.get(name).copied().unwrap_or(0);
                (!devices.is_empty()).then(|| Quantity::from_units(i64::try_from(count).unwrap_or(i64::MAX)))
            }
            _ => None,
        }?;
        (found < *wanted).then(|| format!("has {name} {found}, {wanted} is asked for"))
    })
}

/// Names in the order in which people count: `a-2` before `a-10`.
pub(crate) fn by_number(a: &str, b: &str) -> Ordering {
    let (mut left, mut right) = (a, b);
    loop {
        let (text_a, rest_a) = split(left, |c| !c.is_ascii_digit());
        let (text_b, rest_b) = split(right, |c| !c.is_ascii_digit());
        let (number_a, after_a) = split(rest_a, |c| c.is_ascii_digit());
        let (number_b, after_b) = split(rest_b, |c| c.is_ascii_digit());
        let significant = |digits: &str| digits.trim_start_matches('0').len();
        let order = text_a
            .cmp(text_b)
            .then(significant(number_a).cmp(&significant(number_b)))
            .then(
                number_a
                    .trim_start_matches('0')
                    .cmp(number_b.trim_start_matches('0')),
            );
        if order != Ordering::Equal || (after_a.is_empty() && after_b.is_empty()) {
            // `a-01` and `a-1` count the same; they are still two names.
            return order.then(a.cmp(b));
        }
        (left, right) = (after_a, after_b);
    }
}

fn split(text: &str, belongs: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !belongs(c)).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use steelyard_api::loft::NodeTypeSpec;

    fn costs(resources: &[(&str, &str)]) -> i64 {
        let resources = resources
            .iter()
            .map(|(name, amount)| ((*name).to_owned(), amount.parse().unwrap()))
            .collect();
        cost(&NodeType::new(
            "t",
            NodeTypeSpec {
                resources,
                ..NodeTypeSpec::default()
            },
        ))
    }

    #[test]
    fn cost_follows_the_rule_unless_it_is_set() {
        assert_eq!(costs(&[("cpu", "2"), ("memory", "8Gi")]), 36);
        assert_eq!(costs(&[("cpu", "500m"), ("memory", "1Mi")]), 6);
        assert_eq!(
            costs(&[("cpu", "224"), ("memory", "2Ti"), ("nvidia.com/gpu", "8")]),
            2240 + 4096 + 80_000
        );
        assert_eq!(costs(&[("ephemeral-storage", "100Gi"), ("pods", "110")]), 0);
        let set = NodeTypeSpec {
            cost: Some(7),
            ..NodeTypeSpec::default()
        };
        assert_eq!(cost(&NodeType::new("t", set)), 7);
    }

    #[test]
    fn names_count_as_people_do() {
        let mut names = ["b-1", "a-10", "a-2", "a-02", "a", "a-2-x"];
        names.sort_by(|a, b| by_number(a, b));
        assert_eq!(names, ["a", "a-02", "a-2", "a-2-x", "a-10", "b-1"]);
    }
}
