//! Goldens of a small made-up run, and what no report may show.

use super::*;
use crate::{
    Secrets, Source,
    check::Objection,
    history::{Entry, What},
    limits::Limits,
    target::TapSample,
};
use serde_json::json;

fn fine(_: &History) -> Result<(), Objection> {
    Ok(())
}

const fn check(id: &'static str, since: Option<&'static str>) -> Check {
    Check {
        id,
        title: "Doors are shut & <locked>",
        requirement: "A door MUST be shut.",
        level: Level::Must,
        features: &[],
        needs: &[Capability::Taps],
        sources: &[Source {
            document: "House rules",
            clause: "2.1",
        }],
        since,
        mutant: "open-door",
        judge: fine,
    }
}

const SHUT: Check = check("door.front.is-shut", Some("0.1"));
const LOCKED: Check = check("door.front.is-locked", Some("0.1"));
const OILED: Check = check("door.back.is-oiled", None);

const PASSWORD: &str = "correct-horse-battery";

fn history() -> History {
    let at = |ms, what| Entry {
        at: Duration::from_millis(ms),
        what,
    };
    let host = |state: &str, holder: Option<&str>| {
        Some(json!({
            "spec": {"consumerRef": holder.map(|h| json!({"name": h}))},
            "status": {"provisioning": {"state": state}, "errorMessage": format!("told {PASSWORD}")},
        }))
    };
    let object = |object| What::Object {
        kind: "BareMetalHost",
        key: "rack/<a>".into(),
        object,
    };
    let sample = TapSample {
        powered_on: true,
        networks: vec!["home".into()],
    };
    History {
        entries: vec![
            at(
                0,
                What::Step {
                    step: "registered",
                    about: "<a>".into(),
                },
            ),
            at(20, object(host("registering", None))),
            at(1500, object(host("available", None))),
            at(1600, object(host("available", None))),
            at(2000, object(host("available", Some("claim")))),
            at(
                2500,
                What::Tap {
                    server: "<a>".into(),
                    sample,
                },
            ),
            at(
                3000,
                What::Missed {
                    step: "ready",
                    message: format!("it says {PASSWORD}"),
                },
            ),
            at(4000, object(None)),
        ],
        broke: None,
        secrets: Secrets::of(&[json!({"stringData": {"password": PASSWORD}})]),
    }
}

fn report() -> Report {
    let profile = Profile::named("quick").unwrap();
    let options = RunOptions {
        profile,
        limits: Limits::lab(),
        excluded: BTreeMap::new(),
        seed: Some(7),
        commit: Some("0123abc".into()),
        began: "2026-01-02T03:04:05Z".parse().unwrap(),
    };
    let target = TargetInfo {
        name: "a <house>".into(),
        features: vec![],
        capabilities: vec![Capability::Taps],
    };
    let found = |text: &str| vec![format!("door <a> & \"b\" {text}")];
    let results = vec![
        CheckResult::new(&SHUT, profile.weight(&SHUT), Outcome::Pass, vec![]),
        CheckResult::new(
            &LOCKED,
            profile.weight(&LOCKED),
            Outcome::Fail,
            found(&format!("opens with {PASSWORD}")),
        ),
        CheckResult::new(
            &OILED,
            profile.weight(&OILED),
            Outcome::NotRun,
            vec!["excluded: no oil".into()],
        ),
    ];
    Report::new(target, &options, &history(), results)
}

#[test]
fn json() {
    insta::assert_snapshot!(report().to_json());
}

#[test]
fn junit() {
    let text = report().to_junit();
    assert!(
        text.contains("failures=\"1\"") && text.contains("tests=\"3\""),
        "{text}"
    );
    insta::assert_snapshot!(text);
}

#[test]
fn html() {
    let text = report().to_html();
    insta::with_settings!({filters => vec![("(?s)<style>.*</style>", "<style>..</style>")]}, {
        insta::assert_snapshot!(text);
    });
}

/// One page: nothing is fetched, nothing of the target is taken for markup.
#[test]
fn html_needs_nothing_else_and_escapes() {
    let text = report().to_html();
    for outside in [
        "src=", "href=", "url(", "@import", "<script", "http://", "https://",
    ] {
        assert!(!text.contains(outside), "{outside}");
    }
    assert!(
        !text.contains("<a>") && !text.contains("<house>") && !text.contains("<locked>"),
        "{text}"
    );
}

#[test]
fn no_secret_is_shown() {
    let report = report();
    for text in [
        report.to_json(),
        report.to_junit(),
        report.to_html(),
        format!("{:?}", history().secrets),
    ] {
        assert!(!text.contains(PASSWORD), "{text}");
    }
    assert!(report.to_json().contains("opens with [redacted]"));
}

#[test]
fn a_run_that_broke_is_an_error_whatever_passed() {
    let options = RunOptions {
        profile: Profile::named("quick").unwrap(),
        limits: Limits::lab(),
        excluded: BTreeMap::new(),
        seed: None,
        commit: None,
        began: Timestamp::UNIX_EPOCH,
    };
    let target = TargetInfo {
        name: "house".into(),
        features: vec![],
        capabilities: vec![],
    };
    let broken = History {
        broke: Some("no route to host".into()),
        ..History::default()
    };
    let passed = vec![CheckResult::new(&SHUT, Weight::Core, Outcome::Pass, vec![])];
    let report = Report::new(target, &options, &broken, passed);
    assert_eq!(report.verdict, Verdict::Error);
    assert!(report.to_html().contains("no route to host"));
}

#[test]
fn a_thousand_findings_are_told_as_twenty() {
    let mut details: Vec<String> = (0..1000).map(|n| n.to_string()).collect();
    shorten(&mut details);
    assert_eq!((details.len(), details[20].as_str()), (21, "and 980 more"));
}
