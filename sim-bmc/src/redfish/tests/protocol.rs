//! DSP0266 behaviours: methods, headers, preconditions, queries, errors.

use serde_json::json;

use super::{ACCOUNTS, ROOT, SESSIONS, SYSTEM, fixture, fixture_of};
use crate::machine::MachineState;
use crate::personality::Personality;

/// method, path, body -> status, messages
type Row<'a> = (&'a str, &'a str, &'a str, u16, &'a [&'a str]);

#[test]
fn refusals() {
    let ntp = "/redfish/v1/Managers/1/NetworkProtocol";
    let rows: &[Row<'_>] = &[
        (
            "GET",
            "/redfish/v1/Nonsense",
            "",
            404,
            &["ResourceMissingAtURI /redfish/v1/Nonsense"],
        ),
        (
            "GET",
            "/redfish/v1/Systems/1/Processors/CPU_9",
            "",
            404,
            &["ResourceMissingAtURI /redfish/v1/Systems/1/Processors/CPU_9"],
        ),
        ("GET", "/", "", 404, &["ResourceMissingAtURI /"]),
        (
            "GET",
            "/redfish/v1/%zz",
            "",
            404,
            &["ResourceMissingAtURI /redfish/v1/%zz"],
        ),
        ("DELETE", ROOT, "", 405, &["OperationNotAllowed"]),
        ("FAKEMETHOD", ROOT, "", 405, &["OperationNotAllowed"]),
        ("PUT", SYSTEM, "{}", 405, &["OperationNotAllowed"]),
        ("POST", "/redfish/v1/Systems", "{}", 405, &["OperationNotAllowed"]),
        ("PATCH", SYSTEM, "{", 400, &["MalformedJSON"]),
        ("PATCH", SYSTEM, "", 400, &["MalformedJSON"]),
        ("PATCH", SYSTEM, "[]", 400, &["UnrecognizedRequestBody"]),
        ("PATCH", SYSTEM, "{}", 400, &["NoOperation"]),
        ("PATCH", SYSTEM, r#"{"@odata.id": "/x"}"#, 400, &["NoOperation"]),
        (
            "PATCH",
            SYSTEM,
            r#"{"Bogus": 1}"#,
            400,
            &["PropertyUnknown Bogus"],
        ),
        (
            "PATCH",
            SYSTEM,
            r#"{"PowerState": "On"}"#,
            400,
            &["PropertyNotWritable PowerState"],
        ),
        (
            "PATCH",
            SYSTEM,
            r#"{"AssetTag": 5}"#,
            400,
            &["PropertyValueTypeError 5 AssetTag"],
        ),
        (
            "PATCH",
            SYSTEM,
            r#"{"Boot": []}"#,
            400,
            &["PropertyValueTypeError [] Boot"],
        ),
        (
            "PATCH",
            SYSTEM,
            r#"{"Boot": {"BootSourceOverrideEnabled": "Twice"}}"#,
            400,
            &["PropertyValueNotInList Twice BootSourceOverrideEnabled"],
        ),
        (
            "PATCH",
            SYSTEM,
            r#"{"Boot": {"BootOptions": {}}}"#,
            400,
            &["PropertyNotWritable BootOptions"],
        ),
        (
            "PATCH",
            SYSTEM,
            r#"{"Boot": {"BootOrder": ["Boot0001", "Boot0001"]}}"#,
            400,
            &["PropertyValueError BootOrder"],
        ),
        (
            "PATCH",
            SYSTEM,
            r#"{"Boot": {"BootOrder": ["Boot9999"]}}"#,
            400,
            &["PropertyValueNotInList Boot9999 BootOrder"],
        ),
        (
            "PATCH",
            SYSTEM,
            r#"{"Boot": {"HttpBootUri": "ftp://x"}}"#,
            400,
            &["PropertyValueFormatError ftp://x HttpBootUri"],
        ),
        (
            "PATCH",
            "/redfish/v1/Systems/1/Bios",
            "{}",
            405,
            &["OperationNotAllowed"],
        ),
        (
            "PATCH",
            "/redfish/v1/Systems/1/Bios/Settings",
            r#"{"Attributes": {"Banana": 1, "BootMode": 1}}"#,
            400,
            &["PropertyUnknown Banana", "PropertyValueTypeError 1 BootMode"],
        ),
        (
            "PATCH",
            ntp,
            r#"{"NTP": {"NTPServers": "x"}}"#,
            400,
            &["PropertyValueTypeError x NTPServers"],
        ),
        (
            "PATCH",
            ntp,
            r#"{"NTP": {"NTPServers": [1]}}"#,
            400,
            &["PropertyValueTypeError 1 NTPServers"],
        ),
        (
            "PATCH",
            "/redfish/v1/SessionService",
            r#"{"SessionTimeout": 5}"#,
            400,
            &["PropertyValueOutOfRange 5 SessionTimeout"],
        ),
        (
            "PATCH",
            "/redfish/v1/Managers/1",
            r#"{"DateTime": "yesterday"}"#,
            400,
            &["PropertyValueFormatError yesterday DateTime"],
        ),
        (
            "PATCH",
            "/redfish/v1/Systems/1?$select=Id",
            r#"{"AssetTag": "x"}"#,
            400,
            &["QueryNotSupportedOnOperation"],
        ),
        (
            "GET",
            "/redfish/v1/Systems/1?$top=1",
            "",
            400,
            &["QueryNotSupportedOnResource"],
        ),
        (
            "GET",
            "/redfish/v1/odata?$select=value",
            "",
            400,
            &["QueryNotSupportedOnResource"],
        ),
        (
            "GET",
            "/redfish/v1/?$filter=x",
            "",
            501,
            &["QueryParameterUnsupported $filter"],
        ),
    ];
    let mut fixture = fixture("small-vm");
    for (method, path, body, status, messages) in rows {
        let answer = fixture.admin(method, path, body);
        assert_eq!(
            answer.status.as_u16(),
            *status,
            "{method} {path} {body}: {}",
            answer.text
        );
        assert_eq!(answer.messages(), *messages, "{method} {path} {body}");
        assert_eq!(answer.header("content-type"), "application/json");
        assert_eq!(
            answer.header("allow").is_empty(),
            *status != 405,
            "{method} {path}"
        );
    }
    let system = fixture.get(SYSTEM).body;
    assert_eq!(
        system["Boot"]["BootSourceOverrideEnabled"], "Disabled",
        "nothing of all that was applied"
    );
}

#[test]
fn a_patch_is_all_or_nothing() {
    let mut fixture = fixture("small-vm");
    let answer = fixture.admin("PATCH", SYSTEM, r#"{"AssetTag": "mine", "Bogus": 1}"#);
    assert_eq!(answer.status, 400);
    assert_eq!(fixture.get(SYSTEM).body["AssetTag"], json!(null));
    let answer = fixture.admin("PATCH", SYSTEM, r#"{"AssetTag": "mine", "@odata.type": "x"}"#);
    assert_eq!(answer.status, 200);
    assert_eq!(answer.body["AssetTag"], "mine");
    assert_eq!(
        fixture.admin("PATCH", SYSTEM, r#"{"AssetTag": null}"#).body["AssetTag"],
        json!(null)
    );
}

#[test]
fn request_headers() {
    let rows: &[(&str, &str, &str, u16)] = &[
        ("GET", "odata-version", "4.0", 200),
        ("GET", "odata-version", "4.1", 412),
        ("GET", "accept", "application/json;charset=utf-8", 200),
        ("GET", "accept", "text/html, application/*;q=0.5", 200),
        ("GET", "accept", "*/*", 200),
        ("GET", "accept", "text/html", 406),
        ("PATCH", "content-type", "application/json; charset=utf-8", 200),
        ("PATCH", "content-type", "text/plain", 415),
    ];
    let mut fixture = fixture("small-vm");
    for (method, name, value, status) in rows {
        let authorization = super::basic("admin", "secret");
        let headers = [("authorization", authorization.as_str()), (name, value)];
        let answer = fixture.send(method, SYSTEM, &headers, r#"{"AssetTag": "x"}"#);
        assert_eq!(answer.status.as_u16(), *status, "{method} {name}: {value}");
    }
    let xml = fixture.admin_with(
        "GET",
        "/redfish/v1/$metadata",
        &[("accept", "application/xml")],
        "",
    );
    assert_eq!(
        (xml.status.as_u16(), xml.header("content-type")),
        (200, "application/xml")
    );
}

#[test]
fn response_headers() {
    let mut fixture = fixture("small-vm");
    let get = fixture.get(SYSTEM);
    assert_eq!(get.header("allow"), "GET, HEAD, PATCH");
    assert_eq!(get.header("cache-control"), "no-cache");
    assert_eq!(
        get.header("link"),
        "<https://redfish.dmtf.org/schemas/v1/ComputerSystem.v1_22_4.json>; rel=describedby"
    );
    let head = fixture.admin("HEAD", SYSTEM, "");
    assert_eq!(head.status, 200);
    assert_eq!(head.text, "");
    assert_eq!(head.header("etag"), get.header("etag"));
}

#[test]
fn etags_guard_writes() {
    let mut fixture = fixture("small-vm");
    let etag = fixture.get(SYSTEM).header("etag").to_owned();
    let body = r#"{"AssetTag": "x"}"#;
    let weak = format!("W/{etag}");
    for (tag, status) in [
        ("\"never-issued\"", 412),
        ("garbage", 412),
        (&*format!("{etag}foobar"), 412),
        ("*", 200),
    ] {
        let answer = fixture.admin_with("PATCH", SYSTEM, &[("if-match", tag)], body);
        assert_eq!(answer.status.as_u16(), status, "{tag}");
    }
    assert_eq!(
        fixture
            .admin_with("PATCH", SYSTEM, &[("if-match", &weak)], body)
            .status,
        412,
        "lost update"
    );
    let etag = fixture.get(SYSTEM).header("etag").to_owned();
    let listed = format!("\"other\", W/{etag}");
    let first = fixture.admin_with("PATCH", SYSTEM, &[("if-match", &listed)], body);
    assert_eq!(first.status, 200);
    assert_ne!(
        first.header("etag"),
        etag,
        "the same value written again makes a new tag"
    );
    assert_eq!(
        fixture
            .admin_with("PATCH", SYSTEM, &[("if-match", &etag)], body)
            .status,
        412
    );
    let answer = fixture.admin_with("PATCH", SYSTEM, &[("if-match", "\"x\"")], "{");
    assert_eq!(
        answer.messages(),
        ["PreconditionFailed"],
        "before the body is looked at"
    );
}

#[test]
fn etags_save_reads() {
    let mut fixture = fixture("small-vm");
    let etag = fixture.get(SYSTEM).header("etag").to_owned();
    let answer = fixture.admin_with("GET", SYSTEM, &[("if-none-match", &etag)], "");
    assert_eq!((answer.status.as_u16(), answer.text.as_str()), (304, ""));
    assert_eq!(answer.header("etag"), etag);
    assert_eq!(
        fixture
            .send("GET", SYSTEM, &[("if-none-match", &etag)], "")
            .status,
        401,
        "login first"
    );
    fixture.bmc.machine(MachineState::ON, fixture.now);
    let answer = fixture.admin_with("GET", SYSTEM, &[("if-none-match", &etag)], "");
    assert_eq!(answer.status, 200, "power has changed");
    let clock = fixture.get("/redfish/v1/Managers/1");
    fixture.pass(5000);
    let later = fixture.get("/redfish/v1/Managers/1");
    assert_ne!(clock.body["DateTime"], later.body["DateTime"]);
    assert_eq!(
        clock.header("etag"),
        later.header("etag"),
        "a clock does not enter the tag"
    );
}

#[test]
fn a_quirk_demands_if_match() {
    let mut personality = Personality::named("small-vm").unwrap();
    personality.quirks.require_if_match = true;
    let mut fixture = fixture_of(personality, MachineState::OFF);
    let answer = fixture.admin("PATCH", SYSTEM, r#"{"AssetTag": "x"}"#);
    assert_eq!(
        (answer.status.as_u16(), answer.messages()),
        (428, vec!["PreconditionRequired".to_owned()])
    );
    assert_eq!(
        fixture
            .admin_with("PATCH", SYSTEM, &[("if-match", "*")], r#"{"AssetTag": "x"}"#)
            .status,
        200
    );
}

#[test]
fn queries() {
    let mut fixture = fixture("dgx-h100");
    let processors = "/redfish/v1/Systems/1/Processors";
    let only = fixture.get("/redfish/v1/Systems?only");
    assert_eq!(only.body["@odata.id"], SYSTEM);
    assert_eq!(
        fixture.get(&format!("{processors}?only")).body["Members@odata.count"],
        10,
        "more than one"
    );

    let page = fixture.get(&format!("{processors}?$skip=8&$top=1")).body;
    assert_eq!(
        page["Members"],
        json!([{"@odata.id": format!("{processors}/GPU_SXM_7")}])
    );
    assert_eq!(page["Members@odata.count"], 10, "the count stays the total");
    assert_eq!(
        fixture.get(&format!("{processors}?$skip=99")).body["Members"],
        json!([])
    );

    let picked = fixture
        .get(&format!(
            "{processors}?$expand=.&$select=ProcessorType&$skip=1&$top=2"
        ))
        .body;
    let kinds: Vec<_> = picked["Members"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| m["ProcessorType"].clone())
        .collect();
    assert_eq!(kinds, ["CPU", "GPU"]);
    assert!(picked["Members"][0].get("Model").is_none());

    let one = fixture.get(&format!("{SYSTEM}?$expand=.")).body;
    assert_eq!(one["Processors"]["Members@odata.count"], 10);
    assert_eq!(
        one["Processors"]["Members"][0].as_object().unwrap().len(),
        1,
        "one level"
    );
    assert_eq!(
        one["Links"]["Chassis"][0].as_object().unwrap().len(),
        1,
        "not under Links"
    );
    let two = fixture
        .get(&format!("{SYSTEM}?%24expand=%2A%28%24levels%3D2%29"))
        .body;
    assert_eq!(two["Processors"]["Members"][0]["ProcessorType"], "CPU");
    assert_eq!(two["Links"]["Chassis"][0]["ChassisType"], "RackMount");
    let links = fixture.get(&format!("{SYSTEM}?$expand=~")).body;
    assert_eq!(links["Links"]["Chassis"][0]["ChassisType"], "RackMount");
    assert!(links["Processors"].get("Members").is_none());

    let root = fixture.get("/redfish/v1/?$expand=.").body;
    assert_eq!(root["Systems"]["Members@odata.count"], 1);
    let anonymous = fixture.send("GET", "/redfish/v1/?$expand=.", &[], "");
    assert_eq!(
        anonymous.body["Systems"],
        json!({"@odata.id": "/redfish/v1/Systems"}),
        "a login is needed for that"
    );

    let plain = fixture.get(SYSTEM);
    let selected = fixture.get(&format!("{SYSTEM}?$select=PowerState,Boot/BootOrder"));
    assert_eq!(selected.header("etag"), plain.header("etag"));
    assert_eq!(selected.body["Boot"].as_object().unwrap().len(), 1);
    assert_eq!(selected.body["PowerState"], "Off");
    assert!(selected.body.get("Status").is_none());
}

#[test]
fn expanding_everything_ends() {
    let answer = fixture("dgx-h100").get("/redfish/v1/?$expand=*($levels=3)");
    assert_eq!(answer.status, 200);
    assert!(answer.text.len() < 4 << 20, "{} bytes", answer.text.len());
}

#[test]
fn expansion_shows_only_what_may_be_read() {
    let mut fixture = fixture("small-vm");
    let body = r#"{"UserName": "guest", "Password": "password1", "RoleId": "ReadOnly"}"#;
    assert_eq!(fixture.admin("POST", ACCOUNTS, body).status, 201);
    let guest = super::basic("guest", "password1");
    let answer = fixture.send(
        "GET",
        &format!("{ACCOUNTS}?$expand=."),
        &[("authorization", &guest)],
        "",
    );
    assert_eq!(
        answer.body["Members"][0],
        json!({"@odata.id": format!("{ACCOUNTS}/1")}),
        "not his"
    );
    assert_eq!(answer.body["Members"][1]["UserName"], "guest");
}

#[test]
fn arrays_are_patched_by_position() {
    let mut fixture = fixture("small-vm");
    let uri = "/redfish/v1/Managers/1/NetworkProtocol";
    for (wanted, expected) in [
        (r#"["a", "b"]"#, json!(["a", "b"])),
        (r#"[{}, "c"]"#, json!(["a", "c"])),
        (r#"[null, {}]"#, json!(["c"])),
        ("[]", json!([])),
    ] {
        let answer = fixture.admin("PATCH", uri, &format!(r#"{{"NTP": {{"NTPServers": {wanted}}}}}"#));
        assert_eq!(answer.body["NTP"]["NTPServers"], expected, "{wanted}");
    }
}

#[test]
fn what_needs_no_login() {
    let mut fixture = fixture("small-vm");
    for path in [
        "/redfish",
        "/redfish/",
        "/redfish/v1",
        ROOT,
        "/redfish/v1/odata",
        "/redfish/v1/$metadata",
    ] {
        assert_eq!(fixture.send("GET", path, &[], "").status, 200, "{path}");
    }
    assert_eq!(
        fixture.send("GET", "/redfish", &[], "").text,
        r#"{"v1":"/redfish/v1/"}"#
    );
    for path in [SYSTEM, SESSIONS, "/redfish/v1/Registries", "/redfish/v1/Nonsense"] {
        let answer = fixture.send("GET", path, &[], "");
        assert_eq!(answer.status, 401, "{path}");
        assert_eq!(answer.header("www-authenticate"), "Basic realm=\"Redfish\"");
    }
    let token = fixture.send("GET", SYSTEM, &[("x-auth-token", "0123abcd")], "");
    assert_eq!(token.status, 401);
    assert!(!token.text.contains("0123abcd"));
}
