//! Leader election with a Lease, and the fence that comes with it.
//!
//! As client-go does, the holder's clock is never compared with ours: a foreign lease has expired when we
//! have seen the same record for its whole duration. Our own term is counted from before the renewal was
//! sent, so that we never believe in it longer than others do.

use crate::world::Clock;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::{Api, Client, api::PostParams};
use std::time::Duration;
use tokio::{sync::watch, time::Instant};

#[derive(Clone, Debug)]
pub struct LeaseConfig {
    pub namespace: String,
    pub name: String,
    /// Who we are: unique among replicas.
    pub identity: String,
    pub duration: Duration,
    pub renew_every: Duration,
}

/// How long we lead, as far as we know now.
#[derive(Clone, Debug)]
pub struct Leadership(watch::Receiver<Option<Instant>>);

impl Leadership {
    /// Is our term certain to last until `at`? Asked before each write to a device.
    pub fn outlives(&self, at: Instant) -> bool {
        self.0.borrow().is_some_and(|until| until > at)
    }

    pub fn leads(&self) -> bool {
        self.outlives(Instant::now())
    }

    /// Waits until we lead.
    pub async fn wait(&mut self) {
        // An error means that the election has ended; then we never will.
        let led = self
            .0
            .wait_for(|until| until.is_some_and(|u| u > Instant::now()))
            .await
            .is_ok();
        if !led {
            std::future::pending::<()>().await;
        }
    }
}

/// Takes part in the election. Its end, however it comes, is the end of our term as far as we are concerned.
pub struct Election {
    client: Client,
    config: LeaseConfig,
    clock: Clock,
    until: watch::Sender<Option<Instant>>,
}

/// What we last saw of a foreign lease, and since when.
struct Seen {
    record: (Option<String>, Option<MicroTime>, Option<i32>),
    since: Instant,
}

/// What came of one try.
enum Turn {
    Ours,
    Theirs,
    /// Somebody wrote the object between our read and our write: it may still be, or become, ours.
    Contested,
}

impl Election {
    pub fn new(client: Client, config: LeaseConfig, clock: Clock) -> (Self, Leadership) {
        let (until, watched) = watch::channel(None);
        (
            Election {
                client,
                config,
                clock,
                until,
            },
            Leadership(watched),
        )
    }

    fn api(&self) -> Api<Lease> {
        Api::namespaced(self.client.clone(), &self.config.namespace)
    }

    /// Returns once leadership was held and lost, and not a moment later.
    pub async fn run(&self) {
        let api = self.api();
        let lease = self.config.name.as_str();
        let mut seen: Option<Seen> = None;
        loop {
            let started = Instant::now();
            let term = *self.until.borrow();
            if term.is_some_and(|until| until <= started) {
                tracing::error!(lease, "the lease ran out; stopping");
                break;
            }
            // An API server that does not answer must not hold us past our term.
            let patience = started + self.config.duration / 3;
            let patience = term.map_or(patience, |until| until.min(patience));
            let mut pause = self.config.renew_every;
            match tokio::time::timeout_at(patience, self.try_once(&api, &mut seen)).await {
                Ok(Ok(Turn::Ours)) => {
                    if term.is_none() {
                        tracing::info!(lease, identity = self.config.identity, "leading");
                    }
                    self.until.send_replace(Some(started + self.config.duration));
                }
                Ok(Ok(Turn::Theirs)) if term.is_some() => {
                    tracing::error!(lease, "somebody else leads now; stopping");
                    break;
                }
                Ok(Ok(Turn::Theirs)) => {}
                Ok(Ok(Turn::Contested)) => pause /= 10,
                Ok(Err(error)) => tracing::warn!(lease, error = %error, "lease not renewed; trying again"),
                Err(_) => tracing::warn!(lease, error = "no answer", "lease not renewed; trying again"),
            }
            let next = Instant::now() + pause;
            let until = *self.until.borrow();
            tokio::time::sleep_until(until.map_or(next, |until| until.min(next))).await;
        }
        self.until.send_replace(None);
    }

