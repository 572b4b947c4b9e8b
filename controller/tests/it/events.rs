//! Events for users: said once, and never in the way.

use crate::support::{Mode, cluster, epoch, soon, until};
use k8s_openapi::api::{core::v1::ObjectReference, events::v1::Event};
use kube::{Api, api::ListParams};
use std::time::Duration;
use steelyard_controller::{Clock, store::Events, tasks::Tasks};
use steelyard_core::Notice;

fn about(name: &str) -> ObjectReference {
    ObjectReference {
        api_version: Some("metal3.io/v1alpha1".into()),
        kind: Some("BareMetalHost".into()),
        namespace: Some("default".into()),
        name: Some(name.into()),
        ..ObjectReference::default()
    }
}

#[tokio::test(start_paused = true)]
async fn the_same_is_said_once_in_ten_minutes() {
    let clock = Clock::starting_at(epoch());
    let cluster = cluster(clock, |_| {});
    let tasks = Tasks::default();
    let (events, sending) = Events::new(cluster.admin(), clock, "us".into());
    tasks.spawn("events", sending);
    let api: Api<Event> = Api::namespaced(cluster.admin(), "default");
    let told = async || api.list(&ListParams::default()).await.unwrap().items;
    for _ in 0..5 {
        events.publish(
            about("a"),
            &Notice::warning("BMCUnreachable", "no route to 10.0.0.1"),
        );
    }
    events.publish(
        about("b"),
        &Notice::warning("BMCUnreachable", "no route to 10.0.0.1"),
    );
    events.publish(about("a"), &Notice::normal("Registered", "x".repeat(5000)));
    until("three are told", async || told().await.len() == 3).await;
    tokio::time::sleep(Duration::from_secs(9 * 60)).await;
    events.publish(
        about("a"),
        &Notice::warning("BMCUnreachable", "no route to 10.0.0.1"),
    );
    tokio::time::sleep(Duration::from_secs(2 * 60)).await;
    events.publish(
        about("a"),
        &Notice::warning("BMCUnreachable", "no route to 10.0.0.1"),
    );
    until("it is said again after that time", async || {
        told().await.len() == 4
    })
    .await;
    let all = told().await;
    assert!(
        all.iter()
            .all(|e| e.note.as_ref().is_some_and(|note| note.len() <= 1024))
    );
    assert!(
        all.iter()
            .any(|e| e.type_.as_deref() == Some("Normal") && e.reason.as_deref() == Some("Registered"))
    );
    tasks.end(Duration::from_secs(5)).await;
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_is_silent_holds_nobody_up() {
    let clock = Clock::starting_at(epoch());
    let cluster = cluster(clock, |_| {});
    let (client, faults) = cluster.faulty();
    faults.set(Mode::Silent);
    let tasks = Tasks::default();
    let (events, sending) = Events::new(client, clock, "us".into());
    tasks.spawn("events", sending);
    // More than wait: what is too much is dropped.
    for n in 0..5000 {
        events.publish(about("a"), &Notice::warning("Trouble", format!("number {n}")));
    }
    soon("the tasks end", tasks.end(Duration::from_secs(5))).await;
}
