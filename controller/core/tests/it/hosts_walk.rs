//! An exhaustive walk: one host, its rack in miniature, a user who may ask, release or delete at any moment, and
//! faults that may strike at any moment. Every decision on the way is checked; from every place there must be a way
//! to where the user wants the host.

use crate::{hosts::World, tables::json_patch_merge};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use std::collections::{BTreeSet, HashMap, VecDeque, hash_map::Entry};
use steelyard_api::metal3::{
    BareMetalHost, BareMetalHostStatus, ClaimRecord, HardwareDetails, ProvisioningState as State, Storage,
    WipedDisk,
};
use steelyard_core::{
    Change, Decision, Ignorance, Jitter, Moment, Observed, Question, Wake,
    backoff::Backoff,
    host::{
        TRANSITIONS, decide,
        view::{
            AgentFacts, BmcFacts, BootFacts, ClaimFacts, CredentialFacts, FabricFacts, ImageFacts, JobFacts,
            JobState, NodeFacts, Policy, Power, Slots, SystemFacts,
        },
        violations,
    },
    intent::{AgentJob, BmcIntent, BootDevice, BootIntent, HostIntent, NetworkName},
    restore::{RESTORE_ANNOTATION, RestoreRecord},
};

const HOME: &str = "home";
const TENANT: &str = "tenant";

pub(crate) fn policy() -> Policy {
    let s = SignedDuration::from_secs;
    Policy {
        home_network: Some(HOME.into()),
        metadata_clean: false,
        backoff: Backoff {
            first: s(10),
            cap: s(100),
        },
        inspect_within: s(60),
        agent_within: s(60),
        write_within: s(60),
        erase_within: s(60),
        power_within: s(60),
        fabric_within: s(60),
        join_within: s(60),
        bmc_poll: s(30),
        bmc_watch: s(1),
        max_provisioning_retries: 0,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Yes,
    NotAsked,
    /// Asked then, and no answer came.
    Silent(Timestamp),
}

#[derive(Clone, Debug, PartialEq)]
enum Runs {
    Nothing,
    Agent(String),
    System,
}

/// What the user did last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum User {
    Idle,
    Asked,
    Released,
    Deleted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Tick,
    Ask,
    Release,
    Delete,
    BmcSilent,
    FabricSilent,
    AgentDies,
    JobFails,
    ButtonPressed,
    Amnesia,
    PortStrays,
    BootFails,
}

const FAULTS: [Act; 8] = [
    Act::BmcSilent,
    Act::FabricSilent,
    Act::AgentDies,
    Act::JobFails,
    Act::ButtonPressed,
    Act::Amnesia,
    Act::PortStrays,
    Act::BootFails,
];

/// The rack in miniature, and what the controller knows of it.
#[derive(Clone, Debug)]
struct Rack {
    host: BareMetalHost,
    gone: bool,
    now: Timestamp,
    power: bool,
    boot: Option<BootDevice>,
    runs: Runs,
    network: Option<String>,
    /// A tenant's bytes are on the disk.
    dirty: bool,
    plan: Option<String>,
    job: Option<JobFacts>,
    image: bool,
    node: bool,
    user: User,
    bmc: Known,
    fabric: Known,
    next_boot_fails: bool,
    faults_left: u8,
}

fn original_spec() -> Value {
    json!({
        "bmc": {"address": "redfish://10.0.0.1", "credentialsName": "a-bmc"},
        "bootMACAddress": "02:00:00:00:00:01", "online": false, "description": "rack 7",
    })
}

impl Rack {
    fn new(faults_left: u8) -> Rack {
        let host = json!({
            "metadata": {"name": "a", "namespace": "n", "uid": "u", "resourceVersion": "1", "generation": 1,
                         "labels": {"role": "gpu"}},
            "spec": original_spec(),
        });
        Rack {
            host: serde_json::from_value(host).unwrap(),
            gone: false,
            now: "2026-01-01T00:00:00Z".parse().unwrap(),
            power: true,
            boot: None,
            runs: Runs::Nothing,
            network: None,
            dirty: false,
            plan: None,
            job: None,
            image: false,
            node: false,
            user: User::Idle,
            bmc: Known::NotAsked,
            fabric: Known::NotAsked,
            next_boot_fails: false,
            faults_left,
        }
    }

