//! What a run found, for machines ([`json`]), CI ([`junit`]) and people ([`html`]). The JSON is the report; the other
//! two show the same. It lists every check, in the order of ids, and shows no Secret.

mod evidence;
mod html;
mod json;
mod junit;
#[cfg(test)]
mod tests;

pub use evidence::Evidence;

use crate::{
    check::{Check, Level, Source},
    history::History,
    outcome::{Outcome, Verdict, Weight},
    profile::Profile,
    runner::RunOptions,
    target::{Capability, Feature, TargetInfo},
};
use jiff::Timestamp;
use serde::Serialize;
use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

/// Rises when a reader of the JSON would have to change.
pub const FORMAT: u32 = 1;
/// Findings of one check: the first ones tell the story, thousands hide it.
const DETAILS_MAX: usize = 20;

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    pub format: u32,
    pub suite: Suite,
    pub target: TargetInfo,
    pub profile: Profile,
    pub seed: Option<u64>,
    pub began: Timestamp,
    pub duration_seconds: f64,
    /// The most that the target was given, in seconds.
    pub limits: BTreeMap<&'static str, f64>,
    pub verdict: Verdict,
    pub counts: Counts,
    /// Why the run ended before its time, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broke: Option<String>,
    pub checks: Vec<CheckResult>,
    pub evidence: Evidence,
}

/// Who says so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Suite {
    pub name: &'static str,
    pub version: &'static str,
    pub commit: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Counts {
    pub pass: usize,
    pub not_applicable: usize,
    pub warn: usize,
    pub not_run: usize,
    pub fail: usize,
    pub error: usize,
}

#[derive(Clone, Debug, Serialize)]
pub struct CheckResult {
    pub id: &'static str,
    #[serde(skip)]
    pub group: &'static str,
    pub title: &'static str,
    pub requirement: &'static str,
    pub level: Level,
    pub features: &'static [Feature],
    pub needs: &'static [Capability],
    pub sources: &'static [Source],
    pub since: Option<&'static str>,
    pub weight: Weight,
    pub outcome: Outcome,
    pub details: Vec<String>,
}

impl CheckResult {
    pub fn new(check: &Check, weight: Weight, outcome: Outcome, details: Vec<String>) -> Self {
        CheckResult {
            id: check.id,
            group: check.group(),
            title: check.title,
            requirement: check.requirement,
            level: check.level,
            features: check.features,
            needs: check.needs,
            sources: check.sources,
            since: check.since,
            weight,
            outcome,
            details,
        }
    }
}

impl Counts {
    fn of(results: &[CheckResult]) -> Self {
        let mut counts = Counts::default();
        for result in results {
            let count = match result.outcome {
                Outcome::Pass => &mut counts.pass,
                Outcome::NotApplicable => &mut counts.not_applicable,
                Outcome::Warn => &mut counts.warn,
                Outcome::NotRun => &mut counts.not_run,
                Outcome::Fail => &mut counts.fail,
                Outcome::Error => &mut counts.error,
            };
            *count += 1;
        }
        counts
    }
}

impl Report {
    pub fn new(
        target: TargetInfo,
        options: &RunOptions,
        history: &History,
        mut results: Vec<CheckResult>,
    ) -> Self {
        results.sort_by_key(|r| r.id);
        for result in &mut results {
            shorten(&mut result.details);
            for text in &mut result.details {
                *text = history.secrets.redact(text);
            }
        }
        let broke = history.broke.as_deref().map(|why| history.secrets.redact(why));
        let of_checks = Verdict::of(results.iter().map(|r| (r.outcome, r.weight)));
        let verdict = if broke.is_some() {
            Verdict::Error
        } else {
            of_checks
        };
        let duration = history.entries.last().map_or(Duration::ZERO, |e| e.at);
        Report {
            format: FORMAT,
            suite: Suite {
                name: env!("CARGO_PKG_NAME"),
                version: env!("CARGO_PKG_VERSION"),
                commit: options.commit.clone(),
            },
            target,
            profile: options.profile,
            seed: options.seed,
            began: options.began,
            duration_seconds: seconds(duration),
            limits: options
                .limits
                .named()
                .into_iter()
                .map(|(name, limit)| (name, seconds(limit)))
                .collect(),
            verdict,
            counts: Counts::of(&results),
            broke,
            checks: results,
            evidence: Evidence::of(history),
        }
    }

    /// The line that ends a run.
    pub fn summary(&self) -> String {
        let Counts {
            pass,
            not_applicable,
            warn,
            not_run,
            fail,
            error,
        } = self.counts;
        // A SHOULD that is not met does not fail.
        let mut line = format!(
            "{} passed, {fail} failed, {} skipped",
            pass + warn,
            not_applicable + not_run
        );
        for (count, what) in [
            (error, "could not be judged"),
            (warn, "of the passed with a warning"),
        ] {
            if count > 0 {
                line += &format!(", {count} {what}");
            }
        }
        line
    }

    pub fn to_json(&self) -> String {
        json::render(self)
    }

    pub fn to_junit(&self) -> String {
        junit::render(self)
    }

    pub fn to_html(&self) -> String {
        html::render(self)
    }

    /// Writes `report.{json,xml,html}`; tells where.
    pub fn write(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        std::fs::create_dir_all(dir)?;
        let files = [
            ("json", self.to_json()),
            ("xml", self.to_junit()),
            ("html", self.to_html()),
        ];
        let mut written = Vec::with_capacity(files.len());
        for (extension, text) in files {
            let path = dir.join(format!("report.{extension}"));
            std::fs::write(&path, text)?;
            written.push(path);
        }
        Ok(written)
    }
}

fn shorten(details: &mut Vec<String>) {
    let more = details.len().saturating_sub(DETAILS_MAX);
    if more > 0 {
        details.truncate(DETAILS_MAX);
        details.push(format!("and {more} more"));
    }
}

/// To the millisecond.
fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1000.0).round() / 1000.0
}
