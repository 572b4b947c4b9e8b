//! Golden copies of key resources, and a walk over every link.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{ROOT, SYSTEM, fixture};
use crate::personality::Personality;

fn golden(personality: &str, name: &str, path: &str) {
    let mut body = fixture(personality).get(path).body;
    // ETags are digests of what is shown beside them; `protocol.rs` tests what they promise.
    body["@odata.etag"] = "etag".into();
    insta::assert_json_snapshot!(name, body);
}

#[test]
fn service_root() {
    golden("small-vm", "service_root", ROOT);
}

#[test]
fn systems() {
    golden("small-vm", "system", SYSTEM);
    golden(
        "small-vm",
        "system_interface",
        "/redfish/v1/Systems/1/EthernetInterfaces/NIC_1",
    );
    golden("small-vm", "drive", "/redfish/v1/Chassis/1/Drives/Disk_0");
    golden(
        "small-vm",
        "boot_option",
        "/redfish/v1/Systems/1/BootOptions/Boot0001",
    );
    golden("small-vm", "bios", "/redfish/v1/Systems/1/Bios");
}

#[test]
fn gpus() {
    golden("dgx-h100", "processors", "/redfish/v1/Systems/1/Processors");
    golden("dgx-h100", "gpu", "/redfish/v1/Systems/1/Processors/GPU_SXM_1");
}

#[test]
fn managers() {
    golden("cpu-epyc", "manager", "/redfish/v1/Managers/1");
    golden(
        "cpu-epyc",
        "manager_interface",
        "/redfish/v1/Managers/1/EthernetInterfaces/eth0",
    );
    golden("cpu-epyc", "chassis", "/redfish/v1/Chassis/1");
    golden("cpu-epyc", "account", "/redfish/v1/AccountService/Accounts/1");
}

#[test]
fn errors() {
    let mut fixture = fixture("small-vm");
    let body = r#"{"AssetTag": 1, "Boot": {"BootSourceOverrideTarget": "Banana"}, "PowerState": "On"}"#;
    insta::assert_json_snapshot!("error_many", fixture.admin("PATCH", SYSTEM, body).body);
    insta::assert_json_snapshot!("error_not_found", fixture.get("/redfish/v1/Systems/2").body);
}

#[test]
fn metadata() {
    insta::assert_snapshot!("metadata", fixture("small-vm").get("/redfish/v1/$metadata").text);
    insta::assert_json_snapshot!("odata", fixture("small-vm").get("/redfish/v1/odata").body);
}

fn links(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            for (name, value) in object {
                match value {
                    Value::String(uri) if matches!(name.as_str(), "@odata.id" | "Uri" | "target") => {
                        found.insert(uri.clone());
                    }
                    other => links(other, found),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| links(value, found)),
        _ => {}
    }
}

/// Every link that is shown answers, as what it says it is; every action target takes POST and nothing else.
#[test]
fn no_link_dangles() {
    for (name, at_least) in [("small-vm", 45), ("cpu-epyc", 65), ("dgx-h100", 145)] {
        assert!(Personality::names().contains(&name));
        let mut fixture = fixture(name);
        let mut seen = BTreeSet::new();
        let mut queue = BTreeSet::from([ROOT.to_owned()]);
        while let Some(uri) = queue.pop_first() {
            if !seen.insert(uri.clone()) {
                continue;
            }
            let answer = fixture.get(&uri);
            if uri.contains("/Actions/") {
                assert_eq!(
                    (answer.status.as_u16(), answer.header("allow")),
                    (405, "POST"),
                    "{name} {uri}"
                );
                continue;
            }
            assert_eq!(answer.status, 200, "{name} {uri}");
            assert!(answer.body["Name"].is_string(), "{name} {uri}");
            if answer.body["@odata.id"].is_string() {
                assert_eq!(answer.body["@odata.id"], uri.as_str(), "{name}");
                assert_eq!(answer.body["@odata.etag"], answer.header("etag"), "{name} {uri}");
            }
            if let (Some(id), false) = (answer.body["Id"].as_str(), uri == ROOT) {
                let last = uri.rsplit('/').next().unwrap();
                assert!(last == id, "{name} {uri}: Id is {id}");
            }
            let other_spelling = uri
                .strip_suffix('/')
                .map_or_else(|| format!("{uri}/"), str::to_owned);
            let slashed = fixture.get(&other_spelling);
            assert_eq!(slashed.text, answer.text, "{name} {other_spelling}");
            let mut found = BTreeSet::new();
            links(&answer.body, &mut found);
            queue.extend(found);
        }
        assert!(seen.len() >= at_least, "{name} has {} resources", seen.len());
    }
}