    fn status(&self) -> BareMetalHostStatus {
        self.host.status.clone().unwrap_or_default()
    }

    fn claimed(&self) -> bool {
        self.host.spec.consumer_ref.is_some()
    }

    fn world(&self) -> World {
        fn fact<T>(known: Known, now: Timestamp, value: T) -> Observed<T> {
            match known {
                Known::Yes => Observed::Known { value, at: now },
                Known::NotAsked => Observed::not_asked(now),
                Known::Silent(since) => Observed::Unknown {
                    since,
                    why: Ignorance::Unreachable("no route".into()),
                },
            }
        }
        let agent = match &self.runs {
            // An agent whose plan we forgot is not recognised until it is published again.
            Runs::Agent(operation) if self.plan.as_ref() == Some(operation) => Observed::Known {
                value: AgentFacts {
                    operation: operation.clone(),
                    heartbeat_at: Some(self.now),
                    inventory: Some(HardwareDetails {
                        storage: vec![Storage {
                            serial_number: Some("D1".into()),
                            ..Storage::default()
                        }],
                        ..HardwareDetails::default()
                    }),
                    job: self.job.clone(),
                    ..AgentFacts::default()
                },
                at: self.now,
            },
            _ => Observed::not_asked(self.now),
        };
        World {
            host: self.host.clone(),
            claim: self.claimed().then(|| ClaimFacts {
                namespace: "p".into(),
                name: "c".into(),
                uid: "cu".into(),
                network: Some(NetworkName {
                    name: TENANT.into(),
                    create: true,
                }),
                joins: true,
                deleting: self.user != User::Asked,
            }),
            credentials: Observed::Known {
                value: CredentialFacts::Version("7".into()),
                at: self.now,
            },
            bmc: fact(
                self.bmc,
                self.now,
                BmcFacts {
                    credentials: "7".into(),
                    power: if self.power { Power::On } else { Power::Off },
                    boot: self.boot,
                    os_running: None,
                    system: SystemFacts {
                        macs: vec!["02:00:00:00:00:01".into()],
                        ..SystemFacts::default()
                    },
                },
            ),
            boot: BootFacts {
                published: self.plan.clone(),
                ..BootFacts::default()
            },
            agent,
            fabric: Some(fact(
                self.fabric,
                self.now,
                FabricFacts {
                    networks: self.network.clone().into_iter().collect(),
                    converged: true,
                    mismatch: None,
                },
            )),
            node: Observed::Known {
                value: NodeFacts {
                    exists: self.node,
                    ready: self.node,
                    uid: None,
                },
                at: self.now,
            },
            image: if self.image {
                Observed::Known {
                    value: ImageFacts::Ready {
                        sha256: "ab".into(),
                        size: 1,
                    },
                    at: self.now,
                }
            } else {
                Observed::not_asked(self.now)
            },
            hardware_data: None,
            boot_address: Ok("192.168.100.10/24".parse().unwrap()),
            slots: Slots { free: true },
        }
    }

    fn switch_on(&mut self) {
        if self.power {
            return;
        }
        self.power = true;
        let fails = std::mem::take(&mut self.next_boot_fails);
        let device = self.boot;
        if device == Some(BootDevice::NetworkOnce) {
            self.boot = None;
        }
        self.runs = match (device, &self.plan) {
            _ if fails => Runs::Nothing,
            (Some(BootDevice::NetworkOnce), Some(plan)) if self.network.as_deref() == Some(HOME) => {
                Runs::Agent(plan.clone())
            }
            (Some(BootDevice::NetworkOnce), _) => Runs::Nothing,
            _ if self.dirty => Runs::System,
            _ => Runs::Nothing,
        };
        self.node |= self.runs == Runs::System && self.network.as_deref() == Some(TENANT);
    }

    fn switch_off(&mut self) {
        self.power = false;
        self.runs = Runs::Nothing;
        self.job = None;
    }

