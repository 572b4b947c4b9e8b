//! Provisioning: image, agent, write, off, into the user's network, boot from disk, join.

use super::{
    boot::{self, Job, Terms},
    conditions, failure, network,
    pass::{Flow, Pass, Verdict},
    power,
    step::Step,
    view::{ImageFacts, Power},
};
use crate::{
    Observed, Question,
    intent::{AgentJob, BmcIntent, BootDevice, HostIntent, ImageWanted, NetworkName},
};
use steelyard_api::{
    ConditionStatus,
    metal3::{
        BareMetalHost, ErrorType, Image, ImageFormat, Operation, OperationKind, ProvisioningState as State,
    },
};

/// `status.steelyard.attempts`: writes begun since the host left the pool. Zero: its disks are untouched.
pub(super) const WRITES: &str = "writes";

const ERROR: ErrorType = ErrorType::Provisioning;

/// The image that the spec wants. An empty URL is no image.
pub(super) fn wanted(host: &BareMetalHost) -> Option<&Image> {
    host.spec.image.as_ref().filter(|image| !image.url.is_empty())
}

pub(super) fn decide(p: &mut Pass<'_>) -> Verdict {
    let image = image_of(p)?;
    failure::backoff(p)?;
    too_many(p, &image)?;
    let fresh = p.current_operation().is_none();
    let operation = p.operation(OperationKind::Write, Step::Image, p.policy.write_within);
    if fresh {
        p.status.last_attempted_image = Some(image.clone());
    }
    match p.step() {
        Some(Step::Move | Step::Disk | Step::Join) => {}
        _ => write(p, &operation, &image)?,
    }
    run(p)
}

/// The image of this deployment; the end of it, if the spec now wants another one.
fn image_of(p: &mut Pass<'_>) -> Flow<Image> {
    let untouched = !p.own().attempts.contains_key(WRITES);
    let deploying = p.status.provisioning.image.clone().unwrap_or_default();
    if let Some(method) = p.host().spec.custom_deploy.as_ref().map(|c| c.method.clone()) {
        let message =
            format!("spec.customDeploy asks for {method}, which this version does not know: remove it");
        return Flow::Break(failure::blocked(
            p,
            "provision.custom-deploy",
            ERROR,
            None,
            message,
        ));
    }
    match wanted(p.host()) {
        None => Flow::Break(p.go(
            State::Deprovisioning,
            "provision.cancelled",
            "the image was removed from the spec",
        )),
        Some(image) if *image == deploying => Flow::Continue(image.clone()),
        // Nothing was written yet: the new image, or its corrected checksum, simply takes the place of the old.
        Some(image) if untouched => {
            p.status.provisioning.image = Some(image.clone());
            p.clear_error();
            p.clear_step();
            Flow::Continue(image.clone())
        }
        // As in Metal3, only another URL is another image.
        Some(image) if image.url == deploying.url => Flow::Continue(image.clone()),
        Some(_) => Flow::Break(p.go(
            State::Deprovisioning,
            "provision.cancelled",
            "the spec wants another image",
        )),
    }
}

fn too_many(p: &mut Pass<'_>, image: &Image) -> Flow {
    if p.status.last_attempted_image.as_ref() != Some(image) {
        p.status.provisioning_fail_count = 0;
    }
    let limit = i64::from(p.policy.max_provisioning_retries);
    if limit == 0 || p.status.provisioning_fail_count < limit || p.current_operation().is_some() {
        return Flow::Continue(());
    }
    let last = p.status.error_message.clone();
    let advice =
        format!("; {limit} deployments of this image failed, so no more are tried until spec.image changes");
    let message = if last.ends_with(&advice) {
        last
    } else {
        last + &advice
    };
    Flow::Break(failure::blocked(p, "provision.gave-up", ERROR, None, message))
}

/// A failed deployment counts, whichever rule found it; a failed fetch does not: nothing was tried on the server.
fn counted<T>(p: &mut Pass<'_>, flow: Flow<T>) -> Flow<T> {
    if flow.is_break() && p.current_operation().is_none() {
        p.status.provisioning_fail_count = p.status.provisioning_fail_count.saturating_add(1);
    }
    flow
}

