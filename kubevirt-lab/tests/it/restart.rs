//! The controller dies at every moment of the story, and the story ends the same.
//!
//! A moment is a write that has not been seen before: a save of a status with a new state, step, rule or phase, or
//! another write to an object. At each, the controller is dropped with its tasks and its stacks, once before the API
//! server had the write, once before it heard of the answer, once a little later, and built anew.

use crate::{
    api_faults::{Between, Verdict, Write},
    harness::{
        Bed, CLAIM, HARDWARE, HOST, PROVIDER, SECRET, TENANT, TYPE, bed, example, is_true, plan, text,
    },
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{sync::Notify, time::Instant};

/// Fewer would mean that the story was not cut where it matters: 8 states of a host with up to 8 steps each.
const MOMENTS_MIN: usize = 25;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    /// The API server does not get the write.
    Before,
    /// It does, and the controller does not hear of it.
    After,
    /// What follows from the write has begun.
    Later(Duration),
}

struct Surgeon {
    cut: Cut,
    moments: Mutex<BTreeSet<String>>,
    now: Notify,
}

impl Surgeon {
    fn new(cut: Cut) -> Arc<Surgeon> {
        Arc::new(Surgeon {
            cut,
            moments: Mutex::default(),
            now: Notify::new(),
        })
    }

    fn moments(&self) -> Vec<String> {
        self.moments
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .cloned()
            .collect()
    }

    fn judge(&self, write: &Write, verdict: Verdict) -> Verdict {
        let Some(moment) = moment(write) else {
            return Verdict::Pass;
        };
        if !self
            .moments
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(moment)
        {
            return Verdict::Pass;
        }
        self.now.notify_one();
        verdict
    }
}

impl Between for Surgeon {
    fn before(&self, write: &Write) -> Verdict {
        if self.cut == Cut::Before {
            self.judge(write, Verdict::Die)
        } else {
            Verdict::Pass
        }
    }

    fn after(&self, write: &Write) -> Verdict {
        match self.cut {
            Cut::Before => Verdict::Pass,
            Cut::After => self.judge(write, Verdict::Die),
            Cut::Later(_) => self.judge(write, Verdict::Pass),
        }
    }
}

/// What is new about a write. Leases and Events decide nothing.
fn moment(write: &Write) -> Option<String> {
    let resource = write.resource();
    let status = &write.body["status"];
    let own = &status["steelyard"];
    Some(match resource.as_str() {
        "leases" | "events" => return None,
        "baremetalhosts/status" => format!(
            "host {} step {} rule {} {}",
            text(&status["provisioning"]["state"]),
            text(&own["step"]),
            text(&own["rule"]),
            text(&own["operation"]["kind"]),
        ),
        other if other.ends_with("/status") => {
            format!(
                "{other} {} {} {}",
                text(&status["phase"]),
                text(&status["rule"]),
                text(&status["reason"])
            )
        }
        other => {
            let keys = |at: &Value| -> Vec<String> {
                at.as_object()
                    .into_iter()
                    .flat_map(|o| o.keys().cloned())
                    .collect()
            };
            format!(
                "{} {other} {:?} {:?}",
                write.method,
                keys(&write.body["metadata"]),
                keys(&write.body["spec"])
            )
        }
    })
}

/// The story of `examples/`, through all restarts.
async fn story(bed: &mut Bed) {
    for name in ["bare-metal-1", "bare-metal-2"] {
        bed.register(name).await;
    }
    for name in ["bare-metal-1", "bare-metal-2"] {
        bed.until_state(name, 600, "available").await;
    }
    for file in ["machine-objects.yaml", "node-provider.yaml", "tenant.yaml"] {
        bed.apply_example(file).await;
    }
    bed.until(TENANT, "one", 600, "is Ready", |t| is_true(t, "Ready"))
        .await;
    bed.delete(TENANT, "one").await;
    bed.until_gone(TENANT, "one", 600).await;
    for name in ["bare-metal-1", "bare-metal-2"] {
        bed.until_state(name, 600, "available").await;
    }
    // What is still under way without anybody waiting for it: a network that goes, a last save.
    let end = Instant::now() + Duration::from_secs(30);
    while Instant::now() < end {
        bed.look_out(end + Duration::from_secs(1), "the end").await;
    }
}

