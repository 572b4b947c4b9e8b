//! The fabric's worker: who is told of what, and how often the fabric is asked.

use crate::{
    netris::{Site, to},
    support::{Cluster, cluster, epoch, next, soon},
};
use kube::Client;
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use steelyard_api::loft::{NodeClaim, NodeClaimSpec};
use steelyard_controller::{
    Clock,
    execute::{FabricContext, FabricDesk},
    fabric::netris::Netris,
    key::Key,
    observe::Facts,
    queue::{Queue, Work},
    store::{Election, LeaseConfig, Store},
    tasks::Tasks,
};
use steelyard_core::{Ignorance, intent::NetworkName};
use tokio::time::Instant;

/// As often as a waiting host asks.
const WATCH: Duration = Duration::from_millis(100);

struct Engine {
    facts: Facts,
    store: Arc<Store>,
    queue: Queue,
    desk: FabricDesk,
    tasks: Tasks,
    _cluster: Cluster,
}

async fn engine(clock: Clock, site: &Site, netris: Netris) -> Engine {
    let cluster = cluster(clock, |_| {});
    let (tasks, queue) = (Tasks::default(), Queue::default());
    tasks.spawn("switches", site.fabric.run());
    let leadership = lead(&tasks, cluster.admin(), clock).await;
    let store = Store::new(cluster.admin(), queue.clone());
    let facts = Facts::new(clock.now());
    let context = FabricContext {
        facts: facts.clone(),
        store: store.clone(),
        queue: queue.clone(),
        clock,
        leadership,
        timeout: Duration::from_secs(20),
    };
    let desk = FabricDesk::start(Arc::new(netris), context, &tasks);
    Engine {
        facts,
        store,
        queue,
        desk,
        tasks,
        _cluster: cluster,
    }
}

async fn lead(tasks: &Tasks, client: Client, clock: Clock) -> steelyard_controller::store::Leadership {
    let config = LeaseConfig {
        namespace: "default".into(),
        name: "lease".into(),
        identity: "us".into(),
        duration: Duration::from_secs(30),
        renew_every: Duration::from_secs(5),
    };
    let (election, mut leadership) = Election::new(client, config, clock);
    tasks.spawn("election", async move { election.run().await });
    soon("we lead", leadership.wait()).await;
    leadership
}

fn host(name: &str) -> Key {
    Key::new("metal", name)
}

impl Engine {
    /// Plays the host's passes until its fact is one that `done` likes; how many they were.
    async fn follow(&self, name: &str, done: impl Fn(&Facts) -> bool) -> usize {
        for pass in 0..500 {
            if done(&self.facts) {
                return pass;
            }
            self.desk.look_at(&host(name), name, Instant::now() + WATCH);
            while next(&self.queue).await != Work::Host(host(name)) {}
        }
        panic!("500 passes, and {:?}", self.facts.fabric(name));
    }
}

#[tokio::test(start_paused = true)]
async fn a_host_that_waits_is_told_of_every_reading_until_it_is_where_it_belongs() {
    let clock = Clock::starting_at(epoch());
    let site = Site::on(clock);
    let engine = engine(clock, &site, site.netris()).await;
    engine.follow("bm-1", |facts| facts.fabric_settled("bm-1")).await;
    engine.desk.order(&host("bm-1"), to("bm-1", None));
    assert_eq!(next(&engine.queue).await, Work::Host(host("bm-1")));
    let before = Instant::now();
    // The switches take 5 s; asked every 100 ms.
    let passes = engine.follow("bm-1", |facts| facts.fabric_settled("bm-1")).await;
    assert!((20..=60).contains(&passes), "{passes}");
    assert!(
        before.elapsed() < Duration::from_secs(6),
        "{:?}",
        before.elapsed()
    );
    engine.tasks.end(Duration::from_secs(5)).await;
}

