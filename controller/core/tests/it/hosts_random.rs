//! Random views: whatever is seen, a decision is taken, it breaks no invariant, and an unchanged world comes to rest.

use crate::{hosts::World, hosts_walk::policy, tables::json_patch_merge};
use jiff::{SignedDuration, Timestamp};
use proptest::{prelude::*, test_runner::RngSeed};
use serde_json::{Value, json};
use std::fmt::Debug;
use steelyard_api::metal3::{
    BareMetalHost, ClaimRecord, ErrorType, HardwareDetails, ProvisioningState, Storage, WipedDisk,
};
use steelyard_core::{
    Change, Ignorance, Jitter, Moment, Observed,
    host::{
        decide,
        view::{
            AgentFacts, BmcFacts, BootFacts, ClaimFacts, CredentialFacts, FabricFacts, ImageFacts, JobFacts,
            JobState, NodeFacts, Policy, Power, Slots, SystemFacts,
        },
        violations,
    },
    intent::{BootDevice, NetworkName},
    restore::{RESTORE_ANNOTATION, RestoreRecord},
};

/// A stream of choices: fewer bytes and smaller ones make a plainer world, so that failures shrink.
struct Choices(std::vec::IntoIter<u8>);

impl Choices {
    fn below(&mut self, n: usize) -> usize {
        usize::from(self.0.next().unwrap_or(0)) % n
    }
    fn yes(&mut self) -> bool {
        self.below(3) == 1
    }
    fn of<T: Clone + Debug>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())].clone()
    }
    fn maybe<T>(&mut self, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.yes().then(|| make(self))
    }
    fn time(&mut self) -> Timestamp {
        let seconds = self.of(&[0, -1, -30, -61, -1000, 5, 100]);
        now().checked_add(SignedDuration::from_secs(seconds)).unwrap()
    }
    fn fact<T>(&mut self, make: impl FnOnce(&mut Self) -> T) -> Observed<T> {
        let why = match self.below(8) {
            0..4 => {
                return Observed::Known {
                    at: now(),
                    value: make(self),
                };
            }
            4 => Ignorance::Unreachable("no route".into()),
            5 => Ignorance::Unreadable("no JSON".into()),
            6 => Ignorance::Refused {
                why: "go away".into(),
                credentials: self.of(&["7", "8"]).into(),
            },
            _ => Ignorance::NotAsked,
        };
        Observed::Unknown {
            since: self.time(),
            why,
        }
    }
}

fn now() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

const STEPS: [&str; 18] = [
    "off",
    "home",
    "boot",
    "agent",
    "write",
    "erase",
    "shutdown",
    "move",
    "disk",
    "join",
    "restore",
    "verify",
    "image",
    "power-off-soft",
    "power-off",
    "power-on",
    "leave",
    "no such step",
];

