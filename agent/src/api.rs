//! The agent's HTTP API: request in, reply out (ipa `api/app.py`).

use std::time::Instant;

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Value, json};
use steelyard_agent_api::{CommandList, CommandRequest, CommandStatus, Fault, TOKEN_QUERY};

use crate::agent::{Agent, Phase, Running};
use crate::command::{self, Command, Refusal, Scene, SyncCommand, Unknown};
use crate::event::{Action, ApiReply, ApiRequest, RequestId};
use crate::failure::Failure;
use crate::job::{State, flush_all};
use crate::table::disk_identifier;

/// Largest body of a command that the shell has to accept: a config drive of 64 MiB that doesn't compress, in base64,
/// and its envelope.
pub const COMMAND_BODY_MAX: usize = 90 << 20;

fn reply<T: Serialize>(status: u16, body: &T) -> ApiReply {
    let body = serde_json::to_vec(body).expect("messages are JSON");
    ApiReply {
        status,
        location: None,
        body: Bytes::from(body),
    }
}

fn fault(status: u16, text: impl Into<String>) -> ApiReply {
    reply(status, &Fault::for_status(status, text))
}

fn query<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find_map(|(key, value)| (key == name).then_some(value))
}

/// What a path names; both with and without `/v1`, as werkzeug's rules have it.
enum Route<'a> {
    Root,
    Version,
    Status,
    Commands,
    /// `/v1/commands`: a redirect to the collection.
    CommandsBare,
    Command(&'a str),
    None,
}

fn route(path: &str) -> Route<'_> {
    match path {
        "/" | "" => Route::Root,
        "/v1/" | "/v1" => Route::Version,
        _ => match path.strip_prefix("/v1").unwrap_or(path) {
            "/status" | "/status/" => Route::Status,
            "/commands" => Route::CommandsBare,
            "/commands/" => Route::Commands,
            rest => match rest.strip_prefix("/commands/") {
                Some(id) if !id.contains('/') => Route::Command(id),
                _ => Route::None,
            },
        },
    }
}

impl Agent {
    /// Answers a request, now or when the command that it waits for has ended.
    pub(crate) fn serve(&mut self, id: RequestId, request: ApiRequest, now: Instant) {
        let reply = match (route(&request.path), request.method.as_str()) {
            _ if self.phase != Phase::Serving => fault(503, "the agent is not serving"),
            (Route::Root, "GET") => reply(200, &self.root()),
            (Route::Version, "GET") => reply(200, &version_links()),
            (Route::Status, "GET") => reply(
                200,
                &json!({"started_at": self.started_at, "version": crate::VERSION}),
            ),
            (Route::CommandsBare, _) => ApiReply {
                location: Some(format!("{}/", request.path)),
                ..fault(308, "the collection of commands ends with a slash")
            },
            (Route::Commands, "GET" | "POST") | (Route::Command(_), "GET")
                if !self.authorized(&request.query) =>
            {
                fault(401, "401 Unauthorized: Token invalid.")
            }
            (Route::Commands, "GET") => reply(
                200,
                &CommandList {
                    commands: self.records.all(),
                },
            ),
            (Route::Commands, "POST") => match self.execute(&request, now) {
                Ok(command) => return self.answer(id, &command, &request.query),
                Err(refused) => refused,
            },
            (Route::Command(command), "GET") => match self.records.get(command) {
                Some(_) => return self.answer(id, command, &request.query),
                None => fault(
                    404,
                    format!("Requested object not found: Command with id {command} not found."),
                ),
            },
            (Route::None, _) => fault(404, format!("{} was not found", request.path)),
            _ => fault(
                405,
                format!("{} is not allowed for {}", request.method, request.path),
            ),
        };
        self.actions.push(Action::Reply(id, reply));
    }

    fn root(&self) -> Value {
        json!({
            "name": "OpenStack Ironic Python Agent API",
            "description": "Steelyard's deploy agent; it speaks the ironic-python-agent protocol",
            "versions": [{"id": "v1", "links": [{"href": "/v1/", "rel": "self"}]}],
            "default_version": {"id": "v1", "links": [{"href": "/v1/", "rel": "self"}]},
        })
    }

    fn authorized(&self, text: &str) -> bool {
        let given = query(text, TOKEN_QUERY).unwrap_or_default();
        self.token.as_ref().is_some_and(|token| token.matches(given))
    }

    /// Replies with a command's record: at once, or at its end when the query says `wait=true`.
    fn answer(&mut self, id: RequestId, command: &str, text: &str) {
        let wait = query(text, "wait").is_some_and(|value| value.eq_ignore_ascii_case("true"));
        if wait && let Some(running) = self.running.as_mut().filter(|running| running.id == command) {
            running.waiters.push(id);
            return;
        }
        if let Some(record) = self.records.get(command) {
            let reply = reply(200, record);
            self.actions.push(Action::Reply(id, reply));
        }
        self.lock_if_asked();
    }

