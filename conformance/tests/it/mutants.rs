//! Each check is shown the defect that it is there for: the real controller with one rule broken. It must fail on it,
//! and not for want of evidence alone.

use crate::{lab, options};
use std::{
    collections::BTreeSet,
    str::FromStr,
    sync::{Mutex, MutexGuard, PoisonError},
};
use steelyard_core::mutant::{self, Mutant};
use steelyard_suite::{Outcome, Report, suites};

/// A mutant is selected for the whole process: one story at a time, should a runner not give each its own process.
static TURN: Mutex<()> = Mutex::new(());

pub(crate) struct Turn(#[expect(dead_code, reason = "held")] MutexGuard<'static, ()>);

impl Drop for Turn {
    fn drop(&mut self) {
        mutant::select(None);
    }
}

pub(crate) fn alone(mutant: Option<Mutant>) -> Turn {
    let guard = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    mutant::select(mutant);
    Turn(guard)
}

fn failed(report: &Report) -> BTreeSet<&'static str> {
    report
        .checks
        .iter()
        .filter(|c| c.outcome == Outcome::Fail)
        .map(|c| c.id)
        .collect()
}

/// Runs the story against a mutant and demands that every check that names it fails.
fn killed(name: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    let _turn = alone(Some(Mutant::from_str(name).unwrap()));
    let report = runtime.block_on(async {
        let target = lab().await;
        let report = steelyard_suite::run(&target, &options()).await;
        target.end().await;
        report
    });
    let wanted: BTreeSet<&str> = suites::all().filter(|c| c.mutant == name).map(|c| c.id).collect();
    assert!(!wanted.is_empty(), "no check names {name}");
    assert_eq!(report.broke, None);
    let failed = failed(&report);
    let missing: Vec<_> = wanted.difference(&failed).collect();
    assert!(
        missing.is_empty(),
        "{name} survives {missing:?}\n{}",
        report.to_json()
    );
    for check in report.checks.iter().filter(|c| wanted.contains(c.id)) {
        // A story that got stuck would fail every check.
        let blind = check.details.iter().any(|d| d.starts_with("waited in vain"));
        assert!(
            !blind,
            "{} fails on {name} for want of evidence only: {:?}",
            check.id, check.details
        );
    }
}

macro_rules! mutants {
    ($($test:ident = $name:literal,)+) => {
        const TESTED: &[&str] = &[$($name),+];
        $(
            #[test]
            fn $test() {
                killed($name);
            }
        )+
    };
}

mutants! {
    retry_password = "retry-password",
    keep_error = "keep-error",
    ignore_boot_mac = "ignore-boot-mac",
    no_hardware_data = "no-hardware-data",
    no_inventory = "no-inventory",
    stay_home = "stay-home",
    provisioned_too_early = "provisioned-too-early",
    offer_claimed = "offer-claimed",
    keep_reboot_annotation = "keep-reboot-annotation",
    skip_detach = "skip-detach",
    power_before_network = "power-before-network",
    keep_image = "keep-image",
    skip_wipe = "skip-wipe",
    forget_restore = "forget-restore",
    delete_without_power_off = "delete-without-power-off",
}

#[test]
fn every_check_names_a_mutant_that_is_tested() {
    for check in suites::all() {
        assert!(
            TESTED.contains(&check.mutant),
            "{} names {}, which no test runs",
            check.id,
            check.mutant
        );
    }
    for name in TESTED {
        assert!(suites::all().any(|c| c.mutant == *name), "no check names {name}");
    }
}
