//! One pass over one object: gather a view, decide, save, hand over the intents.
//!
//! ```text
//! queue -> gather (caches, facts) -> core::decide -> writes, status (CAS), events -> intents to the desks
//!                                                      `- conflict: drop all, gather again
//! ```

mod claim;
mod host;
mod provider;
mod rendered;
mod tenant;
mod tickets;

pub use rendered::RenderedBook;
pub use tickets::TicketDesk;

use crate::{
    boot::BootServices,
    execute::{AgentDesk, BmcDesk, FabricDesk, Renderer},
    image::Images,
    key::Key,
    observe::Facts,
    queue::{Queue, Work},
    store::{Events, SaveError, Saver, Store},
    tenant::Tenants,
    world::{Clock, Dice},
};
use futures::{StreamExt, stream::FuturesUnordered};
use jiff::Timestamp;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use steelyard_core::{Jitter, Moment, Wake, host::view::Policy};
use tokio::time::Instant;
use tracing::Instrument;

/// Objects decided at one time. Each waits for the API server most of its time.
const AT_ONCE: usize = 32;
/// After a conflict the watch needs a moment to bring the newer object.
const AFTER_CONFLICT: Duration = Duration::from_millis(50);
/// After the API server refused a write, or user data could not be made.
const AFTER_REFUSAL: Duration = Duration::from_secs(5);
/// After many failures in a row.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// What the passes work with.
pub struct Engine {
    pub store: Arc<Store>,
    pub saver: Saver,
    pub events: Events,
    pub facts: Facts,
    pub queue: Queue,
    pub clock: Clock,
    pub dice: Dice,
    pub policy: Policy,
    pub site: Site,
    pub boot: BootServices,
    pub images: Images,
    pub bmc: BmcDesk,
    pub agent: AgentDesk,
    /// `None`: this site has no fabric to drive.
    pub fabric: Option<FabricDesk>,
    pub tenants: Tenants,
    pub renderer: Renderer,
    pub rendered: RenderedBook,
    pub failures: Failures,
}

/// How often in a row each object could not be saved.
#[derive(Default)]
pub struct Failures(Mutex<BTreeMap<Work, u32>>);

impl Failures {
    fn forget(&self, work: &Work) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(work);
    }

    /// How long to wait after one more: `first`, doubled with each further one.
    fn wait(&self, work: &Work, first: Duration) -> Duration {
        let mut book = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = book.entry(work.clone()).or_default();
        let wait = first.saturating_mul(1 << (*before).min(16)).min(LONGEST_WAIT);
        *before += 1;
        wait
    }
}

/// What a site has said in flags and only the passes need.
#[derive(Clone, Debug)]
pub struct Site {
    /// Addresses for hosts that have none annotated, e.g. 192.168.100.0/24; those below `.10` are left alone.
    pub provisioning_cidr: Option<ipnet::Ipv4Net>,
    /// Hosts in expensive states at one time.
    pub max_busy: usize,
    /// How often a tenant's kubeconfig is looked for until it is there.
    pub tenant_poll: Duration,
}

impl Engine {
    /// Decides whatever is due, for ever.
    pub async fn run(&self) {
        let mut running = FuturesUnordered::new();
        loop {
            tokio::select! {
                biased;
                Some(()) = running.next() => {}
                work = self.queue.next(), if running.len() < AT_ONCE => running.push(self.pass(work)),
            }
        }
    }

    /// Everything that there is, once: after a start nothing has changed, but nothing is known either.
    pub fn wake_all(&self) {
        for host in self.store.hosts.list() {
            self.queue.wake(Work::Host(Key::of(&*host)));
        }
        for tenant in self.store.tenants.list() {
            self.queue.wake(Work::Tenant(Key::of(&*tenant)));
        }
        for claim in self.store.claims.list() {
            self.queue.wake(Work::Claim(Key::of(&*claim)));
        }
        for provider in self.store.providers.list() {
            self.queue.wake(Work::Provider(Key::of(&*provider)));
        }
    }

    async fn pass(&self, work: Work) {
        let result = match &work {
            Work::Host(key) => {
                self.host(key)
                    .instrument(tracing::info_span!("host", host = %key))
                    .await
            }
            Work::Claim(key) => {
                self.claim(key)
                    .instrument(tracing::info_span!("claim", claim = %key))
                    .await
            }
            Work::Provider(key) => {
                self.provider(key)
                    .instrument(tracing::info_span!("provider", provider = %key))
                    .await
            }
            Work::Tenant(key) => {
                self.tenant(key)
                    .instrument(tracing::info_span!("tenant", tenant = %key))
                    .await
            }
        };
        let wake = match result {
            Ok(wake) => {
                self.failures.forget(&work);
                wake
            }
            Err(SaveError::Conflict { kind, name }) => {
                tracing::debug!(kind, name, "changed meanwhile; deciding again");
                Some(Instant::now() + self.failures.wait(&work, AFTER_CONFLICT))
            }
            Err(error) => {
                let wait = self.failures.wait(&work, AFTER_REFUSAL);
                tracing::warn!(error = %error, cause = %cause(&error), seconds = wait.as_secs(), "not saved; trying again");
                Some(Instant::now() + wait)
            }
        };
        self.queue.done(work, wake);
    }

    fn moment(&self) -> Moment {
        Moment {
            now: self.clock.now(),
            jitter: Jitter(self.dice.roll()),
        }
    }

    fn wake_instant(&self, wake: Wake) -> Option<Instant> {
        match wake {
            Wake::OnChange => None,
            Wake::At(at) => Some(self.clock.instant(at)),
        }
    }

    /// When a fact of age `at` must be asked for again to be no older than `within`.
    fn due(&self, at: Timestamp, within: jiff::SignedDuration) -> Instant {
        self.clock
            .instant(at.saturating_add(within).unwrap_or(Timestamp::MAX))
    }
}

fn cause(error: &dyn std::error::Error) -> String {
    error.source().map(|e| e.to_string()).unwrap_or_default()
}

/// The reference that Events and owners carry.
fn reference<K: kube::Resource<DynamicType = ()>>(object: &K) -> k8s_openapi::api::core::v1::ObjectReference {
    object.object_ref(&())
}

/// The key of the tenant that a claim joins.
fn tenant_key(claim: &steelyard_api::loft::NodeClaim) -> Option<Key> {
    let tenant = claim.spec.vcluster_ref.clone()?;
    Some(Key::new(
        claim.metadata.namespace.clone().unwrap_or_default(),
        tenant,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_in_a_row_are_tried_less_and_less_often() {
        let failures = Failures::default();
        let work = |name: &str| Work::Host(Key::new("ns", name));
        let waits: Vec<u64> = (0..6)
            .map(|_| failures.wait(&work("a"), AFTER_REFUSAL).as_secs())
            .collect();
        assert_eq!(waits, [5, 10, 20, 40, 60, 60]);
        for _ in 0..100 {
            assert!(failures.wait(&work("a"), AFTER_REFUSAL) <= LONGEST_WAIT);
        }
        assert_eq!(failures.wait(&work("b"), AFTER_CONFLICT), AFTER_CONFLICT);
        failures.forget(&work("a"));
        assert_eq!(failures.wait(&work("a"), AFTER_REFUSAL), AFTER_REFUSAL);
    }
}
