//! One worker per host whose agent has a job: gives it, asks what became of it.

use super::worker::{Device, Worker};
use crate::{
    boot::{BootServices, Payload, Retry},
    image::{ConfigDrive, DriveContents, DriveHost},
    key::Key,
    queue::{Queue, Work},
    store::{Leadership, Store},
    tasks::Tasks,
    world::Clock,
};
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, ResourceExt};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use steelyard_api::metal3::SecretReference;
use steelyard_core::{
    host::view::{JobFacts, JobState},
    intent::{AgentJob, AgentTask},
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

/// The longest that giving a job may take: the agent's answer, and the Secrets before it.
const ORDER_WITHIN: Duration = Duration::from_secs(20);
/// Between two tries to give a job.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

#[derive(Clone)]
pub struct AgentDesk {
    shared: Arc<Shared>,
    tasks: Tasks,
    workers: Arc<Mutex<BTreeMap<Key, Entry>>>,
}

struct Shared {
    boot: BootServices,
    store: Arc<Store>,
    queue: Queue,
    clock: Clock,
    leadership: Leadership,
    /// Jobs that could not be given and never can be as they are, as if the agent had failed them.
    failed: Mutex<BTreeMap<Key, JobFacts>>,
}

struct Entry {
    worker: Arc<Worker<AgentTask>>,
    stop: CancellationToken,
}

impl AgentDesk {
    pub fn new(
        boot: BootServices,
        store: Arc<Store>,
        queue: Queue,
        clock: Clock,
        leadership: Leadership,
        tasks: Tasks,
    ) -> Self {
        let shared = Shared {
            boot,
            store,
            queue,
            clock,
            leadership,
            failed: Mutex::default(),
        };
        AgentDesk {
            shared: Arc::new(shared),
            tasks,
            workers: Arc::default(),
        }
    }

    pub fn order(&self, host: &Key, task: AgentTask) {
        self.worker(host).order::<AgentDevice>(task);
    }

    /// The last decision has no job for the agent: an order that waits is older.
    pub fn withdraw(&self, host: &Key) {
        let workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = workers.get(host) {
            entry.worker.amend(|order| *order = None);
        }
    }

    pub fn look_at(&self, host: &Key, at: Instant) {
        self.worker(host).look_at(at);
    }

    /// The job of this operation, if it could not even be given.
    pub fn failure(&self, host: &Key, operation: &str) -> Option<JobFacts> {
        let failed = self.shared.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.get(host).filter(|job| job.operation == operation).cloned()
    }

    pub fn forget(&self, host: &Key) {
        let gone = self
            .workers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(host);
        if let Some(entry) = gone {
            entry.stop.cancel();
        }
        self.shared
            .failed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(host);
    }

    fn worker(&self, host: &Key) -> Arc<Worker<AgentTask>> {
        let mut workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = workers.get(host) {
            return entry.worker.clone();
        }
        let worker = Worker::new();
        let stop = CancellationToken::new();
        let device = AgentDevice {
            host: host.clone(),
            shared: self.shared.clone(),
        };
        let (work, until) = (worker.clone().run(device), stop.clone());
        let span = tracing::info_span!("agent", host = %host);
        self.tasks.spawn(
            "agent",
            async move {
                until.run_until_cancelled(work).await;
            }
            .instrument(span),
        );
        workers.insert(
            host.clone(),
            Entry {
                worker: worker.clone(),
                stop,
            },
        );
        worker
    }
}

struct AgentDevice {
    host: Key,
    shared: Arc<Shared>,
}

/// Why a job was not given: for now, or as it is (with a type as the agent's own errors have one).
enum NotGiven {
    Yet(String),
    Ever { kind: &'static str, message: String },
}

impl AgentDevice {
    async fn give(&self, task: &AgentTask) -> Result<(), NotGiven> {
        let drive_error = |message| NotGiven::Ever {
            kind: "ConfigDriveUnavailable",
            message,
        };
        let payload = self.payload(&task.job).await.map_err(drive_error)?;
        let given = self.shared.boot.ensure_agent(&self.host, task, payload).await;
        given.map(drop).map_err(|error| {
            let cause = std::error::Error::source(&error)
                .map(|e| format!(": {e}"))
                .unwrap_or_default();
            let message = format!("{error}{cause}");
            match error.retry() {
                Retry::Never => NotGiven::Ever {
                    kind: "AgentRefused",
                    message,
                },
                Retry::Soon | Retry::Backoff => NotGiven::Yet(message),
            }
        })
    }

    /// The config drive, made of the Secrets that the host names.
    async fn payload(&self, job: &AgentJob) -> Result<Payload, String> {
        let AgentJob::Write {
            user_data,
            network_data,
            meta_data,
            ..
        } = job
        else {
            return Ok(Payload::default());
        };
        let host = self
            .shared
            .store
            .hosts
            .get(&self.host)
            .ok_or("the host is gone")?;
        let contents = DriveContents {
            user_data: self.read(user_data.as_ref(), "userData").await?,
            network_data: self.read_text(network_data.as_ref(), "networkData").await?,
            meta_data: self.read_text(meta_data.as_ref(), "metaData").await?,
        };
        let named = DriveHost {
            namespace: self.host.namespace.clone(),
            name: self.host.name.clone(),
            uid: host.uid().unwrap_or_default(),
        };
        let drive =
            ConfigDrive::build(&named, &contents, self.shared.clock.now()).map_err(|e| e.to_string())?;
        Ok(Payload {
            config_drive: Some(drive),
        })
    }

    async fn read_text(
        &self,
        reference: Option<&SecretReference>,
        key: &str,
    ) -> Result<Option<String>, String> {
        let bytes = self.read(reference, key).await?;
        bytes
            .map(|b| {
                String::from_utf8(b).map_err(|_| format!("key {key:?} of spec.{key}'s Secret is not text"))
            })
            .transpose()
    }

    /// `key`, else `value`, of the Secret; Metal3's rule.
    async fn read(&self, reference: Option<&SecretReference>, key: &str) -> Result<Option<Vec<u8>>, String> {
        let Some(name) = reference.and_then(|r| r.name()) else {
            return Ok(None);
        };
        let api: Api<Secret> = Api::namespaced(self.shared.store.client.clone(), &self.host.namespace);
        let secret = api
            .get_opt(name)
            .await
            .map_err(|e| format!("Secret {name} can't be read: {e}"))?;
        let secret = secret
            .ok_or_else(|| format!("spec.{key} names Secret {name}, which does not exist: create it"))?;
        let data = secret.data.unwrap_or_default();
        match data.get(key).or_else(|| data.get("value")) {
            Some(bytes) => Ok(Some(bytes.0.clone())),
            // Only user data and metadata must be there (Metal3).
            None if key == "networkData" => Ok(None),
            None => Err(format!("Secret {name} has neither key {key:?} nor \"value\"")),
        }
    }
}

impl Device for AgentDevice {
    type Order = AgentTask;

    async fn ensure(&mut self, task: AgentTask) {
        if !self.shared.leadership.outlives(Instant::now() + ORDER_WITHIN) {
            tracing::warn!(
                intent = task.operation,
                "lease too short for this job; left to the next leader"
            );
            tokio::time::sleep(AGAIN_AFTER).await;
            return;
        }
        let late = || {
            NotGiven::Yet(format!(
                "the agent did not answer within {} s",
                ORDER_WITHIN.as_secs()
            ))
        };
        let outcome = tokio::time::timeout(ORDER_WITHIN, self.give(&task))
            .await
            .unwrap_or_else(|_| Err(late()));
        let failed = match outcome {
            Ok(()) => None,
            Err(NotGiven::Yet(why)) => {
                tracing::warn!(
                    intent = task.operation,
                    error = why,
                    "job not given; trying again"
                );
                tokio::time::sleep(AGAIN_AFTER).await;
                None
            }
            Err(NotGiven::Ever { kind, message }) => {
                tracing::warn!(intent = task.operation, error = message, "job can't be given");
                let state = JobState::Failed {
                    kind: kind.into(),
                    message,
                };
                Some(JobFacts {
                    operation: task.operation,
                    kind: job_kind(&task.job).into(),
                    state,
                })
            }
        };
        let mut book = self.shared.failed.lock().unwrap_or_else(PoisonError::into_inner);
        match failed {
            None => book.remove(&self.host),
            Some(job) => book.insert(self.host.clone(), job),
        };
    }

    async fn observe(&mut self) {
        if let Err(error) = self.shared.boot.observe_agent(&self.host).await {
            tracing::debug!(error = %error, "the agent can't be asked");
        }
        self.shared.queue.wake(Work::Host(self.host.clone()));
    }
}

fn job_kind(job: &AgentJob) -> &'static str {
    match job {
        AgentJob::Write { .. } => "write",
        AgentJob::Erase { .. } => "erase",
        AgentJob::PowerOff => "power-off",
    }
}
