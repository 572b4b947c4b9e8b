//! The rows of `testdata/host`, and how a host's world is made of YAML.

use crate::tables::{self, Row, named, observed};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};
use steelyard_api::metal3::{BareMetalHost, BareMetalHostStatus};
use steelyard_core::{
    Change, Decision, Ignorance, Observed, Wake,
    host::{
        decide,
        view::{
            AgentFacts, BmcFacts, BootFacts, ClaimFacts, CredentialFacts, FabricFacts, HostView, ImageFacts,
            NodeFacts, Policy, Slots,
        },
        violations,
    },
    intent::HostIntent,
};

/// An owned view.
#[derive(Clone, Debug)]
pub(crate) struct World {
    pub host: BareMetalHost,
    pub claim: Option<ClaimFacts>,
    pub credentials: Observed<CredentialFacts>,
    pub bmc: Observed<BmcFacts>,
    pub boot: BootFacts,
    pub agent: Observed<AgentFacts>,
    pub fabric: Option<Observed<FabricFacts>>,
    pub node: Observed<NodeFacts>,
    pub image: Observed<ImageFacts>,
    pub hardware_data: Option<steelyard_api::metal3::HardwareData>,
    pub boot_address: Result<ipnet::Ipv4Net, String>,
    pub slots: Slots,
}

impl World {
    pub(crate) fn view(&self) -> HostView<'_> {
        HostView {
            host: &self.host,
            claim: self.claim.clone(),
            credentials: self.credentials.clone(),
            bmc: self.bmc.clone(),
            boot: self.boot.clone(),
            agent: self.agent.clone(),
            fabric: self.fabric.clone(),
            node: self.node.clone(),
            image: self.image.clone(),
            hardware_data: self.hardware_data.as_ref(),
            boot_address: self.boot_address.clone(),
            slots: self.slots,
        }
    }
}

/// A mutant breaks rules in the whole process: tests of unbroken rules hold this for reading.
pub(crate) static MUTANTS: RwLock<()> = RwLock::new(());

pub(crate) fn whole() -> RwLockReadGuard<'static, ()> {
    MUTANTS.read().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn rows() {
    let _whole = whole();
    check_rows();
}

pub(crate) fn check_rows() {
    tables::run("host", |row| {
        let world = world(row);
        let policy: Policy = serde_json::from_value(row.world["policy"].clone()).unwrap();
        let decision = decide(&world.view(), &policy, row.at);
        let broken = violations(&world.view(), &decision);
        assert!(broken.is_empty(), "{broken:?}\n{decision:#?}");
        shown(&world, &decision, row)
    });
}

fn world(row: &Row) -> World {
    let w = &row.world;
    let optional = |key: &str| w.get(key).filter(|v| !v.is_null());
    World {
        host: named(w["host"].clone(), "gpu-1", Some("metal3-system")),
        claim: optional("claim").map(|v| read(v, "claim")),
        credentials: fact(row, "credentials"),
        bmc: fact(row, "bmc"),
        boot: optional("boot").map(|v| read(v, "boot")).unwrap_or_default(),
        agent: fact(row, "agent"),
        // `fabric: false`: the site has none.
        fabric: (w.get("fabric") != Some(&json!(false))).then(|| fact(row, "fabric")),
        node: fact(row, "node"),
        image: fact(row, "image"),
        hardware_data: optional("hardwareData").map(|v| named(v.clone(), "gpu-1", Some("metal3-system"))),
        boot_address: match &w["bootAddress"] {
            Value::String(address) => Ok(address.parse().unwrap()),
            other => Err(other["err"].as_str().unwrap_or("no address").to_owned()),
        },
        slots: Slots {
            free: w["slots"].as_bool().unwrap_or(true),
        },
    }
}

fn read<T: DeserializeOwned>(value: &Value, what: &str) -> T {
    T::deserialize(value).unwrap_or_else(|error| panic!("{what}: {error}"))
}

