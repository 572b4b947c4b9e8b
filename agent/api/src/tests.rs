//! Golden messages: the JSON that crosses the wire, and what must be tolerated when it comes from another release.

use insta::assert_json_snapshot;
use serde_json::{Map, Value, json};

use super::*;

fn token() -> AgentToken {
    AgentToken::new("0123456789abcdefghijklmnopqrstuvwxyzABCDEFG")
}

#[test]
fn heartbeat_golden() {
    let beat = Heartbeat {
        callback_url: "https://192.168.100.10:9999".to_owned(),
        agent_token: Some(AgentToken::new("t".repeat(43))),
        agent_version: Some("0.1.0".to_owned()),
        agent_verify_ca: Some("-----BEGIN CERTIFICATE-----\n".to_owned()),
        agent_status: None,
        agent_status_message: None,
    };
    assert_json_snapshot!(beat);
}

#[test]
fn lookup_answer_golden_and_back() {
    let mut node = Node {
        uuid: "u-1".to_owned(),
        ..Node::default()
    };
    node.properties
        .insert("root_device".to_owned(), json!({"serial": "S1"}));
    let answer = LookupAnswer {
        node,
        config: LookupConfig::new(10, AgentToken::masked()),
    };
    assert_json_snapshot!(answer);
    let body = serde_json::to_vec(&answer).unwrap();
    assert_eq!(LookupAnswer::parse(&body).unwrap(), answer);
}

#[test]
fn a_stock_ironic_answer_is_read() {
    // Fields as of openstack/ironic ramdisk.py; unknown ones stay.
    let body = json!({
        "node": {"uuid": "u", "properties": null, "instance_info": {"root_device": {"name": "/dev/sdb"}}, "links": []},
        "config": {"heartbeat_timeout": 300, "agent_token": "******", "agent_containers": {"runner": "podman"},
                   "metrics": {"backend": "noop"}, "tls_min_version": "1.3"}
    });
    let answer = LookupAnswer::parse(body.to_string().as_bytes()).unwrap();
    assert_eq!(answer.node.root_device_hints().unwrap()["name"], "/dev/sdb");
    assert!(answer.config.agent_token.unwrap().is_masked());
    assert_eq!(answer.config.rest["metrics"]["backend"], "noop");
    assert!(answer.node.rest.contains_key("links"));
}

#[test]
fn unusable_answers_say_why() {
    for (body, why) in [
        (
            json!({"node": {"uuid": ""}, "config": {"heartbeat_timeout": 1}}),
            "node.uuid is empty",
        ),
        (
            json!({"node": {"uuid": "u"}, "config": {"heartbeat_timeout": 0}}),
            "heartbeat_timeout is 0",
        ),
        (json!({"node": {"uuid": "u"}}), "config"),
        (json!([]), "invalid"),
    ] {
        let error = LookupAnswer::parse(body.to_string().as_bytes())
            .unwrap_err()
            .to_string();
        assert!(error.contains(why), "{error} should say {why}");
    }
}

#[test]
fn tokens_are_never_shown() {
    let shown = format!("{:?}", LookupConfig::new(10, token()));
    assert!(!shown.contains(token().expose()), "{shown}");
    let mut image = ImageInfo {
        id: "i".to_owned(),
        ..ImageInfo::default()
    };
    image.image_server_password = Some("hunter2".to_owned());
    image.configdrive = Some("join-token".to_owned());
    let shown = format!("{image:?}");
    assert!(
        !shown.contains("hunter2") && !shown.contains("join-token"),
        "{shown}"
    );
}

#[test]
fn token_rules() {
    assert!(token().is_usable() && !token().is_masked());
    assert!(AgentToken::masked().is_masked() && !AgentToken::masked().is_usable());
    assert!(!AgentToken::new("x".repeat(31)).is_usable());
    assert!(token().matches(token().expose()));
    assert!(
        !token().matches(&token().expose()[..42])
            && !token().matches("")
            && !token().matches(&"x".repeat(43))
    );
}

