//! The suite on an embedded lab, the suite against liars, its generated files, and the workspace's own rules.

mod catalogue;
mod mutants;
mod outcomes;
mod runner;
mod tidy;

use std::path::{Path, PathBuf};
use std::time::Duration;
use steelyard_conformance::target::LabTarget;
use steelyard_suite::{Limits, Profile, RunOptions};

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// Compares with a file of the repository, or writes it with `INSTA_UPDATE=always`.
fn golden(path: &str, text: &str) {
    let file = repository(path);
    if std::env::var("INSTA_UPDATE").is_ok_and(|mode| mode == "always") {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, text).unwrap();
    }
    let found = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        found == text,
        "{path} is stale: run this test with INSTA_UPDATE=always and review the difference"
    );
}

fn options() -> RunOptions {
    RunOptions {
        profile: Profile::named("quick").unwrap(),
        limits: limits(),
        excluded: Default::default(),
        seed: Some(1),
        commit: None,
        began: "2026-01-02T03:04:05Z".parse().unwrap(),
    }
}

/// Of the lab's clock, which jumps over every wait.
fn limits() -> Limits {
    Limits {
        available: Duration::from_secs(60),
        ready: Duration::from_secs(60),
        released: Duration::from_secs(60),
        error: Duration::from_secs(20),
        sample: Duration::from_millis(20),
    }
}

async fn lab() -> LabTarget {
    if let Ok(filter) = std::env::var("STEELYARD_LOG") {
        // Each test has a process of its own under nextest; elsewhere the first one's subscriber stays.
        let _ = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_ansi(false)
            .with_test_writer()
            .try_init();
    }
    LabTarget::start(4, 1, &repository("examples")).await.unwrap()
}
