//! The one worker for the fabric: a reading serves all hosts, and a write moves all that wait.

use super::worker::{Device, Worker};
use crate::{
    fabric::netris::Netris,
    key::Key,
    observe::Facts,
    queue::{Queue, Work},
    store::{Leadership, Store},
    tasks::Tasks,
    world::Clock,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use steelyard_core::{
    Ignorance, Observed,
    intent::{Attachment, NetworkName},
};
use tokio::time::Instant;

#[derive(Clone)]
pub struct FabricDesk {
    worker: Arc<Worker<Changes>>,
    hosts: Hosts,
}

/// What waits to be done, in this order.
#[derive(Clone, Default)]
struct Changes {
    make: BTreeSet<NetworkName>,
    /// By server.
    moves: BTreeMap<String, Attachment>,
    remove: BTreeSet<String>,
}

/// The host objects by their server's name in the fabric.
type Hosts = Arc<Mutex<BTreeMap<String, Key>>>;

/// What the worker needs of the controller.
pub struct FabricContext {
    pub facts: Facts,
    pub store: Arc<Store>,
    pub queue: Queue,
    pub clock: Clock,
    pub leadership: Leadership,
    /// The longest that one order may take.
    pub timeout: Duration,
}

impl FabricDesk {
    pub fn start(netris: Arc<Netris>, context: FabricContext, tasks: &Tasks) -> Self {
        let worker = Worker::new();
        let hosts = Hosts::default();
        tasks.spawn("fabric", worker.clone().run(FabricDevice { netris, context, hosts: hosts.clone() }));
        worker.look_at(Instant::now());
        FabricDesk { worker, hosts }
    }

    pub fn order(&self, host: &Key, attachment: Attachment) {
        self.know(host, &attachment.server);
        let moves = BTreeMap::from([(attachment.server.clone(), attachment)]);
        self.worker.order::<FabricDevice>(Changes { moves, ..Changes::default() });
    }

    pub fn look_at(&self, host: &Key, server: &str, at: Instant) {
        self.know(host, server);
        self.worker.look_at(at);
    }

    /// The network shall be there.
    pub fn make(&self, network: NetworkName) {
        self.worker.order::<FabricDevice>(Changes { make: BTreeSet::from([network]), ..Changes::default() });
    }

    /// The network shall not be there, if it was ours and nobody is in it.
    pub fn remove(&self, network: String) {
        self.worker.order::<FabricDevice>(Changes { remove: BTreeSet::from([network]), ..Changes::default() });
    }

    fn know(&self, host: &Key, server: &str) {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner).insert(server.to_owned(), host.clone());
    }
}

struct FabricDevice {
    netris: Arc<Netris>,
    context: FabricContext,
    hosts: Hosts,
}

impl FabricDevice {
    fn wake<'a>(&self, servers: impl IntoIterator<Item = &'a String>) {
        let hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        for key in servers.into_iter().filter_map(|s| hosts.get(s)) {
            self.context.queue.wake(Work::Host(key.clone()));
        }
    }

    async fn change_networks(&self, changes: &Changes) {
        let now = self.context.clock.now();
        for network in &changes.make {
            let refused = self.netris.make(network).await.err().map(|e| e.to_string());
            if let Some(error) = &refused {
                tracing::warn!(network = network.name, error, "the fabric did not make the network");
            }
            self.context.facts.network_made(&network.name, now, refused);
        }
        for network in &changes.remove {
            if let Err(error) = self.netris.remove(network).await {
                tracing::warn!(network, error = %error, "the fabric did not delete the network");
            }
        }
    }

    async fn move_servers(&self, moves: &BTreeMap<String, Attachment>) {
        let wanted: Vec<Attachment> = moves.values().cloned().collect();
        let failed = self.netris.ensure(&wanted).await;
        let now = self.context.clock.now();
        for server in moves.keys() {
            match failed.get(server) {
                None => self.context.facts.fabric_accepted(server, now),
                Some(error) => {
                    tracing::warn!(port = server, category = error.category(), error = %error, "the fabric did not take the move");
                    self.context.facts.fabric_refused(server, now, error.to_string());
                }
            }
        }
        self.wake(failed.keys());
    }
}

impl Device for FabricDevice {
    type Order = Changes;
    const FORGETFUL: bool = false;

    async fn ensure(&mut self, changes: Changes) {
        if !self.context.leadership.outlives(Instant::now() + self.context.timeout) {
            tracing::warn!("lease too short for changes in the fabric; left to the next leader");
            return;
        }
        if !changes.moves.is_empty() {
            self.move_servers(&changes.moves).await;
        }
        self.change_networks(&changes).await;
    }

    async fn observe(&mut self) {
        let at = self.context.clock.now();
        let fact = match self.netris.observe().await {
            Ok(snapshot) => Observed::Known { value: Arc::new(snapshot), at: self.context.clock.now() },
            Err(error) => {
                tracing::warn!(category = error.category(), error = %error, "the fabric can't be read");
                Observed::Unknown { since: at, why: Ignorance::Unreachable(error.to_string()) }
            }
        };
        let changed = self.context.facts.set_fabric(fact);
        self.wake(&changed);
        // What a claim waits for may be a network's gateway.
        self.context.store.wake_waiting();
    }

    fn merge(mut waiting: Changes, newer: Changes) -> Changes {
        for network in &newer.make {
            waiting.remove.remove(&network.name);
        }
        waiting.make.retain(|network| !newer.remove.contains(&network.name));
        waiting.make.extend(newer.make);
        waiting.remove.extend(newer.remove);
        waiting.moves.extend(newer.moves);
        waiting
    }
}
