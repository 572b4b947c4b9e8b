//! The command API, error by error.

use serde_json::{Value, json};
use steelyard_agent::{Action, Event, HttpEvent};

use crate::bench::{Bench, TOKEN};
use crate::machine::{Lie, Machine, SATA};

fn machine() -> Machine {
    Machine::new().with_drive("/dev/sda", 8 << 30, SATA, Lie::EraseTakesTime)
}

#[test]
fn errors_table() {
    let good = format!("agent_token={TOKEN}");
    let post = |query: &str| format!("/v1/commands/?{query}");
    for (method, path, body, status, part) in [
        ("GET", "/nothing".to_owned(), "", 404, "was not found"),
        (
            "GET",
            "/v1/commands/".to_owned(),
            "",
            401,
            "401 Unauthorized: Token invalid.",
        ),
        ("GET", post("agent_token=wrong"), "", 401, "Token invalid"),
        (
            "GET",
            "/v1/commands/x?agent_token=".to_owned(),
            "",
            401,
            "Token invalid",
        ),
        (
            "POST",
            post("wait=true"),
            r#"{"name":"poll.get_hardware_info","params":{}}"#,
            401,
            "Token invalid",
        ),
        (
            "GET",
            format!("/v1/commands/unknown?{good}"),
            "",
            404,
            "Command with id unknown",
        ),
        ("DELETE", post(&good), "", 405, "DELETE is not allowed"),
        ("POST", post(&good), "no json", 400, "name"),
        ("POST", post(&good), "[]", 400, "name"),
        ("POST", post(&good), r#"{"params":{}}"#, 400, "name"),
        (
            "POST",
            post(&good),
            r#"{"name":"standby.sync","params":[]}"#,
            400,
            "params",
        ),
        (
            "POST",
            post(&good),
            r#"{"name":"sync","params":{}}"#,
            400,
            "<extension>.<name>",
        ),
        (
            "POST",
            post(&good),
            r#"{"name":"warp.drive","params":{}}"#,
            404,
            "Extension with id warp",
        ),
        (
            "POST",
            post(&good),
            r#"{"name":"clean.polish","params":{}}"#,
            400,
            "Unknown command: polish",
        ),
        (
            "POST",
            post(&good),
            r#"{"name":"standby.prepare_image","params":{"image_info":{"id":"i"}}}"#,
            400,
            "image_info is missing urls",
        ),
        (
            "POST",
            post(&good),
            r#"{"name":"standby.prepare_image","params":{"image_info":{"id":"i","urls":["u"]}}}"#,
            400,
            "missing checksum",
        ),
        (
            "POST",
            post(&good),
            r#"{"name":"standby.prepare_image","params":{"image_info":7}}"#,
            400,
            "image_info can't be used",
        ),
    ] {
        let mut bench = Bench::serving(machine());
        let (got, answer) = bench.call(method, &path, body);
        assert_eq!(got, status, "{method} {path} {body}: {answer}");
        let code = if status >= 500 { "Server" } else { "Client" };
        assert_eq!(answer["faultcode"], code, "{answer}");
        assert!(answer["faultstring"].as_str().unwrap().contains(part), "{answer}");
        let (_, list) = bench.call("GET", &post(&good), "");
        assert_eq!(
            list,
            json!({"commands": []}),
            "a refused command leaves no record"
        );
    }
}

#[test]
fn documents_that_need_no_token() {
    let mut bench = Bench::serving(machine());
    let (status, root) = bench.call("GET", "/", "");
    assert_eq!((status, &root["default_version"]["id"]), (200, &json!("v1")));
    let (_, status) = bench.call("GET", "/v1/status", "");
    assert_eq!(
        status,
        json!({"started_at": 1.5, "version": steelyard_agent::VERSION})
    );
    assert_eq!(bench.call("GET", "/v1/", "").1["id"], "v1");
    let id = bench.request("GET", "/v1/commands", "");
    let reply = bench.reply(id).unwrap();
    assert_eq!(
        (reply.status, reply.location.as_deref()),
        (308, Some("/v1/commands/"))
    );
}

#[test]
fn sync_commands_have_ended_when_they_are_answered() {
    let mut bench = Bench::serving(machine());
    for (name, params, check) in [
        ("standby.sync", json!({}), None),
        (
            "poll.get_hardware_info",
            json!({}),
            Some("/interfaces/0/mac_address"),
        ),
        ("log.collect_system_logs", json!({}), Some("/system_logs")),
        (
            "deploy.get_deploy_steps",
            json!({"node": {"uuid": "u"}, "ports": []}),
            Some("/deploy_steps/SteelyardHardwareManager/1/argsinfo/image_info"),
        ),
        (
            "clean.get_clean_steps",
            json!({"node": {"uuid": "u"}, "ports": []}),
            Some("/clean_steps/SteelyardHardwareManager/0/step"),
        ),
    ] {
        let (status, record) = bench.command(name, params);
        assert_eq!(
            (status, &record["command_status"]),
            (200, &json!("SUCCEEDED")),
            "{record}"
        );
        assert_eq!(record["command_name"], name.split_once('.').unwrap().1);
        match check {
            Some(pointer) => assert!(record["command_result"].pointer(pointer).is_some(), "{record}"),
            None => assert_eq!(record["command_result"], Value::Null),
        }
    }
    bench
        .machine
        .change("/dev/sda", |drive| assert_eq!(drive.flushes, 1));
    let (_, list) = bench.call("GET", &format!("/v1/commands/?agent_token={TOKEN}"), "");
    let names: Vec<&str> = list["commands"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["command_name"].as_str().unwrap())
        .collect();
    assert_eq!(names[..2], ["sync", "get_hardware_info"], "in order of execution");
}

#[test]
fn unexpected_and_missing_arguments_are_python_type_errors() {
    let mut bench = Bench::serving(machine());
    for (name, params, part) in [
        (
            "standby.sync",
            json!({"force": 1}),
            "unexpected keyword argument 'force'",
        ),
        (
            "clean.get_clean_steps",
            json!({"node": {"uuid": "u"}}),
            "missing 1 required argument: 'ports'",
        ),
    ] {
        let (status, record) = bench.command(name, params);
        assert_eq!(
            (status, &record["command_status"]),
            (200, &json!("FAILED")),
            "{record}"
        );
        assert_eq!(record["command_error"]["type"], "TypeError");
        assert!(
            record["command_error"]["message"]
                .as_str()
                .unwrap()
                .contains(part),
            "{record}"
        );
    }
}

#[test]
fn one_command_at_a_time_and_waiting_for_it() {
    let mut bench = Bench::serving(machine());
    let id = bench.step("clean", "erase_devices", json!({}), json!({"uuid": "u"}));
    bench.run();
    // The disk works: the agent asks it again in a second.
    let (status, busy) = bench.command("standby.sync", json!({}));
    assert_eq!(status, 409);
    assert_eq!(
        busy["faultstring"],
        "Agent is busy: agent is executing command execute_clean_step"
    );
    let waiting = bench.request(
        "GET",
        &format!("/v1/commands/{id}?wait=true&agent_token={TOKEN}"),
        "",
    );
    assert!(bench.reply(waiting).is_none());
    let (_, record) = bench.call("GET", &format!("/v1/commands/{id}?agent_token={TOKEN}"), "");
    assert_eq!(record["command_status"], "RUNNING");

    bench.wait();
    bench.run();
    let reply = bench
        .reply(waiting)
        .expect("the one who waited is answered at the end");
    let record: Value = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!(record["command_status"], "SUCCEEDED", "{record}");
    assert_eq!(
        record["command_result"]["clean_step"]["extra"], "kept",
        "the step is echoed as it came"
    );
    // And the service hears of it: a forced heartbeat, 5 s after the last one.
    let pause = bench.wait();
    assert!(pause.as_secs() <= 5, "{pause:?}");
    assert!(bench.http().url.contains("/heartbeat/"));
    assert_eq!(bench.command("standby.sync", json!({})).0, 200);
}

#[test]
fn another_version_of_the_steps_is_a_mismatch() {
    let mut bench = Bench::serving(machine());
    let (_, list) = bench.command(
        "clean.get_clean_steps",
        json!({"node": {"uuid": "u"}, "ports": []}),
    );
    let version = list["command_result"]["hardware_manager_version"].clone();
    let params = |version: Value| json!({"step": {"step": "erase_devices", "interface": "deploy"}, "node": {"uuid": "u"}, "ports": [], "clean_version": version});
    let (status, record) = bench.command(
        "clean.execute_clean_step",
        params(json!({"GenericHardwareManager": "1.2"})),
    );
    assert_eq!(
        (status, &record["command_status"]),
        (200, &json!("CLEAN_VERSION_MISMATCH"))
    );
    assert_eq!(record["command_error"]["code"], 409);
    let (_, record) = bench.command("clean.execute_clean_step", params(version));
    assert_eq!(record["command_status"], "RUNNING");
}

#[test]
fn unknown_steps_fail() {
    let mut bench = Bench::serving(machine());
    let id = bench.step("clean", "defragment", json!({}), json!({"uuid": "u"}));
    bench.run();
    let error = bench.ended(&id).command_error.unwrap();
    assert!(error.message.contains("deploy.defragment"), "{error:?}");
}

#[test]
fn power_off_is_answered_first_and_ends_the_agent() {
    for (command, wait) in [
        ("standby.power_off", false),
        ("standby.power_off", true),
        ("standby.run_image", false),
    ] {
        let mut bench = Bench::serving(machine());
        let body = json!({"name": command, "params": {}}).to_string();
        let id = bench.request(
            "POST",
            &format!("/v1/commands/?wait={wait}&agent_token={TOKEN}"),
            &body,
        );
        assert_eq!(bench.reply(id).is_some(), !wait);
        bench.run();
        let last = bench.out.pop_back();
        match command {
            "standby.run_image" => assert!(matches!(last, Some(Action::Reboot)), "{last:?}"),
            _ => assert!(matches!(last, Some(Action::PowerOff)), "{last:?}"),
        }
        assert_eq!(
            bench.reply(id).is_some(),
            wait,
            "the reply comes before the power goes"
        );
        bench.machine.change("/dev/sda", |drive| {
            assert_eq!(drive.flushes, 1, "caches are flushed")
        });
        assert!(bench.agent.poll_at().is_none());
        bench.event(Event::Tick);
        assert!(bench.out.is_empty());
    }
}

#[test]
fn lockdown_on_request() {
    let mut bench = Bench::serving(machine());
    let (_, record) = bench.command("system.lockdown", json!({}));
    assert_eq!(record["command_status"], "SUCCEEDED");
    assert!(matches!(bench.out.pop_front(), Some(Action::Lockdown(_))));
}

#[test]
fn events_of_strangers_are_ignored() {
    let mut bench = Bench::serving(machine());
    bench.wait();
    let beat = bench.http();
    bench.answer(beat.id, 202, json!({}));
    // The same answer again, and pieces of a transfer that nobody started.
    bench.answer(beat.id, 500, json!({}));
    bench.event(Event::Http(beat.id, HttpEvent::End));
    bench.event(Event::ListenFailed("late".to_owned()));
    bench.listening();
    assert!(bench.out.is_empty());
}
