//! Talks to the agent: two verbs, `observe` and `ensure`. TLS, pinned to the certificate of its first heartbeat.
//!
//! The agent knows commands, not operations: running and failed ones don't echo what they were sent. So the job is
//! recorded, with the number of commands that were there before, and only then posted; after a crash anywhere between
//! the two, the list tells which it was. Finished steps echo our id as well ([`OPERATION`]), and that must agree.

mod hints;
mod job;

use super::{
    agent_api,
    state::{Shared, Subject},
    vault::{AgentRecord, JobKind, JobRecord, VaultError},
};
use crate::{
    http_client::{HttpClient, HttpError},
    image::ConfigDrive,
    key::Key,
    tls,
};
use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use jiff::Timestamp;
use rustls_pki_types::{CertificateDer, pem::PemObject};
use serde_json::{Map, Value, json};
use std::{sync::Arc, time::Duration};
use steelyard_agent_api::{
    CommandList, CommandRequest, CommandResult, CommandStatus, ExecuteStepParams, Fault, ImageInfo, Step,
    StepKind, StepList, TOKEN_QUERY, commands, paths,
};
use steelyard_core::{
    host::view::{ImageFacts, JobFacts, JobState},
    intent::{AgentJob, AgentTask},
};

/// The field of a step that carries our operation id; agents echo steps whole.
const OPERATION: &str = "steelyard_operation";
/// Commands that are waited for (the list of steps, a sync) take seconds; Ironic gives them 60 s (Ironic), and
/// then an agent that is gone holds up whoever asks as long.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// The agent has the job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// It had it before, or is busy with another command: nothing was sent.
    pub already: bool,
}

/// What a job needs besides its description; secret parts never pass through the decision.
#[derive(Clone, Debug, Default)]
pub struct Payload {
    pub config_drive: Option<ConfigDrive>,
}

#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    #[error("no agent of this operation has sent a heartbeat yet")]
    NoAgent,
    #[error("the job's time is up: it must not start after {0}")]
    TooLate(Timestamp),
    #[error("the image is not ready: {0}")]
    Image(String),
    #[error("can't reach the agent")]
    Http(#[from] HttpError),
    #[error("the agent refused {command} with status {status}: {text}")]
    Refused {
        command: &'static str,
        status: u16,
        text: String,
    },
    #[error("the agent's answer to {command} is not readable: {why}")]
    Unreadable { command: &'static str, why: String },
    #[error("the agent offers no step {step}: it is too old, or not the deploy agent")]
    NoStep { step: &'static str },
    #[error("the agent's certificate can't be used: {0}")]
    Certificate(String),
    #[error(transparent)]
    Vault(#[from] VaultError),
}

/// When it is worth trying again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    Soon,
    Backoff,
    Never,
}

impl AgentError {
    pub fn category(&self) -> &'static str {
        match self {
            AgentError::NoAgent => "agent_absent",
            AgentError::TooLate(_) => "deadline",
            AgentError::Image(_) => "image",
            AgentError::Http(_) => "agent_unreachable",
            AgentError::Refused { .. } => "agent_refused",
            AgentError::Unreadable { .. } => "agent_unreadable",
            AgentError::NoStep { .. } => "agent_unsuitable",
            AgentError::Certificate(_) => "agent_certificate",
            AgentError::Vault(_) => "kubernetes",
        }
    }

    pub fn retry(&self) -> Retry {
        match self {
            AgentError::NoAgent | AgentError::Image(_) | AgentError::Vault(_) => Retry::Soon,
            AgentError::Http(_) | AgentError::Refused { .. } | AgentError::Unreadable { .. } => {
                Retry::Backoff
            }
            AgentError::TooLate(_) | AgentError::NoStep { .. } | AgentError::Certificate(_) => Retry::Never,
        }
    }
}

/// Asks for the commands and notes what they say of our job.
pub(crate) async fn observe(shared: &Shared, host: &Key) -> Result<(), AgentError> {
    let agent = Agent::of(shared, host).await?;
    match agent.list().await {
        Ok(list) => {
            shared.job_seen(
                host,
                agent.record.job.as_ref().and_then(|job| job::facts(job, &list)),
            );
            Ok(())
        }
        Err(error) => {
            // What refuses us is another agent than the one that we know, so what we know is of no use.
            shared.lost(host, chain(&error));
            Err(error)
        }
    }
}

/// Starts a job unless it was started before.
pub(crate) async fn ensure(
    shared: &Shared,
    host: &Key,
    task: &AgentTask,
    payload: Payload,
) -> Result<Accepted, AgentError> {
    if shared
        .job(host)
        .is_some_and(|job| job.operation == task.operation && job.kind == kind(&task.job).as_str())
    {
        return Ok(Accepted { already: true });
    }
    let agent = Agent::of(shared, host).await?;
    let list = agent.list().await?;
    if let Some(job) = agent
        .record
        .job
        .as_ref()
        .filter(|j| j.operation == task.operation && j.kind == kind(&task.job))
        && let Some(found) = job::facts(job, &list)
    {
        shared.job_seen(host, Some(found));
        return Ok(Accepted { already: true });
    }
    if list
        .commands
        .last()
        .is_some_and(|last| last.command_status == CommandStatus::Running)
    {
        return Ok(Accepted { already: true });
    }
    let now = shared.now();
    if now >= task.deadline {
        return Err(AgentError::TooLate(task.deadline));
    }
    let request = agent.request(task, payload).await?;
    let job = JobRecord {
        operation: task.operation.clone(),
        kind: kind(&task.job),
        after: list.commands.len(),
    };
    shared.update(host, agent.record.with_job(job)).await?;
    let accepted = agent.post(request).await?;
    if !accepted.already {
        let (operation, kind) = (task.operation.clone(), kind(&task.job).as_str().to_owned());
        shared.job_seen(
            host,
            Some(JobFacts {
                operation,
                kind,
                state: JobState::Running,
            }),
        );
    }
    Ok(accepted)
}

fn kind(job: &AgentJob) -> JobKind {
    match job {
        AgentJob::Write { .. } => JobKind::Write,
        AgentJob::Erase { .. } => JobKind::Erase,
        AgentJob::PowerOff => JobKind::PowerOff,
    }
}

struct Agent<'a> {
    shared: &'a Shared,
    subject: Subject,
    record: AgentRecord,
    url: String,
    client: Arc<HttpClient>,
}