/// What is there at the end, without times, ids and versions.
async fn picture(bed: &Bed) -> BTreeMap<String, Value> {
    let mut picture = BTreeMap::new();
    for kind in [HOST, HARDWARE, CLAIM, TENANT, PROVIDER, TYPE] {
        for mut object in bed.list(kind).await {
            let name = format!("{} {}", text(&object["kind"]), text(&object["metadata"]["name"]));
            timeless(&mut object);
            picture.insert(name, object);
        }
    }
    // An agent that only inspects may or may not have asked for its token before it was switched off.
    let names = bed
        .list(SECRET)
        .await
        .into_iter()
        .map(|s| text(&s["metadata"]["name"]).to_owned());
    let mut secrets: Vec<String> = names.filter(|name| !name.ends_with("-steelyard-agent")).collect();
    secrets.sort();
    picture.insert("secrets".into(), json!(secrets));
    let networks = bed.lab.fabric.snapshot().networks;
    picture.insert(
        "networks".into(),
        json!(networks.iter().map(|n| &n.name).collect::<Vec<_>>()),
    );
    picture
}

/// Fields that two runs of one story may differ in.
const OF_THE_RUN: &[&str] = &[
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "managedFields",
    "ID",
    "lastTransitionTime",
    "lastUpdated",
    "operationHistory",
    "operationId",
    "finishedAt",
    "stepSince",
    "credentialsVersion",
    "verifiedBytes",
];

fn timeless(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|key, _| !OF_THE_RUN.contains(&key.as_str()));
            fields.values_mut().for_each(timeless);
        }
        Value::Array(items) => items.iter_mut().for_each(timeless),
        _ => {}
    }
}

async fn undisturbed() -> BTreeMap<String, Value> {
    let mut bed = bed(plan(2)).await;
    bed.control();
    story(&mut bed).await;
    let picture = picture(&bed).await;
    bed.end().await;
    picture
}

async fn cut_everywhere(cut: Cut) {
    let expected = undisturbed().await;
    let mut bed = bed(plan(2)).await;
    let surgeon = Surgeon::new(cut);
    bed.control_with(surgeon.clone());
    bed.operate(surgeon.clone());
    story(&mut bed).await;
    let moments = surgeon.moments();
    assert!(
        moments.len() >= MOMENTS_MIN,
        "only {} moments: {moments:#?}",
        moments.len()
    );
    assert!(
        bed.restarts() >= MOMENTS_MIN,
        "{} restarts at {} moments",
        bed.restarts(),
        moments.len()
    );
    let found = picture(&bed).await;
    for (name, object) in &expected {
        assert_eq!(
            found.get(name),
            Some(object),
            "{name} after {} restarts\n{}",
            moments.len(),
            bed.report().await
        );
    }
    let more: Vec<&String> = found
        .keys()
        .filter(|name| !expected.contains_key(*name))
        .collect();
    assert!(more.is_empty(), "left behind: {more:?}");
    bed.end().await;
}

impl crate::harness::Restarts for Surgeon {
    fn due(&self) -> &Notify {
        &self.now
    }

