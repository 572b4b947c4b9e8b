//! The one worker for the fabric: a reading serves all hosts, and a write moves all that wait.

use super::worker::{Device, Worker};
use crate::{
    fabric::netris::Netris,
    key::Key,
    observe::{FabricNews, Facts, REFUSAL_STANDS},
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

/// Between two tries to delete a network that is still in use, or whose deletion failed.
const REMOVE_AGAIN: Duration = Duration::from_secs(10);

#[derive(Clone)]
pub struct FabricDesk {
    worker: Arc<Worker<Changes>>,
    hosts: Hosts,
    facts: Facts,
    clock: Clock,
}

/// What waits to be done, in this order.
#[derive(Clone, Default)]
struct Changes {
    make: BTreeSet<NetworkName>,
    /// By server.
    moves: BTreeMap<String, Attachment>,
    remove: BTreeSet<String>,
}

/// Whom readings concern.
type Hosts = Arc<Mutex<Book>>;

#[derive(Default)]
struct Book {
    /// The host objects by their server's name in the fabric.
    by_server: BTreeMap<String, Key>,
    /// Servers whose hosts want to know more than they do, until the next reading.
    asked: BTreeSet<String>,
    /// The move that the fabric accepted last, per server, and when.
    accepted: BTreeMap<String, (Attachment, Instant)>,
}

/// A move that was accepted is not sent again before this: switches take their time, and a decision that still sees
/// the old network orders the same again.
const REPEAT_AFTER: Duration = Duration::from_secs(2);

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
        let desk = FabricDesk {
            worker: worker.clone(),
            hosts: hosts.clone(),
            facts: context.facts.clone(),
            clock: context.clock,
        };
        let device = FabricDevice {
            netris,
            context,
            hosts,
            worker: worker.clone(),
            removing: BTreeSet::new(),
            removed: None,
            awaited: BTreeSet::new(),
            refused: false,
            told: None,
        };
        worker.look_at(Instant::now());
        tasks.spawn("fabric", worker.run(device));
        desk
    }

    pub fn order(&self, host: &Key, attachment: Attachment) {
        self.ask(host, &attachment.server);
        {
            let book = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
            let last = book.accepted.get(&attachment.server);
            // The look that was asked for with this order tells how far it is.
            if last.is_some_and(|(order, at)| *order == attachment && at.elapsed() < REPEAT_AFTER) {
                return;
            }
        }
        let moves = BTreeMap::from([(attachment.server.clone(), attachment)]);
        self.worker.order::<FabricDevice>(Changes {
            moves,
            ..Changes::default()
        });
    }

    /// The last decision about this server wants no move: one that waits is older.
    pub fn withdraw(&self, server: &str) {
        self.worker.amend(|order| {
            if let Some(changes) = order {
                changes.moves.remove(server);
            }
        });
    }

    /// Looks at `at` at the latest. The host is told of what is found unless all is as it should be.
    pub fn look_at(&self, host: &Key, server: &str, at: Instant) {
        self.ask(host, server);
        self.worker.look_at(at);
    }

    /// The host is no more; its server stays where it is.
    pub fn forget(&self, host: &Key) {
        self.withdraw(&host.name);
        let mut book = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if book.by_server.get(&host.name) == Some(host) {
            book.by_server.remove(&host.name);
            book.asked.remove(&host.name);
            book.accepted.remove(&host.name);
        }
    }

    /// The network shall be there. One that was refused a moment ago rests; whoever waits for it is woken then.
    pub fn make(&self, network: NetworkName) {
        if !self.facts.network_rests(&network.name, self.clock.now()) {
            self.worker.order::<FabricDevice>(Changes {
                make: BTreeSet::from([network]),
                ..Changes::default()
            });
        }
    }

    /// The network shall not be there, if it was ours and nobody is in it.
    pub fn remove(&self, network: String) {
        self.worker.order::<FabricDevice>(Changes {
            remove: BTreeSet::from([network]),
            ..Changes::default()
        });
    }

    fn ask(&self, host: &Key, server: &str) {
        let mut book = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        book.by_server.insert(server.to_owned(), host.clone());
        book.asked.insert(server.to_owned());
    }
}

struct FabricDevice {
    netris: Arc<Netris>,
    context: FabricContext,
    hosts: Hosts,
    worker: Arc<Worker<Changes>>,
    /// Networks that are to go and are still there.
    removing: BTreeSet<String>,
    /// When that was last tried.
    removed: Option<Instant>,
    /// Networks that were ordered and have not been seen.
    awaited: BTreeSet<String>,
    /// A network was refused, and nobody has been told.
    refused: bool,
    /// When those who wait for networks were last told to look.
    told: Option<Instant>,
}

impl FabricDevice {
    fn refusal_stands() -> Duration {
        REFUSAL_STANDS.unsigned_abs()
    }

    fn tell(&mut self, news: &FabricNews) {
        self.tell_hosts(news);
        self.awaited
            .retain(|network| self.context.facts.network(network).known().is_none());
        let now = self.context.clock.now();
        let rests = |network: &String| self.context.facts.network_rests(network, now);
        let rested = self
            .told
            .is_none_or(|told| told.elapsed() >= Self::refusal_stands());
        let due = rested && !self.awaited.iter().all(rests);
        if due {
            // Whoever still waits orders again.
            self.awaited.retain(rests);
        }
        if news.networks || self.refused || due {
            // What a claim waits for may be a network's gateway.
            self.context.store.wake_waiting();
            self.told = Some(Instant::now());
            self.refused = false;
        }
        // A refusal ends with the first reading after its time.
        if !self.awaited.is_empty() || self.context.facts.fabric_refuses() {
            self.worker.look_at(Instant::now() + Self::refusal_stands());
        }
        if !self.removing.is_empty() {
            self.worker.look_at(Instant::now() + REMOVE_AGAIN);
        }
    }

