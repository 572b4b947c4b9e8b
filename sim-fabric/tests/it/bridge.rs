//! Learning, flooding, ageing, links: what a bridge does inside a network.

use std::time::Duration;

use sim_fabric::{AttachError, Mac};

use crate::support::{Lab, frame, heard, mac, nic, port};

#[test]
fn unknown_frames_flood_and_known_ones_do_not_and_never_back() {
    let lab = Lab::new();
    let (mut a, mut b, mut c) = (
        lab.attach("leaf-1/swp1"),
        lab.attach("leaf-1/swp3"),
        lab.attach("leaf-2/swp1"),
    );
    let (ma, mb) = (nic(1, 0), nic(2, 0));
    a.send(frame(mb, ma, b"unknown"));
    assert_eq!(
        (heard(&mut a), heard(&mut b), heard(&mut c)),
        (vec![], vec!["unknown".into()], vec!["unknown".into()])
    );
    b.send(frame(ma, mb, b"known"));
    assert_eq!(
        (heard(&mut a), heard(&mut b), heard(&mut c)),
        (vec!["known".into()], vec![], vec![])
    );
    for group in [Mac::BROADCAST, mac("33:33:00:00:00:01")] {
        a.send(frame(group, ma, b"group"));
        assert_eq!(
            (heard(&mut b).len(), heard(&mut c).len(), heard(&mut a).len()),
            (1, 1, 0),
            "{group}"
        );
    }
    // Both stations behind one port: the bridge keeps out of it.
    a.send(frame(Mac::BROADCAST, mac("52:54:00:00:09:09"), b"neighbour"));
    drop((heard(&mut b), heard(&mut c)));
    a.send(frame(mac("52:54:00:00:09:09"), ma, b"local"));
    assert_eq!(
        (heard(&mut a).len(), heard(&mut b).len(), heard(&mut c).len()),
        (0, 0, 0)
    );
    let network = lab
        .fabric
        .snapshot()
        .networks
        .into_iter()
        .find(|n| n.name == "provisioning")
        .unwrap();
    assert_eq!(
        (
            network.counters.frames,
            network.counters.broadcast,
            network.counters.unknown_unicast
        ),
        (6, 3, 1)
    );
    assert_eq!(
        lab.fabric.snapshot().tunnelled,
        [4, 0],
        "to leaf-2: one unknown, three to groups"
    );
}

#[test]
fn a_silent_station_is_forgotten_after_the_ageing_time() {
    let lab = Lab::new();
    let (a, mut b, mut c) = (
        lab.attach("leaf-1/swp1"),
        lab.attach("leaf-1/swp3"),
        lab.attach("leaf-2/swp1"),
    );
    b.send(frame(Mac::BROADCAST, nic(2, 0), b""));
    heard(&mut c);
    lab.pass(Duration::from_secs(300));
    a.send(frame(nic(2, 0), nic(1, 0), b"in time"));
    assert_eq!((heard(&mut b).len(), heard(&mut c).len()), (1, 0));
    assert_eq!(lab.fabric.mac_table().len(), 2);
    lab.pass(Duration::from_secs(1));
    a.send(frame(nic(2, 0), nic(1, 0), b"too late"));
    assert_eq!((heard(&mut b).len(), heard(&mut c).len()), (1, 1));
}

#[test]
fn a_station_that_moves_is_followed() {
    let lab = Lab::new();
    let (mut a, mut b, mut c) = (
        lab.attach("leaf-1/swp1"),
        lab.attach("leaf-1/swp3"),
        lab.attach("leaf-2/swp1"),
    );
    let roaming = mac("52:54:00:00:aa:aa");
    a.send(frame(Mac::BROADCAST, roaming, b""));
    b.send(frame(Mac::BROADCAST, roaming, b""));
    drop((heard(&mut a), heard(&mut b), heard(&mut c)));
    c.send(frame(roaming, nic(3, 0), b"found"));
    assert_eq!(
        (heard(&mut a).len(), heard(&mut b)),
        (0, vec!["found".to_owned()])
    );
    let snapshot = lab.fabric.snapshot();
    assert_eq!(
        snapshot
            .networks
            .iter()
            .map(|n| n.counters.mac_moves)
            .sum::<u64>(),
        1
    );
}

#[test]
fn a_link_that_goes_down_takes_its_addresses_along() {
    let lab = Lab::new();
    let (a, mut b, mut c) = (
        lab.attach("leaf-1/swp1"),
        lab.attach("leaf-1/swp3"),
        lab.attach("leaf-2/swp1"),
    );
    b.send(frame(Mac::BROADCAST, nic(2, 0), b""));
    heard(&mut c);
    b.set_link(false);
    assert!(!b.carrier() && a.carrier());
    b.send(frame(Mac::BROADCAST, nic(2, 0), b"into the void"));
    a.send(frame(nic(2, 0), nic(1, 0), b"anyone?"));
    assert_eq!(
        (heard(&mut b).len(), heard(&mut c)),
        (0, vec!["anyone?".to_owned()])
    );
    assert_eq!(lab.fabric.counters(&port("leaf-1/swp3")).unwrap().rx_link_down, 1);
    b.set_link(true);
    a.send(frame(nic(2, 0), nic(1, 0), b"again"));
    assert_eq!(heard(&mut b), ["again"]);
}

