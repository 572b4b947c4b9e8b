//! Preparing: settings that a host needs before it is offered. RAID and firmware come with their own issue; what
//! we can't do is refused here, not forgotten.

use super::{
    failure,
    pass::{Flow, Pass, Verdict},
};
use steelyard_api::metal3::{ErrorType, ProvisioningState as State, RaidConfig};

pub(super) fn decide(p: &mut Pass<'_>) -> Verdict {
    failure::backoff(p)?;
    if wants_volumes(p.host().spec.raid.as_ref()) {
        let message = "spec.raid asks for RAID volumes, which this version can't make: remove it".to_owned();
        return Flow::Break(failure::blocked(
            p,
            "prepare.raid",
            ErrorType::Preparation,
            None,
            message,
        ));
    }
    p.status.provisioning.root_device_hints = p.host().spec.root_device_hints.clone();
    p.status.provisioning.raid = p.host().spec.raid.clone();
    Flow::Continue(p.go(State::Available, "prepare.done", "the host is available"))
}

fn wants_volumes(raid: Option<&RaidConfig>) -> bool {
    raid.is_some_and(|r| {
        r.hardware_raid_volumes.as_ref().is_some_and(|v| !v.is_empty())
            || r.software_raid_volumes.as_ref().is_some_and(|v| !v.is_empty())
    })
}

/// Whether what is wanted differs from what was prepared.
pub(super) fn dirty(p: &Pass<'_>) -> bool {
    p.status.provisioning.root_device_hints != p.host().spec.root_device_hints
        || (wants_volumes(p.host().spec.raid.as_ref()) && p.status.provisioning.raid != p.host().spec.raid)
}
