//! Inspecting: the agent is booted once and tells what the server is made of.

use super::{
    annotations,
    boot::{self, Terms},
    failure,
    pass::{Flow, Pass, Verdict},
    power, register,
    step::Step,
    view::AgentFacts,
};
use crate::{Change, ObjectRef};
use serde_json::json;
use steelyard_api::metal3::{
    BareMetalHost, ErrorType, HardwareData, HardwareDetails, OperationKind, ProvisioningState as State,
};

pub(super) fn decide(p: &mut Pass<'_>) -> Verdict {
    if annotations::inspection_disabled(p.host()) {
        p.event(
            "InspectionSkipped",
            "inspection was disabled while it was awaited",
        );
        register::given_hardware(p);
        return Flow::Continue(p.go(State::Preparing, "inspect.skipped", "inspection is disabled"));
    }
    if p.host().spec.boot_mac_address.is_none() {
        let message =
            "spec.bootMACAddress is not set: the agent's boot could not be recognised; set it".to_owned();
        return Flow::Break(failure::blocked(
            p,
            "inspect.no-boot-mac",
            ErrorType::Inspection,
            None,
            message,
        ));
    }
    let within = p.policy.inspect_within;
    let fresh = p.current_operation().is_none();
    let operation = p.operation(OperationKind::Inspect, Step::Off, p.policy.power_within);
    if fresh {
        p.event("InspectionStarted", "the server is booted into the agent");
    }
    if annotations::inspection_requested(p.host()) {
        p.drop_annotation(annotations::INSPECT);
    }
    if p.step() != Some(Step::Shutdown) {
        let terms = Terms {
            error: ErrorType::Inspection,
            // One deadline for whatever keeps the agent away, be it the network or the server.
            fabric_within: within,
            agent_within: within,
            job_within: within,
        };
        let agent = boot::into_agent(p, &operation, &terms)?;
        record(p, agent)?;
        p.enter(Step::Shutdown, p.policy.power_within);
    }
    let flow = power::off(p);
    failure::within(
        p,
        p.policy.power_within,
        ErrorType::Inspection,
        "inspect.off-failed",
        flow,
    )?;
    p.event(
        "InspectionComplete",
        "the inventory is in HardwareData and in status.hardware",
    );
    Flow::Continue(p.go(State::Preparing, "inspect.done", "the inventory is known"))
}

fn record(p: &mut Pass<'_>, agent: &AgentFacts) -> Flow {
    if let Some(why) = &agent.inspection_error {
        let message = format!("the agent could not take the inventory: {why}");
        return Flow::Break(failure::fail(
            p,
            "inspect.agent-error",
            ErrorType::Inspection,
            message,
        ));
    }
    let Some(inventory) = &agent.inventory else {
        return Flow::Break(p.wait("inspect.await-inventory", "waiting for the agent's inventory"));
    };
    if !broken!(NoHardwareData) {
        write_hardware_data(p, inventory);
    }
    if !broken!(NoInventory) {
        p.status.hardware = Some(inventory.clone());
    }
    p.own().devices = agent.devices.clone();
    Flow::Continue(())
}

fn write_hardware_data(p: &mut Pass<'_>, inventory: &HardwareDetails) {
    let metadata = &p.host().metadata;
    let object = json!({
        "apiVersion": HardwareData::API_VERSION,
        "kind": HardwareData::KIND,
        "metadata": {
            "name": metadata.name,
            "namespace": metadata.namespace,
            "ownerReferences": [{
                "apiVersion": BareMetalHost::API_VERSION,
                "kind": BareMetalHost::KIND,
                "name": metadata.name,
                "uid": metadata.uid,
                "controller": true,
                "blockOwnerDeletion": true,
            }],
        },
        "spec": { "hardware": inventory },
    });
    let target = ObjectRef {
        api_version: HardwareData::API_VERSION,
        kind: HardwareData::KIND,
        namespace: metadata.namespace.clone(),
        name: p.name().to_owned(),
    };
    p.write(target, Change::Apply { object });
}
