//! Tests of the whole pipeline, through the engine's front door.

mod accounts;
mod goldens;
mod protocol;
mod storm;
mod system;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use serde_json::Value;
use uuid::Uuid;

use crate::bmc::{Bmc, Config, Password};
use crate::hardware::Mac;
use crate::machine::{MachineState, Power};
use crate::personality::{Identity, Personality};

const ROOT: &str = "/redfish/v1/";
const SYSTEM: &str = "/redfish/v1/Systems/1";
const SESSIONS: &str = "/redfish/v1/SessionService/Sessions";
const ACCOUNTS: &str = "/redfish/v1/AccountService/Accounts";
const RESET: &str = "/redfish/v1/Systems/1/Actions/ComputerSystem.Reset";

struct Fixture {
    bmc: Bmc,
    now: Timestamp,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    text: String,
    body: Value,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// `PropertyUnknown BogusProp`: key and arguments of each message.
    fn messages(&self) -> Vec<String> {
        let info = &self.body["error"]["@Message.ExtendedInfo"];
        let message = |message: &Value| {
            let key = message["MessageId"]
                .as_str()
                .unwrap()
                .rsplit('.')
                .next()
                .unwrap()
                .to_owned();
            let args = message["MessageArgs"]
                .as_array()
                .unwrap()
                .iter()
                .map(|arg| arg.as_str().unwrap());
            [key.as_str()]
                .into_iter()
                .chain(args)
                .collect::<Vec<_>>()
                .join(" ")
        };
        info.as_array()
            .map(|info| info.iter().map(message).collect())
            .unwrap_or_default()
    }
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}")))
}

fn fixture(name: &str) -> Fixture {
    fixture_of(Personality::named(name).unwrap(), MachineState::OFF)
}

fn fixture_of(personality: Personality, machine: MachineState) -> Fixture {
    let identity = Identity {
        serial: "SN0001".to_owned(),
        uuid: Uuid::from_u128(0x0123_4567_89ab_4def_8123_4567_89ab_cdef),
        macs: (1..=personality.nic_count())
            .map(|n| Mac([0x52, 0x54, 0, 0x12, 0x34, n as u8]))
            .collect(),
        bmc_mac: Mac([0x52, 0x54, 0, 0x12, 0x34, 0xff]),
    };
    let config = Config {
        hardware: personality.hardware(&identity).unwrap(),
        personality,
        username: "admin".to_owned(),
        password: Password::new("secret"),
        seed: 7,
    };
    let now = "2026-11-24T12:00:00Z".parse().unwrap();
    Fixture {
        bmc: Bmc::new(config, machine, now),
        now,
    }
}

impl Fixture {
    fn send(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut request = http::Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Bytes::copy_from_slice(body.as_bytes())).unwrap();
        let reply = self.bmc.handle(request, self.now);
        let (head, body) = reply.into_parts();
        assert_eq!(head.headers["odata-version"], "4.0", "on every answer");
        let text = String::from_utf8(body.to_vec()).unwrap();
        Answer {
            status: head.status,
            headers: head.headers,
            body: serde_json::from_str(&text).unwrap_or(Value::Null),
            text,
        }
    }

    /// As the administrator, with Basic authentication.
    fn admin(&mut self, method: &str, path: &str, body: &str) -> Answer {
        self.admin_with(method, path, &[], body)
    }

    fn admin_with(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let authorization = basic("admin", "secret");
        let mut all = vec![
            ("authorization", authorization.as_str()),
            ("content-type", "application/json"),
        ];
        all.extend(headers);
        self.send(method, path, &all, body)
    }

    fn get(&mut self, path: &str) -> Answer {
        self.admin("GET", path, "")
    }

    fn pass(&mut self, ms: i64) {
        self.now = self
            .now
            .checked_add(jiff::SignedDuration::from_millis(ms))
            .unwrap();
    }

    fn power_state(&mut self) -> String {
        self.get(SYSTEM).body["PowerState"].as_str().unwrap().to_owned()
    }

    /// Plays driver and machine: carries out what is due.
    fn drive(&mut self) {
        while let Some(command) = self.bmc.poll(self.now) {
            use crate::machine::MachineCommand::{ForceOff, On};
            let power = match command {
                On => Power::On,
                ForceOff => Power::Off,
                _ => self.bmc.power.machine_state().power,
            };
            self.bmc.machine(
                MachineState {
                    power,
                    ..MachineState::OFF
                },
                self.now,
            );
            self.bmc.applied(&Ok(()), self.now);
        }
    }
}
