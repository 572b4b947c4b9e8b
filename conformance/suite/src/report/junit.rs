//! The same for CI: one test suite for each group of checks, one test case for each check.

use super::{CheckResult, Report};
use crate::outcome::Outcome;
use quick_junit::{NonSuccessKind, Property, TestCase, TestCaseStatus, TestSuite};
use std::{collections::BTreeMap, time::Duration};

pub(super) fn render(report: &Report) -> String {
    let mut groups: BTreeMap<&str, TestSuite> = BTreeMap::new();
    for result in &report.checks {
        let suite = groups
            .entry(result.group)
            .or_insert_with(|| TestSuite::new(result.group));
        suite.add_test_case(case(result));
    }
    let mut junit = quick_junit::Report::new(format!("{} on {}", report.profile.name, report.target.name));
    junit.set_time(Duration::from_secs_f64(report.duration_seconds.max(0.0)));
    junit.add_test_suites(groups.into_values());
    // Text is escaped, and written to memory.
    junit.to_string().expect("a report is plain text")
}

fn case(result: &CheckResult) -> TestCase {
    let message = result.details.first().cloned().unwrap_or_default();
    let rest = result.details.join("\n");
    let mut status = match result.outcome {
        Outcome::Pass | Outcome::Warn => TestCaseStatus::success(),
        Outcome::Fail => TestCaseStatus::non_success(NonSuccessKind::Failure),
        Outcome::Error => TestCaseStatus::non_success(NonSuccessKind::Error),
        Outcome::NotRun | Outcome::NotApplicable => TestCaseStatus::skipped(),
    };
    status
        .set_type(result.outcome.as_str())
        .set_message(message)
        .set_description(rest.as_str());
    let mut case = TestCase::new(result.id, status);
    case.set_classname(result.group);
    case.add_property(Property::new("requirement", result.requirement));
    case.add_property(Property::new("weight", result.weight.as_str()));
    // JUnit knows no warning.
    if result.outcome == Outcome::Warn {
        case.set_system_out(format!("warning: {rest}"));
    }
    case
}
