//! From boot to the first heartbeat: wait for a NIC, report the hardware, negotiate a version, look the node up, listen
//! (ipa `agent.py` `run`, `ironic_api_client.py`, `inspector.py`).

use std::time::{Duration, Instant};

use bytes::Bytes;
use steelyard_agent_api::{
    AgentToken, ApiVersion, Configuration, FALLBACK, Inspection, InspectionAnswer, LOOKUP_MAX, LookupAnswer,
    ManagerVersion, Root, VERIFY_CA_MIN, paths,
};

use crate::agent::{Agent, NIC_POLL, NIC_WAIT};
use crate::command;
use crate::event::{Action, HttpEvent, HttpFailure, HttpId};
use crate::hints;

/// Attempts of the inspection callback, 5 to 30 s apart (ipa `inspector.py`).
const INSPECTION_ATTEMPTS: u32 = 5;
/// Longest pause between two lookups.
const LOOKUP_PAUSE_MAX: f64 = 60.0;
/// Pauses after "the node is locked": 5, 10, 30, 30, .. s.
const LOCKED_PAUSES: [u64; 3] = [5, 10, 30];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Nics,
    Inspection,
    Version,
    Lookup,
    Listen,
}

/// How far the start-up is.
#[derive(Debug)]
pub(crate) struct Enrolment {
    stage: Stage,
    /// When to go on; `None` while an answer is awaited.
    due: Option<Instant>,
    began: Option<Instant>,
    request: Option<HttpId>,
    attempt: u32,
    locked: usize,
    /// URLs that could not be reached in this round.
    unreached: usize,
    callback: usize,
    heartbeat_timeout: Duration,
}

impl Enrolment {
    pub(crate) fn new() -> Self {
        Self {
            stage: Stage::Nics,
            due: None,
            began: None,
            request: None,
            attempt: 0,
            locked: 0,
            unreached: 0,
            callback: 0,
            heartbeat_timeout: Duration::from_secs(300),
        }
    }

    pub(crate) fn due(&self) -> Option<Instant> {
        self.due
    }

    pub(crate) fn heartbeat_timeout(&self) -> Duration {
        self.heartbeat_timeout
    }

    fn enter(&mut self, stage: Stage, now: Instant) {
        *self = Self {
            stage,
            due: Some(now),
            heartbeat_timeout: self.heartbeat_timeout,
            ..Self::new()
        };
    }
}

impl Agent {
    /// Does what is due in the start-up.
    pub(crate) fn enrol(&mut self, now: Instant) {
        let began = *self.enrolment.began.get_or_insert(now);
        if self.enrolment.request.is_some() || self.enrolment.due.is_some_and(|due| now < due) {
            return;
        }
        match self.enrolment.stage {
            Stage::Nics => self.wait_for_nics(began, now),
            Stage::Inspection => self.inspect(now),
            Stage::Version => {
                let url = self.api(paths::ROOT);
                self.ask("GET", url, None, Bytes::new());
            }
            Stage::Lookup => self.look_up(now),
            // Waits for Listening or ListenFailed once it has been asked for.
            Stage::Listen => {
                if self.enrolment.due.take().is_some() {
                    let service = self.api("");
                    self.actions.push(Action::Listen {
                        service,
                        port: self.parameters.listen_port,
                    });
                }
            }
        }
    }

    fn ask(&mut self, method: &'static str, url: String, version: Option<ApiVersion>, body: Bytes) {
        let id = self.call(method, url, version, body);
        self.enrolment.request = Some(id);
        self.enrolment.due = None;
    }

    fn wait_for_nics(&mut self, began: Instant, now: Instant) {
        let there = self
            .platform
            .inventory()
            .interfaces
            .iter()
            .any(|nic| !nic.mac_address.is_empty());
        if !there && now.saturating_duration_since(began) < NIC_WAIT {
            self.enrolment.due = Some(now + NIC_POLL);
            return;
        }
        let next = if self.parameters.callback_urls.is_empty() {
            Stage::Version
        } else {
            Stage::Inspection
        };
        self.enrolment.enter(next, now);
        self.enrol(now);
    }

    fn inspect(&mut self, now: Instant) {
        let payload = self.inspection(now);
        let body = serde_json::to_vec(&payload).expect("an inspection is JSON");
        let urls = &self.parameters.callback_urls;
        let url = urls[self.enrolment.callback % urls.len().max(1)].clone();
        self.ask("POST", url, None, Bytes::from(body));
    }