fn world(c: &mut Choices) -> World {
    let host = host(c);
    World {
        claim: c.maybe(|c| ClaimFacts {
            namespace: "p".into(),
            name: "c".into(),
            uid: "cu".into(),
            network: c.maybe(|_| NetworkName {
                name: "tenant".into(),
                create: true,
            }),
            joins: c.yes(),
            deleting: c.yes(),
        }),
        credentials: c.fact(|c| match c.below(4) {
            0 | 1 => CredentialFacts::Version(c.of(&["7", "8"]).into()),
            2 => CredentialFacts::Missing {
                secret: "a-bmc".into(),
            },
            _ => CredentialFacts::Unusable {
                secret: "a-bmc".into(),
                why: "no password".into(),
            },
        }),
        bmc: c.fact(|c| BmcFacts {
            credentials: c.of(&["7", "8"]).into(),
            power: c.of(&[Power::Off, Power::On, Power::Changing]),
            boot: c.of(&[None, Some(BootDevice::NetworkOnce), Some(BootDevice::Disk)]),
            os_running: c.of(&[None, Some(true), Some(false)]),
            system: SystemFacts {
                macs: c.of(&[
                    vec![],
                    vec!["02:00:00:00:00:01".to_owned()],
                    vec!["02:00:00:00:00:02".to_owned()],
                ]),
                ..SystemFacts::default()
            },
        }),
        boot: BootFacts {
            published: c.of(&[None, Some("op".to_owned()), Some("old".to_owned())]),
            leased_at: c.maybe(Choices::time),
            dropped: c.maybe(|c| (c.time(), "port swp5 is in network stray".into())),
            script_at: c.maybe(Choices::time),
        },
        agent: c.fact(agent),
        fabric: c.below(4).ne(&0).then(|| {
            c.fact(|c| FabricFacts {
                networks: c.of(&[
                    vec!["home".to_owned()],
                    vec!["tenant".to_owned()],
                    vec![],
                    vec!["home".to_owned(), "tenant".to_owned()],
                ]),
                converged: c.below(3) > 0,
                mismatch: c.maybe(|_| "port swp5 carries another VLAN".into()),
            })
        }),
        node: c.fact(|c| NodeFacts {
            exists: c.yes(),
            ready: c.yes(),
            uid: None,
        }),
        image: c.fact(|c| match c.below(3) {
            0 => ImageFacts::Ready {
                sha256: "ab".into(),
                size: 1,
            },
            1 => ImageFacts::Fetching,
            _ => ImageFacts::Failed {
                message: "404".into(),
                at: c.time(),
            },
        }),
        hardware_data: None,
        boot_address: if c.yes() {
            Err("the range is used up".into())
        } else {
            Ok("192.168.100.10/24".parse().unwrap())
        },
        slots: Slots { free: !c.yes() },
        host,
    }
}

fn agent(c: &mut Choices) -> AgentFacts {
    AgentFacts {
        operation: c.of(&["op", "old"]).into(),
        heartbeat_at: c.maybe(Choices::time),
        inventory: c.maybe(|_| hardware()),
        inspection_error: c.maybe(|_| "no disks".into()),
        job: c.maybe(|c| JobFacts {
            operation: c.of(&["op", "old"]).into(),
            kind: c.of(&["write", "erase", "power-off"]).into(),
            state: match c.below(4) {
                0 => JobState::Running,
                1 => JobState::Failed {
                    kind: "Oops".into(),
                    message: "no".into(),
                },
                _ => JobState::Succeeded {
                    wiped: c.of(&[
                        vec![],
                        vec![WipedDisk {
                            serial: "D1".into(),
                            verified: true,
                            verified_bytes: 4,
                            ..WipedDisk::default()
                        }],
                        vec![WipedDisk {
                            serial: "D1".into(),
                            ..WipedDisk::default()
                        }],
                        vec![WipedDisk {
                            serial: "D2".into(),
                            verified: true,
                            verified_bytes: 4,
                            ..WipedDisk::default()
                        }],
                    ]),
                },
            },
        }),
        ..AgentFacts::default()
    }
}

fn hardware() -> HardwareDetails {
    let disk = Storage {
        serial_number: Some("D1".into()),
        ..Storage::default()
    };
    HardwareDetails {
        storage: vec![disk],
        ..HardwareDetails::default()
    }
}

fn host(c: &mut Choices) -> BareMetalHost {
    let mut host = BareMetalHost::default();
    let meta = &mut host.metadata;
    meta.name = Some("a".into());
    meta.namespace = Some("n".into());
    meta.uid = Some("u".into());
    meta.resource_version = Some("1".into());
    meta.generation = Some(c.of(&[1, 2]));
    meta.finalizers = c.maybe(|_| vec!["other".to_owned(), "baremetalhost.metal3.io".to_owned()]);
    meta.deletion_timestamp = c.maybe(|c| k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(c.time()));
    let annotations: [(&str, &[&str]); 8] = [
        (
            "baremetalhost.metal3.io/detached",
            &["", "{\"force\":true}", "{\"deleteAction\":\"delay\"}"],
        ),
        ("reboot.metal3.io", &["", "{\"mode\":\"hard\"}", "{"]),
        ("reboot.metal3.io/x", &[""]),
        ("inspect.metal3.io", &["", "disabled"]),
        ("inspect.metal3.io/hardwaredetails", &["{}", "{"]),
        ("metal3.vcluster.com/gateway", &["192.168.100.1", "x"]),
        (RESTORE_ANNOTATION, &["{"]),
        ("baremetalhost.metal3.io/paused", &[""]),
    ];
    for (key, values) in annotations {
        if c.below(6) == 1 {
            meta.annotations
                .get_or_insert_default()
                .insert(key.into(), c.of(values).into());
        }
    }
    spec(c, &mut host);
    if c.yes() {
        let claim = ClaimRecord {
            namespace: "p".into(),
            name: "c".into(),
            uid: "cu".into(),
        };
        let patch = json!({"spec": {"image": {"url": "http://x"}, "online": true}});
        let record = RestoreRecord::capture(claim, &BareMetalHost::default(), &patch);
        host.metadata
            .annotations
            .get_or_insert_default()
            .insert(RESTORE_ANNOTATION.into(), record.to_annotation());
    }
    status(c, &mut host);
    host
}

