//! Into the agent: off, home, boot plan, boot device, on, agent. One path for inspection, writing and erasing.

use super::{
    annotations, failure, network,
    pass::{Flow, Pass},
    power,
    step::Step,
    view::{AgentFacts, JobFacts, JobState, Power},
};
use crate::{
    Ignorance, Observed, Question,
    intent::{AgentJob, AgentTask, BmcIntent, BootDevice, BootPlan, BootPurpose, HostIntent},
};
use jiff::SignedDuration;
use std::{net::Ipv4Addr, str::FromStr};
use steelyard_api::metal3::{ErrorType, Operation, OperationKind, ProvisioningState as State, WipedDisk};

/// What the boot services shall do about this host.
pub(super) enum Plan {
    Publish(BootPlan),
    Keep,
    Retract,
}

/// A plan is wanted from the moment when the server may boot until it is seen off again.
pub(super) fn plan(p: &mut Pass<'_>) -> Plan {
    let booting = matches!(
        p.step(),
        Some(Step::Boot | Step::Agent | Step::Write | Step::Erase | Step::Shutdown)
    ) && matches!(
        p.state(),
        State::Inspecting | State::Provisioning | State::Deprovisioning
    );
    let Some(operation) = p.current_operation().filter(|_| booting).cloned() else {
        return Plan::Retract;
    };
    if p.view.boot.published.as_deref() == Some(&*operation.id) {
        return Plan::Keep;
    }
    match compose(p, &operation) {
        Ok(plan) => Plan::Publish(plan),
        Err(_) => Plan::Keep,
    }
}

/// The boot plan of this host, or what is wrong with its annotations.
fn compose(p: &Pass<'_>, operation: &Operation) -> Result<BootPlan, String> {
    let address = p.view.boot_address.clone()?;
    let list = |key: &str| -> Result<Vec<Ipv4Addr>, String> {
        let words = p
            .annotation(key)
            .unwrap_or_default()
            .split(',')
            .map(str::trim)
            .filter(|w| !w.is_empty());
        words
            .map(|w| {
                Ipv4Addr::from_str(w).map_err(|_| format!("annotation {key}: {w} is not an IPv4 address"))
            })
            .collect()
    };
    let mac = p
        .host()
        .spec
        .boot_mac_address
        .as_deref()
        .map(str::to_ascii_lowercase);
    Ok(BootPlan {
        operation: operation.id.clone(),
        purpose: match operation.kind {
            OperationKind::Inspect => BootPurpose::Inspect,
            _ => BootPurpose::Deploy,
        },
        mac: mac.ok_or("spec.bootMACAddress is not set: the server can't be recognised when it boots")?,
        address,
        gateway: list(annotations::GATEWAY)?
            .first()
            .copied()
            .or_else(|| address.hosts().next()),
        dns: list(annotations::DNS_SERVERS)?,
        ntp: list(annotations::NTP_SERVERS)?,
        node_uuid: p.host().metadata.uid.clone().unwrap_or_default(),
    })
}

/// How an operation of this kind fails, and how long it may take.
pub(super) struct Terms {
    pub error: ErrorType,
    pub fabric_within: SignedDuration,
    /// Until the agent is there.
    pub agent_within: SignedDuration,
    /// Until it has done its job.
    pub job_within: SignedDuration,
}

/// Goes on with what the agent of `operation` says, once it has been booted for it.
pub(super) fn into_agent<'a>(p: &mut Pass<'a>, operation: &Operation, terms: &Terms) -> Flow<&'a AgentFacts> {
    let power_within = p.policy.power_within;
    if p.step() == Some(Step::Off) {
        let flow = power::off(p);
        failure::within(p, power_within, terms.error, "boot.off-failed", flow)?;
        p.enter(Step::Home, terms.fabric_within);
    }
    if p.step() == Some(Step::Home) {
        let flow = go_home(p);
        failure::within(p, terms.fabric_within, terms.error, "boot.network-failed", flow)?;
        p.enter(Step::Boot, power_within);
    }
    if p.step() == Some(Step::Boot) {
        let flow = switch_on(p, operation);
        failure::within(p, power_within, terms.error, "boot.power-failed", flow)?;
        p.enter(Step::Agent, terms.agent_within);
    }
    if p.step() == Some(Step::Agent) {
        let flow = await_agent(p, operation);
        if flow.is_break() {
            p.ask(Question::Bmc, p.policy.bmc_poll);
            still_on(p, terms.error)?;
        }
        return failure::within(p, terms.agent_within, terms.error, "boot.no-agent", flow);
    }
    let flow = match agent_of(p, operation) {
        Some(agent) => Flow::Continue(agent),
        None => silent(p, terms),
    };
    failure::within(p, terms.job_within, terms.error, "boot.agent-lost", flow)
}

