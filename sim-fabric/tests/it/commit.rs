//! The management API answers at once; the switches follow, all together, and only then does anything change.

use std::time::Duration;

use serde_json::json;
use sim_fabric::{FabricHandle, Mac, Settings};

use crate::support::{COMMIT_DELAY, Lab, frame, heard, nic, port, site};

fn networks(lab: &Lab, name: &str) -> (Vec<String>, Vec<String>) {
    let ports = lab.fabric.snapshot().ports;
    let status = ports.into_iter().find(|p| p.name == port(name)).unwrap();
    (status.networks, status.intended)
}

#[tokio::test]
async fn a_move_is_pending_then_done_and_never_before() {
    let lab = Lab::new();
    let mut api = lab.api().await;
    let (mut moved, mut stays) = (lab.attach("leaf-1/swp1"), lab.attach("leaf-1/swp3"));
    api.put_servers("provisioning", &["bare-metal-2", "bare-metal-3", "bare-metal-4"])
        .await;
    lab.pass(Duration::from_secs(2));
    api.tenant("one", &["bare-metal-1"]).await;
    assert_eq!(api.cluster("provisioning").await["status"]["value"], "pending");
    assert_eq!(api.cluster("one").await["state"], "pending");

    lab.pass(COMMIT_DELAY - Duration::from_secs(2) - Duration::from_nanos(1));
    moved.send(frame(Mac::BROADCAST, nic(1, 0), b"still here"));
    assert_eq!(heard(&mut stays), ["still here"]);
    assert_eq!(
        networks(&lab, "leaf-1/swp1"),
        (vec!["provisioning".into()], vec![]),
        "its new network is only a plan"
    );

    // The first change is due: out of the old network, in no other.
    lab.pass(Duration::from_nanos(1));
    moved.send(frame(Mac::BROADCAST, nic(1, 0), b"nowhere"));
    stays.send(frame(nic(1, 0), nic(2, 0), b"anyone?"));
    assert_eq!((heard(&mut stays), heard(&mut moved)), (vec![], vec![]));
    assert_eq!(networks(&lab, "leaf-1/swp1").0, Vec::<String>::new());
    assert_eq!(api.cluster("provisioning").await["status"]["value"], "active");
    assert_eq!(api.cluster("one").await["status"]["value"], "pending");

    lab.pass(Duration::from_secs(2));
    assert_eq!(api.cluster("one").await["status"]["value"], "active");
    assert_eq!(
        networks(&lab, "leaf-1/swp1"),
        (vec!["one-net".into()], vec!["one-net".into()])
    );
    moved.send(frame(Mac::BROADCAST, nic(1, 0), b"elsewhere"));
    assert_eq!(heard(&mut stays), Vec::<String>::new());
}

#[tokio::test]
async fn a_move_takes_addresses_and_waiting_frames_along() {
    let lab = Lab::new();
    let mut api = lab.api().await;
    let (mut moved, stays) = (lab.attach("leaf-1/swp1"), lab.attach("leaf-1/swp3"));
    moved.send(frame(Mac::BROADCAST, nic(1, 0), b"I am here"));
    assert_eq!(
        lab.fabric
            .mac_table()
            .iter()
            .filter(|e| e.mac == nic(1, 0))
            .count(),
        1
    );
    stays.send(frame(nic(1, 0), nic(2, 0), b"of the old network"));
    api.put_servers("provisioning", &["bare-metal-2"]).await;
    api.tenant("one", &["bare-metal-1"]).await;
    lab.converge();
    assert_eq!(
        heard(&mut moved),
        Vec::<String>::new(),
        "what waited at the port belonged to the old network"
    );
    assert_eq!(lab.fabric.counters(&port("leaf-1/swp1")).unwrap().tx_flushed, 1);
    assert_eq!(
        lab.fabric
            .mac_table()
            .iter()
            .filter(|e| e.mac == nic(1, 0))
            .count(),
        0
    );
}