    fn delay(&self) -> Duration {
        match self.cut {
            Cut::Later(delay) => delay,
            Cut::Before | Cut::After => Duration::ZERO,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_controller_dies_before_each_save() {
    cut_everywhere(Cut::Before).await;
}

#[tokio::test(start_paused = true)]
async fn the_controller_dies_after_each_save() {
    cut_everywhere(Cut::After).await;
}

/// 20 ms: the intents have reached the BMC, the fabric or the agent, and none has been seen to hold.
#[tokio::test(start_paused = true)]
async fn the_controller_dies_while_it_does_what_it_saved() {
    cut_everywhere(Cut::Later(Duration::from_millis(20))).await;
}

/// Who took which host, as the API server took it.
#[derive(Default)]
struct Bonds {
    tried: AtomicUsize,
    writes: AtomicUsize,
    holders: Mutex<BTreeMap<String, BTreeSet<String>>>,
}

impl Bonds {
    fn of(write: &Write) -> Option<(String, String)> {
        let claim = write.body["spec"]["consumerRef"]["name"].as_str()?;
        let bond = write.resource() == "baremetalhosts" && write.method == http::Method::PATCH;
        bond.then(|| (write.path.clone(), claim.to_owned()))
    }

    fn taken(&self) -> BTreeMap<String, BTreeSet<String>> {
        self.holders
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Between for Arc<Bonds> {
    fn before(&self, write: &Write) -> Verdict {
        if Bonds::of(write).is_some() {
            self.tried.fetch_add(1, Ordering::Relaxed);
        }
        if write.resource() != "leases" {
            self.writes.fetch_add(1, Ordering::Relaxed);
        }
        Verdict::Pass
    }

    fn after(&self, write: &Write) -> Verdict {
        if let Some((host, claim)) = Bonds::of(write) {
            self.holders
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .entry(host)
                .or_default()
                .insert(claim);
        }
        Verdict::Pass
    }
}

/// The second replica does nothing while the first one leads, and goes on when it is dead.
#[tokio::test(start_paused = true)]
async fn another_controller_takes_over() {
    let mut bed = bed(plan(2)).await;
    let (first, second) = (Arc::new(Bonds::default()), Arc::new(Bonds::default()));
    bed.life = Some(bed.life("first", Arc::new(first.clone()), &[]));
    let names = ["bare-metal-1", "bare-metal-2"];
    for name in names {
        bed.register(name).await;
        bed.until_state(name, 60, "available").await;
    }
    let mut waiting = bed.standby("second", Arc::new(second.clone()));
    for file in ["machine-objects.yaml", "node-provider.yaml"] {
        bed.apply_example(file).await;
    }
    bed.apply(&example("tenant.yaml").replace("quantity: 1", "quantity: 2"))
        .await;
    for name in names {
        bed.until(HOST, name, 60, "is written", |h| {
            h["status"]["steelyard"]["step"] == "write"
        })
        .await;
    }
    assert_eq!(
        second.writes.load(Ordering::Relaxed),
        0,
        "it wrote although another one leads"
    );
    assert!(waiting.ended().is_none(), "it gave up");
    bed.kill_controller().await;
    bed.life = Some(waiting);
    bed.until(TENANT, "one", 120, "is Ready", |t| is_true(t, "Ready"))
        .await;
    let claims = bed.list(CLAIM).await;
    let hosts: BTreeSet<&str> = claims
        .iter()
        .map(|c| text(&c["status"]["bareMetalHost"]["name"]))
        .collect();
    assert_eq!(hosts, BTreeSet::from(names));
    for (host, claims) in first.taken() {
        assert_eq!(claims.len(), 1, "{host} was given to {claims:?}");
    }
    assert_eq!(second.taken(), BTreeMap::new(), "nothing was left to give out");
    bed.end().await;
}

/// Even if the election failed and both lead, the API server's compare-and-swap gives a host to one claim.
#[tokio::test(start_paused = true)]
async fn two_leaders_do_not_share_a_host() {
    let mut bed = bed(plan(2)).await;
    let names = ["bare-metal-1", "bare-metal-2"];
    bed.control();
    for name in names {
        bed.register(name).await;
        bed.until_state(name, 60, "available").await;
    }
    for file in ["machine-objects.yaml", "node-provider.yaml"] {
        bed.apply_example(file).await;
    }
    bed.kill_controller().await;
    // Each believes in a lease of its own.
    let bonds = Arc::new(Bonds::default());
    let lives = ["left", "right"].map(|name| {
        let namespace = if name == "left" {
            "steelyard-system"
        } else {
            "default"
        };
        let flags = [&*format!("--namespace={namespace}")];
        bed.life_of(
            "kubernetes-admin",
            &["system:masters"],
            name,
            Arc::new(bonds.clone()),
            &flags,
        )
    });
    for n in 1..=4 {
        let claim = example("machine/machine.yaml").replace("machine-1", &format!("machine-{n}"));
        bed.apply(&claim).await;
    }
    let end = Instant::now() + Duration::from_secs(30);
    while bonds.taken().len() < 2 {
        bed.look_out(end, "both hosts are taken").await;
    }
    // More than enough for whoever lost to try its luck once more.
    bed.pass(2).await;
    for (host, claims) in bonds.taken() {
        assert_eq!(claims.len(), 1, "{host} was given to {claims:?}");
    }
    let tried = bonds.tried.load(Ordering::Relaxed);
    assert!(
        tried > 2,
        "nobody lost a race, so nothing was tested: {tried} tries"
    );
    for life in lives {
        life.kill().await;
    }
    bed.end().await;
}