/// The agent was there and says nothing: its server may have lost its power or its network. A job may take a day;
/// silence may not.
fn silent<T>(p: &mut Pass<'_>, terms: &Terms) -> Flow<T> {
    p.watch(Question::Bmc);
    still_on(p, terms.error)?;
    let lost = match &p.view.agent {
        Observed::Unknown {
            since,
            why: Ignorance::Unreachable(why),
        } => Some((*since, why.clone())),
        _ => None,
    };
    if let Some((since, why)) = lost
        && p.at.now >= since.saturating_add(terms.agent_within).unwrap_or(since)
    {
        let message = format!(
            "the agent has been silent for {} s: {why}; look at the server's console and its network",
            terms.agent_within.as_secs()
        );
        return Flow::Break(failure::fail(p, "boot.agent-lost", terms.error, message));
    }
    Flow::Break(p.wait("boot.agent-silent", "waiting for the agent's next heartbeat"))
}

/// A server that was switched on for an agent, and was seen off since, needs another boot.
fn still_on(p: &mut Pass<'_>, error: ErrorType) -> Flow {
    let since = p.own().step_since;
    let off = match &p.view.bmc {
        Observed::Known { value, at } => value.power == Power::Off && since.is_some_and(|since| *at > since),
        Observed::Unknown { .. } => false,
    };
    if !off {
        return Flow::Continue(());
    }
    let message = "the server went off while its agent was awaited or at work: look at its power supply, and at who \
                   else uses its BMC";
    Flow::Break(failure::fail(p, "boot.went-off", error, message.to_owned()))
}

/// Ports are moved only while the server is seen off: whoever switches it on meanwhile does not take a running
/// system into another network.
pub(super) fn go_home(p: &mut Pass<'_>) -> Flow {
    power::off(p)?;
    match network::home(p)? {
        Some(home) => network::be_in(p, &home),
        None => Flow::Continue(()),
    }
}

/// The server is off: publish, choose the boot device, switch on, each seen before the next.
fn switch_on(p: &mut Pass<'_>, operation: &Operation) -> Flow {
    match &p.view.boot_address {
        Ok(address) => p.own().address = Some(address.to_string()),
        Err(why) => {
            let message = format!("there is no address to boot with: {why}");
            return Flow::Break(p.report("boot.no-address", "NoBootAddress", message));
        }
    }
    if let Err(why) = compose(p, operation) {
        return Flow::Break(p.report("boot.no-plan", "InvalidAnnotationValue", why));
    }
    let bmc = p.bmc()?;
    match bmc.power {
        Power::On => return Flow::Continue(()),
        Power::Changing => {
            return Flow::Break(p.wait("boot.power-changing", "the server's power is changing"));
        }
        Power::Off => {}
    }
    if p.view.boot.published.as_deref() != Some(&*operation.id) {
        return Flow::Break(p.wait("boot.publish", "waiting for the boot services to know the server"));
    }
    go_home(p)?;
    if bmc.boot != Some(BootDevice::NetworkOnce) {
        p.intend_bmc(BmcIntent::BootFrom(BootDevice::NetworkOnce));
        return Flow::Break(p.wait(
            "boot.device",
            "waiting for the BMC to take the network as next boot device",
        ));
    }
    p.intend_bmc(BmcIntent::PowerOn);
    Flow::Break(p.wait("boot.power-on", "waiting for the server to be on"))
}

fn agent_of<'a>(p: &Pass<'a>, operation: &Operation) -> Option<&'a AgentFacts> {
    let Observed::Known { value, .. } = &p.view.agent else {
        return None;
    };
    (value.operation == operation.id).then_some(value)
}

/// How soon the fabric is asked about a server whose DISCOVER does not come.
const UNHEARD: SignedDuration = SignedDuration::from_secs(2);

