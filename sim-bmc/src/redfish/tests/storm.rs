//! A storm of requests made from pieces of good and bad ones: whatever comes, there is an answer, it is well-formed, and
//! the administrator is still let in afterwards.

use serde_json::{Value, json};

use super::{ACCOUNTS, RESET, SESSIONS, SYSTEM, fixture};
use crate::bmc::Dice;

const METHODS: &[&str] = &["GET", "HEAD", "PATCH", "POST", "DELETE", "PUT", "BREW"];

const PATHS: &[&str] = &[
    "/redfish/v1/",
    SYSTEM,
    SESSIONS,
    ACCOUNTS,
    RESET,
    "/redfish/v1/AccountService/Accounts/2",
    "/redfish/v1/AccountService/Roles/ReadOnly",
    "/redfish/v1/SessionService",
    "/redfish/v1/SessionService/Sessions/1",
    "/redfish/v1/Systems/1/Bios/Settings",
    "/redfish/v1/Systems/1/BootOptions/Boot0001",
    "/redfish/v1/Systems/1/SecureBoot",
    "/redfish/v1/Systems/1/Storage/Storage_0/Volumes/Disk_0",
    "/redfish/v1/Chassis/1",
    "/redfish/v1/Managers/1",
    "/redfish/v1/Managers/1/NetworkProtocol",
    "/redfish/v1/Registries/Base.1.22",
    "/redfish/v1/%24metadata",
    "/redfish/v1/%ff%fe",
    "/redfish//v1/Systems",
    "/redfish/v1/Systems/99999999999999999999",
];

const QUERIES: &[&str] = &[
    "",
    "",
    "",
    "?only",
    "?$expand=*($levels=2)",
    "?$expand=.($levels=",
    "?$select=Id,Boot/BootOrder,,",
    "?$select=Members",
    "?$top=0&$skip=18446744073709551615",
    "?$filter=Id%20eq%20%271%27",
    "?%ff=%00",
];

const NAMES: &[&str] = &[
    "AssetTag",
    "Boot",
    "BootOrder",
    "BootSourceOverrideTarget",
    "BootSourceOverrideEnabled",
    "HttpBootUri",
    "NTP",
    "NTPServers",
    "ProtocolEnabled",
    "Password",
    "UserName",
    "RoleId",
    "Enabled",
    "Locked",
    "SessionTimeout",
    "DateTime",
    "Attributes",
    "BootMode",
    "ResetType",
    "SecureBootEnable",
    "BootOptionEnabled",
    "@odata.id",
    "Id",
    "",
];

const VALUES: &[&str] = &[
    "",
    "1",
    "On",
    "ForceOff",
    "Pxe",
    "Once",
    "Boot0001",
    "ReadOnly",
    "password1",
    "guest",
    "2026-11-24T12:00:00Z",
    "9999-12-31T23:59:59Z",
    "-009999-01-02T01:59:59Z",
    "http://x/",
    "\u{0}\u{1F980}",
];

