//! The agent: events in, actions out, no I/O of its own but through [`Platform`].
//!
//! ```text
//! Started -> Nics -> Inspection? -> Version -> Lookup -> Listen -> Serving --(power_off, run_image)--> Ended
//!                                      |          |--(token lost)--> Lockdown = Ended
//!                                      '----------'--(too long)----> Exit = Ended
//! ```
//! The start-up is in `enrol`, the command API in `api`, the rhythm of heartbeats in `heartbeat`, long operations in `job`.

use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::Value;
use steelyard_agent_api::{
    AgentToken, ApiVersion, Heartbeat, Inventory, Node, StepKind, VERSION_HEADER, paths,
};

use crate::command::Records;
use crate::dice::Dice;
use crate::enrol::Enrolment;
use crate::event::{Action, BodyMode, Event, HttpEvent, HttpFailure, HttpId, HttpRequest, RequestId};
use crate::failure::Failure;
use crate::heartbeat::Heart;
use crate::job::{Context, HttpIds, Job, State};
use crate::journal::Journal;
use crate::parameters::Parameters;
use crate::platform::Platform;

/// An answer of the service is JSON of a node: some KiB.
pub(crate) const ANSWER_MAX: usize = 4 << 20;

/// Where the agent is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Enrolling,
    Serving,
    /// Power-off, reboot, lockdown or exit was ordered; nothing happens any more.
    Ended,
}

/// The command that runs.
pub(crate) struct Running {
    pub(crate) id: String,
    pub(crate) job: Box<dyn Job>,
    pub(crate) step: Option<(StepKind, Value)>,
    pub(crate) state: State,
    /// Requests that are answered when it ends.
    pub(crate) waiters: Vec<RequestId>,
}

/// What a shell gives an agent at its start.
#[derive(Debug)]
pub struct Options {
    pub parameters: Parameters,
    /// Seed of backoff, heartbeats, command ids and verification samples.
    pub seed: u64,
    /// Seconds since 1970, for `/v1/status`.
    pub started_at: f64,
}

/// One run of the agent.
pub struct Agent {
    pub(crate) parameters: Parameters,
    pub(crate) platform: Box<dyn Platform>,
    pub(crate) dice: Dice,
    pub(crate) journal: Journal,
    pub(crate) started_at: f64,
    pub(crate) phase: Phase,
    pub(crate) enrolment: Enrolment,
    /// Base URLs of the service; the one that worked last is first.
    pub(crate) api_urls: Vec<String>,
    pub(crate) version: ApiVersion,
    pub(crate) token: Option<AgentToken>,
    pub(crate) node: Option<Node>,
    pub(crate) node_uuid: Option<String>,
    pub(crate) md5_enabled: bool,
    pub(crate) heart: Option<Heart>,
    beat: Option<HttpId>,
    pub(crate) callback_url: String,
    pub(crate) certificate_pem: String,
    pub(crate) records: Records,
    pub(crate) running: Option<Running>,
    /// The disk that the image went to.
    pub(crate) written: Option<String>,
    pub(crate) locking: bool,
    pub(crate) http: HttpIds,
    pub(crate) actions: Vec<Action>,
}

impl Agent {
    /// An agent that waits for [`Event::Started`].
    pub fn new(options: Options, platform: Box<dyn Platform>, now: Instant) -> Self {
        let Options {
            parameters,
            seed,
            started_at,
        } = options;
        Self {
            api_urls: parameters.api_urls.clone(),
            token: parameters.token.clone().filter(AgentToken::is_usable),
            platform,
            dice: Dice::new(seed),
            journal: Journal::new(now),
            started_at,
            phase: Phase::Enrolling,
            enrolment: Enrolment::new(),
            version: steelyard_agent_api::FALLBACK,
            node: None,
            node_uuid: None,
            md5_enabled: true,
            heart: None,
            beat: None,
            callback_url: String::new(),
            certificate_pem: String::new(),
            records: Records::default(),
            running: None,
            written: None,
            locking: false,
            http: HttpIds::default(),
            actions: Vec::new(),
            parameters,
        }
    }