#[test]
fn versions_are_numbers() {
    let parse = |text: &str| text.parse::<ApiVersion>();
    assert!(parse("1.9").unwrap() < parse("1.31").unwrap());
    assert_eq!(parse("1.109").unwrap().min(LOOKUP_MAX).to_string(), "1.62");
    for bad in ["", "1", "1.", "a.b", "1.2.3", "v1.2"] {
        assert!(parse(bad).is_err(), "{bad}");
    }
    assert_json_snapshot!(Root::new("Steelyard", "deploy service", HEARTBEAT_MAX));
}

#[test]
fn command_messages_golden() {
    let params = ExecuteStepParams {
        kind: StepKind::Deploy,
        step: Step::deploy(
            "write_image",
            Map::from_iter([("configdrive".to_owned(), json!("H4sI"))]),
        ),
        node: json!({"uuid": "u"}),
        ports: json!([]),
        version: Some([("M".to_owned(), "1.0".to_owned())].into()),
    }
    .into_params();
    assert_json_snapshot!(CommandRequest::new(commands::EXECUTE_DEPLOY_STEP, params));
    let result = CommandResult {
        id: "c".to_owned(),
        command_name: "execute_clean_step".to_owned(),
        command_status: CommandStatus::Failed,
        command_error: Some(CommandError {
            class: "BlockDeviceEraseError".to_owned(),
            code: 500,
            message: "m".to_owned(),
            details: "d".to_owned(),
        }),
        command_result: None,
    };
    assert_json_snapshot!(CommandList {
        commands: vec![result]
    });
    assert_eq!(
        CommandRequest::path_and_query(&AgentToken::new("a+b"), true),
        "/v1/commands/?wait=true&agent_token=a%2Bb"
    );
    assert_json_snapshot!(Fault::for_status(409, "Agent is busy"));
}

#[test]
fn statuses_of_both_spellings() {
    let read = |text: &str| serde_json::from_value::<CommandStatus>(json!(text)).unwrap();
    assert_eq!(
        read("CLEAN_VERSION_MISMATCH"),
        CommandStatus::CleanVersionMismatch
    );
    assert_eq!(read("VERSION_MISMATCH"), CommandStatus::CleanVersionMismatch);
    assert_eq!(read("RUNNING"), CommandStatus::Running);
}

#[test]
fn a_step_is_echoed_whole() {
    let sent = json!({"step": "erase_devices", "interface": "deploy", "priority": 10, "reboot_requested": false,
                      "abortable": true, "requires_ramdisk": true});
    let step: Step = serde_json::from_value(sent.clone()).unwrap();
    assert_eq!(serde_json::to_value(&step).unwrap(), sent);
    let value = StepResult {
        kind: StepKind::Clean,
        result: Value::Null,
        step: sent.clone(),
    }
    .into_value();
    assert_eq!(
        StepResult::from_value(StepKind::Clean, &value).unwrap().step,
        sent
    );
    assert!(StepResult::from_value(StepKind::Deploy, &value).is_none());
}

#[test]
fn inspection_golden() {
    let payload = Inspection {
        inventory: Inventory {
            interfaces: vec![Interface {
                name: "eth0".to_owned(),
                mac_address: "02:00:00:00:00:01".to_owned(),
                has_carrier: true,
                ..Interface::default()
            }],
            ..Inventory::default()
        },
        boot_interface: Some("02:00:00:00:00:01".to_owned()),
        pci_devices: Some(vec![PciDevice {
            vendor_id: "10de".to_owned(),
            product_id: "2330".to_owned(),
            class: "030200".to_owned(),
            ..PciDevice::default()
        }]),
        ..Inspection::default()
    };
    let value = serde_json::to_value(&payload).unwrap();
    assert_eq!(
        value["inventory"]["interfaces"][0]["mac_address"],
        "02:00:00:00:00:01"
    );
    assert_eq!(serde_json::from_value::<Inspection>(value).unwrap(), payload);
    assert_json_snapshot!(payload.inventory.interfaces[0]);
}