/// As [`observed`], and `{refused: why, credentials: version}`, `{unreadable: why}`; `since` or `at` sets the time.
fn fact<T: DeserializeOwned>(row: &Row, name: &str) -> Observed<T> {
    let found = row.world.get(name).cloned().unwrap_or_default();
    let text = |key: &str| found.get(key).and_then(Value::as_str).map(str::to_owned);
    let since = text("since").map_or(row.at.now, |t| t.parse().unwrap());
    let why = match (text("refused"), text("unreadable"), text("unreachable")) {
        (Some(why), ..) => Ignorance::Refused {
            why,
            credentials: text("credentials").unwrap_or_default(),
        },
        (_, Some(why), _) => Ignorance::Unreadable(why),
        (.., Some(why)) => Ignorance::Unreachable(why),
        _ => return observed(&row.world, name, row.at),
    };
    Observed::Unknown { since, why }
}

fn shown(world: &World, d: &Decision<BareMetalHostStatus, HostIntent>, row: &Row) -> Value {
    let mut all = Map::new();
    all.insert("rule".into(), json!(d.rule.0));
    let before = plain(world.host.status.as_ref());
    all.insert(
        "status".into(),
        changed(&before, &plain(Some(&d.status))).unwrap_or(json!("unchanged")),
    );
    let writes: Vec<Value> = d
        .writes
        .iter()
        .map(|w| match &w.change {
            Change::Merge { patch, .. } => json!({ w.target.kind: patch }),
            other => json!({ w.target.kind: other }),
        })
        .collect();
    let look: Vec<String> = d
        .look
        .iter()
        .map(|l| format!("{:?} within {} s", l.what, l.within.as_secs()))
        .collect();
    let events: Vec<String> = d
        .events
        .iter()
        .map(|e| {
            format!(
                "{}{}: {}",
                if e.warning { "Warning " } else { "" },
                e.reason,
                e.message
            )
        })
        .collect();
    for (key, list) in [
        ("writes", json!(writes)),
        ("intents", json!(d.intents)),
        ("look", json!(look)),
        ("events", json!(events)),
    ] {
        if list != json!([]) {
            all.insert(key.into(), list);
        }
    }
    if let Wake::At(at) = d.wake {
        all.insert(
            "wake".into(),
            json!(format!("in {} s", at.duration_since(row.at.now).as_secs())),
        );
    }
    Value::Object(all)
}

/// A status for people: conditions as a map of lines, without the times that every decision sets.
fn plain(status: Option<&BareMetalHostStatus>) -> Value {
    let mut value = serde_json::to_value(status.cloned().unwrap_or_default()).unwrap();
    let conditions: Map<String, Value> = value["conditions"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|c| {
            let text = |key: &str| c[key].as_str().unwrap_or_default().to_owned();
            (
                text("type"),
                json!(format!(
                    "{} {}: {}",
                    text("status"),
                    text("reason"),
                    text("message")
                )),
            )
        })
        .collect();
    let fields = value.as_object_mut().unwrap();
    fields.remove("lastUpdated");
    // A row may begin without conditions; then they would drown what it is about.
    fields.insert("conditions".into(), Value::Object(conditions));
    value
}

/// What differs, as a merge patch. Conditions are shown only where they say something bad or waited for.
fn changed(before: &Value, after: &Value) -> Option<Value> {
    if before == after {
        return None;
    }
    let (Value::Object(old), Value::Object(new)) = (before, after) else {
        return Some(after.clone());
    };
    let mut patch = Map::new();
    for (key, value) in new {
        if key == "conditions" {
            let told = value.as_object().into_iter().flatten().filter(|(kind, line)| {
                let line = line.as_str().unwrap_or_default();
                old["conditions"].get(kind.as_str()).and_then(Value::as_str) != Some(line)
                    && matches!(
                        kind.as_str(),
                        "Ready" | "AvailableForProvisioning" | "Manageable" | "Joined"
                    )
            });
            let told: Map<String, Value> = told.map(|(k, v)| (k.clone(), v.clone())).collect();
            if !told.is_empty() {
                patch.insert("conditions".into(), Value::Object(told));
            }
        } else if let Some(change) = changed(old.get(key).unwrap_or(&Value::Null), value) {
            patch.insert(key.clone(), change);
        }
    }
    for key in old.keys().filter(|key| !new.contains_key(*key)) {
        patch.insert(key.clone(), Value::Null);
    }
    (!patch.is_empty()).then_some(Value::Object(patch))
}