    /// Takes an event and says what to do.
    pub fn on(&mut self, event: Event, now: Instant) -> Vec<Action> {
        if self.phase != Phase::Ended {
            match event {
                Event::Started => {}
                Event::Tick => self.work(now),
                Event::Http(id, event) if self.beat == Some(id) => self.beat_answered(event, now),
                Event::Http(id, event) if self.phase == Phase::Enrolling => {
                    self.enrol_answered(id, event, now)
                }
                Event::Http(id, event) => self.job_event(id, event, now),
                Event::Listening {
                    host,
                    port,
                    certificate_pem,
                } => self.listening(host, port, certificate_pem, now),
                Event::ListenFailed(why) => self.listen_failed(&why, now),
                Event::Request(id, request) => self.serve(id, request, now),
            }
            self.proceed(now);
        }
        std::mem::take(&mut self.actions)
    }

    /// When [`Event::Tick`] is due; a time in the past means at once.
    pub fn poll_at(&self) -> Option<Instant> {
        let job = self.running.as_ref().and_then(|running| match running.state {
            State::Busy => Some(self.journal.started()),
            State::Until(at) => Some(at),
            State::Waiting | State::Done(_) => None,
        });
        match self.phase {
            Phase::Enrolling => self.enrolment.due(),
            Phase::Serving => [job, self.heart.as_ref().and_then(Heart::due)]
                .into_iter()
                .flatten()
                .min(),
            Phase::Ended => None,
        }
    }

    /// Whatever is due by now.
    fn proceed(&mut self, now: Instant) {
        match self.phase {
            Phase::Enrolling => self.enrol(now),
            Phase::Serving => {
                if self.heart.as_ref().is_some_and(|heart| heart.is_due(now)) {
                    self.send_beat(now);
                }
            }
            Phase::Ended => {}
        }
    }

    /// One slice of the running job. Only a tick does that, so that a shell which has requests to deliver can put them
    /// in between.
    fn work(&mut self, now: Instant) {
        let due = |state: &State| match state {
            State::Busy => true,
            State::Until(at) => *at <= now,
            State::Waiting | State::Done(_) => false,
        };
        if self.running.as_ref().is_some_and(|running| due(&running.state)) {
            self.with_job(now, |job, context| job.work(context));
        }
    }

    fn job_event(&mut self, id: HttpId, event: HttpEvent, now: Instant) {
        self.with_job(now, |job, context| job.http(id, event, context));
    }

