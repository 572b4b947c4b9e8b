//! Power, boot and manager actions as clients see them.

use serde_json::json;

use super::{RESET, SYSTEM, fixture, fixture_of};
use crate::bmc::{BootMode, BootTarget, OverrideEnabled};
use crate::machine::{BootProgress, MachineState, Power};
use crate::personality::Personality;

#[test]
fn power_goes_through_its_states() {
    let mut fixture = fixture("small-vm");
    assert_eq!(fixture.power_state(), "Off");
    assert_eq!(fixture.admin("POST", RESET, r#"{"ResetType": "On"}"#).status, 204);
    assert_eq!(fixture.power_state(), "PoweringOn");
    fixture.pass(1999);
    fixture.drive();
    assert_eq!(fixture.power_state(), "PoweringOn");
    fixture.pass(1);
    fixture.drive();
    assert_eq!(fixture.power_state(), "On");
    let running = MachineState {
        power: Power::On,
        boot_progress: BootProgress::OsRunning,
    };
    fixture.pass(5000);
    fixture.bmc.machine(running, fixture.now);
    let progress = &fixture.get(SYSTEM).body["BootProgress"];
    assert_eq!(
        *progress,
        json!({"LastState": "OSRunning", "LastStateTime": "2026-11-24T12:00:07Z"})
    );
    assert_eq!(
        fixture
            .admin("POST", RESET, r#"{"ResetType": "ForceOff"}"#)
            .status,
        204
    );
    assert_eq!(fixture.power_state(), "PoweringOff");
    fixture.pass(1000);
    fixture.drive();
    assert_eq!(fixture.power_state(), "Off");
    assert_eq!(fixture.get("/redfish/v1/Chassis/1").body["PowerState"], "Off");
}

#[test]
fn resets_that_are_refused() {
    let mut fixture = fixture("small-vm");
    let rows: &[(&str, u16, &str)] = &[
        ("{}", 400, "ActionParameterMissing ComputerSystem.Reset ResetType"),
        (
            r#"{"ResetType": "Explode"}"#,
            400,
            "ActionParameterValueNotInList Explode ResetType ComputerSystem.Reset",
        ),
        (
            r#"{"ResetType": 1}"#,
            400,
            "ActionParameterValueTypeError 1 ResetType ComputerSystem.Reset",
        ),
        (
            r#"{"ResetType": "On", "X": 1}"#,
            400,
            "ActionParameterUnknown ComputerSystem.Reset X",
        ),
        (
            r#"{"ResetType": "GracefulRestart"}"#,
            409,
            "ChassisPowerStateOnRequired 1",
        ),
    ];
    for (body, status, message) in rows {
        let answer = fixture.admin("POST", RESET, body);
        assert_eq!(
            (answer.status.as_u16(), answer.messages()),
            (*status, vec![(*message).to_owned()]),
            "{body}"
        );
    }
    assert_eq!(fixture.bmc.poll_at(), None, "nothing was started");
    fixture.bmc.machine(MachineState::ON, fixture.now);
    assert_eq!(
        fixture
            .admin("POST", RESET, r#"{"ResetType": "ForceOff"}"#)
            .status,
        204
    );
    let answer = fixture.admin("POST", RESET, r#"{"ResetType": "On"}"#);
    assert_eq!(
        (answer.status.as_u16(), answer.messages()),
        (409, vec!["ResourceInUse".to_owned()])
    );
}

#[test]
fn overrides_reach_the_firmware() {
    let mut fixture = fixture("small-vm");
    let body = r#"{"Boot": {"BootSourceOverrideTarget": "Pxe", "BootSourceOverrideEnabled": "Once"}}"#;
    let patched = fixture.admin("PATCH", SYSTEM, body);
    assert_eq!(patched.body["Boot"]["BootSourceOverrideTarget"], "Pxe");
    let etag = fixture.get(SYSTEM).header("etag").to_owned();
    let effective = fixture.bmc.post_begins();
    assert_eq!(
        (effective.target, effective.enabled, effective.mode),
        (BootTarget::Pxe, OverrideEnabled::Once, BootMode::Uefi)
    );
    let after = fixture.get(SYSTEM);
    assert_eq!(after.body["Boot"]["BootSourceOverrideEnabled"], "Disabled");
    assert_eq!(after.body["Boot"]["BootSourceOverrideTarget"], "None");
    assert_ne!(after.header("etag"), etag);
    let body = r#"{"Boot": {"BootSourceOverrideTarget": "UefiHttp", "BootSourceOverrideEnabled": "Continuous",
        "HttpBootUri": "http://192.168.100.4/boot.efi"}}"#;
    assert_eq!(fixture.admin("PATCH", SYSTEM, body).status, 200);
    for _ in 0..2 {
        let effective = fixture.bmc.post_begins();
        assert_eq!(effective.target, BootTarget::UefiHttp);
        assert_eq!(
            effective.http_uri.as_deref(),
            Some("http://192.168.100.4/boot.efi")
        );
    }
}

#[test]
fn legacy_is_offered_only_where_it_exists() {
    let body = r#"{"Boot": {"BootSourceOverrideMode": "Legacy"}}"#;
    assert_eq!(fixture("small-vm").admin("PATCH", SYSTEM, body).status, 400);
    assert_eq!(fixture("cpu-epyc").admin("PATCH", SYSTEM, body).status, 200);
}

#[test]
fn boot_order_is_walked_as_set() {
    let mut fixture = fixture("small-vm");
    let order = |fixture: &super::Fixture| {
        fixture
            .bmc
            .boot_order()
            .iter()
            .map(|option| option.reference())
            .collect::<Vec<_>>()
    };
    assert_eq!(order(&fixture), ["Boot0000", "Boot0001", "Boot0002"]);
    let patched = fixture.admin(
        "PATCH",
        SYSTEM,
        r#"{"Boot": {"BootOrder": ["Boot0002", "Boot0000"]}}"#,
    );
    assert_eq!(patched.body["Boot"]["BootOrder"], json!(["Boot0002", "Boot0000"]));
    assert_eq!(order(&fixture), ["Boot0002", "Boot0000"]);
    let option = format!("{SYSTEM}/BootOptions/Boot0002");
    assert_eq!(
        fixture
            .admin("PATCH", &option, r#"{"BootOptionEnabled": false}"#)
            .status,
        200
    );
    assert_eq!(order(&fixture), ["Boot0000"]);
    let target = format!("{SYSTEM}/Actions/ComputerSystem.SetDefaultBootOrder");
    assert_eq!(fixture.admin("POST", &target, "").status, 204);
    assert_eq!(order(&fixture), ["Boot0000", "Boot0001"]);
}

#[test]
fn firmware_settings_wait_for_post() {
    let mut fixture = fixture("small-vm");
    let (bios, settings) = (format!("{SYSTEM}/Bios"), format!("{SYSTEM}/Bios/Settings"));
    let secure = format!("{SYSTEM}/SecureBoot");
    assert_eq!(
        fixture
            .admin("PATCH", &settings, r#"{"Attributes": {"QuietBoot": "Enabled"}}"#)
            .status,
        200
    );
    assert_eq!(
        fixture
            .admin("PATCH", &secure, r#"{"SecureBootEnable": true}"#)
            .status,
        200
    );
    assert_eq!(fixture.get(&bios).body["Attributes"]["QuietBoot"], "Disabled");
    assert_eq!(fixture.get(&settings).body["Attributes"]["QuietBoot"], "Enabled");
    assert_eq!(fixture.get(&secure).body["SecureBootCurrentBoot"], "Disabled");
    fixture.bmc.post_begins();
    assert_eq!(fixture.get(&bios).body["Attributes"]["QuietBoot"], "Enabled");
    assert_eq!(fixture.get(&secure).body["SecureBootCurrentBoot"], "Enabled");
    assert_eq!(
        fixture
            .admin("POST", &format!("{bios}/Actions/Bios.ResetBios"), "")
            .status,
        204
    );
    fixture.bmc.post_begins();
    assert_eq!(fixture.get(&bios).body["Attributes"]["QuietBoot"], "Disabled");
}

#[test]
fn a_manager_reset_is_felt_and_leaves_the_machine_alone() {
    let mut fixture = fixture_of(Personality::named("small-vm").unwrap(), MachineState::ON);
    let body = r#"{"Boot": {"BootSourceOverrideTarget": "Pxe", "BootSourceOverrideEnabled": "Once"}}"#;
    assert_eq!(fixture.admin("PATCH", SYSTEM, body).status, 200);
    let login = r#"{"UserName": "admin", "Password": "secret"}"#;
    let token = fixture
        .send("POST", super::SESSIONS, &[], login)
        .header("x-auth-token")
        .to_owned();
    let target = "/redfish/v1/Managers/1/Actions/Manager.Reset";
    assert_eq!(
        fixture
            .admin("POST", target, r#"{"ResetType": "GracefulRestart"}"#)
            .status,
        204
    );
    assert!(!fixture.bmc.reachable(fixture.now));
    let reply = fixture.bmc.handle(
        http::Request::builder()
            .uri("/redfish/v1/")
            .body(bytes::Bytes::new())
            .unwrap(),
        fixture.now,
    );
    assert_eq!(
        (
            reply.status().as_u16(),
            reply.headers()["retry-after"].to_str().unwrap()
        ),
        (503, "31")
    );
    fixture.pass(30_000);
    assert_eq!(
        fixture
            .send("GET", SYSTEM, &[("x-auth-token", &token)], "")
            .status,
        401,
        "sessions are lost"
    );
    assert_eq!(fixture.power_state(), "On");
    assert_eq!(
        fixture.get(SYSTEM).body["Boot"]["BootSourceOverrideTarget"],
        "Pxe",
        "settings are kept"
    );
}

#[test]
fn the_clock_can_be_set() {
    let mut fixture = fixture("small-vm");
    let set = fixture.admin(
        "PATCH",
        "/redfish/v1/Managers/1",
        r#"{"DateTime": "2030-01-01T00:00:00+01:00"}"#,
    );
    assert_eq!(set.body["DateTime"], "2029-12-31T23:00:00Z");
    fixture.pass(60_000);
    assert_eq!(
        fixture.get("/redfish/v1/Managers/1").body["DateTime"],
        "2029-12-31T23:01:00Z"
    );
}