/// Up to a written disk and a server that is off.
fn write(p: &mut Pass<'_>, operation: &Operation, image: &Image) -> Flow {
    if p.step() == Some(Step::Image) {
        fetch(p, image)?;
        p.enter(Step::Off, p.policy.power_within);
    }
    if p.step() != Some(Step::Shutdown) {
        let flow = write_image(p, operation, image);
        counted(p, flow)?;
        p.enter(Step::Shutdown, p.policy.power_within);
    }
    let flow = boot::shut_down(p, operation, ERROR);
    counted(p, flow)?;
    p.enter(Step::Move, p.policy.fabric_within);
    Flow::Continue(())
}

/// The image must be here and verified before the server is touched.
fn fetch(p: &mut Pass<'_>, image: &Image) -> Flow {
    if image.format == Some(ImageFormat::LiveIso) {
        let message =
            "spec.image.format live-iso is not supported by this version: use a disk image".to_owned();
        return Flow::Break(failure::blocked(
            p,
            "provision.image-format",
            ERROR,
            None,
            message,
        ));
    }
    let since = p.own().step_since.unwrap_or(p.at.now);
    let url = &image.url;
    let flow = match &p.view.image {
        Observed::Known {
            value: ImageFacts::Ready { .. },
            ..
        } => return Flow::Continue(()),
        // A failure that is older than this try says nothing about it.
        Observed::Known {
            value: ImageFacts::Failed { message, at },
            ..
        } if *at >= since => {
            return Flow::Break(failure::fail(p, "provision.image-failed", ERROR, message.clone()));
        }
        _ => {
            p.intend(HostIntent::Image(ImageWanted { image: image.clone() }));
            Flow::Break(p.wait(
                "provision.image",
                format!("waiting for image {url} to be fetched and verified"),
            ))
        }
    };
    failure::within(p, p.policy.write_within, ERROR, "provision.image-late", flow)
}

fn write_image(p: &mut Pass<'_>, operation: &Operation, image: &Image) -> Flow {
    let ready = matches!(p.view.image.known(), Some(ImageFacts::Ready { .. }));
    let terms = Terms {
        error: ERROR,
        fabric_within: p.policy.fabric_within,
        agent_within: p.policy.agent_within,
        job_within: p.policy.write_within,
    };
    let agent = boot::into_agent(p, operation, &terms);
    if !ready {
        // Lost with the controller's memory: it must be served again before an agent asks for it.
        p.intend(HostIntent::Image(ImageWanted { image: image.clone() }));
    }
    let agent = agent?;
    if p.step() != Some(Step::Write) {
        if !ready {
            return Flow::Break(p.wait(
                "provision.image",
                format!("waiting for image {} to be served again", image.url),
            ));
        }
        p.enter(Step::Write, p.policy.write_within);
        *p.own().attempts.entry(WRITES.to_owned()).or_default() += 1;
    }
    let spec = &p.host().spec;
    let job = Job {
        kind: "write",
        job: AgentJob::Write {
            image: image.clone(),
            root_device_hints: p.status.provisioning.root_device_hints.clone(),
            user_data: spec.user_data.clone(),
            network_data: spec.network_data.clone(),
            meta_data: spec.meta_data.clone(),
        },
        within: p.policy.write_within,
        error: ERROR,
    };
    boot::done(p, agent, operation, job)?;
    Flow::Continue(())
}

