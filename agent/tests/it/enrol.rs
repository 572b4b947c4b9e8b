//! From boot to the first heartbeat, in the order and with the pauses of IPA.

use std::time::Duration;

use serde_json::{Value, json};
use steelyard_agent::{Action, Event, HttpEvent, HttpFailure};

use crate::bench::{API, Bench, TOKEN, lookup_answer};
use crate::machine::{Lie, Machine, SATA};

fn header<'a>(request: &'a steelyard_agent::HttpRequest, name: &str) -> Option<&'a str> {
    request
        .headers
        .iter()
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value.as_str())
}

fn refuse(bench: &mut Bench, id: steelyard_agent::HttpId) {
    let event = HttpEvent::Failed {
        kind: HttpFailure::Connect,
        why: "refused".to_owned(),
    };
    bench.event(Event::Http(id, event));
}

#[test]
fn the_whole_way() {
    let cmdline = format!(
        "{API} ipa-inspection-callback-url=http://svc:8080/v1/continue_inspection BOOTIF=01-52-54-00-00-00-01"
    );
    let machine = Machine::new().with_drive("/dev/sda", 20 << 30, SATA, Lie::None);
    machine.change("/dev/sda", |drive| {
        drive.device.facts.model = Some("M".to_owned())
    });
    let mut bench = Bench::boot(&cmdline, machine);

    let inspection = bench.http();
    assert_eq!(
        (inspection.method, inspection.url.as_str()),
        ("POST", "http://svc:8080/v1/continue_inspection")
    );
    let payload: Value = serde_json::from_slice(&inspection.body).unwrap();
    assert_eq!(payload["boot_interface"], "52:54:00:00:00:01");
    assert_eq!(
        payload["inventory"]["interfaces"][1]["mac_address"],
        "52:54:00:00:00:02"
    );
    assert_eq!(payload["root_disk"]["name"], "/dev/sda");
    assert_eq!(payload["pci_devices"][0]["class"], "030200");
    assert!(payload["logs"].as_str().is_some_and(|logs| !logs.is_empty()));
    bench.answer(inspection.id, 202, json!({"uuid": "node-1"}));

    let version = bench.http();
    assert_eq!(
        (version.method, version.url.as_str()),
        ("GET", "http://svc:8080/")
    );
    bench.answer(version.id, 200, json!({"default_version": {"version": "1.109"}}));

    let lookup = bench.http();
    assert_eq!(
        lookup.url,
        "http://svc:8080/v1/lookup?addresses=52:54:00:00:00:01,52:54:00:00:00:02&node_uuid=node-1"
    );
    assert_eq!(header(&lookup, "X-OpenStack-Ironic-API-Version"), Some("1.62"));
    bench.answer(lookup.id, 200, lookup_answer(json!(TOKEN), json!({}), json!({})));

    match bench.out.pop_front() {
        Some(Action::Listen { service, port: 9999 }) => assert_eq!(service, "http://svc:8080"),
        other => panic!("{other:?}"),
    }
    assert!(bench.agent.poll_at().is_none(), "it waits for the shell");
    bench.listening();
    let beat = bench.http();
    assert_eq!(
        (beat.method, beat.url.as_str()),
        ("POST", "http://svc:8080/v1/heartbeat/node-1")
    );
    assert_eq!(header(&beat, "X-OpenStack-Ironic-API-Version"), Some("1.68"));
    let body: Value = serde_json::from_slice(&beat.body).unwrap();
    assert_eq!(
        body,
        json!({"callback_url": "https://192.168.100.10:9999", "agent_token": TOKEN,
               "agent_version": steelyard_agent::VERSION, "agent_verify_ca": "PEM"})
    );
    bench.answer(beat.id, 202, json!({}));
    let pause = bench.wait().as_secs_f64();
    assert!((90.0..=180.0).contains(&pause), "{pause}");
    assert!(bench.http().url.contains("/heartbeat/"));
}

#[test]
fn another_url_is_tried_at_once_and_a_working_one_stays() {
    let mut bench = Bench::boot("ipa-api-url=http://a,http://b", Machine::new());
    let first = bench.http();
    assert_eq!(first.url, "http://a/");
    refuse(&mut bench, first.id);
    let second = bench.http();
    assert_eq!(second.url, "http://b/");
    bench.answer(second.id, 200, json!({"default_version": {"version": "1.109"}}));
    assert!(bench.http().url.starts_with("http://b/v1/lookup"));
}

#[test]
fn lookup_is_repeated_with_growing_pauses_until_the_timeout() {
    let mut bench = Bench::boot(API, Machine::new());
    let version = bench.http();
    bench.answer(version.id, 200, json!({"default_version": {"version": "1.109"}}));
    let mut pauses = Vec::new();
    loop {
        let lookup = bench.http();
        bench.answer(lookup.id, 404, json!({}));
        if let Some(Action::Exit(why)) = bench.out.front() {
            assert!(why.contains("lookup without success"), "{why}");
            break;
        }
        pauses.push(bench.wait());
    }
    let total = bench.now - bench.start;
    assert!(
        total <= Duration::from_secs(600) && total > Duration::from_secs(500),
        "{total:?}"
    );
    assert!(
        pauses
            .iter()
            .all(|pause| (1.0..=60.0).contains(&pause.as_secs_f64())),
        "{pauses:?}"
    );
    assert!(bench.agent.poll_at().is_none(), "an ended agent wants nothing");
}

