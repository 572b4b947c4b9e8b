//! From a judge's word to an exit code, on made-up histories: the six outcomes, the skip rules, and the canary, which
//! always fails.

use crate::options;
use std::time::Duration;
use steelyard_suite::{
    Capability, Check, Feature, Finding, History, Level, Outcome, Report, Source, TargetInfo, Verdict,
    check::{Judge, Objection},
    history::{Entry, What},
    runner::judge,
};

fn always_broken(_: &History) -> Result<(), Objection> {
    Err(Objection::Broken(vec![Finding("the canary is dead".into())]))
}

fn always_fine(_: &History) -> Result<(), Objection> {
    Ok(())
}

fn sees_nothing(_: &History) -> Result<(), Objection> {
    Err(Objection::NoEvidence("nothing was seen".into()))
}

const fn check(judge: Judge) -> Check {
    Check {
        id: "canary.cage.is-empty",
        title: "A canary",
        requirement: "A canary MUST sing.",
        level: Level::Must,
        features: &[],
        needs: &[],
        sources: &[Source {
            document: "Mining",
            clause: "1",
        }],
        since: Some("0.1"),
        mutant: "gas",
        judge,
    }
}

static CANARY: Check = check(always_broken);
static FINE: Check = check(always_fine);
static BLIND: Check = check(sees_nothing);
static SHOULD: Check = Check {
    level: Level::Should,
    ..check(always_broken)
};
static CLAIMED: Check = Check {
    features: &[Feature::Platform],
    ..check(always_broken)
};
static TAPPED: Check = Check {
    needs: &[Capability::Taps],
    ..check(always_broken)
};
static PROVISIONAL: Check = Check {
    since: None,
    ..check(always_broken)
};

fn run(check: &'static Check, history: &History, excluded: bool) -> Report {
    let target = TargetInfo {
        name: "made up".into(),
        features: vec![],
        capabilities: vec![],
    };
    let mut options = options();
    if excluded {
        options.excluded.insert(check.id.into(), "not today".into());
    }
    judge([check], target, &options, history)
}

#[test]
fn the_canary_fails() {
    let report = run(&CANARY, &History::default(), false);
    assert_eq!(
        (report.checks[0].outcome, report.verdict),
        (Outcome::Fail, Verdict::Failure)
    );
    assert_eq!(report.verdict.exit_code(), 1);
    assert!(
        report.to_junit().contains("the canary is dead") && report.to_html().contains("the canary is dead")
    );
}

#[test]
fn outcomes_and_exit_codes() {
    let quiet = History::default();
    let waited = History {
        entries: vec![Entry {
            at: Duration::ZERO,
            what: What::Missed {
                step: "song",
                message: "no song".into(),
            },
        }],
        ..History::default()
    };
    let broke = History {
        broke: Some("no route".into()),
        ..History::default()
    };
    let cases: &[(&str, &'static Check, &History, bool, Outcome, u8)] = &[
        ("met", &FINE, &quiet, false, Outcome::Pass, 0),
        ("a SHOULD is not met", &SHOULD, &quiet, false, Outcome::Warn, 0),
        ("not claimed", &CLAIMED, &quiet, false, Outcome::NotApplicable, 0),
        ("not offered", &TAPPED, &quiet, false, Outcome::NotRun, 3),
        ("excluded", &CANARY, &quiet, true, Outcome::NotRun, 3),
        (
            "no evidence, nobody's fault",
            &BLIND,
            &quiet,
            false,
            Outcome::Error,
            2,
        ),
        (
            "no evidence since the target did not get there",
            &BLIND,
            &waited,
            false,
            Outcome::Fail,
            1,
        ),
        (
            "no evidence since the run broke",
            &BLIND,
            &broke,
            false,
            Outcome::Error,
            2,
        ),
        (
            "the run broke after all was seen",
            &FINE,
            &broke,
            false,
            Outcome::Pass,
            2,
        ),
        ("provisional", &PROVISIONAL, &quiet, false, Outcome::Fail, 0),
    ];
    for (what, check, history, excluded, outcome, code) in cases {
        let report = run(check, history, *excluded);
        assert_eq!(
            (report.checks[0].outcome, report.verdict.exit_code()),
            (*outcome, *code),
            "{what}"
        );
    }
}

#[test]
fn an_exclusion_of_no_check_is_noticed() {
    let mut options = options();
    options.excluded.insert("host.register.typo".into(), "why".into());
    assert_eq!(options.unknown_exclusions(), ["host.register.typo"]);
}