/// Good ones, so that the storm meets a service whose state keeps changing.
const GOOD: &[(&str, &str, &str)] = &[
    ("PATCH", SYSTEM, r#"{"AssetTag": "x"}"#),
    (
        "PATCH",
        SYSTEM,
        r#"{"Boot": {"BootSourceOverrideTarget": "Pxe", "BootSourceOverrideEnabled": "Once"}}"#,
    ),
    ("PATCH", SYSTEM, r#"{"Boot": {"BootOrder": ["Boot0002"]}}"#),
    (
        "PATCH",
        "/redfish/v1/Systems/1/BootOptions/Boot0001",
        r#"{"BootOptionEnabled": false}"#,
    ),
    (
        "PATCH",
        "/redfish/v1/Systems/1/SecureBoot",
        r#"{"SecureBootEnable": true}"#,
    ),
    (
        "PATCH",
        "/redfish/v1/Systems/1/Bios/Settings",
        r#"{"Attributes": {"BootMode": "Legacy"}}"#,
    ),
    (
        "PATCH",
        "/redfish/v1/Managers/1/NetworkProtocol",
        r#"{"NTP": {"NTPServers": ["a", null]}}"#,
    ),
    (
        "PATCH",
        "/redfish/v1/Managers/1",
        r#"{"DateTime": "9999-12-30T22:00:00Z"}"#,
    ),
    (
        "PATCH",
        "/redfish/v1/Managers/1",
        r#"{"DateTime": "-009999-01-02T01:59:59Z"}"#,
    ),
    ("PATCH", "/redfish/v1/SessionService", r#"{"SessionTimeout": 30}"#),
    (
        "PATCH",
        "/redfish/v1/AccountService/Accounts/2",
        r#"{"Password": "password2", "Enabled": false}"#,
    ),
    ("DELETE", "/redfish/v1/AccountService/Accounts/2", ""),
    (
        "POST",
        ACCOUNTS,
        r#"{"UserName": "guest", "Password": "password1", "RoleId": "ReadOnly"}"#,
    ),
    ("POST", SESSIONS, r#"{"UserName": "admin", "Password": "secret"}"#),
    ("POST", RESET, r#"{"ResetType": "On"}"#),
    ("POST", RESET, r#"{"ResetType": "PowerCycle"}"#),
    ("POST", RESET, r#"{"ResetType": "ForceOff"}"#),
];

struct Storm(Dice);

impl Storm {
    fn below(&mut self, limit: usize) -> usize {
        u64::from_be_bytes(self.0.bytes()) as usize % limit
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }

    fn value(&mut self, depth: usize) -> Value {
        match self.below(if depth == 0 { 5 } else { 8 }) {
            0 => Value::Null,
            1 => json!(self.below(2) == 0),
            2 => json!(i64::from_be_bytes(self.0.bytes()) >> self.below(64)),
            3 | 4 => json!(self.pick(VALUES)),
            5 => (0..self.below(3)).map(|_| self.value(depth - 1)).collect(),
            _ => {
                let object = (0..self.below(4)).map(|_| (self.pick(NAMES).to_owned(), self.value(depth - 1)));
                Value::Object(object.collect())
            }
        }
    }

    fn body(&mut self) -> String {
        let mut text = self.value(3).to_string();
        if self.below(8) == 0 {
            let cut = (0..=self.below(text.len() + 1))
                .rev()
                .find(|at| text.is_char_boundary(*at));
            text.truncate(cut.unwrap_or(0));
        }
        text
    }
}

#[test]
fn every_request_is_answered() {
    let mut fixture = fixture("small-vm");
    let mut storm = Storm(Dice::new(20_261_124, b"storm"));
    let mut changed = 0;
    for round in 0..1500 {
        let (method, path, body) = if storm.below(4) == 0 {
            let (method, path, body) = GOOD[storm.below(GOOD.len())];
            (method, path.to_owned(), body.to_owned())
        } else {
            (
                storm.pick(METHODS),
                format!("{}{}", storm.pick(PATHS), storm.pick(QUERIES)),
                storm.body(),
            )
        };
        let tag = ["*", "\"x\"", ""][storm.below(3)];
        let headers: &[(&str, &str)] = if storm.below(10) == 0 {
            &[("if-match", tag)]
        } else {
            &[]
        };
        let answer = fixture.admin_with(method, &path, headers, &body);
        let shown = format!(
            "round {round}: {method} {path} {body} -> {} {}",
            answer.status, answer.text
        );
        assert!(answer.status != 500 && answer.status != 401, "{shown}");
        if answer.header("content-type") == "application/json" && method != "HEAD" {
            assert!(answer.body.is_object(), "{shown}");
        }
        if answer.status.as_u16() >= 400 && method != "HEAD" {
            assert!(!answer.messages().is_empty(), "{shown}");
        }
        changed += usize::from(method != "GET" && method != "HEAD" && answer.status.is_success());
        fixture.pass(100);
        fixture.drive();
    }
    assert!(
        changed > 20,
        "only {changed} writes were good: the storm is too wild to reach far"
    );
    assert_eq!(fixture.get(SYSTEM).status, 200);
}
