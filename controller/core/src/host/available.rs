//! Available: in the pool. Powered as its spec wants, with nothing on its disks.

use super::{
    annotations, failure, network,
    pass::{Flow, Pass, Verdict},
    power, prepare, provision,
};
use steelyard_api::metal3::{ClaimRecord, OperationalStatus, ProvisioningState as State};

pub(super) fn decide(p: &mut Pass<'_>) -> Verdict {
    if p.state() == State::Ready {
        return Flow::Continue(p.go(
            State::Available,
            "available.legacy-ready",
            "the host is available",
        ));
    }
    let spec = &p.host().spec;
    if spec.externally_provisioned {
        let message = "the host is provisioned by somebody else";
        return Flow::Continue(p.go(State::ExternallyProvisioned, "available.external", message));
    }
    if annotations::inspection_requested(p.host()) && !annotations::inspection_disabled(p.host()) {
        slot(p, "the inspection")?;
        return Flow::Continue(p.go(
            State::Inspecting,
            "available.reinspect",
            "another inspection was asked for",
        ));
    }
    if prepare::dirty(p) {
        return Flow::Continue(p.go(State::Preparing, "available.changed", "settings changed"));
    }
    if spec.image.is_none() && p.status.provisioning_fail_count != 0 {
        p.status.provisioning_fail_count = 0;
    }
    let image = provision::wanted(p.host());
    if (image.is_some() || spec.custom_deploy.is_some()) && spec.online {
        slot(p, "the deployment")?;
        return Flow::Continue(start(p));
    }
    failure::backoff(p)?;
    let home = match &p.view.fabric {
        // Only a server that shall go on must be somewhere.
        Some(_) if spec.online => network::home(p)?,
        _ => None,
    };
    power::steady(p, home.as_ref())?;
    let message = match image {
        Some(_) => "the image waits for spec.online",
        None => "the host is available",
    };
    Flow::Continue(p.wait("available.idle", message))
}

fn start(p: &mut Pass<'_>) -> crate::Rule {
    let image = p.host().spec.image.clone();
    let url = image.as_ref().map(|i| i.url.clone()).unwrap_or_default();
    let claim = p.view.claim.as_ref().map(|c| ClaimRecord {
        namespace: c.namespace.clone(),
        name: c.name.clone(),
        uid: c.uid.clone(),
    });
    p.event("ProvisioningStarted", format!("image {url}"));
    let rule = p.go(
        State::Provisioning,
        "available.image-wanted",
        "the image is written next",
    );
    p.status.provisioning.image = image;
    p.status.provisioning.boot_mode = p.host().spec.boot_mode;
    let own = p.own();
    own.claim = claim;
    own.wipe = None;
    own.attempts.remove(provision::WRITES);
    rule
}

/// Waits for room for one more host in an expensive state.
pub(super) fn slot(p: &mut Pass<'_>, what: &str) -> Flow {
    if p.view.slots.free {
        return Flow::Continue(());
    }
    p.status.operational_status = OperationalStatus::Delayed;
    p.wake_at(p.at.after(p.policy.bmc_poll));
    Flow::Break(p.wait(
        "host.delayed",
        format!("{what} waits for its turn: as many hosts as allowed are busy"),
    ))
}
