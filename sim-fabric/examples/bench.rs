//! How fast frames cross: `cargo run --release -p sim-fabric --example bench`. Prints frames per second, and
//! the ratio to the same frames over a plain tokio channel, which is the least that two in-process NICs could
//! have between them. Ratios travel between machines; absolute numbers do not.

#![allow(clippy::print_stdout)]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use sim_fabric::{FabricHandle, Mac, Network, Port, PortName, Settings, Topology};

const PAYLOAD: usize = 1500;
const FRAMES: u32 = 2_000_000;
/// As a stack drains its NIC: in bursts.
const BURST: u32 = 64;

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime without I/O");
    let frame = |dst: Mac, src: Mac| {
        let mut frame = vec![0; PAYLOAD + 14];
        frame[..6].copy_from_slice(&dst.0);
        frame[6..12].copy_from_slice(&src.0);
        frame[12] = 0x88;
        frame[13] = 0xb5;
        Bytes::from(frame)
    };
    let hop = runtime.block_on(channel(&frame(Mac([2; 6]), Mac([2; 6]))));
    println!("{:<34} {:>12} frames/s", "tokio mpsc, one hop", rate(FRAMES, hop));

    let (one, two) = (Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2]));
    for servers in [2, 4096] {
        let (_fabric, mut ports) = fabric(servers);
        ports[1].send(frame(one, two));
        ports[0].send(frame(two, one));
        ports
            .iter_mut()
            .for_each(|port| while port.try_recv().is_some() {});
        let known = frame(two, one);
        let (first, rest) = ports.split_at_mut(1);
        let took = runtime.block_on(unicast(&first[0], &mut rest[0], &known));
        report(&format!("known unicast, {servers} ports"), FRAMES, took, hop);
    }
    for servers in [64, 4096] {
        let (_fabric, mut ports) = fabric(servers);
        let broadcast = frame(Mac::BROADCAST, one);
        let rounds = FRAMES / servers as u32;
        let start = Instant::now();
        for _ in 0..rounds {
            ports[0].send(broadcast.clone());
            ports
                .iter_mut()
                .for_each(|port| while port.try_recv().is_some() {});
        }
        report(
            &format!("broadcast, {servers} ports, each copy"),
            rounds * (servers as u32 - 1),
            start.elapsed(),
            hop,
        );
    }
}

/// A network with one port for each of so many servers.
fn fabric(servers: usize) -> (FabricHandle, Vec<Port>) {
    let mut topology = Topology::leaf_spine(64, servers, 1, |i| format!("server-{i}"));
    let nics: Vec<PortName> = topology
        .servers
        .iter()
        .map(|server| server.nics[0].port.clone())
        .collect();
    topology.networks.push(Network {
        name: "bench".into(),
        gateway: None,
        vlan: None,
    });
    topology.clusters.push(sim_fabric::Cluster {
        name: "bench".into(),
        vnets: vec![sim_fabric::ClusterVnet {
            network: "bench".into(),
            server_nics: vec!["eth0".into()],
        }],
        servers: topology
            .servers
            .iter()
            .map(|server| server.name.clone())
            .collect(),
    });
    let now = Arc::new(jiff::Timestamp::now);
    let fabric = FabricHandle::with_settings(topology, now, Settings::default()).expect("a good topology");
    let ports = nics
        .iter()
        .map(|name| fabric.attach(name).expect("a free port"))
        .collect();
    (fabric, ports)
}

async fn unicast(from: &Port, to: &mut Port, frame: &Bytes) -> Duration {
    let start = Instant::now();
    for _ in 0..FRAMES / BURST {
        for _ in 0..BURST {
            from.send(frame.clone());
        }
        for _ in 0..BURST {
            to.recv().await.expect("what was sent");
        }
    }
    start.elapsed()
}

async fn channel(frame: &Bytes) -> Duration {
    let (tx, mut rx) = tokio::sync::mpsc::channel(1024);
    let start = Instant::now();
    for _ in 0..FRAMES / BURST {
        for _ in 0..BURST {
            tx.try_send(frame.clone()).expect("room for a burst");
        }
        for _ in 0..BURST {
            rx.recv().await.expect("what was sent");
        }
    }
    start.elapsed()
}

fn rate(frames: u32, took: Duration) -> u64 {
    (f64::from(frames) / took.as_secs_f64()) as u64
}

fn report(what: &str, frames: u32, took: Duration, hop: Duration) {
    let ratio = rate(FRAMES, hop) as f64 / rate(frames, took) as f64;
    println!(
        "{what:<34} {:>12} frames/s {ratio:>8.1} x a hop",
        rate(frames, took)
    );
}