fn spec(c: &mut Choices, host: &mut BareMetalHost) {
    let mut spec = json!({
        "online": c.yes(), "externallyProvisioned": c.below(6) == 1, "disablePowerOff": c.below(6) == 1,
        "bootMACAddress": "02:00:00:00:00:01",
        "bmc": {"address": c.of(&["redfish://10.0.0.1", "redfish://10.0.0.2", ""]), "credentialsName": c.of(&["a-bmc", "a-bmc", ""])},
    });
    if c.yes() {
        spec["image"] = json!({"url": c.of(&["http://x", "http://y", ""])});
    }
    for (key, value) in [
        ("automatedCleaningMode", json!("disabled")),
        ("consumerRef", json!({"kind": "NodeClaim", "name": "c"})),
        ("customDeploy", json!({"method": "install_x"})),
        ("raid", json!({"hardwareRAIDVolumes": [{"level": "1"}]})),
        ("rootDeviceHints", json!({"deviceName": "/dev/sda"})),
        ("inspectionMode", json!("disabled")),
        ("bootMACAddress", Value::Null),
        ("bmc", Value::Null),
    ] {
        if c.below(7) == 1 {
            spec[key] = value;
        }
    }
    host.spec = serde_json::from_value(spec).unwrap();
}

fn status(c: &mut Choices, host: &mut BareMetalHost) {
    if c.below(8) == 7 {
        return;
    }
    let good =
        json!({"credentials": {"name": "a-bmc", "namespace": "n"}, "credentialsVersion": c.of(&["7", "8"])});
    let mut status = json!({
        "operationalStatus": c.of(&["OK", "error", "detached", "delayed", ""]),
        "errorMessage": "", "poweredOn": c.yes(), "errorCount": c.of(&[0, 1, 4, 9]), "provisioningFailCount": c.of(&[0, 3]),
        "provisioning": {"ID": "u", "state": c.of(ProvisioningState::ALL).as_str()},
        "goodCredentials": good, "triedCredentials": good,
        "steelyard": {"rule": "x", "message": "y", "homeNetwork": "home", "network": c.of(&["home", "tenant"]), "bmcAddress": "redfish://10.0.0.1"},
    });
    if c.yes() {
        status["errorType"] = json!(c.of(ErrorType::ALL).as_str());
        status["errorMessage"] = json!("it broke");
    }
    if c.yes() {
        status["goodCredentials"] = json!({});
    }
    if c.yes() {
        status["provisioning"]["image"] = json!({"url": c.of(&["http://x", "http://z"])});
    }
    if c.yes() {
        status["hardware"] = serde_json::to_value(hardware()).unwrap();
    }
    let own = &mut status["steelyard"];
    if !c.yes() {
        own["step"] = json!(c.of(&STEPS));
        own["stepSince"] = json!(c.time());
        own["operation"] = json!({
            "id": "op", "kind": c.of(&["Inspect", "Write", "Erase"]), "attempt": 1,
            "startedAt": c.time(), "deadline": c.time(),
        });
    }
    if c.yes() {
        own["retryAt"] = json!(c.time());
        own["failedGeneration"] = json!(1);
    }
    if c.yes() {
        own["wipe"] = json!({"operationId": c.of(&["op", "old"]), "finishedAt": c.time(), "disks": c.of(&[
            json!([]), json!([{"serial": "D1", "verified": true, "verifiedBytes": 3}]),
        ])});
    }
    if c.yes() {
        own["attempts"] = json!({"writes": 1});
    }
    host.status = Some(serde_json::from_value(status).unwrap());
}

