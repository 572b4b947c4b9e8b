//! The one worker for the fabric: a reading serves all hosts, and a write moves all that wait.

use super::worker::{Device, Worker};
use crate::{
    fabric::netris::Netris,
    key::Key,
    observe::Facts,
    queue::{Queue, Work},
    store::Leadership,
    tasks::Tasks,
    world::Clock,
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use steelyard_core::{Ignorance, Observed, intent::Attachment};
use tokio::time::Instant;

#[derive(Clone)]
pub struct FabricDesk {
    worker: Arc<Worker<Moves>>,
    hosts: Hosts,
}

/// Orders by server.
type Moves = BTreeMap<String, Attachment>;
/// The host objects by their server's name in the fabric.
type Hosts = Arc<Mutex<BTreeMap<String, Key>>>;

impl FabricDesk {
    /// `timeout`: the longest that one order may take.
    pub fn start(
        netris: Arc<Netris>,
        timeout: Duration,
        facts: Facts,
        queue: Queue,
        clock: Clock,
        leadership: Leadership,
        tasks: &Tasks,
    ) -> Self {
        let worker = Worker::new();
        let hosts = Hosts::default();
        let device = FabricDevice { netris, timeout, facts, queue, clock, leadership, hosts: hosts.clone() };
        tasks.spawn("fabric", worker.clone().run(device));
        FabricDesk { worker, hosts }
    }

    pub fn order(&self, host: &Key, attachment: Attachment) {
        self.know(host, &attachment.server);
        self.worker.order::<FabricDevice>(Moves::from([(attachment.server.clone(), attachment)]));
    }

    pub fn look_at(&self, host: &Key, server: &str, at: Instant) {
        self.know(host, server);
        self.worker.look_at(at);
    }

    fn know(&self, host: &Key, server: &str) {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner).insert(server.to_owned(), host.clone());
    }
}

struct FabricDevice {
    netris: Arc<Netris>,
    timeout: Duration,
    facts: Facts,
    queue: Queue,
    clock: Clock,
    leadership: Leadership,
    hosts: Hosts,
}

impl FabricDevice {
    fn wake<'a>(&self, servers: impl IntoIterator<Item = &'a String>) {
        let hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        for key in servers.into_iter().filter_map(|s| hosts.get(s)) {
            self.queue.wake(Work::Host(key.clone()));
        }
    }
}

impl Device for FabricDevice {
    type Order = Moves;
    const FORGETFUL: bool = false;

    async fn ensure(&mut self, moves: Moves) {
        if !self.leadership.outlives(Instant::now() + self.timeout) {
            tracing::warn!("lease too short for moves in the fabric; left to the next leader");
            return;
        }
        let wanted: Vec<Attachment> = moves.values().cloned().collect();
        let failed = self.netris.ensure(&wanted).await;
        let now = self.clock.now();
        for server in moves.keys() {
            match failed.get(server) {
                None => self.facts.fabric_accepted(server, now),
                Some(error) => {
                    tracing::warn!(port = server, category = error.category(), error = %error, "the fabric did not take the move");
                    self.facts.fabric_refused(server, now, error.to_string());
                }
            }
        }
        self.wake(failed.keys());
    }

    async fn observe(&mut self) {
        let fact = match self.netris.observe().await {
            Ok(snapshot) => Observed::Known { value: Arc::new(snapshot), at: self.clock.now() },
            Err(error) => {
                tracing::warn!(category = error.category(), error = %error, "the fabric can't be read");
                Observed::Unknown { since: self.clock.now(), why: Ignorance::Unreachable(error.to_string()) }
            }
        };
        let changed = self.facts.set_fabric(fact);
        self.wake(&changed);
    }

    fn merge(mut waiting: Moves, newer: Moves) -> Moves {
        waiting.extend(newer);
        waiting
    }
}
