//! Drives an agent by hand: a clock that jumps, a service that answers what the test says.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::{Map, Value, json};
use steelyard_agent::{
    Action, Agent, ApiReply, ApiRequest, Event, HttpEvent, HttpId, HttpRequest, Options, Parameters,
    RequestId,
};
use steelyard_agent_api::{CommandResult, CommandStatus};

use crate::machine::Machine;

pub(crate) const TOKEN: &str = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFG";
pub(crate) const API: &str = "ipa-api-url=http://svc:8080";

pub(crate) struct Bench {
    pub(crate) agent: Agent,
    pub(crate) machine: Machine,
    pub(crate) start: Instant,
    pub(crate) now: Instant,
    pub(crate) out: VecDeque<Action>,
    requests: u64,
}

impl Bench {
    /// A booted machine; the first actions are out.
    pub(crate) fn boot(cmdline: &str, machine: Machine) -> Self {
        let now = Instant::now();
        let options = Options {
            parameters: Parameters::parse(cmdline).unwrap(),
            seed: 7,
            started_at: 1.5,
        };
        let agent = Agent::new(options, Box::new(machine.clone()), now);
        let mut bench = Self {
            agent,
            machine,
            start: now,
            now,
            out: VecDeque::new(),
            requests: 0,
        };
        bench.event(Event::Started);
        bench
    }

    /// An agent whose first heartbeat was accepted.
    pub(crate) fn serving(machine: Machine) -> Self {
        Self::serving_with(machine, json!({}), json!({}))
    }

    pub(crate) fn serving_with(machine: Machine, config: Value, node: Value) -> Self {
        let mut bench = Self::boot(API, machine);
        let version = bench.http();
        bench.answer(version.id, 200, json!({"default_version": {"version": "1.109"}}));
        let lookup = bench.http();
        bench.answer(lookup.id, 200, lookup_answer(json!(TOKEN), config, node));
        assert!(matches!(bench.out.pop_front(), Some(Action::Listen { .. })));
        bench.listening();
        let beat = bench.http();
        bench.answer(beat.id, 202, json!({}));
        assert!(bench.out.is_empty());
        bench
    }

    pub(crate) fn listening(&mut self) {
        self.event(Event::Listening {
            host: IpAddr::from([192, 168, 100, 10]),
            port: 9999,
            certificate_pem: "PEM".to_owned(),
        });
    }

    pub(crate) fn event(&mut self, event: Event) {
        self.out.extend(self.agent.on(event, self.now));
    }

    /// Ticks as long as something is due now.
    pub(crate) fn run(&mut self) {
        for _ in 0..1_000_000 {
            match self.agent.poll_at() {
                Some(at) if at <= self.now => self.event(Event::Tick),
                _ => return,
            }
        }
        panic!("the agent never gets idle");
    }

    /// Jumps to the next due time and says how long that was.
    pub(crate) fn wait(&mut self) -> Duration {
        let at = self.agent.poll_at().expect("something is due");
        let waited = at.saturating_duration_since(self.now);
        self.now = self.now.max(at);
        self.event(Event::Tick);
        waited
    }

    /// The next action, which is a request.
    pub(crate) fn http(&mut self) -> HttpRequest {
        match self.out.pop_front() {
            Some(Action::Http(request)) => request,
            other => panic!("a request was expected, not {other:?}"),
        }
    }

    pub(crate) fn answer(&mut self, id: HttpId, status: u16, body: Value) {
        let body = Bytes::from(body.to_string());
        self.event(Event::Http(id, HttpEvent::Response { status, body }));
    }

    pub(crate) fn request(&mut self, method: &str, path_and_query: &str, body: &str) -> RequestId {
        self.requests += 1;
        let (path, query) = path_and_query.split_once('?').unwrap_or((path_and_query, ""));
        let id = RequestId(self.requests);
        self.event(Event::Request(
            id,
            ApiRequest {
                method: method.to_owned(),
                path: path.to_owned(),
                query: query.to_owned(),
                body: Bytes::from(body.to_owned()),
            },
        ));
        id
    }

    /// A request whose reply comes at once.
    pub(crate) fn call(&mut self, method: &str, path_and_query: &str, body: &str) -> (u16, Value) {
        let id = self.request(method, path_and_query, body);
        let reply = self.reply(id).expect("a reply at once");
        (reply.status, serde_json::from_slice(&reply.body).unwrap())
    }

    pub(crate) fn reply(&mut self, id: RequestId) -> Option<ApiReply> {
        let at = self
            .out
            .iter()
            .position(|action| matches!(action, Action::Reply(of, _) if *of == id))?;
        match self.out.remove(at) {
            Some(Action::Reply(_, reply)) => Some(reply),
            _ => None,
        }
    }

    /// Posts a command without waiting for its end.
    pub(crate) fn command(&mut self, name: &str, params: Value) -> (u16, Value) {
        let body = json!({"name": name, "params": params}).to_string();
        self.call(
            "POST",
            &format!("/v1/commands/?wait=false&agent_token={TOKEN}"),
            &body,
        )
    }

    /// Executes a step and returns the request that is answered at its end.
    pub(crate) fn step(&mut self, kind: &str, step: &str, args: Value, node: Value) -> String {
        let step =
            json!({"step": step, "interface": "deploy", "priority": 10, "args": args, "extra": "kept"});
        let params = Map::from_iter([
            ("step".to_owned(), step),
            ("node".to_owned(), node),
            ("ports".to_owned(), json!([])),
            (format!("{kind}_version"), Value::Null),
        ]);
        let (status, body) = self.command(&format!("{kind}.execute_{kind}_step"), Value::Object(params));
        assert_eq!(
            (status, &body["command_status"]),
            (200, &json!("RUNNING")),
            "{body}"
        );
        body["id"].as_str().unwrap().to_owned()
    }

    /// The record of a command, which must have ended; the forced heartbeat is taken off.
    pub(crate) fn ended(&mut self, id: &str) -> CommandResult {
        let (status, body) = self.call("GET", &format!("/v1/commands/{id}?agent_token={TOKEN}"), "");
        assert_eq!(status, 200);
        let record: CommandResult = serde_json::from_value(body).unwrap();
        assert_ne!(record.command_status, CommandStatus::Running);
        record
    }
}

pub(crate) fn lookup_answer(token: Value, config: Value, node: Value) -> Value {
    let mut answer = json!({
        "node": {"uuid": "node-1", "properties": {}, "instance_info": {}, "driver_internal_info": {}},
        "config": {"heartbeat_timeout": 300, "agent_token": token},
    });
    for (key, value) in node.as_object().unwrap() {
        answer["node"][key] = value.clone();
    }
    for (key, value) in config.as_object().unwrap() {
        answer["config"][key] = value.clone();
    }
    answer
}
