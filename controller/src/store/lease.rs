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

    pub async fn wait(&mut self) {
        // An error means that the election has ended, and with it the process.
        let _ = self.0.wait_for(|until| until.is_some_and(|u| u > Instant::now())).await;
    }
}

/// Takes part in the election; `run` returns once leadership was held and lost.
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

impl Election {
    pub fn new(client: Client, config: LeaseConfig, clock: Clock) -> (Self, Leadership) {
        let (until, watched) = watch::channel(None);
        (Election { client, config, clock, until }, Leadership(watched))
    }

    pub async fn run(self) {
        let api: Api<Lease> = Api::namespaced(self.client.clone(), &self.config.namespace);
        let mut seen: Option<Seen> = None;
        let mut led = false;
        loop {
            let started = Instant::now();
            match self.try_once(&api, &mut seen).await {
                Ok(true) => {
                    if !led {
                        tracing::info!(lease = self.config.name, identity = self.config.identity, "leading");
                    }
                    led = true;
                    self.until.send_replace(Some(started + self.config.duration));
                }
                Ok(false) if led => {
                    tracing::error!(lease = self.config.name, "somebody else leads now; stopping");
                    self.until.send_replace(None);
                    return;
                }
                Ok(false) => {}
                Err(error) => tracing::warn!(lease = self.config.name, error = %error, "lease not renewed; trying again"),
            }
            if led && !self.until.borrow().is_some_and(|until| until > Instant::now()) {
                tracing::error!(lease = self.config.name, "the lease ran out; stopping");
                return;
            }
            tokio::time::sleep(self.config.renew_every).await;
        }
    }

    /// Takes or renews the lease; false: somebody else holds it.
    async fn try_once(&self, api: &Api<Lease>, seen: &mut Option<Seen>) -> Result<bool, kube::Error> {
        let Some(mut lease) = api.get_opt(&self.config.name).await? else {
            let fresh = Lease {
                metadata: ObjectMeta {
                    name: Some(self.config.name.clone()),
                    namespace: Some(self.config.namespace.clone()),
                    ..ObjectMeta::default()
                },
                spec: Some(self.spec(None)),
            };
            return or_lost(api.create(&PostParams::default(), &fresh).await);
        };
        let spec = lease.spec.take().unwrap_or_default();
        let ours = spec.holder_identity.as_deref() == Some(&self.config.identity);
        let free = spec.holder_identity.as_deref().is_none_or(str::is_empty);
        if !ours && !free && !expired(&spec, seen) {
            return Ok(false);
        }
        lease.spec = Some(self.spec(Some(&spec).filter(|_| ours)));
        or_lost(api.replace(&self.config.name, &PostParams::default(), &lease).await)
    }

    /// The next record: a renewal of `mine`, or a new term.
    fn spec(&self, mine: Option<&LeaseSpec>) -> LeaseSpec {
        let now = MicroTime(self.clock.now());
        LeaseSpec {
            holder_identity: Some(self.config.identity.clone()),
            lease_duration_seconds: Some(i32::try_from(self.config.duration.as_secs()).unwrap_or(i32::MAX)),
            acquire_time: mine.and_then(|m| m.acquire_time.clone()).or_else(|| Some(now.clone())),
            renew_time: Some(now),
            lease_transitions: mine.and_then(|m| m.lease_transitions),
            ..LeaseSpec::default()
        }
    }
}

fn expired(spec: &LeaseSpec, seen: &mut Option<Seen>) -> bool {
    let record = (spec.holder_identity.clone(), spec.renew_time.clone(), spec.lease_transitions);
    let duration = Duration::from_secs(spec.lease_duration_seconds.unwrap_or(0).max(0).unsigned_abs().into());
    match seen {
        Some(s) if s.record == record => s.since.elapsed() > duration,
        _ => {
            *seen = Some(Seen { record, since: Instant::now() });
            false
        }
    }
}

fn or_lost<T>(result: Result<T, kube::Error>) -> Result<bool, kube::Error> {
    match result {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
        Err(error) => Err(error),
    }
}
