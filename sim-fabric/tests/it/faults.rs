//! Faults, and what the fabric says of mistakes: wrong VLAN, no VLAN, wrong cable.

use std::time::Duration;

use serde_json::json;
use sim_fabric::{Mac, MismatchKind, Rule, Verdict};

use crate::support::{Lab, frame, heard, nic, port};

/// A DHCPDISCOVER as firmware sends it, as far as a switch looks.
fn discover(src: Mac) -> bytes::Bytes {
    let mut packet = vec![
        0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255,
    ];
    packet.extend([0, 68, 0, 67, 0, 0, 0, 0]);
    packet.extend([0; 236]);
    packet.extend([99, 130, 83, 99, 53, 1, 1, 255]);
    crate::support::ether(Mac::BROADCAST, src, 0x0800, &packet)
}

#[tokio::test]
async fn a_discover_at_a_port_in_no_network_is_named() {
    let lab = Lab::new();
    let mut api = lab.api().await;
    let nic_port = lab.attach("leaf-1/swp2");
    nic_port.send(discover(nic(1, 1)));
    nic_port.send(discover(nic(1, 1)));
    let [found] = lab.fabric.mismatches().try_into().unwrap();
    assert_eq!(
        (found.kind, found.port, found.mac),
        (MismatchKind::NoNetwork, port("leaf-1/swp2"), nic(1, 1))
    );
    assert_eq!(
        (found.network, found.intended, found.frames, &*found.what),
        (None, None, 2, "DHCP DISCOVER")
    );
    let shown = api.get("/api/v2/ports/2").await;
    assert_eq!(
        shown["info"],
        "2 frames from 52:54:00:00:01:01 dropped, port is in no V-Net (last: DHCP DISCOVER)"
    );
    assert_eq!(shown["macs"][0]["address"], "52:54:00:00:01:01");
    assert_eq!(shown["macs"][0]["dropped"], true);
    assert_eq!(
        lab.fabric.counters(&port("leaf-1/swp2")).unwrap().rx_no_network,
        2
    );
    // Once the port is in a network it is old news.
    api.ok(
        "POST",
        "/api/v2/vnet",
        json!({ "name": "mine", "tenant": { "id": 1 }, "ports": [{ "name": "swp2@leaf-1" }] }),
    )
    .await;
    lab.converge();
    assert_eq!(lab.fabric.mismatches(), []);
    assert_eq!(api.get("/api/v2/ports/2").await["info"], "");
}

#[tokio::test]
async fn a_port_that_was_edited_by_hand_is_named_until_it_is_right() {
    let lab = Lab::new();
    let mut api = lab.api().await;
    let (a, mut b) = (lab.attach("leaf-1/swp1"), lab.attach("leaf-1/swp3"));
    let mut services = lab.fabric.attach_network("services").unwrap();
    let by_hand = lab
        .fabric
        .force_port(&port("leaf-1/swp1"), Some("services"))
        .unwrap();
    a.send(discover(nic(1, 0)));
    assert_eq!(
        (heard(&mut b).len(), heard(&mut services).len()),
        (0, 1),
        "the hardware is as somebody left it"
    );
    let [found] = lab.fabric.mismatches().try_into().unwrap();
    assert_eq!(found.kind, MismatchKind::OtherNetwork);
    assert_eq!(
        (found.network.as_deref(), found.intended.as_deref()),
        (Some("services"), Some("provisioning"))
    );
    let shown = api.get("/api/v2/ports/1").await;
    assert_eq!(shown["macs"][0]["vnet"], "services");
    assert_eq!(shown["macs"][0]["intendedVnet"], "provisioning");
    assert_eq!(
        shown["vnets"],
        json!([
            { "id": 2, "name": "services", "untagged": true, "vlan": null, "state": "deleting" },
            { "id": 1, "name": "provisioning", "untagged": true, "vlan": null, "state": "pending" },
        ])
    );
    assert_eq!(
        shown["info"],
        "switch has services, intended provisioning; 1 frames from 52:54:00:00:01:00 entered services (last: DHCP DISCOVER)"
    );
    assert_eq!(api.cluster("provisioning").await["status"]["value"], "degraded");
    // The controller's own commits do not undo it, as they do not on a real switch with drift.
    api.put_servers("provisioning", &["bare-metal-1"]).await;
    lab.converge();
    assert_eq!(lab.fabric.mismatches().len(), 1);
    drop(by_hand);
    a.send(discover(nic(1, 0)));
    assert_eq!((lab.fabric.mismatches(), heard(&mut services).len()), (vec![], 0));
    assert_eq!(api.cluster("provisioning").await["status"]["value"], "active");
}

