//! Claims and hosts against each other, in thousands of orders, with stale views and lost status writes.
//!
//! The world here is a few dozen lines: objects with resourceVersions, merge patches that are refused when the
//! version differs, and hosts that install, wipe and restore as the host's lifecycle promises. What must hold: no
//! host is taken from its holder, no two installed machines have one address, and once every claim is gone every
//! host is as it was registered.

use crate::tables::{json_patch_merge, named};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use steelyard_api::{
    loft::{NodeClaim, NodeClaimStatus, NodeProvider, NodeType, OSImage},
    metal3::{BareMetalHost, ProvisioningState},
    names::finalizer,
};
use steelyard_core::{
    Change, Decision, Jitter, Moment, ObjectWrite, Observed,
    claim::{self, ClaimIntent, ClaimView, NetworkFacts, RenderFacts, addresses_in_use},
    host::view::NodeFacts,
    restore::RestoreRecord,
};

const HOSTS: usize = 4;
const CLAIMS: usize = 6;

#[derive(Clone)]
struct World {
    claims: BTreeMap<String, Value>,
    hosts: BTreeMap<String, Value>,
    rendered: BTreeMap<String, String>,
    version: u64,
}

impl World {
    fn new() -> Self {
        let mut world = World {
            claims: BTreeMap::new(),
            hosts: BTreeMap::new(),
            rendered: BTreeMap::new(),
            version: 1,
        };
        for n in 0..HOSTS {
            let host = json!({
                "metadata": { "labels": { "role": "gpu" }, "annotations": { "note": "mine" } },
                "spec": { "online": false, "description": "as registered", "userData": { "name": "old" } },
                "status": { "provisioning": { "state": "available" } },
            });
            let host: BareMetalHost = named(host, &format!("host-{n}"), Some("metal3-system"));
            world.hosts.insert(format!("host-{n}"), json!(host));
        }
        for n in 0..CLAIMS {
            let claim = json!({ "spec": { "properties": {
                "vcluster.com/os-image": "ubuntu",
                "metal3.vcluster.com/network-cidr": "10.0.0.1/29",
            } } });
            let claim: NodeClaim = named(claim, &format!("claim-{n}"), Some("p-default"));
            world.claims.insert(format!("claim-{n}"), json!(claim));
        }
        world
    }

    fn list<K: serde::de::DeserializeOwned>(objects: &BTreeMap<String, Value>) -> Vec<K> {
        objects
            .values()
            .map(|object| serde_json::from_value(object.clone()).unwrap())
            .collect()
    }

    /// Whether the write was made.
    fn write(&mut self, write: &ObjectWrite) -> bool {
        let objects = match write.target.kind {
            "BareMetalHost" => &mut self.hosts,
            "NodeClaim" => &mut self.claims,
            "Secret" => return true,
            other => panic!("no claim writes a {other}"),
        };
        let Change::Merge {
            resource_version,
            patch,
        } = &write.change
        else {
            panic!("claims patch")
        };
        let Some(object) = objects.get_mut(&write.target.name) else {
            return false;
        };
        if object["metadata"]["resourceVersion"] != *resource_version {
            return false;
        }
        let before = object.clone();
        json_patch_merge(object, patch);
        // A write that changes nothing keeps the version.
        if *object != before {
            self.version += 1;
            object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        }
        let deleting = object["metadata"].get("deletionTimestamp").is_some();
        let free = object["metadata"]["finalizers"]
            .as_array()
            .is_none_or(Vec::is_empty);
        if deleting && free {
            objects.remove(&write.target.name);
        }
        true
    }