    fn inspection(&mut self, now: Instant) -> Inspection {
        let inventory = self.inventory();
        let disks = self.platform.disks();
        let root_disk = hints::choose(&disks, None, &[])
            .ok()
            .map(|disk| disk.facts.clone());
        self.journal.note(
            now,
            format!(
                "inspected: {} interfaces, {} disks",
                inventory.interfaces.len(),
                inventory.disks.len()
            ),
        );
        let error = inventory
            .interfaces
            .is_empty()
            .then(|| "no network interface was found".to_owned());
        let pci_devices = self
            .parameters
            .collects("pci-devices")
            .then(|| self.platform.pci_devices());
        let (name, version) = command::manager();
        Inspection {
            root_disk,
            boot_interface: self.parameters.boot_interface.clone(),
            configuration: Configuration {
                collectors: self.parameters.collectors.clone(),
                managers: vec![ManagerVersion {
                    name: name.to_owned(),
                    version: version.to_owned(),
                }],
            },
            error,
            logs: self.parameters.collects("logs").then(|| self.journal.archive()),
            pci_devices,
            inventory,
        }
    }

    fn look_up(&mut self, now: Instant) {
        let macs: Vec<String> = self
            .platform
            .inventory()
            .interfaces
            .into_iter()
            // IPoIB addresses have 20 bytes; services drop them with a warning.
            .filter(|nic| nic.mac_address.len() == 17)
            .map(|nic| nic.mac_address)
            .collect();
        let mut url = format!("{}?addresses={}", self.api(paths::LOOKUP), macs.join(","));
        if let Some(uuid) = &self.node_uuid {
            url.push_str(&format!("&node_uuid={uuid}"));
        }
        self.journal.note(now, format!("looking up {}", macs.join(",")));
        let version = self.version.min(LOOKUP_MAX);
        self.ask("GET", url, Some(version), Bytes::new());
    }

    /// An answer of the service during the start-up.
    pub(crate) fn enrol_answered(&mut self, id: HttpId, event: HttpEvent, now: Instant) {
        if self.enrolment.request != Some(id) {
            return;
        }
        let (status, body) = match event {
            HttpEvent::Response { status, body } => (status, body),
            HttpEvent::Failed { kind, why } => return self.unanswered(kind, &why, now),
            HttpEvent::Head { .. } | HttpEvent::Chunk(_) | HttpEvent::End => return,
        };
        self.enrolment.request = None;
        self.enrolment.unreached = 0;
        match self.enrolment.stage {
            Stage::Inspection => self.inspected(status, &body, now),
            Stage::Version => self.versioned(status, &body, now),
            Stage::Lookup => self.looked_up(status, &body, now),
            Stage::Nics | Stage::Listen => {}
        }
    }

    fn unanswered(&mut self, kind: HttpFailure, why: &str, now: Instant) {
        self.enrolment.request = None;
        let stage = self.enrolment.stage;
        self.journal.note(now, format!("{stage:?}: no answer: {why}"));
        self.enrolment.unreached += 1;
        let another = match stage {
            Stage::Inspection => {
                self.enrolment.callback += 1;
                self.enrolment.unreached < self.parameters.callback_urls.len()
            }
            _ => self.next_url(self.enrolment.unreached),
        };
        if kind == HttpFailure::Connect && another {
            self.enrolment.due = Some(now);
            return;
        }
        self.enrolment.unreached = 0;
        match stage {
            Stage::Inspection => self.inspect_again(now),
            _ => self.again(now),
        }
    }

    fn inspected(&mut self, status: u16, body: &[u8], now: Instant) {
        match status {
            200..400 => {
                let answer: InspectionAnswer = serde_json::from_slice(body).unwrap_or_default();
                self.node_uuid = answer.node_uuid().map(str::to_owned);
                self.journal.note(now, "the inspection was accepted");
                self.enrolment.enter(Stage::Version, now);
            }
            409 | 500.. => self.inspect_again(now),
            _ => {
                // Usual: the host was not booted to be inspected (404).
                self.journal
                    .note(now, format!("the inspection was not wanted: {status}"));
                self.enrolment.enter(Stage::Version, now);
            }
        }
    }

    /// Exponential, 5 to 30 s; a failure is only noted, as in IPA: the lookup may still work.
    fn inspect_again(&mut self, now: Instant) {
        self.enrolment.attempt += 1;
        if self.enrolment.attempt >= INSPECTION_ATTEMPTS {
            self.journal.note(now, "the inspection could not be delivered");
            self.enrolment.enter(Stage::Version, now);
            return;
        }
        let pause = (1u64 << self.enrolment.attempt).clamp(5, 30);
        self.enrolment.due = Some(now + Duration::from_secs(pause));
    }

