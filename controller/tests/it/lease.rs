//! The election over one API server, on a paused clock.

use crate::support::{Cluster, Faults, Mode, cluster, epoch, soon};
use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client};
use std::time::Duration;
use steelyard_controller::{
    Clock,
    store::{Election, Leadership, LeaseConfig},
    tasks::Tasks,
};
use tokio::time::Instant;

const TERM: Duration = Duration::from_secs(30);
const RENEW: Duration = Duration::from_secs(5);

fn candidate(client: Client, clock: Clock, identity: &str) -> (Election, Leadership) {
    let config = LeaseConfig {
        namespace: "default".into(),
        name: "steelyard-controller".into(),
        identity: identity.into(),
        duration: TERM,
        renew_every: RENEW,
    };
    Election::new(client, config, clock)
}

/// Runs a candidate in the background until `tasks` end.
fn run(tasks: &Tasks, (election, leadership): (Election, Leadership)) -> Leadership {
    tasks.spawn("election", async move { election.run().await });
    leadership
}

struct Site {
    clock: Clock,
    cluster: Cluster,
    all: Tasks,
}

fn site() -> Site {
    let clock = Clock::starting_at(epoch());
    Site {
        clock,
        cluster: cluster(clock, |_| {}),
        all: Tasks::default(),
    }
}

impl Site {
    /// A leader whose way to the API server can be broken, and a second candidate.
    async fn pair(&self) -> (Leadership, Faults, Leadership) {
        let (client, faults) = self.cluster.faulty();
        let mut first = run(&self.all, candidate(client, self.clock, "first"));
        soon("the first leads", first.wait()).await;
        let second = run(&self.all, candidate(self.cluster.admin(), self.clock, "second"));
        (first, faults, second)
    }

    async fn lease(&self) -> Lease {
        Api::namespaced(self.cluster.admin(), "default")
            .get("steelyard-controller")
            .await
            .unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn one_leads_and_renews_for_long() {
    let site = site();
    let (first, _, second) = site.pair().await;
    for _ in 0..40 {
        tokio::time::sleep(RENEW).await;
        assert!(first.leads() && !second.leads());
        assert!(
            first.outlives(Instant::now() + TERM - 2 * RENEW),
            "enough is left for an order"
        );
        assert!(
            !first.outlives(Instant::now() + TERM + RENEW),
            "but no more than a term"
        );
    }
    let spec = site.lease().await.spec.unwrap();
    assert_eq!(spec.holder_identity.as_deref(), Some("first"));
    assert_eq!(spec.lease_duration_seconds, Some(30));
}

async fn hands_over(fault: Mode) {
    let site = site();
    let (mut first, faults, mut second) = site.pair().await;
    tokio::time::sleep(3 * RENEW).await;
    faults.set(fault);
    let broken = Instant::now();
    let mut lost = None;
    soon("the second leads", async {
        loop {
            if !first.leads() && lost.is_none() {
                lost = Some(broken.elapsed());
            }
            assert!(!(first.leads() && second.leads()), "two leaders");
            if second.leads() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let lost = lost.expect("the first has lost its term before the second leads");
    assert!(lost <= TERM, "{lost:?}");
    assert!(broken.elapsed() <= TERM + 3 * RENEW, "{:?}", broken.elapsed());
    assert!(!first.outlives(Instant::now()));
    faults.set(Mode::Pass);
    // Once lost, lost: the process is to end.
    assert!(tokio::time::timeout(3 * TERM, first.wait()).await.is_err());
    second.wait().await;
    let spec = site.lease().await.spec.unwrap();
    assert_eq!(spec.holder_identity.as_deref(), Some("second"));
    assert_eq!(spec.lease_transitions, Some(2), "told to whoever watches");
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_refused_ends_before_the_next_begins() {
    hands_over(Mode::Unavailable).await;
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_gets_no_answer_ends_before_the_next_begins() {
    hands_over(Mode::Silent).await;
}

#[tokio::test(start_paused = true)]
async fn run_returns_when_the_term_ends() {
    let site = site();
    let (client, faults) = site.cluster.faulty();
    let (election, mut leadership) = candidate(client, site.clock, "first");
    let mut running = std::pin::pin!(election.run());
    tokio::select! { () = leadership.wait() => {}, () = &mut running => panic!("it leads") }
    let led = Instant::now();
    faults.set(Mode::Silent);
    soon("the election ends", running).await;
    assert_eq!(led.elapsed(), TERM);
    assert!(!leadership.leads());
}

#[tokio::test(start_paused = true)]
async fn a_foreign_edit_of_the_object_costs_nobody_the_lead() {
    let site = site();
    let (client, _) = site.cluster.faulty();
    let leadership = run(&site.all, candidate(client, site.clock, "first"));
    let api: Api<Lease> = Api::namespaced(site.cluster.admin(), "default");
    soon("it leads", leadership.clone().wait()).await;
    for n in 0..200 {
        let patch = serde_json::json!({"metadata": {"annotations": {"note": n.to_string()}}});
        api.patch(
            "steelyard-controller",
            &Default::default(),
            &kube::api::Patch::Merge(patch),
        )
        .await
        .unwrap();
        tokio::time::sleep(Duration::from_millis(700)).await;
        assert!(leadership.leads());
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_given_back_is_free_at_once() {
    let site = site();
    let (election, mut leadership) = candidate(site.cluster.admin(), site.clock, "first");
    {
        let mut running = std::pin::pin!(election.run());
        tokio::select! { () = leadership.wait() => {}, () = &mut running => panic!("it leads") }
    }
    let mut second = run(&site.all, candidate(site.cluster.admin(), site.clock, "second"));
    tokio::time::sleep(RENEW).await;
    assert!(!second.leads());
    election.release().await;
    assert!(!leadership.leads(), "nothing is done after that");
    let given = Instant::now();
    soon("the second leads", second.wait()).await;
    assert!(given.elapsed() <= RENEW, "{:?}", given.elapsed());
    election.release().await;
    assert_eq!(
        site.lease().await.spec.unwrap().holder_identity.as_deref(),
        Some("second"),
        "not ours to give"
    );
}

#[tokio::test(start_paused = true)]
async fn a_dropped_election_leaves_no_term_behind() {
    let site = site();
    let (election, mut leadership) = candidate(site.cluster.admin(), site.clock, "first");
    {
        let mut running = std::pin::pin!(election.run());
        tokio::select! { () = leadership.wait() => {}, () = &mut running => panic!("it leads") }
    }
    assert!(leadership.leads());
    drop(election);
    assert!(!leadership.leads(), "workers that outlive it must not act");
}