#[tokio::test]
async fn a_cable_in_the_wrong_port_is_named() {
    let lab = Lab::new();
    let mut api = lab.api().await;
    // bare-metal-4's NIC belongs in leaf-2/swp3.
    let wrong = lab.attach("leaf-2/swp1");
    wrong.send(discover(nic(4, 0)));
    let [found] = lab.fabric.mismatches().try_into().unwrap();
    assert_eq!(
        (found.kind, found.port, found.expected_port),
        (
            MismatchKind::OtherPort,
            port("leaf-2/swp1"),
            Some(port("leaf-2/swp3"))
        )
    );
    assert_eq!(
        api.get("/api/v2/ports/5").await["info"],
        "52:54:00:00:04:00 is cabled here, inventory says swp3@leaf-2"
    );
    drop(wrong);
    assert_eq!(lab.fabric.mismatches(), []);
}

#[test]
fn rules_lose_delay_and_end_with_their_guards() {
    let lab = Lab::new();
    let (a, mut b) = (lab.attach("leaf-1/swp1"), lab.attach("leaf-1/swp3"));
    let send = |text: &str| a.send(frame(Mac::BROADCAST, nic(1, 0), text.as_bytes()));
    let lossy = lab.fabric.rule(Rule::drop_all().at(&port("leaf-1/swp1")));
    send("lost");
    assert_eq!(heard(&mut b), Vec::<String>::new());
    assert_eq!(lab.fabric.counters(&port("leaf-1/swp1")).unwrap().rx_fault, 1);
    drop(lossy);
    let slow = lab
        .fabric
        .rule(Rule::delay(Duration::from_millis(10)).within("provisioning"));
    send("late");
    lab.pass(Duration::from_millis(9));
    assert_eq!(heard(&mut b), Vec::<String>::new());
    drop(slow);
    send("overtakes");
    lab.pass(Duration::from_millis(1));
    assert_eq!(heard(&mut b), ["overtakes", "late"]);
    let _arp_only = lab.fabric.rule_fn(|frame, _| {
        if frame.ethertype == 0x0806 {
            Verdict::Drop
        } else {
            Verdict::Pass
        }
    });
    a.send(crate::support::ether(Mac::BROADCAST, nic(1, 0), 0x0806, b"arp"));
    send("not arp");
    assert_eq!(heard(&mut b), ["not arp"]);
}

#[tokio::test]
async fn a_delayed_frame_meets_the_network_of_its_arrival() {
    let lab = Lab::new();
    let mut api = lab.api().await;
    let (a, mut b, mut c) = (
        lab.attach("leaf-1/swp1"),
        lab.attach("leaf-1/swp3"),
        lab.attach("leaf-2/swp1"),
    );
    api.put_servers("provisioning", &["bare-metal-3"]).await;
    api.tenant("one", &["bare-metal-1", "bare-metal-2"]).await;
    let slow = lab.fabric.rule(Rule::delay(Duration::from_secs(60)));
    a.send(frame(Mac::BROADCAST, nic(1, 0), b"sent in provisioning"));
    drop(slow);
    lab.pass(Duration::from_secs(61));
    assert_eq!((heard(&mut b).len(), heard(&mut c).len()), (1, 0));
}

#[tokio::test]
async fn switches_can_be_stuck() {
    let lab = Lab::new();
    let mut api = lab.api().await;
    let stuck = lab.fabric.hold_commits();
    api.put_servers("provisioning", &["bare-metal-2"]).await;
    lab.pass(Duration::from_secs(3600));
    assert_eq!(api.cluster("provisioning").await["status"]["value"], "pending");
    let vnet = api.get("/api/v2/vnet/1").await;
    let states: Vec<_> = vnet["ports"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| (p["name"].as_str().unwrap(), p["state"].as_str().unwrap()))
        .collect();
    assert_eq!(
        states,
        [
            ("swp1@leaf-1", "deleting"),
            ("swp3@leaf-1", "active"),
            ("swp1@leaf-2", "deleting"),
            ("swp3@leaf-2", "deleting")
        ]
    );
    drop(stuck);
    assert_eq!(api.cluster("provisioning").await["status"]["value"], "active");
    assert_eq!(
        api.get("/api/v2/vnet/1").await["ports"].as_array().unwrap().len(),
        1
    );
}

#[tokio::test]
async fn the_api_can_fail_and_forget() {
    let lab = Lab::new();
    let mut api = lab.api().await;
    let broken = lab.fabric.api_fault(|method, path| {
        (method == "PUT" && path.starts_with("/api/v2/server-cluster")).then_some(503)
    });
    assert_eq!(
        api.refused("PUT", "/api/v2/server-cluster/1", json!({ "servers": [] }))
            .await
            .0,
        503
    );
    assert_eq!(
        api.cluster("provisioning").await["servers"]
            .as_array()
            .unwrap()
            .len(),
        4,
        "nothing was done"
    );
    drop(broken);
    lab.fabric.expire_sessions();
    assert_eq!(api.refused("GET", "/api/v2/vnet", json!(null)).await.0, 401);
}