impl<'a> Agent<'a> {
    async fn of(shared: &'a Shared, host: &Key) -> Result<Self, AgentError> {
        let subject = shared.by_key(host).ok_or(AgentError::NoAgent)?;
        let record = shared.record(host).await?.ok_or(AgentError::NoAgent)?;
        let url = record.callback_url.clone().ok_or(AgentError::NoAgent)?;
        let pem = record.certificate.clone().ok_or(AgentError::NoAgent)?;
        let client = shared.client(host, || {
            let cert = CertificateDer::from_pem_slice(pem.as_bytes())
                .map_err(|e| AgentError::Certificate(e.to_string()))?;
            let trust = tls::trust_pinned(cert).map_err(|e| AgentError::Certificate(e.to_string()))?;
            Ok::<_, AgentError>(HttpClient::new(shared.world.net.clone(), trust, ANSWER_WITHIN))
        })?;
        Ok(Agent {
            shared,
            subject,
            record,
            url: url.trim_end_matches('/').to_owned(),
            client,
        })
    }

    async fn list(&self) -> Result<CommandList, AgentError> {
        let token = agent_api::wire(&self.record.token);
        let path = format!("{}?{TOKEN_QUERY}={}", paths::COMMANDS, token.expose());
        let (status, body) = self.call(Method::GET, &path, Bytes::new()).await?;
        read("the list of commands", status, &body)
    }

    /// Posts a command; `wait` until it is done.
    async fn command(
        &self,
        name: &'static str,
        params: Map<String, Value>,
        wait: bool,
    ) -> Result<CommandResult, AgentError> {
        let body =
            serde_json::to_vec(&CommandRequest::new(name, params)).map_err(|e| AgentError::Unreadable {
                command: name,
                why: e.to_string(),
            })?;
        let path = CommandRequest::path_and_query(&agent_api::wire(&self.record.token), wait);
        let (status, body) = self.call(Method::POST, &path, body.into()).await?;
        read(name, status, &body)
    }