fn saved(world: &World, at: Moment, policy: &Policy) -> (World, String) {
    let d = decide(&world.view(), policy, at);
    let mut next = world.clone();
    let mut object = serde_json::to_value(&world.host).unwrap();
    for write in &d.writes {
        if let Change::Merge { patch, .. } = &write.change {
            json_patch_merge(&mut object, patch);
        }
    }
    next.host = serde_json::from_value(object).unwrap();
    next.host.status = Some(d.status.clone());
    (next, format!("{:?} {:?} {:?}", d.rule, d.intents, d.look))
}

fn policies() -> [Policy; 2] {
    [
        policy(),
        Policy {
            home_network: None,
            metadata_clean: true,
            max_provisioning_retries: 2,
            ..policy()
        },
    ]
}

/// The same worlds at every run; `HOSTS_SEED=n` draws others.
fn seed() -> RngSeed {
    RngSeed::Fixed(
        std::env::var("HOSTS_SEED")
            .ok()
            .and_then(|seed| seed.parse().ok())
            .unwrap_or(4),
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, rng_seed: seed(), ..ProptestConfig::default() })]

    #[test]
    fn every_view_has_a_lawful_decision(bytes in proptest::collection::vec(any::<u8>(), 0..220), roll in any::<u64>()) {
        let _whole = crate::hosts::whole();
        let world = world(&mut Choices(bytes.into_iter()));
        for policy in policies() {
            let at = Moment { now: now(), jitter: Jitter(roll) };
            let decision = decide(&world.view(), &policy, at);
            let broken = violations(&world.view(), &decision);
            prop_assert!(broken.is_empty(), "{broken:?} by {}\n{}\n{:?}\n{:?}", decision.rule, serde_json::to_string(&world.host).unwrap(), world, decision.intents);
        }
    }

}

proptest! {
    // Each case takes dozens of decisions.
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, rng_seed: seed(), ..ProptestConfig::default() })]

    /// The same world again and again: after a few passes nothing changes any more, and the same is asked for.
    #[test]
    fn an_unchanged_world_comes_to_rest(bytes in proptest::collection::vec(any::<u8>(), 0..220), roll in any::<u64>()) {
        let _whole = crate::hosts::whole();
        let mut world = world(&mut Choices(bytes.into_iter()));
        for policy in policies() {
            let at = Moment { now: now(), jitter: Jitter(roll) };
            let mut said = String::new();
            let mut rests = false;
            let mut trail = Vec::new();
            for _ in 0..25 {
                let (next, says) = saved(&world, at, &policy);
                let plain = |w: &World| serde_json::to_value(&w.host).unwrap();
                rests = plain(&next) == plain(&world) && says == said;
                trail.push(format!("{says} {}", changed(&plain(&world), &plain(&next))));
                (world, said) = (next, says);
                if rests {
                    break;
                }
            }
            prop_assert!(rests, "no rest:\n{}", trail.join("\n"));
        }
    }
}

/// The members that differ, for the message of a failing run.
fn changed(before: &Value, after: &Value) -> String {
    match (before, after) {
        (Value::Object(old), Value::Object(new)) => {
            let keys = old.keys().chain(new.keys().filter(|k| !old.contains_key(*k)));
            keys.map(|k| {
                (
                    k,
                    changed(
                        &old.get(k).cloned().unwrap_or_default(),
                        &new.get(k).cloned().unwrap_or_default(),
                    ),
                )
            })
            .filter(|(_, text)| !text.is_empty())
            .map(|(k, text)| format!("{k}: {text} "))
            .collect()
        }
        _ if before == after => String::new(),
        _ => format!("{before} => {after}"),
    }
}
