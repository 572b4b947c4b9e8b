//! `docs/states/host.md` is made of the table of transitions.

use std::{collections::BTreeMap, fmt::Write as _, path::PathBuf};
use steelyard_core::host::TRANSITIONS;

#[test]
fn states_are_documented() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/states/host.md");
    let page = page();
    if std::env::var("INSTA_UPDATE").is_ok_and(|mode| mode == "always") {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &page).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == page,
        "{} is not what the table says; INSTA_UPDATE=always writes it anew",
        path.display()
    );
}

fn name(state: &str) -> String {
    if state.is_empty() {
        "(new)".into()
    } else {
        state.into()
    }
}

fn page() -> String {
    let mut out = String::from(
        "# The states of a host\n\nGenerated from `controller/core/src/host/transitions.rs`; do not edit. \
         Errors are not states: they stand beside the state in `status.operationalStatus` and `errorType`.\n\n\
         ```mermaid\nstateDiagram-v2\n",
    );
    let mut ids = BTreeMap::new();
    for t in TRANSITIONS {
        for state in [t.from, t.to] {
            let next = format!("s{}", ids.len());
            ids.entry(state.as_str()).or_insert(next);
        }
    }
    for (state, id) in &ids {
        writeln!(out, "    state \"{}\" as {id}", name(state)).unwrap();
    }
    // The ways out of a detached host would hide all others; the table below has them.
    for t in TRANSITIONS.iter().filter(|t| t.rule != "delete.detached") {
        writeln!(
            out,
            "    {} --> {}: {}",
            ids[t.from.as_str()],
            ids[t.to.as_str()],
            t.rule
        )
        .unwrap();
    }
    out.push_str("```\n\n| from | to | rule |\n|---|---|---|\n");
    for t in TRANSITIONS {
        writeln!(
            out,
            "| {} | {} | `{}` |",
            name(t.from.as_str()),
            name(t.to.as_str()),
            t.rule
        )
        .unwrap();
    }
    out
}