    fn versioned(&mut self, status: u16, body: &[u8], now: Instant) {
        if status >= 500 {
            return self.again(now);
        }
        let root = serde_json::from_slice::<Root>(body)
            .ok()
            .filter(|_| status == 200);
        self.version = root
            .and_then(|root| root.default_version.version.parse().ok())
            .unwrap_or(FALLBACK);
        self.journal
            .note(now, format!("the service speaks {}", self.version));
        let began = self.enrolment.began;
        self.enrolment.enter(Stage::Lookup, now);
        // Both count towards ipa-lookup-timeout.
        self.enrolment.began = began;
    }

    fn looked_up(&mut self, status: u16, body: &[u8], now: Instant) {
        match status {
            200 => match LookupAnswer::parse(body) {
                Ok(answer) => self.found(answer, now),
                Err(error) => {
                    self.journal.note(now, error.to_string());
                    self.again(now);
                }
            },
            409 => {
                let pause = LOCKED_PAUSES[self.enrolment.locked.min(LOCKED_PAUSES.len() - 1)];
                self.enrolment.locked += 1;
                self.pause(Duration::from_secs(pause), now);
            }
            status => {
                self.journal
                    .note(now, format!("lookup: the service answered {status}"));
                self.again(now);
            }
        }
    }

    fn found(&mut self, answer: LookupAnswer, now: Instant) {
        match answer.config.agent_token {
            Some(token) if token.is_usable() => self.token = Some(token),
            // The token was given to an earlier run of this boot, or to somebody else: we can't prove who we are.
            Some(token) if token.is_masked() && self.token.is_none() => {
                return self.stop(
                    Action::Lockdown("the service gave the token to another agent"),
                    now,
                );
            }
            _ if self.token.is_some() => {}
            other => {
                let what = if other.is_some() {
                    "a token that is too short"
                } else {
                    "no token"
                };
                self.journal.note(
                    now,
                    format!(
                        "lookup gave {what}; at least {} characters",
                        AgentToken::LENGTH_MIN
                    ),
                );
                return self.again(now);
            }
        }
        if self.version < VERIFY_CA_MIN {
            let text = format!(
                "the service speaks API {}, the agent needs {VERIFY_CA_MIN} to hand over its certificate",
                self.version
            );
            return self.stop(Action::Exit(text), now);
        }
        self.journal
            .note(now, format!("this is node {}", answer.node.uuid));
        self.node_uuid = Some(answer.node.uuid.clone());
        self.node = Some(answer.node);
        self.md5_enabled = answer.config.agent_md5_checksum_enable;
        self.enrolment.heartbeat_timeout = Duration::from_secs(answer.config.heartbeat_timeout);
        self.enrolment.enter(Stage::Listen, now);
    }

    /// Random and exponential (tenacity's `wait_random_exponential`), until the lookup timeout.
    fn again(&mut self, now: Instant) {
        self.enrolment.attempt += 1;
        let low = self.parameters.lookup_interval.as_secs_f64();
        let high = 2f64
            .powi(self.enrolment.attempt.min(16) as i32)
            .min(LOOKUP_PAUSE_MAX)
            .max(low);
        let pause = self.dice.uniform(low, high);
        self.pause(Duration::from_secs_f64(pause), now);
    }

    fn pause(&mut self, pause: Duration, now: Instant) {
        let began = self.enrolment.began.unwrap_or(now);
        let deadline = began + self.parameters.lookup_timeout;
        if now + pause > deadline {
            let waited = now.saturating_duration_since(began).as_secs();
            return self.stop(
                Action::Exit(format!("lookup without success for {waited} s")),
                now,
            );
        }
        self.enrolment.due = Some(now + pause);
    }

    /// The shell could not listen: no address yet, most likely.
    pub(crate) fn listen_failed(&mut self, why: &str, now: Instant) {
        if self.enrolment.stage != Stage::Listen {
            return;
        }
        self.journal.note(now, format!("can't listen: {why}"));
        self.enrolment.attempt += 1;
        if self.enrolment.attempt >= self.parameters.ip_lookup_attempts {
            return self.stop(Action::Exit(format!("can't listen: {why}")), now);
        }
        self.enrolment.due = Some(now + self.parameters.ip_lookup_timeout);
    }
}