    fn patch(&mut self, patch: &Value) {
        let spec = patch.get("spec").is_some();
        let mut object = serde_json::to_value(&self.host).unwrap();
        json_patch_merge(&mut object, patch);
        self.host = serde_json::from_value(object).unwrap();
        if spec {
            *self.host.metadata.generation.get_or_insert(0) += 1;
        }
    }

    /// One pass of the controller, and what the rack makes of it. Returns what was wrong with the decision.
    fn tick(&mut self, seen: &mut BTreeSet<(State, State, &'static str)>) -> Vec<String> {
        self.now = self.now.checked_add(SignedDuration::from_secs(1)).unwrap();
        let before = self.clone();
        let world = self.world();
        let roll = self.now.as_second() as u64;
        let d = decide(
            &world.view(),
            &policy(),
            Moment {
                now: self.now,
                jitter: Jitter(roll),
            },
        );
        let mut wrong: Vec<String> = violations(&world.view(), &d)
            .iter()
            .map(|v| format!("{}: {}", v.invariant, v.detail))
            .collect();
        let (from, to) = (self.status().provisioning.state, d.status.provisioning.state);
        if from != to {
            seen.insert((from, to, d.rule.0));
            if to == State::Available && self.dirty {
                wrong.push("available with a tenant's bytes on the disk".into());
            }
        }
        self.carry_out(&d);
        self.advance();
        let quiet = self.without_time() == before.without_time();
        if quiet && let Wake::At(at) = d.wake {
            self.now = self.now.max(at);
        }
        wrong
    }

    fn carry_out(&mut self, d: &Decision<BareMetalHostStatus, HostIntent>) {
        for write in d.writes.iter().filter(|w| w.target.kind == BareMetalHost::KIND) {
            if let Change::Merge { patch, .. } = &write.change {
                self.patch(patch);
            }
        }
        self.host.status = Some(d.status.clone());
        for look in &d.look {
            match look.what {
                Question::Bmc => self.bmc = Known::Yes,
                Question::Fabric => self.fabric = Known::Yes,
                _ => {}
            }
        }
        for intent in &d.intents {
            match intent {
                HostIntent::Bmc(intent) => {
                    match intent {
                        BmcIntent::PowerOn => self.switch_on(),
                        BmcIntent::ForceOff | BmcIntent::SoftOff => self.switch_off(),
                        BmcIntent::BootFrom(device) => self.boot = Some(*device),
                    }
                    self.bmc = Known::NotAsked;
                }
                HostIntent::Fabric(attachment) => {
                    self.network = attachment.network.as_ref().map(|n| n.name.clone());
                    self.fabric = Known::NotAsked;
                }
                HostIntent::Boot(BootIntent::Publish(plan)) => self.plan = Some(plan.operation.clone()),
                HostIntent::Boot(BootIntent::Retract) => self.plan = None,
                HostIntent::Image(_) => self.image = true,
                HostIntent::Agent(task) => self.start(&task.operation, &task.job),
            }
        }
    }

    fn start(&mut self, operation: &str, job: &AgentJob) {
        if self.runs != Runs::Agent(operation.to_owned()) {
            return;
        }
        let kind = match job {
            AgentJob::Erase { .. } => "erase",
            AgentJob::Write { .. } => "write",
            AgentJob::PowerOff => return self.switch_off(),
        };
        // The executor looks for the job before it starts one.
        if self.job.as_ref().is_none_or(|j| j.kind != kind) {
            self.job = Some(JobFacts {
                operation: operation.into(),
                kind: kind.into(),
                state: JobState::Running,
            });
        }
    }

    /// Jobs end, objects without finalizers go, released claims are forgotten.
    fn advance(&mut self) {
        if let Some(job) = &mut self.job
            && job.state == JobState::Running
        {
            let wiped = if job.kind == "erase" {
                self.dirty = false;
                vec![WipedDisk {
                    serial: "D1".into(),
                    verified: true,
                    verified_bytes: 9,
                    ..WipedDisk::default()
                }]
            } else {
                self.dirty = true;
                Vec::new()
            };
            job.state = JobState::Succeeded { wiped };
        }
        let meta = &self.host.metadata;
        let free = meta.finalizers.as_ref().is_none_or(Vec::is_empty);
        self.gone |= meta.deletion_timestamp.is_some() && free;
    }

    fn without_time(&self) -> String {
        let mut still = self.clone();
        still.now = Timestamp::UNIX_EPOCH;
        if let Some(status) = &mut still.host.status {
            status.last_updated = None;
        }
        format!("{still:?}")
    }

    fn may(&self, act: Act) -> bool {
        let faults = self.faults_left > 0;
        match act {
            Act::Tick => !self.gone,
            Act::Ask => self.user == User::Idle && self.status().provisioning.state == State::Available,
            Act::Release => self.user == User::Asked,
            Act::Delete => self.user != User::Deleted,
            Act::BmcSilent => faults && self.bmc == Known::Yes,
            Act::FabricSilent => faults && self.fabric == Known::Yes,
            Act::AgentDies => faults && matches!(self.runs, Runs::Agent(_)),
            Act::JobFails => faults && self.job.is_some(),
            Act::ButtonPressed => faults,
            Act::Amnesia => faults && (self.plan.is_some() || self.image),
            Act::PortStrays => faults && self.network.as_deref() != Some("stray"),
            Act::BootFails => faults && !self.power && !self.next_boot_fails,
        }
    }

    fn act(&mut self, act: Act) {
        if FAULTS.contains(&act) {
            self.faults_left -= 1;
        }
        match act {
            Act::Tick => {}
            Act::Ask => self.ask(),
            Act::Release => {
                self.user = User::Released;
                // The claim's own lifecycle gives back a host that nothing was done to.
                let status = self.status();
                if status.provisioning.state == State::Available && status.provisioning.image.is_none() {
                    let record = RestoreRecord::of(&self.host).unwrap().unwrap();
                    return self.patch(&record.apply_patch(&self.host));
                }
                self.patch(&json!({"spec": {"image": null, "userData": null, "online": false}}));
            }
            Act::Delete => {
                self.user = User::Deleted;
                self.patch(&json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}));
                *self.host.metadata.generation.get_or_insert(0) += 1;
            }
            Act::BmcSilent => self.bmc = Known::Silent(self.now),
            Act::FabricSilent => self.fabric = Known::Silent(self.now),
            Act::AgentDies => {
                self.runs = Runs::Nothing;
                self.job = None;
            }
            Act::JobFails => {
                if let Some(job) = &mut self.job {
                    job.state = JobState::Failed {
                        kind: "Oops".into(),
                        message: "a disk said no".into(),
                    };
                }
            }
            Act::ButtonPressed if self.power => self.switch_off(),
            Act::ButtonPressed => self.switch_on(),
            Act::Amnesia => {
                (self.plan, self.image, self.bmc, self.fabric) =
                    (None, false, Known::NotAsked, Known::NotAsked);
            }
            Act::PortStrays => self.network = Some("stray".into()),
            Act::BootFails => self.next_boot_fails = true,
        }
    }

    /// A claim takes the host, with the way back written down in the same write.
    fn ask(&mut self) {
        self.user = User::Asked;
        let mut patch = json!({
            "metadata": {"labels": {"claim": "c"}, "annotations": {}},
            "spec": {
                "image": {"url": "http://images/noble", "checksum": "ab"}, "userData": {"name": "u"}, "online": true,
                "consumerRef": {"apiVersion": "storage.loft.sh/v1", "kind": "NodeClaim", "name": "c", "namespace": "p", "uid": "cu"},
            },
        });
        let claim = ClaimRecord {
            namespace: "p".into(),
            name: "c".into(),
            uid: "cu".into(),
        };
        let record = RestoreRecord::capture(claim, &self.host, &patch);
        patch["metadata"]["annotations"][RESTORE_ANNOTATION] = json!(record.to_annotation());
        self.patch(&patch);
    }

    /// Where the user wants the host, and the rack as it must be then.
    fn at_goal(&self) -> bool {
        let status = self.status();
        let clean = status.error_type.is_none() && !self.dirty;
        match self.user {
            User::Idle => status.provisioning.state == State::Available && !self.power && clean,
            User::Asked => {
                status.provisioning.state == State::Provisioned
                    && self.power
                    && status.error_type.is_none()
                    && self.dirty
            }
            User::Released => {
                let spec = serde_json::to_value(&self.host.spec).unwrap();
                let labels = self.host.metadata.labels.clone().unwrap_or_default();
                status.provisioning.state == State::Available
                    && !self.power
                    && clean
                    && spec == original_spec()
                    && labels.len() == 1
                    && self
                        .host
                        .metadata
                        .annotations
                        .as_ref()
                        .is_none_or(|a| a.is_empty())
            }
            // Power is held by `deleted-means-off`: whoever presses the button afterwards is not our concern.
            User::Deleted => self.gone && !self.dirty,
        }
    }

    /// Everything that decides what comes next; times as far as limits make of them.
    fn key(&self) -> String {
        let status = self.status();
        let own = status.steelyard.clone().unwrap_or_default();
        let operation = own.operation.as_ref().map(|o| o.id.clone());
        let age = |at: Option<Timestamp>| {
            at.map(|at| self.now.duration_since(at).as_secs())
                .map(|s| [60, 120, 180].iter().filter(|l| s >= **l).count())
        };
        let due = own.retry_at.map(|at| at <= self.now);
        let agent = match &self.runs {
            Runs::Agent(id) => Some(operation.as_ref() == Some(id)),
            _ => None,
        };
        let job = self
            .job
            .as_ref()
            .map(|j| (operation.as_ref() == Some(&j.operation), &j.kind, &j.state));
        let silent = |known| {
            matches!(known, Known::Silent(_))
                .then_some("silent")
                .unwrap_or(if known == Known::Yes { "known" } else { "?" })
        };
        let conditions: Vec<_> = status
            .conditions
            .iter()
            .filter(|c| c.kind == "Joined")
            .map(|c| (&c.status, &c.reason))
            .collect();
        format!(
            "{:?}",
            (
                (
                    status.provisioning.state,
                    &own.step,
                    age(own.step_since),
                    operation.is_some(),
                    due,
                    status.error_type
                ),
                (
                    status.error_count.min(5),
                    own.attempts,
                    own.wipe.map(|w| w.skipped),
                    own.home_network,
                    conditions
                ),
                (
                    self.gone,
                    self.power,
                    self.boot,
                    self.runs == Runs::System,
                    agent,
                    job,
                    &self.network,
                    self.dirty
                ),
                (
                    self.plan.is_some(),
                    self.plan == operation,
                    self.image,
                    self.node,
                    self.user,
                    silent(self.bmc),
                    silent(self.fabric)
                ),
                (
                    self.next_boot_fails,
                    self.faults_left,
                    self.host.metadata.annotations.is_some(),
                    self.claimed()
                ),
                (
                    self.host.spec.image.is_some(),
                    self.host.metadata.finalizers.is_some(),
                    status.powered_on
                ),
                (own.failed_generation == self.host.metadata.generation, &own.rule),
            )
        )
    }
}

