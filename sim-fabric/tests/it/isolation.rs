//! The property that everything rests on: whatever sequence of edits, commits, links and frames, a frame only
//! ever reaches ports that are in its network at that moment. Judged twice: by a model of a few lines in this
//! file, which knows only what the API accepted and when, and by the fabric's own witness.

use std::{collections::BTreeMap, time::Duration};

use proptest::prelude::*;
use sim_fabric::{Mac, Port, Settings};

use crate::support::{Client, Lab, frame, mac, nic, port, site};

const DELAY: Duration = Duration::from_secs(5);
/// The `eth0` ports of the four servers.
const PORTS: [&str; 4] = ["leaf-1/swp1", "leaf-1/swp3", "leaf-2/swp1", "leaf-2/swp3"];
const CLUSTERS: [&str; 3] = ["provisioning", "one", "two"];

#[derive(Debug, Clone)]
enum Step {
    /// Takes a server out of one cluster and, perhaps, puts it in another.
    Move {
        server: usize,
        to: Option<usize>,
    },
    Pass(u8),
    Link {
        server: usize,
        up: bool,
    },
    ByHand {
        server: usize,
        network: Option<usize>,
    },
    HandsOff,
    /// To a station, to everybody, or to a gateway.
    Send {
        from: usize,
        to: To,
    },
}

#[derive(Debug, Clone, Copy)]
enum To {
    Station(usize),
    All,
    Stranger,
}

fn step() -> impl Strategy<Value = Step> {
    let to = prop_oneof![
        (0..4usize).prop_map(To::Station),
        Just(To::All),
        Just(To::Stranger)
    ];
    prop_oneof![
        3 => (0..4usize, proptest::option::of(0..3usize)).prop_map(|(server, to)| Step::Move { server, to }),
        3 => (0..8u8).prop_map(Step::Pass),
        1 => (0..4usize, any::<bool>()).prop_map(|(server, up)| Step::Link { server, up }),
        1 => (0..4usize, proptest::option::of(0..3usize)).prop_map(|(server, network)| Step::ByHand { server, network }),
        1 => Just(Step::HandsOff),
        8 => (0..4usize, to).prop_map(|(from, to)| Step::Send { from, to }),
    ]
}

/// What must hold, in the plainest form: a list of promises with due times.
#[derive(Default)]
struct Model {
    now: Duration,
    /// Server -> network, as the switches have it.
    commits: BTreeMap<usize, Option<usize>>,
    planned: Vec<(Duration, usize, Option<usize>)>,
    by_hand: BTreeMap<usize, Option<usize>>,
    down: [bool; 4],
}

impl Model {
    fn pass(&mut self, time: Duration) {
        self.now += time;
        let due: Vec<_> = self
            .planned
            .extract_if(.., |(at, _, _)| *at <= self.now)
            .collect();
        self.commits
            .extend(due.into_iter().map(|(_, server, network)| (server, network)));
    }

    fn network(&self, server: usize) -> Option<usize> {
        self.by_hand
            .get(&server)
            .unwrap_or(&self.commits[&server])
            .to_owned()
    }

    fn may_hear(&self, from: usize, to: usize) -> bool {
        from != to
            && !self.down[from]
            && !self.down[to]
            && self.network(from).is_some()
            && self.network(from) == self.network(to)
    }
}

