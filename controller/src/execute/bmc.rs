//! One worker per BMC. BMCs are weak computers: one conversation at a time with each, a bounded number in
//! all, and never the same password twice after a refusal.

use super::worker::{Device, Worker};
use crate::{
    bmc::{BmcAddress, Credentials, RedfishBmc},
    key::Key,
    net::Net,
    observe::Facts,
    queue::{Queue, Work},
    store::Leadership,
    tasks::Tasks,
    world::Clock,
};
use rustls::ClientConfig;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use steelyard_core::{Ignorance, Observed, host::view::Power, intent::BmcIntent, password_is_retried};
use tokio::{sync::Semaphore, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

/// A BMC that refuses an order gets the next one no sooner.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// An order that was accepted is not sent again before this, unless something has changed since: an operating system
/// takes its time to shut down, and a decision that still sees it running orders the same again.
const REPEAT_AFTER: Duration = Duration::from_secs(10);
/// Between two looks at a BMC that carries out such an order.
const PACE: Duration = Duration::from_millis(200);

/// Where a BMC is and how we get in.
#[derive(Clone)]
pub struct BmcAccess {
    pub address: BmcAddress,
    pub credentials: Credentials,
    pub verify: bool,
}

impl BmcAccess {
    fn same_as(&self, other: &BmcAccess) -> bool {
        self.address == other.address
            && self.credentials.version == other.credentials.version
            && self.verify == other.verify
    }
}

/// What all BMC workers share.
struct Shared {
    net: Arc<dyn Net>,
    verified: Arc<ClientConfig>,
    unverified: Arc<ClientConfig>,
    timeout: Duration,
    /// Conversations with BMCs at one time, over all hosts.
    budget: Semaphore,
    facts: Facts,
    queue: Queue,
    clock: Clock,
    leadership: Leadership,
}

#[derive(Clone)]
pub struct BmcDesk {
    shared: Arc<Shared>,
    tasks: Tasks,
    workers: Arc<Mutex<BTreeMap<Key, Entry>>>,
}

struct Entry {
    worker: Arc<Worker<Order>>,
    access: Arc<Mutex<BmcAccess>>,
    stop: CancellationToken,
}

#[derive(Clone)]
struct Order(BmcIntent);

/// How a desk reaches BMCs.
pub struct BmcReach {
    pub net: Arc<dyn Net>,
    /// TLS for BMCs whose certificate is to be verified.
    pub verified: Arc<ClientConfig>,
    /// TLS for those with `disableCertificateVerification`.
    pub unverified: Arc<ClientConfig>,
    pub timeout: Duration,
    pub at_once: usize,
}

impl BmcDesk {
    pub fn new(
        reach: BmcReach,
        facts: Facts,
        queue: Queue,
        clock: Clock,
        leadership: Leadership,
        tasks: Tasks,
    ) -> Self {
        let BmcReach {
            net,
            verified,
            unverified,
            timeout,
            at_once,
        } = reach;
        let budget = Semaphore::new(at_once);
        let shared = Shared {
            net,
            verified,
            unverified,
            timeout,
            budget,
            facts,
            queue,
            clock,
            leadership,
        };
        BmcDesk {
            shared: Arc::new(shared),
            tasks,
            workers: Arc::default(),
        }
    }

    /// Gives the worker of `host` an order.
    pub fn order(&self, host: &Key, access: BmcAccess, intent: BmcIntent) {
        self.worker(host, access).order::<BmcDevice>(Order(intent));
    }

    /// The last decision wants nothing of the BMC: an order that waits is older.
    pub fn withdraw(&self, host: &Key) {
        let workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = workers.get(host) {
            entry.worker.amend(|order| *order = None);
        }
    }

    /// Looks at the BMC of `host` at `at` at the latest.
    pub fn look_at(&self, host: &Key, access: BmcAccess, at: Instant) {
        self.worker(host, access).look_at(at);
    }

    /// Ends the worker of a host that is no more.
    pub fn forget(&self, host: &Key) {
        let gone = self
            .workers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(host);
        if let Some(entry) = gone {
            entry.stop.cancel();
        }
        self.shared.facts.forget(host);
    }

    fn worker(&self, host: &Key, access: BmcAccess) -> Arc<Worker<Order>> {
        let mut workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = workers.get(host) {
            *entry.access.lock().unwrap_or_else(PoisonError::into_inner) = access;
            return entry.worker.clone();
        }
        let worker = Worker::new();
        let access = Arc::new(Mutex::new(access));
        let stop = CancellationToken::new();
        let device = BmcDevice {
            host: host.clone(),
            access: access.clone(),
            client: None,
            refused: None,
            accepted: None,
            power: None,
            shared: self.shared.clone(),
        };
        let work = worker.clone().run(device);
        let until = stop.clone();
        let span = tracing::info_span!("bmc", host = %host);
        self.tasks.spawn(
            "bmc",
            async move {
                until.run_until_cancelled(work).await;
            }
            .instrument(span),
        );
        workers.insert(
            host.clone(),
            Entry {
                worker: worker.clone(),
                access,
                stop,
            },
        );
        worker
    }
}

struct BmcDevice {
    host: Key,
    access: Arc<Mutex<BmcAccess>>,
    client: Option<(BmcAccess, RedfishBmc)>,
    /// The version of the Secret that the BMC has refused.
    refused: Option<String>,
    /// The order that was accepted last, while the power is what it was then.
    accepted: Option<(BmcIntent, Instant)>,
    power: Option<Power>,
    shared: Arc<Shared>,
}

impl BmcDevice {
    /// The client for the current access, or none if the BMC has refused these very credentials.
    fn client(&mut self) -> Option<&RedfishBmc> {
        let access = self.access.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if self.refused.as_ref() == Some(&access.credentials.version) && !password_is_retried() {
            return None;
        }
        if self.client.as_ref().is_none_or(|(old, _)| !old.same_as(&access)) {
            let tls = if access.verify {
                &self.shared.verified
            } else {
                &self.shared.unverified
            };
            let bmc = RedfishBmc::new(
                self.shared.net.clone(),
                access.address.clone(),
                access.credentials.clone(),
                tls.clone(),
                self.shared.timeout,
            );
            self.client = Some((access, bmc));
        }
        self.client.as_ref().map(|(_, bmc)| bmc)
    }

    fn report(&mut self, fact: Observed<steelyard_core::host::view::BmcFacts>) {
        if let Observed::Unknown {
            why: Ignorance::Refused { credentials, .. },
            ..
        } = &fact
        {
            self.refused = Some(credentials.clone());
        }
        self.shared.facts.set_bmc(&self.host, fact);
        self.shared.queue.wake(Work::Host(self.host.clone()));
    }
}

impl Device for BmcDevice {
    type Order = Order;

    async fn ensure(&mut self, Order(intent): Order) {
        let shared = self.shared.clone();
        if self
            .accepted
            .as_ref()
            .is_some_and(|(last, at)| *last == intent && at.elapsed() < REPEAT_AFTER)
        {
            tokio::time::sleep(PACE).await;
            return;
        }
        let Ok(one) = shared.budget.acquire().await else {
            return;
        };
        // Fenced: a leader whose term may end before the order has been carried out does nothing.
        let deadline = Instant::now() + shared.timeout;
        if !shared.leadership.outlives(deadline) {
            drop(one);
            tracing::warn!(intent = ?intent, "lease too short for this order; left to the next leader");
            tokio::time::sleep(AGAIN_AFTER).await;
            return;
        }
        let Some(client) = self.client() else { return };
        tracing::debug!(intent = ?intent, "order");
        let outcome = tokio::time::timeout_at(deadline, client.ensure(&intent)).await;
        // Others may go on while this BMC rests.
        drop(one);
        let now = shared.clock.now();
        match outcome {
            Ok(Ok(())) => self.accepted = Some((intent, Instant::now())),
            Ok(Err(error)) => {
                tracing::warn!(intent = ?intent, category = error.category(), error = %error, "the BMC did not take the order");
                // A password that was refused once is not to be tried by the look that follows.
                if let why @ Ignorance::Refused { .. } = error.ignorance() {
                    self.report(Observed::Unknown { since: now, why });
                    return;
                }
                tokio::time::sleep(AGAIN_AFTER).await;
            }
            Err(_) => {
                tracing::warn!(intent = ?intent, seconds = shared.timeout.as_secs(), "the BMC did not finish the order in time");
                tokio::time::sleep(AGAIN_AFTER).await;
            }
        }
        shared.facts.set_bmc(&self.host, Observed::not_asked(now));
    }

    async fn observe(&mut self) {
        let shared = self.shared.clone();
        let Ok(_one) = shared.budget.acquire().await else {
            return;
        };
        let Some(client) = self.client() else { return };
        let fact = match client.observe().await {
            Ok(value) => {
                if self.power.replace(value.power) != Some(value.power) {
                    self.accepted = None;
                }
                Observed::Known {
                    value,
                    at: shared.clock.now(),
                }
            }
            Err(error) => {
                tracing::debug!(category = error.category(), error = %error, "the BMC can't be read");
                Observed::Unknown {
                    since: shared.clock.now(),
                    why: error.ignorance(),
                }
            }
        };
        self.report(fact);
    }
}