    /// A decision about a claim of this world.
    fn think(&self, name: &str, seed: u64) -> Option<Thought> {
        let claim: NodeClaim = serde_json::from_value(self.claims.get(name)?.clone()).unwrap();
        let (claims, hosts) = (
            World::list::<NodeClaim>(&self.claims),
            World::list::<BareMetalHost>(&self.hosts),
        );
        let provider: NodeProvider = named(
            json!({ "spec": { "metal3": { "clusterRef": { "namespace": "metal3-system" } } } }),
            "metal3",
            None,
        );
        let node_type: NodeType = named(json!({ "spec": { "providerRef": "metal3" } }), "any", None);
        let image: OSImage = named(
            json!({ "spec": { "properties": {
                "metal3.vcluster.com/image-url": "http://images/ubuntu", "metal3.vcluster.com/image-checksum": "abc",
            } } }),
            "ubuntu",
            None,
        );
        let at = Moment {
            now: "2026-01-01T00:00:00Z".parse().unwrap(),
            jitter: Jitter(seed),
        };
        let rendered = self
            .rendered
            .get(name)
            .map(|key| RenderFacts::Ready { key: key.clone() });
        let view = ClaimView {
            claim: &claim,
            providers: vec![&provider],
            types: vec![&node_type],
            environments: Vec::new(),
            images: vec![&image],
            hosts: hosts.iter().collect(),
            addresses: addresses_in_use(&claims, &hosts, &claim),
            tenant: None,
            fabric: false,
            network: Observed::<NetworkFacts>::not_asked(at.now),
            rendered: Observed::Known {
                value: rendered.unwrap_or(RenderFacts::Absent),
                at: at.now,
            },
            node: Observed::<NodeFacts>::not_asked(at.now),
        };
        let version = claim.metadata.resource_version.clone().unwrap();
        Some(Thought {
            name: name.to_owned(),
            version,
            decision: claim::decide(&view, at),
        })
    }