    fn tell_hosts(&self, news: &FabricNews) {
        let mut book = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        let asked = std::mem::take(&mut book.asked);
        let unsettled = asked
            .into_iter()
            .filter(|server| !self.context.facts.fabric_settled(server));
        let mut concerned: BTreeSet<String> = unsettled.chain(news.servers.iter().cloned()).collect();
        if news.all {
            concerned.extend(book.by_server.keys().cloned());
        }
        for key in concerned.iter().filter_map(|server| book.by_server.get(server)) {
            self.context.queue.wake(Work::Host(key.clone()));
        }
    }

    async fn change_networks(&mut self, changes: &Changes, deadline: Instant) {
        for network in &changes.make {
            self.removing.remove(&network.name);
            let made = tokio::time::timeout_at(deadline, self.netris.make(network)).await;
            let refused = match made {
                Ok(outcome) => outcome.err().map(|e| e.to_string()),
                Err(_) => Some(self.late()),
            };
            if let Some(error) = &refused {
                tracing::warn!(
                    network = network.name,
                    error,
                    "the fabric did not make the network"
                );
            }
            self.awaited.insert(network.name.clone());
            self.refused |= self
                .context
                .facts
                .network_made(&network.name, self.context.clock.now(), refused);
        }
        self.removing.extend(changes.remove.iter().cloned());
        self.remove_networks(deadline).await;
    }

    async fn remove_networks(&mut self, deadline: Instant) {
        self.removed = Some(Instant::now());
        for network in self.removing.clone() {
            match tokio::time::timeout_at(deadline, self.netris.remove(&network)).await {
                Ok(Ok(true)) => {
                    self.removing.remove(&network);
                }
                Ok(Ok(false)) => tracing::debug!(network, "the network is still in use"),
                Ok(Err(error)) => {
                    tracing::warn!(network, error = %error, "the fabric did not delete the network")
                }
                Err(_) => tracing::warn!(
                    network,
                    error = self.late(),
                    "the fabric did not delete the network"
                ),
            }
        }
    }

    async fn move_servers(&self, moves: &BTreeMap<String, Attachment>, deadline: Instant) {
        let wanted: Vec<Attachment> = moves.values().cloned().collect();
        let outcome = tokio::time::timeout_at(deadline, self.netris.ensure(&wanted)).await;
        let now = self.context.clock.now();
        for server in moves.keys() {
            let error = match &outcome {
                Ok(failed) => failed.get(server).map(ToString::to_string),
                Err(_) => Some(self.late()),
            };
            match error {
                None => {
                    self.context.facts.fabric_accepted(server, now);
                    let mut book = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
                    book.accepted
                        .insert(server.clone(), (moves[server].clone(), Instant::now()));
                }
                Some(error) => {
                    tracing::warn!(port = server, error, "the fabric did not take the move");
                    self.context.facts.fabric_refused(server, now, error);
                }
            }
        }
    }

    fn late(&self) -> String {
        let seconds = self.context.timeout.as_secs();
        format!(
            "the fabric's management at {} did not finish within {seconds} s",
            self.netris.url()
        )
    }

    /// Until when an order must be done, if our term is certain to last so long.
    fn deadline(&self) -> Option<Instant> {
        let deadline = Instant::now() + self.context.timeout;
        self.context.leadership.outlives(deadline).then_some(deadline)
    }
}

impl Device for FabricDevice {
    type Order = Changes;
    const FORGETFUL: bool = false;

    async fn ensure(&mut self, changes: Changes) {
        let Some(deadline) = self.deadline() else {
            tracing::warn!("lease too short for changes in the fabric; left to the next leader");
            tokio::time::sleep(Self::refusal_stands()).await;
            return;
        };
        if !changes.moves.is_empty() {
            self.move_servers(&changes.moves, deadline).await;
        }
        self.change_networks(&changes, deadline).await;
    }

    async fn observe(&mut self) {
        if !self.removing.is_empty()
            && self.removed.is_none_or(|tried| tried.elapsed() >= REMOVE_AGAIN)
            && let Some(deadline) = self.deadline()
        {
            self.remove_networks(deadline).await;
        }
        // A reading is as old as its beginning.
        let at = self.context.clock.now();
        let fact = match self.netris.observe().await {
            Ok(snapshot) => Observed::Known {
                value: Arc::new(snapshot),
                at,
            },
            Err(error) => {
                tracing::warn!(category = error.category(), error = %error, "the fabric can't be read");
                Observed::Unknown {
                    since: at,
                    why: Ignorance::Unreachable(error.to_string()),
                }
            }
        };
        let news = self.context.facts.set_fabric(fact);
        self.tell(&news);
    }

    fn merge(mut waiting: Changes, newer: Changes) -> Changes {
        for network in &newer.make {
            waiting.remove.remove(&network.name);
        }
        waiting
            .make
            .retain(|network| !newer.remove.contains(&network.name));
        waiting.make.extend(newer.make);
        waiting.remove.extend(newer.remove);
        waiting.moves.extend(newer.moves);
        waiting
    }
}