/// From a written disk to a running system in its user's network.
fn run(p: &mut Pass<'_>) -> Verdict {
    if broken!(ProvisionedTooEarly) {
        return Flow::Continue(complete(p, "provision.running", "the host is provisioned"));
    }
    if p.step() == Some(Step::Move) {
        let flow = move_to_user(p);
        let flow = failure::within(p, p.policy.fabric_within, ERROR, "provision.network-failed", flow);
        counted(p, flow)?;
        p.enter(Step::Disk, p.policy.power_within);
    }
    if p.step() == Some(Step::Disk) {
        let flow = boot_disk(p);
        let flow = failure::within(p, p.policy.power_within, ERROR, "provision.boot-failed", flow);
        counted(p, flow)?;
        p.enter(Step::Join, p.policy.join_within);
    }
    if p.view.claim.as_ref().is_some_and(|claim| claim.joins) {
        return join(p);
    }
    let flow = os_runs(p);
    let flow = failure::within(p, p.policy.join_within, ERROR, "provision.os-late", flow);
    counted(p, flow)?;
    Flow::Continue(complete(p, "provision.running", "the host is provisioned"))
}

fn move_to_user(p: &mut Pass<'_>) -> Flow<Option<NetworkName>> {
    power::off(p)?;
    let network = network::of_user(p)?;
    if let Some(network) = &network {
        network::be_in(p, network)?;
    }
    Flow::Continue(network)
}

fn boot_disk(p: &mut Pass<'_>) -> Flow {
    let bmc = p.bmc()?;
    match bmc.power {
        Power::On => return Flow::Continue(()),
        Power::Changing => {
            return Flow::Break(p.wait("provision.power-changing", "the server's power is changing"));
        }
        Power::Off => {}
    }
    move_to_user(p)?;
    if bmc.boot != Some(BootDevice::Disk) {
        p.intend_bmc(BmcIntent::BootFrom(BootDevice::Disk));
        return Flow::Break(p.wait(
            "provision.boot-device",
            "waiting for the BMC to take the disk as boot device",
        ));
    }
    p.intend_bmc(BmcIntent::PowerOn);
    Flow::Break(p.wait("provision.power-on", "waiting for the server to be on"))
}

fn os_runs(p: &mut Pass<'_>) -> Flow {
    let bmc = p.bmc()?;
    match (bmc.power, bmc.os_running) {
        (Power::On, None | Some(true)) => Flow::Continue(()),
        (Power::On, Some(false)) => Flow::Break(p.wait(
            "provision.await-os",
            "the server is on; waiting for the BMC to say that its system runs",
        )),
        _ => Flow::Break(p.wait(
            "provision.await-power",
            "the server went off again; waiting for it to be on",
        )),
    }
}

/// The node joins its tenant; a join that fails never wipes by itself.
fn join(p: &mut Pass<'_>) -> Verdict {
    p.watch(Question::Node);
    let until = p.deadline_text();
    let (exists, ready) = p
        .view
        .node
        .known()
        .map_or((false, false), |n| (n.exists, n.ready));
    if ready {
        p.set_condition(
            conditions::JOINED,
            ConditionStatus::True,
            "NodeReady",
            "the node is Ready in its cluster",
        );
        return Flow::Continue(complete(p, "provision.joined", "the node has joined its cluster"));
    }
    let what = if exists {
        "the node has joined and is not Ready yet"
    } else {
        "no node has joined yet"
    };
    if p.late(p.policy.join_within) {
        let message = format!(
            "{what}, {} s after the server was switched on; the host stays as it is: look at its console, \
             or delete the claim to take it back",
            p.policy.join_within.as_secs()
        );
        p.warn("JoinFailed", message.clone());
        p.set_condition(conditions::JOINED, ConditionStatus::False, "JoinFailed", &message);
        return Flow::Continue(complete(p, "provision.join-failed", &message));
    }
    let message = format!("the server boots from its disk; {what}; waiting until {until}");
    p.set_condition(conditions::JOINED, ConditionStatus::Undecided, "Joining", what);
    Flow::Continue(p.wait("provision.await-join", message))
}

fn complete(p: &mut Pass<'_>, rule: &'static str, message: &str) -> crate::Rule {
    let url = p
        .status
        .provisioning
        .image
        .as_ref()
        .map(|i| i.url.clone())
        .unwrap_or_default();
    p.event("ProvisioningComplete", format!("image {url}"));
    p.status.provisioning_fail_count = 0;
    p.go(State::Provisioned, rule, message)
}