#[tokio::test(start_paused = true)]
async fn a_refused_move_is_told_and_may_be_ordered_again() {
    let clock = Clock::starting_at(epoch());
    let site = Site::on(clock);
    let engine = engine(clock, &site, site.netris()).await;
    engine.follow("bm-1", |facts| facts.fabric_settled("bm-1")).await;
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let broken = site.fabric.api_fault(move |method, _| {
        count.fetch_add(1, Ordering::SeqCst);
        (method == "PUT").then_some(503)
    });
    engine.desk.order(&host("bm-1"), to("bm-1", None));
    let refused = |facts: &Facts| matches!(facts.fabric("bm-1").ignorance(), Some(Ignorance::Unreachable(why)) if why.contains("503"));
    engine.follow("bm-1", refused).await;
    drop(broken);
    assert!(asked.load(Ordering::SeqCst) < 20);
    // Nobody orders while the answer is "refused"; it must end by itself.
    engine
        .follow("bm-1", |facts| facts.fabric("bm-1").known().is_some())
        .await;
    engine.desk.order(&host("bm-1"), to("bm-1", None));
    engine
        .follow("bm-1", |facts| {
            facts
                .fabric("bm-1")
                .known()
                .is_some_and(|f| f.networks.is_empty() && f.converged)
        })
        .await;
    engine.tasks.end(Duration::from_secs(5)).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_not_wanted_any_more_is_not_done() {
    let clock = Clock::starting_at(epoch());
    let site = Site::on(clock);
    let engine = engine(clock, &site, site.netris()).await;
    engine.follow("bm-1", |facts| facts.fabric_settled("bm-1")).await;
    // Both orders are given before the worker gets to run.
    engine.desk.order(&host("bm-1"), to("bm-1", None));
    engine.desk.order(&host("bm-2"), to("bm-2", None));
    engine.desk.withdraw("bm-1");
    engine
        .follow("bm-2", |facts| {
            facts
                .fabric("bm-2")
                .known()
                .is_some_and(|f| f.networks.is_empty() && f.converged)
        })
        .await;
    assert_eq!(
        engine.facts.fabric("bm-1").known().unwrap().networks,
        ["provisioning"]
    );
    engine.tasks.end(Duration::from_secs(5)).await;
}

#[tokio::test(start_paused = true)]
async fn a_network_that_is_refused_is_tried_again_without_haste() {
    let clock = Clock::starting_at(epoch());
    let site = Site::on(clock);
    let engine = engine(clock, &site, site.driver("p@ss word", "gold")).await;
    let mut claim = NodeClaim::new("node-1", NodeClaimSpec::default()).within("p-one");
    claim.metadata.uid = Some("u".into());
    claim.metadata.resource_version = Some("1".into());
    engine.store.claims.put(claim.clone());
    let key = Key::of(&claim);
    engine.store.claim_changed(&key, None, Some(&claim));
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let _watch = site.fabric.api_fault(move |_, path| {
        count.fetch_add(
            usize::from(path.ends_with("/server-cluster-template")),
            Ordering::SeqCst,
        );
        None
    });
    let network = NetworkName {
        name: "p-one-net".into(),
        create: true,
    };
    let (mut passes, before) = (0, Instant::now());
    while before.elapsed() < Duration::from_secs(20) {
        assert_eq!(next(&engine.queue).await, Work::Claim(key.clone()));
        passes += 1;
        // As the claim's decision does as long as the network is not known.
        engine.desk.make(network.clone());
        assert!(
            passes < 40,
            "a busy loop: {passes} passes within {:?}",
            before.elapsed()
        );
    }
    let tried = asked.load(Ordering::SeqCst);
    assert!((5..=12).contains(&tried), "{tried}");
    let why = engine.facts.network("p-one-net");
    assert!(
        matches!(why.ignorance(), Some(Ignorance::Unreachable(why)) if why.contains("\"gold\"")),
        "{why:?}"
    );
    engine.tasks.end(Duration::from_secs(5)).await;
}