    fn with_job(
        &mut self,
        now: Instant,
        slice: impl FnOnce(&mut dyn Job, &mut Context<'_>) -> Result<State, Failure>,
    ) {
        let Some(mut running) = self.running.take() else {
            return;
        };
        let mut context = Context {
            platform: &mut *self.platform,
            dice: &mut self.dice,
            journal: &mut self.journal,
            parameters: &self.parameters,
            http: &mut self.http,
            actions: &mut self.actions,
            now,
        };
        match slice(&mut *running.job, &mut context) {
            Ok(State::Done(value)) => self.end_command(running, Ok(value), now),
            Ok(state) => {
                running.state = state;
                self.running = Some(running);
            }
            Err(failure) => self.end_command(running, Err(failure), now),
        }
    }

    /// Inventory with the disks that aren't removable, as IPA lists them.
    pub(crate) fn inventory(&mut self) -> Inventory {
        let mut inventory = self.platform.inventory();
        let disks = self.platform.disks().into_iter().filter(|disk| !disk.removable);
        inventory.disks = disks.map(|disk| disk.facts).collect();
        inventory
            .boot
            .pxe_interface
            .clone_from(&self.parameters.boot_interface);
        inventory
    }

    /// A request to the service.
    pub(crate) fn call(
        &mut self,
        method: &'static str,
        url: String,
        version: Option<ApiVersion>,
        body: Bytes,
    ) -> HttpId {
        let id = self.http.next();
        let mut headers = Vec::new();
        headers.extend(version.map(|version| (VERSION_HEADER, version.to_string())));
        headers.extend(
            self.parameters
                .global_request_id
                .clone()
                .map(|id| ("X-OpenStack-Request-ID", id)),
        );
        self.actions.push(Action::Http(HttpRequest {
            id,
            method,
            url,
            headers,
            body,
            mode: BodyMode::Whole { max: ANSWER_MAX },
            timeout: self.parameters.http_request_timeout,
            insecure: self.parameters.insecure,
        }));
        id
    }

    /// Tries the next URL of the service next time; `true` while there is one that has not been tried in this round.
    pub(crate) fn next_url(&mut self, tried: usize) -> bool {
        if !self.api_urls.is_empty() {
            self.api_urls.rotate_left(1);
        }
        tried < self.api_urls.len()
    }

    pub(crate) fn api(&self, path: &str) -> String {
        format!("{}{path}", self.api_urls.first().map_or("", String::as_str))
    }

    /// The API is up: the first heartbeat tells the service.
    fn listening(&mut self, host: std::net::IpAddr, port: u16, certificate_pem: String, now: Instant) {
        if self.phase != Phase::Enrolling {
            return;
        }
        let host = match host {
            std::net::IpAddr::V4(host) => host.to_string(),
            std::net::IpAddr::V6(host) => format!("[{host}]"),
        };
        self.callback_url = format!("https://{host}:{port}");
        self.certificate_pem = certificate_pem;
        self.journal
            .note(now, format!("serving at {}", self.callback_url));
        self.heart = Some(Heart::new(self.enrolment.heartbeat_timeout(), now));
        self.phase = Phase::Serving;
    }

    fn send_beat(&mut self, now: Instant) {
        let (Some(uuid), Some(heart)) = (self.node_uuid.clone(), &mut self.heart) else {
            return;
        };
        heart.sent(now);
        let version = self.version.min(steelyard_agent_api::HEARTBEAT_MAX);
        let beat = Heartbeat {
            callback_url: self.callback_url.clone(),
            agent_token: self.token.clone(),
            agent_version: Some(crate::VERSION.to_owned()),
            agent_verify_ca: Some(self.certificate_pem.clone()),
            agent_status: None,
            agent_status_message: None,
        };
        let body = serde_json::to_vec(&beat).expect("a struct of strings is JSON");
        let url = self.api(&format!("{}/{uuid}", paths::HEARTBEAT));
        self.beat = Some(self.call("POST", url, Some(version), Bytes::from(body)));
    }

    fn beat_answered(&mut self, event: HttpEvent, now: Instant) {
        let Some(heart) = &mut self.heart else { return };
        let why = match event {
            HttpEvent::Response { status: 202, .. } => {
                self.beat = None;
                heart.accepted(now, &mut self.dice);
                return;
            }
            HttpEvent::Response { status: 409, .. } => {
                "the host is locked by another operation (409)".to_owned()
            }
            HttpEvent::Response { status, .. } => format!("the service answered {status}"),
            HttpEvent::Failed { kind, why } => {
                if kind == HttpFailure::Connect {
                    let others = self.api_urls.len().min(1);
                    self.api_urls.rotate_left(others);
                }
                why
            }
            HttpEvent::Head { .. } | HttpEvent::Chunk(_) | HttpEvent::End => return,
        };
        self.beat = None;
        heart.failed(now, &mut self.dice);
        self.journal.note(now, format!("heartbeat failed: {why}"));
    }

    /// The end of this run.
    pub(crate) fn stop(&mut self, action: Action, now: Instant) {
        self.journal.note(now, format!("ending: {action:?}"));
        self.phase = Phase::Ended;
        self.actions.push(action);
    }
}

/// Waits of the start-up that are no configuration in IPA either.
pub(crate) const NIC_WAIT: Duration = Duration::from_secs(60);
pub(crate) const NIC_POLL: Duration = Duration::from_secs(5);
