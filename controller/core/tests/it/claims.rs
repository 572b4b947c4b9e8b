//! Claims, tenants and providers against their tables.

use crate::tables::{claim, named, objects, observed, run, shown};
use serde_json::{Value, json};
use std::{collections::BTreeMap, net::Ipv4Addr};
use steelyard_api::{
    loft::{NodeClaim, NodeEnvironment, NodeProvider, NodeType, OSImage, VirtualClusterInstance},
    metal3::BareMetalHost,
};
use steelyard_core::{
    Observed,
    claim::{
        self, AddressHolder, ClaimView, TenantFacts,
        vci::{self, TenantView},
    },
    host::view::NodeFacts,
    provider::{self, ProviderView},
};

#[test]
fn claims() {
    run("claim", |row| {
        let world = &row.world;
        let claim = claim(world);
        let providers: Vec<NodeProvider> = objects(world, "providers", None);
        let types: Vec<NodeType> = objects(world, "types", None);
        let environments: Vec<NodeEnvironment> = objects(world, "environments", Some("p-default"));
        let images: Vec<OSImage> = objects(world, "images", None);
        let hosts: Vec<BareMetalHost> = objects(world, "hosts", Some("metal3-system"));
        let addresses: BTreeMap<Ipv4Addr, AddressHolder> =
            serde_json::from_value(world.get("addresses").cloned().unwrap_or(json!({}))).unwrap();
        let tenant: Option<TenantFacts> =
            serde_json::from_value(world.get("tenant").cloned().unwrap_or_default()).unwrap();
        let view = ClaimView {
            claim: &claim,
            providers: providers.iter().collect(),
            types: types.iter().collect(),
            environments: environments.iter().collect(),
            images: images.iter().collect(),
            hosts: hosts.iter().collect(),
            addresses,
            tenant,
            fabric: world.get("fabric").and_then(Value::as_bool).unwrap_or(false),
            network: observed(world, "network", row.at),
            rendered: observed(world, "rendered", row.at),
            node: node(world, row.at),
        };
        let decision = claim::decide(&view, row.at);
        shown(
            decision.rule,
            &decision.status,
            &decision.writes,
            &decision.intents,
            &decision.events,
            decision.wake,
        )
    });
}

fn node(world: &Value, at: steelyard_core::Moment) -> Observed<NodeFacts> {
    let Some(node) = world.get("node") else {
        return Observed::not_asked(at.now);
    };
    let flag = |key: &str| node.get(key).and_then(Value::as_bool).unwrap_or(false);
    Observed::Known {
        value: NodeFacts {
            exists: flag("exists"),
            ready: flag("ready"),
            ..NodeFacts::default()
        },
        at: at.now,
    }
}

#[test]
fn tenants() {
    run("tenant", |row| {
        let world = &row.world;
        let tenant: VirtualClusterInstance = named(world["tenant"].clone(), "one", Some("p-default"));
        let claims: Vec<NodeClaim> = objects(world, "claims", Some("p-default"));
        let flag = |key: &str| world.get(key).and_then(Value::as_bool).unwrap_or(false);
        let view = TenantView {
            tenant: &tenant,
            claims: claims.iter().collect(),
            namespace_exists: flag("namespaceExists"),
            kubeconfig: flag("kubeconfig"),
        };
        let decision = vci::decide(&view, row.at);
        let nothing: [(); 0] = [];
        assert!(decision.intents.is_empty());
        shown(
            decision.rule,
            &decision.status,
            &decision.writes,
            &nothing,
            &decision.events,
            decision.wake,
        )
    });
}

#[test]
fn providers() {
    run("provider", |row| {
        let world = &row.world;
        let provider: NodeProvider = named(world["provider"].clone(), "metal3", None);
        let types: Vec<NodeType> = objects(world, "types", None);
        let hosts: Vec<BareMetalHost> = objects(world, "hosts", Some("metal3-system"));
        let view = ProviderView {
            provider: &provider,
            types: types.iter().collect(),
        };
        let decision = provider::decide(&view, row.at);
        let nothing: [(); 0] = [];
        let mut all = shown(
            decision.rule,
            &decision.status,
            &decision.writes,
            &nothing,
            &decision.events,
            decision.wake,
        );
        let hosts: Vec<_> = hosts.iter().collect();
        let own = types
            .iter()
            .filter(|t| t.spec.provider_ref.as_deref() == Some("metal3"));
        for node_type in own {
            let status = provider::type_status(node_type, Some(&provider), &hosts, row.at.now);
            let name = node_type.metadata.name.clone().unwrap();
            let mut status = shown(
                steelyard_core::Rule(""),
                &status,
                &[],
                &nothing,
                &[],
                decision.wake,
            )["status"]
                .take();
            status.as_object_mut().unwrap().remove("requirements");
            all["types"][name] = status;
        }
        all
    });
}