    /// Gives the lease back, so that the next leader need not wait until it expires. To be called when nothing
    /// of ours acts any more.
    pub async fn release(&self) {
        if self.until.send_replace(None).is_none() {
            return;
        }
        match tokio::time::timeout(self.config.duration / 3, self.try_release()).await {
            Ok(Ok(())) => tracing::info!(lease = self.config.name, "lease given back"),
            Ok(Err(error)) => {
                tracing::warn!(lease = self.config.name, error = %error, "lease not given back; it will expire")
            }
            Err(_) => tracing::warn!(
                lease = self.config.name,
                error = "no answer",
                "lease not given back; it will expire"
            ),
        }
    }

    async fn try_release(&self) -> Result<(), kube::Error> {
        let api = self.api();
        loop {
            let Some(mut lease) = api.get_opt(&self.config.name).await? else {
                return Ok(());
            };
            let before = lease.spec.take().unwrap_or_default();
            if before.holder_identity.as_deref() != Some(&self.config.identity) {
                return Ok(());
            }
            // Nobody holds it; a duration of zero would be refused.
            lease.spec = Some(LeaseSpec {
                lease_duration_seconds: Some(1),
                renew_time: Some(MicroTime(self.clock.now())),
                lease_transitions: before.lease_transitions,
                ..LeaseSpec::default()
            });
            if let Turn::Ours = or_contested(
                api.replace(&self.config.name, &PostParams::default(), &lease)
                    .await,
            )? {
                return Ok(());
            }
        }
    }

    /// Takes or renews the lease.
    async fn try_once(&self, api: &Api<Lease>, seen: &mut Option<Seen>) -> Result<Turn, kube::Error> {
        let Some(mut lease) = api.get_opt(&self.config.name).await? else {
            let fresh = Lease {
                metadata: ObjectMeta {
                    name: Some(self.config.name.clone()),
                    namespace: Some(self.config.namespace.clone()),
                    ..ObjectMeta::default()
                },
                spec: Some(self.spec(&LeaseSpec::default())),
            };
            return or_contested(api.create(&PostParams::default(), &fresh).await);
        };
        let spec = lease.spec.take().unwrap_or_default();
        if !self.holds(&spec) && !is_free(&spec) && !expired(&spec, seen) {
            return Ok(Turn::Theirs);
        }
        lease.spec = Some(self.spec(&spec));
        or_contested(
            api.replace(&self.config.name, &PostParams::default(), &lease)
                .await,
        )
    }

    fn holds(&self, spec: &LeaseSpec) -> bool {
        spec.holder_identity.as_deref() == Some(&self.config.identity)
    }

    /// The next record: a renewal of ours, or a new term.
    fn spec(&self, before: &LeaseSpec) -> LeaseSpec {
        let now = MicroTime(self.clock.now());
        let renewal = self.holds(before);
        let transitions = before.lease_transitions.unwrap_or(0);
        // Others may only start to count from a longer term than we believe in.
        let seconds = self.config.duration.as_secs() + u64::from(self.config.duration.subsec_nanos() > 0);
        LeaseSpec {
            holder_identity: Some(self.config.identity.clone()),
            lease_duration_seconds: Some(i32::try_from(seconds).unwrap_or(i32::MAX)),
            acquire_time: before
                .acquire_time
                .clone()
                .filter(|_| renewal)
                .or_else(|| Some(now.clone())),
            renew_time: Some(now),
            lease_transitions: Some(if renewal {
                transitions
            } else {
                transitions.saturating_add(1)
            }),
            ..before.clone()
        }
    }
}

impl Drop for Election {
    /// Workers that outlive us must not act on our term.
    fn drop(&mut self) {
        self.until.send_replace(None);
    }
}

fn is_free(spec: &LeaseSpec) -> bool {
    spec.holder_identity.as_deref().is_none_or(str::is_empty)
}

fn expired(spec: &LeaseSpec, seen: &mut Option<Seen>) -> bool {
    let record = (
        spec.holder_identity.clone(),
        spec.renew_time.clone(),
        spec.lease_transitions,
    );
    let duration = Duration::from_secs(
        spec.lease_duration_seconds
            .unwrap_or(0)
            .max(0)
            .unsigned_abs()
            .into(),
    );
    match seen {
        Some(s) if s.record == record => s.since.elapsed() > duration,
        _ => {
            *seen = Some(Seen {
                record,
                since: Instant::now(),
            });
            false
        }
    }
}

fn or_contested<T>(result: Result<T, kube::Error>) -> Result<Turn, kube::Error> {
    match result {
        Ok(_) => Ok(Turn::Ours),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(Turn::Contested),
        Err(error) => Err(error),
    }
}
