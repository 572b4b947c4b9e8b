//! The same for people: one page that needs nothing else, in light and dark, on a phone and on paper.

use super::{
    CheckResult, Report,
    evidence::{Evidence, HostChange},
};
use crate::outcome::{Outcome, Verdict};
use std::fmt::Write as _;

const STYLE: &str = include_str!("style.css");

pub(super) fn render(report: &Report) -> String {
    let mut page = String::with_capacity(32 << 10);
    let title = escape(&format!(
        "{} on {}: {}",
        report.profile.name,
        report.target.name,
        report.verdict.as_str()
    ));
    let _ = write!(
        page,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n"
    );
    head(&mut page, report);
    checks(&mut page, &report.checks);
    timelines(&mut page, &report.evidence, report.duration_seconds);
    story(&mut page, &report.evidence);
    page += "</body>\n</html>\n";
    page
}

fn head(page: &mut String, report: &Report) {
    let class = match report.verdict {
        Verdict::Success => "pass",
        Verdict::Failure => "fail",
        Verdict::Error => "error",
        Verdict::Partial => "not-run",
    };
    let _ = write!(
        page,
        "<header>\n<h1>Conformance: {}</h1>\n<p class=\"verdict {class}\">{}</p>\n<p>{}</p>\n",
        escape(&report.target.name),
        report.verdict.as_str(),
        escape(&report.summary()),
    );
    if let Some(why) = &report.broke {
        let _ = writeln!(
            page,
            "<p class=\"verdict error\">The run ended before its time: {}</p>",
            escape(why)
        );
    }
    let features: Vec<&str> = report.target.features.iter().map(|f| f.as_str()).collect();
    let offers: Vec<&str> = report.target.capabilities.iter().map(|c| c.as_str()).collect();
    let commit = report
        .suite
        .commit
        .as_deref()
        .map(|c| format!(", commit {c}"))
        .unwrap_or_default();
    let facts = [
        (
            "Profile",
            format!("{}: {}", report.profile.name, report.profile.about),
        ),
        (
            "Suite",
            format!("{} {}{commit}", report.suite.name, report.suite.version),
        ),
        ("Began", report.began.to_string()),
        ("Duration", format!("{:.1} s", report.duration_seconds)),
        (
            "Seed",
            report.seed.map_or_else(|| "none".into(), |s| s.to_string()),
        ),
        ("Target claims", or_nothing(&features)),
        ("Target offers", or_nothing(&offers)),
    ];
    page.push_str("<dl>\n");
    for (name, value) in facts {
        let _ = writeln!(page, "<dt>{name}</dt><dd>{}</dd>", escape(&value));
    }
    page.push_str("</dl>\n</header>\n");
}

fn or_nothing(words: &[&str]) -> String {
    if words.is_empty() {
        "nothing".into()
    } else {
        words.join(", ")
    }
}

fn checks(page: &mut String, results: &[CheckResult]) {
    page.push_str("<main>\n<h2>Checks</h2>\n");
    let mut group = "";
    for result in results {
        if result.group != group {
            group = result.group;
            let _ = writeln!(page, "<h3>{}</h3>", escape(group));
        }
        check(page, result);
    }
    page.push_str("</main>\n");
}

fn check(page: &mut String, result: &CheckResult) {
    // What went well needs no reading.
    let open = if matches!(result.outcome, Outcome::Pass | Outcome::NotApplicable) {
        ""
    } else {
        " open"
    };
    let _ = write!(
        page,
        "<details id=\"{id}\"{open}>\n<summary><span class=\"outcome {class}\">{outcome}</span> {title} <code>{id}</code></summary>\n\
         <p>{requirement}</p>\n",
        id = escape(result.id),
        class = class(result.outcome),
        outcome = result.outcome.as_str(),
        title = escape(result.title),
        requirement = escape(result.requirement),
    );
    if !result.details.is_empty() {
        page.push_str("<ul>\n");
        for text in &result.details {
            let _ = writeln!(page, "<li>{}</li>", escape(text));
        }
        page.push_str("</ul>\n");
    }
    let sources: Vec<String> = result
        .sources
        .iter()
        .map(|s| format!("{}, {}", s.document, s.clause))
        .collect();
    let _ = write!(
        page,
        "<p class=\"small\">{}, {}; {}</p>\n</details>\n",
        result.level.as_str(),
        result.weight.as_str(),
        escape(&sources.join("; "))
    );
}