    /// Carries a decision out as the controller does: writes, then status, then intents, each by compare-and-swap.
    fn act(&mut self, thought: Thought, lose_status: bool) {
        let Thought {
            name,
            mut version,
            decision,
        } = thought;
        for write in &decision.writes {
            if !self.write(write) {
                return;
            }
            if let Some(claim) = self
                .claims
                .get(&name)
                .filter(|_| write.target.kind == "NodeClaim")
            {
                version = claim["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
            }
        }
        let Some(object) = self
            .claims
            .get_mut(&name)
            .filter(|o| o["metadata"]["resourceVersion"] == *version)
        else {
            return;
        };
        if lose_status {
            return;
        }
        let status = json!(decision.status);
        if object["status"] != status {
            self.version += 1;
            object["status"] = status;
            object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        }
        for intent in decision.intents {
            if let ClaimIntent::Render(plan) = intent {
                self.rendered.insert(name.clone(), plan.key);
            }
        }
    }

    /// The host's lifecycle, one step on.
    fn host_step(&mut self, name: &str) {
        let object = self.hosts.get_mut(name).unwrap();
        let host: BareMetalHost = serde_json::from_value(object.clone()).unwrap();
        let state = host.status.clone().unwrap_or_default().provisioning.state;
        let wants_image = host.spec.image.is_some() && host.spec.online;
        let next = match state {
            ProvisioningState::Available if wants_image => "provisioning",
            ProvisioningState::Provisioning => "provisioned",
            ProvisioningState::Provisioned if host.spec.image.is_none() => "deprovisioning",
            ProvisioningState::Deprovisioning => {
                if let Some(record) = RestoreRecord::of(&host).unwrap() {
                    json_patch_merge(object, &record.apply_patch(&host));
                }
                "available"
            }
            _ => return,
        };
        object["status"]["provisioning"]["state"] = json!(next);
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
    }

    fn delete(&mut self, name: &str) {
        let Some(object) = self.claims.get_mut(name) else {
            return;
        };
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        if object["metadata"]["finalizers"]
            .as_array()
            .is_none_or(|all| !all.contains(&json!(finalizer::CLAIM)))
        {
            self.claims.remove(name);
        }
    }

    /// Who holds each host; an installed machine's address.
    fn check(&self, before: &BTreeMap<String, Value>, seed: u64) {
        let mut addresses = BTreeMap::new();
        for (name, host) in &self.hosts {
            let holder = |hosts: &BTreeMap<String, Value>| hosts[name]["spec"]["consumerRef"]["uid"].clone();
            let (was, is) = (holder(before), holder(&self.hosts));
            assert!(
                was.is_null() || is.is_null() || was == is,
                "seed {seed}: {name} went from {was} to {is}"
            );
            if host["spec"]["image"].is_object() {
                let address = host["metadata"]["annotations"]["metal3.vcluster.com/ip-address"].clone();
                let other = addresses.insert(address.to_string(), name);
                assert!(
                    other.is_none(),
                    "seed {seed}: {name} and {other:?} are both installed with {address}"
                );
            }
        }
        let mut held = BTreeMap::new();
        for (name, host) in &self.hosts {
            let uid = host["spec"]["consumerRef"]["uid"].to_string();
            if uid != "null" {
                let other = held.insert(uid, name);
                assert!(
                    other.is_none(),
                    "seed {seed}: one claim holds {name} and {other:?}"
                );
            }
        }
    }

    /// Frees hosts whose claim is gone, as the host's pass does.
    fn free_orphans(&mut self) {
        for host in World::list::<BareMetalHost>(&self.hosts) {
            let Some(uid) = host
                .spec
                .consumer_ref
                .as_ref()
                .and_then(|consumer| consumer.uid.clone())
            else {
                continue;
            };
            let alive = self.claims.values().any(|claim| claim["metadata"]["uid"] == uid);
            if let Some(write) = claim::free_orphan(&host).filter(|_| !alive) {
                self.write(&write);
            }
        }
    }

    fn plain_hosts(&self) -> BTreeMap<String, Value> {
        let mut hosts = self.hosts.clone();
        for host in hosts.values_mut() {
            host["metadata"]["resourceVersion"] = Value::Null;
        }
        hosts
    }
}

/// What was decided about a claim, on which version of it.
struct Thought {
    name: String,
    version: String,
    decision: Decision<NodeClaimStatus, ClaimIntent>,
}

#[test]
fn every_order_ends_with_the_hosts_as_they_were() {
    // `WALKS=1000` for a night; a failing seed is named.
    let walks = std::env::var("WALKS")
        .ok()
        .and_then(|count| count.parse().ok())
        .unwrap_or(12);
    let installed: usize = (0..walks).map(walk).sum();
    assert!(
        installed as u64 > walks,
        "the walks installed only {installed} hosts: they prove nothing"
    );
}

/// One walk; how many hosts were installed in it.
fn walk(seed: u64) -> usize {
    let mut world = World::new();
    let registered = world.plain_hosts();
    let mut stale = world.clone();
    let mut installed = 0;
    let count =
        |hosts: &BTreeMap<String, Value>| hosts.values().filter(|h| h["spec"]["image"].is_object()).count();
    for step in 0..150_u64 {
        let roll = |salt: u64, below: u64| Jitter(seed).fork(step * 16 + salt).0 % below;
        let before = world.hosts.clone();
        match roll(0, 10) {
            0..=4 => {
                let name = format!("claim-{}", roll(1, CLAIMS as u64));
                let seen = if roll(2, 4) == 0 { &stale } else { &world };
                if let Some(thought) = seen.think(&name, seed ^ step) {
                    world.act(thought, roll(3, 8) == 0);
                }
            }
            5..=7 => world.host_step(&format!("host-{}", roll(1, HOSTS as u64))),
            8 if step > 60 => world.delete(&format!("claim-{}", roll(1, CLAIMS as u64))),
            // A watch that falls behind: of hosts and claims together, or of one alone.
            _ => match roll(4, 3) {
                0 => stale = world.clone(),
                1 => stale.claims = world.claims.clone(),
                _ => stale.hosts = world.hosts.clone(),
            },
        }
        world.check(&before, seed);
        installed += count(&world.hosts).saturating_sub(count(&before));
    }
    settle(&mut world, seed);
    assert_eq!(world.plain_hosts(), registered, "seed {seed}");
    installed
}

/// The storm is over: everybody leaves, and everything must come to rest.
fn settle(world: &mut World, seed: u64) {
    for n in 0..CLAIMS {
        world.delete(&format!("claim-{n}"));
    }
    for round in 0..40_u64 {
        for n in 0..CLAIMS {
            if let Some(thought) = world.think(&format!("claim-{n}"), round) {
                world.act(thought, false);
            }
        }
        for n in 0..HOSTS {
            world.host_step(&format!("host-{n}"));
        }
        world.free_orphans();
    }
    assert!(
        world.claims.is_empty(),
        "seed {seed}: {:?} never left",
        world.claims.keys()
    );
}