#[test]
fn a_locked_node_is_asked_again_after_5_10_30_s() {
    let mut bench = Bench::boot(API, Machine::new());
    let version = bench.http();
    bench.answer(version.id, 200, json!({"default_version": {"version": "1.109"}}));
    for pause in [5, 10, 30, 30] {
        let lookup = bench.http();
        bench.answer(lookup.id, 409, json!({}));
        assert_eq!(bench.wait(), Duration::from_secs(pause));
    }
}

#[test]
fn token_rules() {
    // (own token on the command line, answer, expected end)
    for (own, answer, expected) in [
        (None, json!(TOKEN), "listen"),
        (None, json!("******"), "lockdown"),
        (Some(TOKEN), json!("******"), "listen"),
        (Some("short"), json!("******"), "lockdown"),
        (None, json!("only31characters..............."), "again"),
        (None, Value::Null, "again"),
    ] {
        let cmdline = own.map_or(API.to_owned(), |token| format!("{API} ipa-agent-token={token}"));
        let mut bench = Bench::boot(&cmdline, Machine::new());
        let version = bench.http();
        bench.answer(version.id, 200, json!({"default_version": {"version": "1.109"}}));
        let lookup = bench.http();
        bench.answer(
            lookup.id,
            200,
            lookup_answer(answer.clone(), json!({}), json!({})),
        );
        let end = match bench.out.pop_front() {
            Some(Action::Listen { .. }) => "listen",
            Some(Action::Lockdown(_)) => "lockdown",
            None if bench.agent.poll_at().is_some() => "again",
            other => panic!("{other:?}"),
        };
        assert_eq!(end, expected, "{own:?} {answer}");
    }
}

#[test]
fn services_that_are_too_old_or_unreadable() {
    let mut bench = Bench::boot(API, Machine::new());
    let version = bench.http();
    bench.answer(version.id, 503, json!({}));
    assert!(bench.out.is_empty(), "a service that isn't up yet is asked again");
    bench.wait();
    let version = bench.http();
    bench.answer(version.id, 200, json!("what"));
    let lookup = bench.http();
    assert_eq!(header(&lookup, "X-OpenStack-Ironic-API-Version"), Some("1.31"));
    bench.answer(lookup.id, 200, lookup_answer(json!(TOKEN), json!({}), json!({})));
    match bench.out.pop_front() {
        Some(Action::Exit(why)) => assert!(why.contains("1.31") && why.contains("1.68"), "{why}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn inspection_is_retried_five_times_and_never_fatal() {
    let cmdline = format!("{API} ipa-inspection-callback-url=http://svc:8080/v1/continue_inspection");
    for (statuses, requests) in [
        (vec![503, 409, 503, 500, 503], 5),
        (vec![404], 1),
        (vec![503, 202], 2),
    ] {
        let mut bench = Bench::boot(&cmdline, Machine::new());
        let count = statuses.len();
        for (index, status) in statuses.into_iter().enumerate() {
            let request = bench.http();
            assert!(request.url.ends_with("continue_inspection"), "{}", request.url);
            bench.answer(request.id, status, json!({}));
            if index + 1 < count {
                let pause = bench.wait().as_secs();
                assert!((5..=30).contains(&pause), "{pause}");
            }
        }
        assert_eq!(requests, count);
        assert_eq!(bench.http().url, "http://svc:8080/");
    }
}

#[test]
fn an_address_that_is_not_there_yet_is_waited_for() {
    let mut bench = Bench::boot(API, Machine::new());
    let version = bench.http();
    bench.answer(version.id, 200, json!({"default_version": {"version": "1.109"}}));
    let lookup = bench.http();
    bench.answer(lookup.id, 200, lookup_answer(json!(TOKEN), json!({}), json!({})));
    for attempt in 1..=6 {
        assert!(
            matches!(bench.out.pop_front(), Some(Action::Listen { .. })),
            "attempt {attempt}"
        );
        bench.event(Event::ListenFailed("no route".to_owned()));
        if attempt < 6 {
            assert_eq!(bench.wait(), Duration::from_secs(10));
        }
    }
    assert!(matches!(bench.out.pop_front(), Some(Action::Exit(why)) if why.contains("no route")));
}

#[test]
fn heartbeats_go_on_after_errors_and_while_nothing_listens() {
    let mut bench = Bench::serving(Machine::new());
    bench.wait();
    let beat = bench.http();
    bench.answer(beat.id, 409, json!({}));
    let pause = bench.wait().as_secs_f64();
    assert!((5.0..=10.0).contains(&pause), "{pause}");
    let beat = bench.http();
    refuse(&mut bench, beat.id);
    let pause = bench.wait().as_secs_f64();
    assert!((5.0..=10.0).contains(&pause), "{pause}");
    assert!(bench.http().url.contains("/heartbeat/"));
}

#[test]
fn a_machine_without_nics_is_waited_for() {
    let mut machine = Machine::new();
    machine.macs.clear();
    let mut bench = Bench::boot(API, machine);
    let mut waited = Duration::ZERO;
    while bench.out.is_empty() {
        waited += bench.wait();
    }
    assert_eq!(waited, Duration::from_secs(60));
}
