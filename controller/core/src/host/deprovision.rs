//! Deprovisioning: off, out of the user's network, every disk erased and read back, and the host as it was registered.

use super::{
    boot::{self, Job, Terms},
    conditions, failure,
    pass::{Flow, Pass, Verdict},
    power, provision,
    step::Step,
};
use crate::{intent::AgentJob, restore::RestoreRecord};
use steelyard_api::metal3::{
    AutomatedCleaningMode, ErrorType, Operation, OperationKind, ProvisioningState as State, Storage,
    WipeEvidence, WipedDisk,
};

/// Metal3 has no error type of its own for this state.
const ERROR: ErrorType = ErrorType::Provisioning;

pub(super) fn decide(p: &mut Pass<'_>) -> Verdict {
    failure::backoff(p)?;
    let operation = p.operation(OperationKind::Erase, Step::Off, p.policy.power_within);
    let proven = p
        .own()
        .wipe
        .as_ref()
        .is_some_and(|wipe| wipe.operation_id == operation.id);
    if p.step() != Some(Step::Restore) || !proven {
        let skip = skipped(p);
        match skip {
            Some(why) => without_erase(p, &operation, why)?,
            None => erase(p, &operation)?,
        }
        p.enter(Step::Restore, p.policy.power_within);
    }
    forget_user(p);
    if p.deleting() {
        return Flow::Continue(p.go(
            State::PoweringOffBeforeDelete,
            "delete.deprovisioned",
            "the host is forgotten next",
        ));
    }
    restore(p)?;
    p.event("DeprovisioningComplete", "the host is back in the pool");
    p.own().claim = None;
    Flow::Continue(p.go(State::Available, "deprovision.done", "the host is available"))
}

/// Why nothing is erased, if that is what the spec asks for.
fn skipped(p: &Pass<'_>) -> Option<&'static str> {
    if broken!(SkipWipe) {
        return Some("spec.automatedCleaningMode is disabled");
    }
    let disabled = p.host().spec.automated_cleaning_mode == Some(AutomatedCleaningMode::Disabled);
    disabled.then_some("spec.automatedCleaningMode is disabled")
}

/// Off and out of the user's network all the same.
fn without_erase(p: &mut Pass<'_>, operation: &Operation, why: &str) -> Flow {
    if p.step() == Some(Step::Off) {
        let flow = power::off(p);
        failure::within(p, p.policy.power_within, ERROR, "deprovision.off-failed", flow)?;
        p.enter(Step::Home, p.policy.fabric_within);
    }
    if p.step() == Some(Step::Home) {
        let flow = boot::go_home(p);
        failure::within(
            p,
            p.policy.fabric_within,
            ERROR,
            "deprovision.network-failed",
            flow,
        )?;
    } else {
        // Cleaning was switched off while an agent was at work.
        let flow = power::off(p);
        failure::within(p, p.policy.power_within, ERROR, "deprovision.off-failed", flow)?;
    }
    let finished_at = p.at.now;
    p.own().wipe = Some(WipeEvidence {
        operation_id: operation.id.clone(),
        finished_at,
        disks: Vec::new(),
        skipped: Some(why.to_owned()),
    });
    Flow::Continue(())
}

fn erase(p: &mut Pass<'_>, operation: &Operation) -> Flow {
    let metadata_only = p.policy.metadata_clean;
    if p.step() != Some(Step::Shutdown) {
        let within = p.policy.erase_within;
        let terms = Terms {
            error: ERROR,
            fabric_within: p.policy.fabric_within,
            agent_within: p.policy.agent_within,
            job_within: within,
        };
        let agent = boot::into_agent(p, operation, &terms)?;
        p.enter(Step::Erase, within);
        let job = Job {
            kind: "erase",
            job: AgentJob::Erase { metadata_only },
            within,
            error: ERROR,
        };
        let disks = boot::done(p, agent, operation, job)?;
        let storage = p
            .status
            .hardware
            .as_ref()
            .map(|h| h.storage.clone())
            .unwrap_or_default();
        if let Some(gap) = gap(&disks, &storage, metadata_only)
            && !broken!(NoVerify)
        {
            let message = format!("the wipe is not proven: {gap}; the host is wiped again");
            return Flow::Break(failure::fail(p, "deprovision.unproven", ERROR, message));
        }
        let finished_at = p.at.now;
        p.own().wipe = Some(WipeEvidence {
            operation_id: operation.id.clone(),
            finished_at,
            disks,
            skipped: metadata_only
                .then(|| "only metadata was wiped: the site runs with --metadata-clean".to_owned()),
        });
        p.enter(Step::Shutdown, p.policy.power_within);
    }
    boot::shut_down(p, operation, ERROR)
}

/// What is missing in the evidence: every disk must have been read back, and every disk that inspection found must
/// be among them.
pub(super) fn gap(disks: &[WipedDisk], storage: &[Storage], metadata_only: bool) -> Option<String> {
    if metadata_only {
        return None;
    }
    if disks.is_empty() {
        return Some("the agent reports no disk".to_owned());
    }
    if let Some(disk) = disks.iter().find(|d| !d.verified || d.verified_bytes == 0) {
        return Some(format!(
            "disk {} (serial {}) was not read back",
            disk.name, disk.serial
        ));
    }
    let serial = |s: &Storage| s.serial_number.clone().filter(|serial| !serial.is_empty());
    let missing = storage
        .iter()
        .filter_map(serial)
        .find(|s| !disks.iter().any(|d| d.serial.eq_ignore_ascii_case(s)));
    missing.map(|serial| {
        format!("disk with serial {serial}, which inspection found, is not among the wiped ones")
    })
}

/// Nothing of the last user is left on the server; now nothing of them is left in the status.
fn forget_user(p: &mut Pass<'_>) {
    let provisioning = &mut p.status.provisioning;
    provisioning.image = None;
    provisioning.custom_deploy = None;
    provisioning.boot_mode = None;
    p.status.conditions.retain(|c| c.kind != conditions::JOINED);
    let own = p.own();
    own.agent = None;
    own.attempts.remove(provision::WRITES);
}

/// Takes back what a claim wrote, and waits to see it gone.
///
/// A claim lets go of its host by removing the image. While an image is wanted the host is only written anew, and
/// stays its claim's.
fn restore(p: &mut Pass<'_>) -> Flow {
    if provision::wanted(p.host()).is_some() {
        return Flow::Continue(());
    }
    match RestoreRecord::of(p.host()) {
        Ok(None) => Flow::Continue(()),
        _ if broken!(ForgetRestore) => Flow::Continue(()),
        Ok(Some(record)) => {
            p.patch_host(record.apply_patch(p.host()));
            Flow::Break(p.wait(
                "deprovision.restore",
                "spec, labels and annotations are brought back to what they were",
            ))
        }
        Err(error) => Flow::Break(failure::blocked(
            p,
            "deprovision.bad-record",
            ERROR,
            None,
            error.to_string(),
        )),
    }
}
