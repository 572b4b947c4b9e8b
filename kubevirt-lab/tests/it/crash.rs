//! Machines, BMCs, the API server and the fabric fail for a while; what was under way ends well all the same.

use crate::{
    api_faults::{Between, Verdict, Write},
    harness::{Bed, CLAIM, HOST, TENANT, bed, is_true, no_error, plan, text},
};
use sim_bmc::{
    Machine, MachineCommand,
    faults::{Effect, Rule},
};
use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

const NAME: &str = "bare-metal-1";

async fn available(bed: &mut Bed) {
    bed.register(NAME).await;
    bed.until_state(NAME, 60, "available").await;
    for file in ["machine-objects.yaml", "node-provider.yaml"] {
        bed.apply_example(file).await;
    }
}

async fn in_step(bed: &mut Bed, step: &str) {
    bed.until(HOST, NAME, 60, step, |h| {
        h["status"]["steelyard"]["step"] == *step
    })
    .await;
}

async fn cut_the_power(bed: &Bed) {
    bed.server(NAME)
        .host
        .apply(MachineCommand::ForceOff)
        .await
        .expect("the power is cut");
}

/// The power fails while the image is written: the write is begun anew, and the claim gets its machine.
#[tokio::test(start_paused = true)]
async fn power_loss_while_the_image_is_written() {
    let mut bed = bed(plan(1)).await;
    bed.control();
    available(&mut bed).await;
    bed.apply_example("machine/machine.yaml").await;
    in_step(&mut bed, "write").await;
    cut_the_power(&bed).await;
    let host = bed.until(HOST, NAME, 120, "tells it", |h| !no_error(h)).await;
    assert_eq!(
        host["status"]["errorType"], "provisioning error",
        "{}",
        host["status"]
    );
    let claim = bed
        .until(CLAIM, "machine-1", 300, "is Ready", |c| is_true(c, "Ready"))
        .await;
    assert_eq!(claim["status"]["bareMetalHost"]["name"], NAME);
    bed.until_state(NAME, 10, "provisioned").await;
    bed.end().await;
}

/// The power fails during the wipe: the host is not given out before it was wiped whole.
#[tokio::test(start_paused = true)]
async fn power_loss_during_the_wipe() {
    let mut bed = bed(plan(1)).await;
    bed.control();
    available(&mut bed).await;
    bed.apply_example("machine/machine.yaml").await;
    bed.until(CLAIM, "machine-1", 60, "is Ready", |c| is_true(c, "Ready"))
        .await;
    bed.delete(CLAIM, "machine-1").await;
    in_step(&mut bed, "erase").await;
    cut_the_power(&bed).await;
    bed.until(HOST, NAME, 120, "tells it", |h| !no_error(h)).await;
    let host = bed.until_state(NAME, 300, "available").await;
    let wipe = &host["status"]["steelyard"]["wipe"];
    assert!(
        wipe["disks"]
            .as_array()
            .is_some_and(|d| !d.is_empty() && d.iter().all(|d| d["verified"] == true)),
        "{wipe}"
    );
    assert!(
        bed.disks(NAME).iter().all(|d| d.allocated_blocks() == 0),
        "its disks are empty"
    );
    bed.end().await;
}

/// The power fails before the agent has said anything.
#[tokio::test(start_paused = true)]
async fn power_loss_during_inspection() {
    let mut bed = bed(plan(1)).await;
    bed.control();
    bed.register(NAME).await;
    in_step(&mut bed, "agent").await;
    cut_the_power(&bed).await;
    bed.until_state(NAME, 180, "available").await;
    bed.end().await;
}

/// A BMC that is too busy for a while, in the middle of everything.
#[tokio::test(start_paused = true)]
async fn a_busy_bmc() {
    let mut bed = bed(plan(1)).await;
    bed.control();
    bed.register(NAME).await;
    for step in ["boot", "agent"] {
        in_step(&mut bed, step).await;
        let busy = bed.server(NAME).bmc.fault(Rule::always(Effect::Unavailable {
            retry_after_seconds: 2,
        }));
        bed.pass(8).await;
        drop(busy);
    }
    bed.until_state(NAME, 120, "available").await;
    bed.end().await;
}

/// The API server takes no write for a while, at each of several places of the story.
#[derive(Default)]
struct Outage {
    on: AtomicBool,
    refused: AtomicUsize,
}

impl Between for Arc<Outage> {
    fn before(&self, write: &Write) -> Verdict {
        // The lease is another story: who can't renew it for long enough has to stop.
        if self.on.load(Ordering::Relaxed) && write.resource() != "leases" {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return Verdict::Refuse;
        }
        Verdict::Pass
    }
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_takes_no_writes() {
    let mut bed = bed(plan(1)).await;
    let outage = Arc::new(Outage::default());
    bed.control_with(Arc::new(outage.clone()));
    available(&mut bed).await;
    bed.apply_example("tenant.yaml").await;
    for step in ["image", "boot", "write", "move", "join"] {
        in_step(&mut bed, step).await;
        let before = outage.refused.load(Ordering::Relaxed);
        outage.on.store(true, Ordering::Relaxed);
        bed.pass(12).await;
        outage.on.store(false, Ordering::Relaxed);
        assert!(
            outage.refused.load(Ordering::Relaxed) > before,
            "nothing was refused in {step}"
        );
    }
    bed.until(TENANT, "one", 120, "is Ready", |t| is_true(t, "Ready"))
        .await;
    let host = bed.get(HOST, NAME).await.expect("the host");
    assert!(no_error(&host), "{}", host["status"]);
    bed.delete(TENANT, "one").await;
    bed.until_gone(TENANT, "one", 120).await;
    bed.until_state(NAME, 120, "available").await;
    bed.end().await;
}

/// The fabric's management answers 500 for a while: the host waits where it is, and says so.
#[tokio::test(start_paused = true)]
async fn a_fabric_that_does_not_answer() {
    let mut bed = bed(plan(1)).await;
    bed.control();
    available(&mut bed).await;
    bed.apply_example("tenant.yaml").await;
    in_step(&mut bed, "write").await;
    let silent = bed.lab.fabric.api_fault(|_, _| Some(500));
    in_step(&mut bed, "move").await;
    let host = bed
        .until(HOST, NAME, 30, "says so", |h| {
            text(&h["status"]["steelyard"]["message"]).contains("fabric")
        })
        .await;
    assert_eq!(
        host["status"]["poweredOn"], false,
        "it does not boot into an unknown network"
    );
    bed.pass(20).await;
    assert_eq!(
        bed.get(HOST, NAME).await.expect("the host")["status"]["steelyard"]["step"],
        "move"
    );
    drop(silent);
    bed.until(TENANT, "one", 60, "is Ready", |t| is_true(t, "Ready"))
        .await;
    bed.end().await;
}