/// The server is on: tell what is seen of its boot until the agent speaks.
fn await_agent<'a>(p: &mut Pass<'a>, operation: &Operation) -> Flow<&'a AgentFacts> {
    let inspects = operation.kind == OperationKind::Inspect;
    if let Some(agent) = agent_of(p, operation) {
        let there = if inspects {
            agent.inventory.is_some() || agent.inspection_error.is_some()
        } else {
            agent.heartbeat_at.is_some()
        };
        if there {
            return Flow::Continue(agent);
        }
    }
    if let Some(fabric) = &p.view.fabric {
        // A server that nobody hears may be on a wrong port; one that is heard is where it should be.
        let heard = p.view.boot.leased_at.is_some();
        let within = if heard {
            p.policy.bmc_poll
        } else {
            p.policy.bmc_poll.min(UNHEARD)
        };
        p.ask(Question::Fabric, within);
        if let Some(mismatch) = fabric.known().and_then(|f| f.mismatch.as_ref()) {
            let message = network::misplaced(p, mismatch);
            return Flow::Break(p.report("boot.network-mismatch", "NetworkMismatch", message));
        }
    }
    let mac = p.host().spec.boot_mac_address.as_deref().unwrap_or_default();
    let boot = &p.view.boot;
    let answered_after = |at| boot.leased_at.is_some_and(|leased| leased >= at);
    if let Some((at, why)) = &boot.dropped
        && *at >= operation.started_at
        && !answered_after(*at)
        && !broken!(SilentDrop)
    {
        let message = format!("a DHCP DISCOVER of {mac} was not answered: {why}");
        return Flow::Break(p.report("boot.discover-dropped", "DiscoverDropped", message));
    }
    let until = p.deadline_text();
    let what = if inspects {
        "the agent's inventory"
    } else {
        "the agent's first heartbeat"
    };
    Flow::Break(if boot.script_at.is_some() {
        p.wait(
            "boot.await-agent",
            format!("the boot script was fetched; waiting for {what} until {until}"),
        )
    } else if boot.leased_at.is_some() {
        p.wait(
            "boot.await-script",
            format!("{mac} has its address; waiting for it to fetch its boot script until {until}"),
        )
    } else {
        p.wait(
            "boot.await-discover",
            format!("the server is on; waiting for a DHCP DISCOVER of {mac} until {until}"),
        )
    })
}

/// A job of the agent.
pub(super) struct Job {
    /// How the agent's facts name it.
    pub kind: &'static str,
    pub job: AgentJob,
    pub within: SignedDuration,
    pub error: ErrorType,
}

/// Goes on with the evidence once the agent has done the job. A job that failed is a failure.
pub(super) fn done(
    p: &mut Pass<'_>,
    agent: &AgentFacts,
    operation: &Operation,
    job: Job,
) -> Flow<Vec<WipedDisk>> {
    let found = job_of(agent, operation, job.kind);
    let (kind, within, error) = (job.kind, job.within, job.error);
    let flow = match found.map(|j| &j.state) {
        Some(JobState::Succeeded { wiped }) => return Flow::Continue(wiped.clone()),
        Some(JobState::Failed { kind: what, message }) => {
            let message = format!("{kind}: the agent says {what}: {message}");
            return Flow::Break(failure::fail(p, "job.failed", error, message));
        }
        Some(JobState::Running) => {
            let until = p.deadline_text();
            Flow::Break(p.wait(
                "job.running",
                format!("the agent is at work ({kind}), until {until}"),
            ))
        }
        None => {
            let deadline = p.deadline(within);
            let task = AgentTask {
                operation: operation.id.clone(),
                job: job.job,
                deadline,
            };
            p.intend(HostIntent::Agent(task));
            Flow::Break(p.wait(
                "job.start",
                format!("waiting for the agent to take its job ({kind})"),
            ))
        }
    };
    p.watch(Question::AgentJob);
    failure::within(p, within, error, "job.late", flow)
}

fn job_of<'a>(agent: &'a AgentFacts, operation: &Operation, kind: &str) -> Option<&'a JobFacts> {
    agent
        .job
        .as_ref()
        .filter(|j| j.operation == operation.id && j.kind == kind)
}

/// Goes on once the server is seen off; the agent is asked first, so that its disks are flushed.
pub(super) fn shut_down(p: &mut Pass<'_>, operation: &Operation, error: ErrorType) -> Flow {
    let within = p.policy.power_within;
    let flow = ask_agent_off(p, operation, within);
    // Half of the time for the agent, then the BMC does it.
    failure::within(p, within.saturating_mul(2), error, "shutdown.failed", flow)
}

fn ask_agent_off(p: &mut Pass<'_>, operation: &Operation, within: SignedDuration) -> Flow {
    if p.bmc()?.power == Power::Off {
        return Flow::Continue(());
    }
    let agent = agent_of(p, operation);
    let job = agent.and_then(|a| job_of(a, operation, "power-off"));
    let refused = matches!(job.map(|j| &j.state), Some(JobState::Failed { .. }));
    if p.late(within) || refused {
        return power::off(p);
    }
    if agent.is_some() && job.is_none() {
        let deadline = p.deadline(within);
        let task = AgentTask {
            operation: operation.id.clone(),
            job: AgentJob::PowerOff,
            deadline,
        };
        p.intend(HostIntent::Agent(task));
    }
    Flow::Break(p.wait("shutdown.wait", "waiting for the agent to switch the server off"))
}