    /// Starts a command and returns its id, or the reply that refuses it.
    fn execute(&mut self, request: &ApiRequest, now: Instant) -> Result<String, ApiReply> {
        let parsed: Result<CommandRequest, _> = serde_json::from_slice(&request.body);
        let wanted = "the body must be an object with name (a string) and params (an object)";
        let CommandRequest { name, params } = parsed
            .ok()
            .filter(|command| !command.name.is_empty())
            .ok_or_else(|| fault(400, wanted))?;
        let Some((extension, command)) = name.split_once('.') else {
            return Err(fault(
                400,
                format!("Invalid command: Command name {name:?} must be of the form <extension>.<name>"),
            ));
        };
        if let Some(busy) = self.records.running() {
            let text = format!("Agent is busy: agent is executing command {}", busy.command_name);
            return Err(fault(409, text));
        }
        let mut scene = Scene {
            node: &mut self.node,
            md5_enabled: self.md5_enabled,
        };
        let outcome = command::resolve(extension, command, params, &mut scene);
        let mut record = command::record(self.dice.uuid().to_string(), command);
        let id = record.id.clone();
        self.journal.note(now, format!("command {name}"));
        match outcome {
            Err(Refusal::Unknown(Unknown::Extension(extension))) => {
                return Err(fault(
                    404,
                    format!("Requested object not found: Extension with id {extension} not found."),
                ));
            }
            Err(Refusal::Unknown(Unknown::Command(command))) => {
                return Err(fault(400, format!("Invalid command: Unknown command: {command}")));
            }
            Err(Refusal::Failure(failure @ Failure::InvalidParams(_))) => {
                return Err(fault(400, format!("Invalid command params: {failure}")));
            }
            Err(Refusal::Failure(failure)) => {
                command::settle(&mut record, Err(failure));
                self.records.push(record);
            }
            Ok(Command::Sync(sync)) => {
                let outcome = self.run_sync(sync);
                command::settle(&mut record, outcome);
                self.records.push(record);
            }
            Ok(Command::Async(job)) => {
                self.records.push(record);
                self.running = Some(Running {
                    id: id.clone(),
                    job,
                    step: None,
                    state: State::Busy,
                    waiters: Vec::new(),
                });
            }
            Ok(Command::Step { kind, step, job }) => {
                self.records.push(record);
                let step = Some((kind, step));
                self.running = Some(Running {
                    id: id.clone(),
                    job,
                    step,
                    state: State::Busy,
                    waiters: Vec::new(),
                });
            }
        }
        Ok(id)
    }

    fn run_sync(&mut self, command: SyncCommand) -> Result<Value, Failure> {
        match command {
            SyncCommand::Value(value) => Ok(value),
            SyncCommand::Sync => flush_all(&mut *self.platform).map(|()| Value::Null),
            SyncCommand::HardwareInfo => {
                let inventory = self.inventory();
                Ok(serde_json::to_value(inventory).expect("an inventory is JSON"))
            }
            SyncCommand::Logs => Ok(json!({"system_logs": self.journal.archive()})),
            SyncCommand::PartitionUuids => {
                let Some(device) = self.written.clone() else {
                    return Ok(command::partition_uuids(None));
                };
                let mut head = [0; 512];
                self.platform.read_at(&device, 0, &mut head)?;
                Ok(command::partition_uuids(Some(disk_identifier(&head))))
            }
            SyncCommand::Lockdown => {
                self.locking = true;
                Ok(Value::Null)
            }
        }
    }

    /// A job has ended: the record, those who wait for it, the service, and what the machine does now.
    pub(crate) fn end_command(&mut self, running: Running, outcome: Result<Value, Failure>, now: Instant) {
        let Running {
            id,
            job,
            step,
            waiters,
            ..
        } = running;
        match &outcome {
            Ok(value) => {
                if let Some(device) = value.get("device").and_then(Value::as_str) {
                    self.written = Some(device.to_owned());
                }
            }
            Err(failure) => self.journal.note(now, format!("command failed: {failure}")),
        }
        let succeeded = outcome.is_ok();
        let outcome = outcome.map(|result| match step {
            Some((kind, step)) => steelyard_agent_api::StepResult { kind, result, step }.into_value(),
            None => result,
        });
        if let Some(record) = self.records.end(&id, outcome) {
            debug_assert_ne!(record.command_status, CommandStatus::Running);
            let reply = reply(200, record);
            self.actions.extend(
                waiters
                    .into_iter()
                    .map(|waiter| Action::Reply(waiter, reply.clone())),
            );
        }
        if let Some(heart) = &mut self.heart {
            heart.force(now);
        }
        if succeeded && let Some(action) = job.afterwards() {
            self.phase = Phase::Ended;
            self.actions.push(action);
        }
    }

    fn lock_if_asked(&mut self) {
        if self.locking {
            self.phase = Phase::Ended;
            self.actions.push(Action::Lockdown("the service asked for it"));
        }
    }
}

fn version_links() -> Value {
    let link = |path: &str| json!([{"href": path, "rel": "self"}]);
    json!({
        "id": "v1",
        "links": link("/v1/"),
        "commands": link("/v1/commands/"),
        "status": link("/v1/status"),
        "media_types": [{"base": "application/json", "type": "application/vnd.openstack.ironic-python-agent.v1+json"}],
    })
}