#[tokio::test]
async fn a_deleted_cluster_frees_its_servers_at_once_and_its_addresses_later() {
    let lab = Lab::new();
    let mut api = lab.api().await;
    api.put_servers("provisioning", &["bare-metal-3", "bare-metal-4"])
        .await;
    let id = api.tenant("one", &["bare-metal-1"]).await["id"].clone();
    lab.converge();
    api.ok("DELETE", &format!("/api/v2/server-cluster/{id}"), json!(null))
        .await;
    assert_eq!(api.cluster("one").await["status"]["value"], "deleting");
    assert_eq!(
        api.refused(
            "PUT",
            &format!("/api/v2/server-cluster/{id}"),
            json!({ "servers": [] })
        )
        .await
        .0,
        404
    );
    // Free for another cluster, whose subnet must not be the one that switches still have.
    api.tenant("two", &["bare-metal-1"]).await;
    let two = api.cluster("two").await;
    assert_eq!(
        two["resources"]["vnets"][0]["ipv4Gateways"][0]["prefix"],
        "10.100.1.1/24"
    );
    lab.converge();
    let names: Vec<_> = lab
        .fabric
        .snapshot()
        .networks
        .into_iter()
        .map(|n| n.name)
        .collect();
    assert_eq!(names, ["provisioning", "services", "two-net"]);
    assert_eq!(networks(&lab, "leaf-1/swp1").0, ["two-net"]);
    assert_eq!(
        api.refused("GET", &format!("/api/v2/server-cluster/{id}"), json!(null))
            .await
            .0,
        404
    );
    api.tenant("three", &["bare-metal-2"]).await;
    assert_eq!(
        api.cluster("three").await["resources"]["vnets"][0]["ipv4Gateways"][0]["prefix"],
        "10.100.0.1/24"
    );
}

#[tokio::test]
async fn a_port_goes_down_by_order() {
    let lab = Lab::new();
    let mut api = lab.api().await;
    let (a, mut b) = (lab.attach("leaf-1/swp1"), lab.attach("leaf-1/swp3"));
    api.ok("PUT", "/api/v2/ports/1", json!({ "adminDown": "yes" }))
        .await;
    assert!(a.carrier());
    lab.converge();
    assert!(!a.carrier());
    a.send(frame(Mac::BROADCAST, nic(1, 0), b"x"));
    assert_eq!(heard(&mut b), Vec::<String>::new());
    assert_eq!(api.get("/api/v2/ports/1").await["status"]["value"], "admin-down");
    api.ok("PUT", "/api/v2/ports/1", json!({ "adminDown": false }))
        .await;
    lab.converge();
    a.send(frame(Mac::BROADCAST, nic(1, 0), b"y"));
    assert_eq!(heard(&mut b), ["y"]);
}

#[tokio::test]
async fn asking_for_what_is_changes_nothing() {
    let lab = Lab::new();
    let mut api = lab.api().await;
    let all = ["bare-metal-1", "bare-metal-2", "bare-metal-3", "bare-metal-4"];
    let before = lab.fabric.snapshot().revision;
    api.put_servers("provisioning", &all).await;
    assert_eq!(lab.fabric.snapshot().revision, before);
    assert_eq!(api.cluster("provisioning").await["status"]["value"], "active");
}

/// `run` needs no help: with a clock that goes by itself the switches follow by themselves.
#[tokio::test(start_paused = true)]
async fn run_commits_when_it_is_due() {
    let start = tokio::time::Instant::now();
    let epoch = jiff::Timestamp::from_second(1_767_225_600).unwrap();
    let now = std::sync::Arc::new(move || epoch + start.elapsed());
    let settings = Settings {
        commit_delay: Duration::from_millis(200),
        ..Settings::default()
    };
    let fabric = FabricHandle::with_settings(site(), now, settings).unwrap();
    let lab = Lab {
        fabric: fabric.clone(),
        clock: crate::support::Clock::new(),
    };
    let story = async {
        let mut api = lab.api().await;
        api.put_servers("provisioning", &["bare-metal-2"]).await;
        let commits = fabric.witness();
        tokio::time::sleep(Duration::from_millis(199)).await;
        let name = port("leaf-1/swp1");
        assert_eq!(commits.history(&name).len(), 1, "as it was");
        tokio::time::sleep(Duration::from_millis(3)).await;
        // Read without `poll`: only `run` can have done it.
        let history = commits.history(&name);
        assert_eq!(history.len(), 2);
        assert_eq!(history[1], (epoch + Duration::from_millis(200), vec![]));
    };
    tokio::select! {
        biased;
        () = story => {}
        () = fabric.run() => unreachable!("it never returns"),
    }
}
