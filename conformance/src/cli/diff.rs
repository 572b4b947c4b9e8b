//! `diff`: what changed between two reports.

use anyhow::{Context, bail};
use serde_json::Value;
use std::{collections::BTreeMap, fs, path::Path};
use steelyard_suite::report::FORMAT;

/// Outcomes as a report spells them, from best to worst.
const RANKS: &[&str] = &["pass", "not-applicable", "warn", "not-run", "fail", "error"];

pub(super) fn run(before: &Path, after: &Path) -> anyhow::Result<u8> {
    let (lines, worse) = compare(&read(before)?, &read(after)?);
    for line in &lines {
        println!("{line}");
    }
    println!("{} changed, {worse} got worse", lines.len());
    Ok(u8::from(worse > 0))
}

/// Each check's outcome.
fn read(path: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    outcomes(&text).with_context(|| path.display().to_string())
}

fn outcomes(text: &str) -> anyhow::Result<BTreeMap<String, String>> {
    let report: Value = serde_json::from_str(text)?;
    if report["format"] != FORMAT {
        bail!(
            "it is a report of format {}, and this reads format {FORMAT}",
            report["format"]
        );
    }
    let checks = report["checks"].as_array().context("it has no checks")?;
    let pair = |c: &Value| Some((c["id"].as_str()?.to_owned(), c["outcome"].as_str()?.to_owned()));
    checks
        .iter()
        .map(|c| pair(c).context("a check has no id or no outcome"))
        .collect()
}

fn compare(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> (Vec<String>, usize) {
    let mut lines = Vec::new();
    let mut worse = 0;
    let ids: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    for id in ids {
        let (was, is) = (
            before.get(id).map(String::as_str),
            after.get(id).map(String::as_str),
        );
        if was == is {
            continue;
        }
        // A check that is there no more, or that nobody knew, changes no rank.
        if let (Some(was), Some(is)) = (was.and_then(rank), is.and_then(rank))
            && is > was
        {
            worse += 1;
        }
        lines.push(format!(
            "{id}: {} -> {}",
            was.unwrap_or("not there"),
            is.unwrap_or("not there")
        ));
    }
    (lines, worse)
}

fn rank(outcome: &str) -> Option<usize> {
    RANKS.iter().position(|r| *r == outcome)
}

#[cfg(test)]
mod tests {
    use super::*;
    use steelyard_suite::Outcome;

    #[test]
    fn worse_is_counted_and_new_is_shown() {
        let text = |checks: &str| format!("{{\"format\": {FORMAT}, \"checks\": [{checks}]}}");
        let check = |id: &str, outcome: &str| format!("{{\"id\": \"{id}\", \"outcome\": \"{outcome}\"}}");
        let before = outcomes(&text(&[check("a", "pass"), check("b", "fail")].join(","))).unwrap();
        let after = outcomes(&text(
            &[check("a", "fail"), check("b", "pass"), check("c", "fail")].join(","),
        ))
        .unwrap();
        let (lines, worse) = compare(&before, &after);
        assert_eq!(
            lines,
            ["a: pass -> fail", "b: fail -> pass", "c: not there -> fail"]
        );
        assert_eq!(worse, 1);
        let error = outcomes("{\"format\": 99, \"checks\": []}")
            .unwrap_err()
            .to_string();
        assert!(error.contains("99"), "{error}");
    }

    #[test]
    fn ranks_are_those_of_the_suite() {
        let spelled: Vec<String> = Outcome::ALL
            .iter()
            .map(|o| serde_json::to_value(o).unwrap().as_str().unwrap().to_owned())
            .collect();
        assert_eq!(spelled, RANKS);
    }
}