async fn members(api: &mut Client, cluster: &str) -> Vec<String> {
    let cluster = api.cluster(cluster).await;
    cluster["servers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| s["name"].as_str().unwrap().to_owned())
        .collect()
}

async fn relocate(api: &mut Client, server: usize, to: Option<usize>) {
    let name = format!("bare-metal-{}", server + 1);
    for cluster in CLUSTERS {
        let all = members(api, cluster).await;
        if all.contains(&name) {
            let rest: Vec<&str> = all
                .iter()
                .map(String::as_str)
                .filter(|other| *other != name)
                .collect();
            api.put_servers(cluster, &rest).await;
        }
    }
    if let Some(to) = to {
        let mut all = members(api, CLUSTERS[to]).await;
        all.push(name);
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        api.put_servers(CLUSTERS[to], &all).await;
    }
}

async fn play(steps: Vec<Step>) {
    let lab = Lab::with(
        site(),
        Settings {
            commit_delay: DELAY,
            ..Settings::default()
        },
    );
    let mut api = lab.api().await;
    api.tenant("one", &[]).await;
    api.tenant("two", &[]).await;
    lab.pass(DELAY);
    let witness = lab.fabric.witness();
    let mut ports: Vec<Port> = PORTS.iter().map(|name| lab.attach(name)).collect();
    let mut model = Model::default();
    model.commits.extend((0..4).map(|server| (server, Some(0))));
    let mut hands = BTreeMap::new();
    let names = |network: usize| ["provisioning", "one-net", "two-net"][network];
    for step in steps {
        match step {
            Step::Move { server, to } => {
                relocate(&mut api, server, to).await;
                // Out first, then in: two promises, due at the same time.
                model.planned.push((model.now + DELAY, server, to));
            }
            Step::Pass(seconds) => {
                let time = Duration::from_secs(seconds.into());
                lab.pass(time);
                model.pass(time);
            }
            Step::Link { server, up } => {
                ports[server].set_link(up);
                model.down[server] = !up;
            }
            Step::ByHand { server, network } => {
                let guard = lab
                    .fabric
                    .force_port(&port(PORTS[server]), network.map(names))
                    .unwrap();
                hands.insert(server, guard);
                model.by_hand.insert(server, network);
            }
            Step::HandsOff => {
                hands.clear();
                model.by_hand.clear();
            }
            Step::Send { from, to } => {
                let dst = match to {
                    To::Station(server) => nic(server as u8 + 1, 0),
                    To::All => Mac::BROADCAST,
                    To::Stranger => mac("52:54:00:ff:ff:ff"),
                };
                ports
                    .iter_mut()
                    .for_each(|port| while port.try_recv().is_some() {});
                ports[from].send(frame(dst, nic(from as u8 + 1, 0), b"mark"));
                for (to, port) in ports.iter_mut().enumerate() {
                    let got = std::iter::from_fn(|| port.try_recv()).count();
                    let may = usize::from(model.may_hear(from, to));
                    assert!(got <= may, "{from} -> {to}: {got} frames, allowed {may}");
                    if dst.is_group() || dst == mac("52:54:00:ff:ff:ff") {
                        assert_eq!(got, may, "{from} -> {to}: floods reach every member");
                    } else if dst == nic(to as u8 + 1, 0) {
                        assert_eq!(got, may, "{from} -> {to}: its own station hears it");
                    }
                }
            }
        }
    }
    assert_eq!(witness.violations(), []);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn no_frame_ever_leaves_its_network(steps in proptest::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(play(steps));
    }
}

#[tokio::test]
async fn the_witness_counts_who_heard_whom() {
    let lab = Lab::new();
    let mut api = lab.api().await;
    let (a, b) = (lab.attach(PORTS[0]), lab.attach(PORTS[1]));
    let _others = (lab.attach(PORTS[2]), lab.attach(PORTS[3]));
    let witness = lab.fabric.witness();
    let send = |port: &Port, to: Mac, from: Mac| port.send(frame(to, from, b"x"));
    send(&a, Mac::BROADCAST, nic(1, 0));
    send(&b, nic(1, 0), nic(2, 0));
    let count = |from: usize, to: usize| witness.frames(&port(PORTS[from]), &port(PORTS[to]));
    assert_eq!(
        (count(0, 1), count(0, 2), count(0, 3), count(1, 0), count(1, 2)),
        (1, 1, 1, 1, 0)
    );
    api.put_servers("provisioning", &["bare-metal-2"]).await;
    api.tenant("one", &["bare-metal-1"]).await;
    lab.converge();
    send(&a, Mac::BROADCAST, nic(1, 0));
    send(&a, nic(2, 0), nic(1, 0));
    assert_eq!((count(0, 1), count(0, 0)), (1, 0), "as before");
    let names: Vec<Vec<String>> = witness
        .history(&port(PORTS[0]))
        .into_iter()
        .map(|(_, names)| names)
        .collect();
    assert_eq!(
        names,
        [
            vec!["provisioning".to_owned()],
            vec![],
            vec!["one-net".to_owned()]
        ]
    );
    assert_eq!(witness.violations(), []);
}

/// Rows send to everybody, columns hear: tenant one twice, tenant two, provisioning, services.
#[tokio::test]
async fn the_truth_table_of_networks() {
    let lab = Lab::with(
        site(),
        Settings {
            commit_delay: DELAY,
            ..Settings::default()
        },
    );
    let mut api = lab.api().await;
    api.put_servers("provisioning", &["bare-metal-4"]).await;
    api.tenant("one", &["bare-metal-1", "bare-metal-2"]).await;
    api.tenant("two", &["bare-metal-3"]).await;
    lab.pass(DELAY);
    let mut ports: Vec<Port> = PORTS.iter().map(|name| lab.attach(name)).collect();
    ports.push(lab.fabric.attach_network("services").unwrap());
    let mut table = String::new();
    for from in 0..ports.len() {
        ports[from].send(frame(Mac::BROADCAST, nic(from as u8 + 1, 0), b"x"));
        let row = ports.iter_mut().map(|p| {
            if std::iter::from_fn(|| p.try_recv()).count() > 0 {
                'x'
            } else {
                '.'
            }
        });
        table.extend(row.chain(['\n']));
    }
    assert_eq!(table, ".x...\nx....\n.....\n.....\n.....\n");
}