#[test]
fn cables_are_plugged_once_and_pulled_with_the_last_half() {
    let lab = Lab::new();
    let attach = |name: &str| lab.fabric.attach(&port(name));
    let first = attach("leaf-1/swp1").unwrap();
    assert_eq!(
        attach("leaf-1/swp1").unwrap_err(),
        AttachError::InUse(port("leaf-1/swp1"))
    );
    assert!(matches!(attach("leaf-1/swp9"), Err(AttachError::UnknownPort(_))));
    assert!(matches!(attach("leaf-9/swp1"), Err(AttachError::UnknownPort(_))));
    assert!(matches!(
        lab.fabric.attach_network("nowhere"),
        Err(AttachError::UnknownNetwork(_))
    ));
    let (tx, rx) = first.split();
    drop(rx);
    assert!(attach("leaf-1/swp1").is_err() && tx.carrier());
    drop(tx);
    assert!(attach("leaf-1/swp1").unwrap().carrier());
}

#[test]
fn infrastructure_ports_are_in_their_network_and_leave_it() {
    let lab = Lab::new();
    let (mut vip, mut services) = (
        lab.fabric.attach_network("provisioning").unwrap(),
        lab.fabric.attach_network("services").unwrap(),
    );
    let mut host = lab.attach("leaf-1/swp1");
    host.send(frame(Mac::BROADCAST, nic(1, 0), b"discover"));
    assert_eq!(
        (heard(&mut vip), heard(&mut services)),
        (vec!["discover".to_owned()], vec![])
    );
    vip.send(frame(nic(1, 0), mac("02:00:00:00:00:04"), b"offer"));
    assert_eq!(heard(&mut host), ["offer"]);
    let members = || {
        let networks = lab.fabric.snapshot().networks;
        networks
            .into_iter()
            .find(|n| n.name == "provisioning")
            .unwrap()
            .ports
            .len()
    };
    assert_eq!(members(), 5);
    drop(vip);
    assert_eq!(members(), 4);
}

#[test]
fn a_receiver_that_sleeps_loses_frames_and_only_its_own() {
    let lab = Lab::with(
        crate::support::site(),
        sim_fabric::Settings {
            queue_frames: 4,
            ..sim_fabric::Settings::default()
        },
    );
    let (a, mut asleep, mut awake) = (
        lab.attach("leaf-1/swp1"),
        lab.attach("leaf-1/swp3"),
        lab.attach("leaf-2/swp1"),
    );
    let mut got = 0;
    for _ in 0..10 {
        a.send(frame(Mac::BROADCAST, nic(1, 0), b"x"));
        got += heard(&mut awake).len();
    }
    assert_eq!((got, heard(&mut asleep).len()), (10, 4));
    assert_eq!(lab.fabric.counters(&port("leaf-1/swp3")).unwrap().tx_overflow, 6);
}

#[test]
fn what_a_bridge_must_not_forward() {
    let lab = Lab::new();
    let (a, mut b) = (lab.attach("leaf-1/swp1"), lab.attach("leaf-1/swp3"));
    a.send(frame(mac("01:80:c2:00:00:0e"), nic(1, 0), b"LLDP"));
    a.send(frame(mac("01:80:c2:00:00:00"), nic(1, 0), b"STP"));
    a.send(frame(
        Mac::BROADCAST,
        mac("03:00:00:00:00:01"),
        b"group as source",
    ));
    a.send(bytes::Bytes::from_static(b"runt"));
    a.send(vec![2; 10_000].into());
    assert_eq!(heard(&mut b).len(), 0);
    let counters = lab.fabric.counters(&port("leaf-1/swp1")).unwrap();
    assert_eq!(
        (counters.rx_filtered, counters.rx_malformed, counters.rx_frames),
        (2, 3, 2)
    );
    a.send(frame(mac("01:80:c2:00:00:10"), nic(1, 0), b"just a group"));
    assert_eq!(heard(&mut b).len(), 1);
}

#[tokio::test]
async fn recv_waits_and_ends_with_the_fabric() {
    let lab = Lab::new();
    let (a, mut b) = (lab.attach("leaf-1/swp1"), lab.attach("leaf-1/swp3"));
    let wait = tokio::time::timeout(Duration::from_secs(10), async {
        let (got, ()) = tokio::join!(b.recv(), async {
            a.send(frame(Mac::BROADCAST, nic(1, 0), b"hello"))
        });
        assert_eq!(&got.unwrap()[14..], b"hello");
        let (end, ()) = tokio::join!(b.recv(), async { lab.fabric.close() });
        assert_eq!(end, None);
    });
    wait.await.unwrap();
    assert!(matches!(
        lab.fabric.attach(&port("leaf-2/swp1")),
        Err(AttachError::Closed)
    ));
}