fn timelines(page: &mut String, evidence: &Evidence, end: f64) {
    if evidence.hosts.is_empty() || end <= 0.0 {
        return;
    }
    page.push_str("<section>\n<h2>Hosts over time</h2>\n");
    for (host, changes) in &evidence.hosts {
        let _ = write!(page, "<h3>{}</h3>\n<div class=\"bar\">\n", escape(host));
        let before = changes.first().map_or(end, |c| c.at);
        segment(page, "", "not there yet", before, end);
        for (i, change) in changes.iter().enumerate() {
            let until = changes.get(i + 1).map_or(end, |next| next.at);
            let says = format!("{} from {:.1} s to {until:.1} s", told(change), change.at);
            segment(page, &change.state, &says, until - change.at, end);
        }
        page.push_str("</div>\n<ol class=\"small\">\n");
        for change in changes {
            let _ = writeln!(page, "<li>{:.1} s: {}</li>", change.at, escape(&told(change)));
        }
        page.push_str("</ol>\n");
    }
    page.push_str("</section>\n");
}

fn told(change: &HostChange) -> String {
    let mut text = change.state.clone();
    if let Some(error) = &change.error_type {
        text += &format!(", {error}");
    }
    if let Some(holder) = &change.held_by {
        text += &format!(", held by {holder}");
    }
    text
}

fn segment(page: &mut String, state: &str, says: &str, length: f64, whole: f64) {
    let percent = (length / whole * 100.0).clamp(0.0, 100.0);
    // Words of its own only where there is room for them.
    let label = if percent > 12.0 { state } else { "" };
    let _ = writeln!(
        page,
        "<span class=\"s-{}\" style=\"width:{percent:.2}%\" title=\"{}\">{}</span>",
        word(state),
        escape(says),
        escape(label)
    );
}

fn story(page: &mut String, evidence: &Evidence) {
    page.push_str("<section>\n<h2>The story</h2>\n<table>\n<tr><th>s</th><th>step</th><th>about</th></tr>\n");
    for step in &evidence.steps {
        let _ = writeln!(
            page,
            "<tr><td>{:.1}</td><td>{}</td><td>{}</td></tr>",
            step.at,
            escape(step.step),
            escape(&step.about)
        );
    }
    page.push_str("</table>\n");
    if !evidence.missed.is_empty() {
        page.push_str("<h3>Waited for in vain</h3>\n<ul>\n");
        for missed in &evidence.missed {
            let _ = writeln!(
                page,
                "<li>{:.1} s, {}: {}</li>",
                missed.at,
                escape(missed.step),
                escape(&missed.message)
            );
        }
        page.push_str("</ul>\n");
    }
    for search in &evidence.disks {
        let found = if search.found {
            "holds"
        } else {
            "holds no trace of"
        };
        let _ = writeln!(
            page,
            "<p class=\"small\">{:.1} s: a disk of {} {found} what the tenant wrote ({}).</p>",
            search.at,
            escape(&search.server),
            escape(search.when)
        );
    }
    page.push_str("</section>\n");
}

fn class(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Pass => "pass",
        Outcome::NotApplicable => "not-applicable",
        Outcome::Warn => "warn",
        Outcome::NotRun => "not-run",
        Outcome::Fail => "fail",
        Outcome::Error => "error",
    }
}

/// A word that may stand in a class attribute, whatever a target calls its states.
fn word(state: &str) -> String {
    let safe = |c: char| {
        if c.is_ascii_alphanumeric() {
            c.to_ascii_lowercase()
        } else {
            '-'
        }
    };
    if state.is_empty() {
        "none".into()
    } else {
        state.chars().map(safe).collect()
    }
}

pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\'' => out += "&#39;",
            c => out.push(c),
        }
    }
    out
}
