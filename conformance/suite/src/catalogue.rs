//! The catalogue of checks, for programs (YAML) and for people (Markdown). Both are generated and kept beside the code,
//! so that a changed requirement shows in review.

use crate::{
    check::{Check, Level, Source},
    outcome::Weight,
    profile::Profile,
    suites,
    target::{Capability, Feature},
};
use serde::Serialize;
use std::fmt::Write as _;

#[derive(Serialize)]
struct Entry {
    id: &'static str,
    title: &'static str,
    requirement: &'static str,
    level: Level,
    since: Option<&'static str>,
    features: &'static [Feature],
    needs: &'static [Capability],
    sources: &'static [Source],
    /// Profiles that stand or fall with it.
    core: Vec<&'static str>,
    mutant: &'static str,
}

fn core_of(check: &Check) -> Vec<&'static str> {
    Profile::all()
        .iter()
        .filter(|p| p.weight(check) == Weight::Core)
        .map(|p| p.name)
        .collect()
}

fn sorted() -> Vec<&'static Check> {
    let mut checks: Vec<_> = suites::all().collect();
    checks.sort_by_key(|c| c.id);
    checks
}

pub fn yaml() -> String {
    let entries: Vec<Entry> = sorted()
        .into_iter()
        .map(|check| Entry {
            id: check.id,
            title: check.title,
            requirement: check.requirement,
            level: check.level,
            since: check.since,
            features: check.features,
            needs: check.needs,
            sources: check.sources,
            core: core_of(check),
            mutant: check.mutant,
        })
        .collect();
    // Strings and lists of strings.
    let list = serde_saphyr::to_string(&entries).expect("a catalogue is plain data");
    format!(
        "# Generated from the checks: `INSTA_UPDATE=always cargo test -p steelyard-conformance catalogue`.\n{list}"
    )
}

pub fn markdown() -> String {
    let mut page = String::from(
        "# Conformance checks\n\n\
         Generated from the checks: `INSTA_UPDATE=always cargo test -p steelyard-conformance catalogue`.\n\n\
         A check needs *features*, which a target claims (else it is not applicable), and *capabilities*, which a target\n\
         offers to the suite (else it is not run, and a profile that it is core of can only be partial). Each is shown the\n\
         *mutant* that it is there for, a defect of the reference controller, and has to fail on it.\n\n## Profiles\n\n\
         | name | what for | core checks |\n|---|---|---|\n",
    );
    for profile in Profile::all() {
        let core = suites::all()
            .filter(|c| profile.weight(c) == Weight::Core)
            .count();
        let _ = writeln!(page, "| `{}` | {} | {core} |", profile.name, profile.about);
    }
    let mut group = "";
    for check in sorted() {
        if check.group() != group {
            group = check.group();
            let _ = write!(page, "\n## `{group}`\n");
        }
        entry(&mut page, check);
    }
    page
}

fn entry(page: &mut String, check: &Check) {
    let words = |words: Vec<&str>| {
        if words.is_empty() {
            "nothing".to_owned()
        } else {
            words.join(", ")
        }
    };
    let sources: Vec<String> = check
        .sources
        .iter()
        .map(|s| format!("{}, {}", s.document, s.clause))
        .collect();
    let _ = write!(
        page,
        "\n### `{id}`\n\n{title}.\n\n> {requirement}\n\n\
         {level}, {since}. Features: {features}. Needs: {needs}. Core of: {core}. Mutant: `{mutant}`.\nSource: {sources}.\n",
        id = check.id,
        title = check.title,
        requirement = check.requirement,
        level = check.level.as_str(),
        since = check
            .since
            .map_or_else(|| "provisional".into(), |s| format!("since {s}")),
        features = words(check.features.iter().map(|f| f.as_str()).collect()),
        needs = words(check.needs.iter().map(|c| c.as_str()).collect()),
        core = words(core_of(check)),
        mutant = check.mutant,
        sources = sources.join("; "),
    );
}