/// What a walk found.
pub(crate) struct Walk {
    pub wrong: Vec<String>,
    pub transitions: BTreeSet<(State, State, &'static str)>,
    pub places: usize,
}

/// Walks everything that can happen, up to `faults` of them; stops at the first `enough` findings.
pub(crate) fn walk(faults: u8, enough: usize) -> Walk {
    let start = Rack::new(faults);
    let mut places: HashMap<String, (Option<(String, Act)>, bool)> =
        HashMap::from([(start.key(), (None, start.at_goal()))]);
    let mut ticks: HashMap<String, String> = HashMap::new();
    let mut todo = VecDeque::from([start]);
    let mut found = Walk {
        wrong: Vec::new(),
        transitions: BTreeSet::new(),
        places: 0,
    };
    while let Some(here) = todo.pop_front() {
        let key = here.key();
        let acts = [Act::Tick, Act::Ask, Act::Release, Act::Delete]
            .into_iter()
            .chain(FAULTS);
        for act in acts.filter(|act| here.may(*act)) {
            let mut next = here.clone();
            if act == Act::Tick {
                let wrong = next.tick(&mut found.transitions);
                for what in wrong {
                    if !found.wrong.iter().any(|w| w.starts_with(&what)) {
                        found
                            .wrong
                            .push(format!("{what}\n  after {}", story(&places, &key)));
                    }
                }
                ticks.insert(key.clone(), next.key());
            } else {
                next.act(act);
            }
            if found.wrong.len() >= enough {
                return found;
            }
            let place = next.key();
            if let Entry::Vacant(unseen) = places.entry(place) {
                unseen.insert((Some((key.clone(), act)), next.at_goal()));
                todo.push_back(next);
            }
        }
    }
    found.places = places.len();
    // From every place, if nothing more happens, the controller must get to the goal.
    let mut good: BTreeSet<&String> = BTreeSet::new();
    for place in places.keys() {
        let mut trail = Vec::new();
        let mut at = place;
        let arrives = loop {
            if places[at].1 || good.contains(at) {
                break true;
            }
            if trail.contains(&at) {
                break false;
            }
            trail.push(at);
            match ticks.get(at) {
                Some(next) => at = places.get_key_value(next).unwrap().0,
                None => break false,
            }
        };
        if arrives {
            good.extend(trail);
        } else if found.wrong.len() < enough {
            found.wrong.push(format!(
                "no way to the goal from {at}\n  after {}",
                story(&places, place)
            ));
        }
    }
    found
}

/// The acts that led to a place.
fn story(places: &HashMap<String, (Option<(String, Act)>, bool)>, key: &str) -> String {
    let mut acts = Vec::new();
    let mut at = key.to_owned();
    while let Some((before, act)) = &places[&at].0 {
        acts.push(*act);
        at = before.clone();
    }
    acts.reverse();
    let mut text = String::new();
    let mut run = 0;
    for act in acts {
        if act == Act::Tick {
            run += 1;
        } else {
            text += &format!("{run} ticks, {act:?}, ");
            run = 0;
        }
    }
    format!("{text}{run} ticks")
}

#[test]
fn everything_reachable_is_right_and_leads_home() {
    let _whole = crate::hosts::whole();
    let found = walk(1, 8);
    assert!(found.wrong.is_empty(), "{}", found.wrong.join("\n\n"));
    assert!(
        found.places > 1000,
        "only {} places: the walk went nowhere",
        found.places
    );
    for (from, to, rule) in &found.transitions {
        let known = TRANSITIONS
            .iter()
            .any(|t| t.from == *from && t.to == *to && t.rule == *rule);
        assert!(known, "{from} -> {to} by {rule}");
    }
    // The way there and back, and every way out of it.
    for rule in [
        "host.bmc-given",
        "register.done",
        "inspect.done",
        "prepare.done",
        "available.image-wanted",
        "provision.joined",
        "provision.cancelled",
        "provisioned.image-gone",
        "deprovision.done",
        "delete.unregistered",
        "delete.power-off",
        "delete.deprovision",
        "delete.deprovisioned",
        "delete.off",
    ] {
        assert!(
            found.transitions.iter().any(|(_, _, r)| *r == rule),
            "{rule} was never reached"
        );
    }
}

/// Every broken rule shows in the rows of `testdata/host` or on the walk.
#[cfg(feature = "mutants")]
#[test]
fn broken_rules_are_noticed() {
    use steelyard_core::mutant::{Mutant, select};
    if std::env::var_os("INSTA_UPDATE").is_some() {
        return; // A broken rule must not become an expectation.
    }
    let _alone = crate::hosts::MUTANTS
        .write()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    for mutant in Mutant::ALL.iter().copied() {
        select(Some(mutant));
        let rows = std::panic::catch_unwind(crate::hosts::check_rows);
        let noticed = rows.is_err() || !walk(1, 1).wrong.is_empty();
        select(None);
        assert!(noticed, "nobody notices {}", mutant.name());
    }
}