    async fn call(&self, method: Method, path: &str, body: Bytes) -> Result<(StatusCode, Bytes), AgentError> {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url))
            .header(header::ACCEPT, "application/json")
            .header(header::CONTENT_TYPE, "application/json")
            .body(body)
            .map_err(|_| AgentError::Certificate("its callback URL is not usable".into()))?;
        let response = self.client.send(request).await?;
        Ok((response.status(), response.into_body()))
    }

    async fn request(&self, task: &AgentTask, payload: Payload) -> Result<Prepared, AgentError> {
        let hints = match &task.job {
            AgentJob::Write {
                root_device_hints: Some(hints),
                ..
            } => Some(hints::root_device(hints)).filter(|h| !h.is_empty()),
            _ => None,
        };
        let (kind, step, args) = match &task.job {
            AgentJob::PowerOff => return Ok(Prepared::PowerOff),
            AgentJob::Erase { metadata_only: true } => {
                (StepKind::Clean, "erase_devices_metadata", Map::new())
            }
            AgentJob::Erase { metadata_only: false } => (StepKind::Clean, "erase_devices", Map::new()),
            AgentJob::Write { image, .. } => {
                let facts = self.shared.world.images.facts(image);
                let (sha256, size) = match facts.known() {
                    Some(ImageFacts::Ready { sha256, size }) => (sha256.clone(), *size),
                    Some(ImageFacts::Failed { message, .. }) => {
                        return Err(AgentError::Image(message.clone()));
                    }
                    _ => return Err(AgentError::Image("it is being fetched".into())),
                };
                tracing::debug!(host = %self.subject.key, sha256, size, "image for the write job");
                (StepKind::Deploy, "write_image", self.write_args(sha256, payload))
            }
        };
        let node = agent_api::node(&self.subject, hints);
        let ports = json!([{ "address": self.subject.mac.to_string(), "pxe_enabled": true, "extra": {} }]);
        let version = self.check_step(kind, step, &node, &ports).await?;
        let mut step = Step::deploy(step, args);
        step.rest.insert(OPERATION.to_owned(), json!(task.operation));
        let params = ExecuteStepParams {
            kind,
            step,
            node,
            ports,
            version: Some(version),
        }
        .into_params();
        Ok(Prepared::Step(kind, params))
    }

    /// Is the step there, and which version of the managers offers it? Version and step must match on execution.
    async fn check_step(
        &self,
        kind: StepKind,
        step: &'static str,
        node: &Value,
        ports: &Value,
    ) -> Result<std::collections::BTreeMap<String, String>, AgentError> {
        let name = match kind {
            StepKind::Deploy => commands::GET_DEPLOY_STEPS,
            StepKind::Clean => commands::GET_CLEAN_STEPS,
        };
        let params = Map::from_iter([
            ("node".to_owned(), node.clone()),
            ("ports".to_owned(), ports.clone()),
        ]);
        let answer = self.command(name, params, true).await?;
        let unreadable = |why: String| AgentError::Unreadable { command: name, why };
        if let Some(error) = answer.command_error {
            return Err(unreadable(format!("{}: {}", error.class, error.message)));
        }
        let result = answer
            .command_result
            .ok_or_else(|| unreadable("it has no result".into()))?;
        let steps: StepList = serde_json::from_value(result).map_err(|e| unreadable(e.to_string()))?;
        if !steps.of(kind).any(|offered| offered.step == step) {
            return Err(AgentError::NoStep { step });
        }
        Ok(steps.hardware_manager_version)
    }

    fn write_args(&self, sha256: String, payload: Payload) -> Map<String, Value> {
        let info = ImageInfo {
            id: sha256.clone(),
            urls: vec![format!("{}/images/{sha256}", self.shared.config.url())],
            disk_format: Some("raw".into()),
            container_format: Some("bare".into()),
            stream_raw_images: Some(true),
            os_hash_algo: Some("sha256".into()),
            os_hash_value: Some(sha256),
            image_type: Some("whole-disk".into()),
            node_uuid: Some(self.subject.plan.node_uuid.clone()),
            ..ImageInfo::default()
        };
        let mut args = Map::from_iter([(
            "image_info".to_owned(),
            serde_json::to_value(info).unwrap_or_default(),
        )]);
        if let Some(drive) = payload.config_drive {
            args.insert("configdrive".to_owned(), json!(drive.reveal()));
        }
        args
    }

    async fn post(&self, request: Prepared) -> Result<Accepted, AgentError> {
        let sent = match request {
            Prepared::PowerOff => {
                self.command(commands::SYNC, Map::new(), true).await?;
                self.command(commands::POWER_OFF, Map::new(), false).await
            }
            Prepared::Step(StepKind::Deploy, params) => {
                self.command(commands::EXECUTE_DEPLOY_STEP, params, false).await
            }
            Prepared::Step(StepKind::Clean, params) => {
                self.command(commands::EXECUTE_CLEAN_STEP, params, false).await
            }
        };
        match sent {
            Ok(_) => Ok(Accepted { already: false }),
            // Busy: what it is busy with is seen in its list.
            Err(AgentError::Refused { status: 409, .. }) => Ok(Accepted { already: true }),
            Err(error) => Err(error),
        }
    }
}

enum Prepared {
    Step(StepKind, Map<String, Value>),
    PowerOff,
}

fn read<T: serde::de::DeserializeOwned>(
    command: &'static str,
    status: StatusCode,
    body: &[u8],
) -> Result<T, AgentError> {
    if status != StatusCode::OK {
        let text = serde_json::from_slice::<Fault>(body).map(|fault| fault.text);
        let text = text.unwrap_or_else(|_| String::from_utf8_lossy(body).chars().take(200).collect());
        return Err(AgentError::Refused {
            command,
            status: status.as_u16(),
            text,
        });
    }
    serde_json::from_slice(body).map_err(|e| AgentError::Unreadable {
        command,
        why: e.to_string(),
    })
}

/// An error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text.push_str(": ");
        text.push_str(&next.to_string());
        cause = next.source();
    }
    text
}
