//! The reference passes its own suite: every check, without a warning, with evidence for each verdict.

use crate::{lab, options};
use steelyard_suite::{Outcome, Verdict};

#[tokio::test(flavor = "current_thread", start_paused = true)]
async fn the_lab_passes_every_check() {
    let _turn = crate::mutants::alone(None);
    let target = lab().await;
    let report = steelyard_suite::run(&target, &options()).await;
    target.end().await;
    let odd: Vec<_> = report
        .checks
        .iter()
        .filter(|c| c.outcome != Outcome::Pass)
        .map(|c| (c.id, c.outcome, &c.details))
        .collect();
    assert!(odd.is_empty(), "{odd:#?}\n{}", report.to_json());
    assert_eq!(report.verdict, Verdict::Success, "{:?}", report.broke);
    assert!(report.evidence.missed.is_empty(), "{:?}", report.evidence.missed);
    let password = target_password();
    for text in [report.to_json(), report.to_junit(), report.to_html()] {
        assert!(
            !text.contains(&password),
            "the BMC password of bare-metal-1 is in a report"
        );
    }
}

/// As the lab computes it from its seed.
fn target_password() -> String {
    let plan = steelyard_lab::plan::Plan::standard(4, 1).unwrap();
    plan.hosts[0].bmc_password.clone()
}
