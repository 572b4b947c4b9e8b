//! Every change of state that a rule may make. Tests compare it with what is reachable; the diagram is made of it.

use steelyard_api::metal3::ProvisioningState::{self as State, *};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Transition {
    pub from: State,
    pub to: State,
    pub rule: &'static str,
}

const fn t(from: State, to: State, rule: &'static str) -> Transition {
    Transition { from, to, rule }
}

#[rustfmt::skip]
pub const TRANSITIONS: &[Transition] = &[
    t(None, Registering, "host.bmc-given"),
    t(None, Unmanaged, "host.no-bmc"),
    t(Unmanaged, Registering, "host.bmc-given"),

    t(Registering, Inspecting, "register.done"),
    t(Registering, Preparing, "register.uninspected"),
    t(Registering, ExternallyProvisioned, "register.external"),

    t(Inspecting, Preparing, "inspect.done"),
    t(Inspecting, Preparing, "inspect.skipped"),
    t(MatchProfile, Preparing, "host.legacy-profile"),
    t(Preparing, Available, "prepare.done"),

    t(Ready, Available, "available.legacy-ready"),
    t(Available, ExternallyProvisioned, "available.external"),
    t(Available, Inspecting, "available.reinspect"),
    t(Available, Preparing, "available.changed"),
    t(Available, Provisioning, "available.image-wanted"),

    t(Provisioning, Provisioned, "provision.running"),
    t(Provisioning, Provisioned, "provision.joined"),
    t(Provisioning, Provisioned, "provision.join-failed"),
    t(Provisioning, Deprovisioning, "provision.cancelled"),

    t(Provisioned, Deprovisioning, "provisioned.image-gone"),
    t(Provisioned, Deprovisioning, "provisioned.image-changed"),
    t(ExternallyProvisioned, Provisioned, "external.flag-cleared"),

    t(Deprovisioning, Available, "deprovision.done"),

    t(None, Deleting, "delete.unregistered"),
    t(Unmanaged, Deleting, "delete.unregistered"),
    t(Registering, Deleting, "delete.unregistered"),
    t(Provisioning, Deprovisioning, "delete.deprovision"),
    t(Provisioned, Deprovisioning, "delete.deprovision"),
    t(Inspecting, PoweringOffBeforeDelete, "delete.power-off"),
    t(MatchProfile, PoweringOffBeforeDelete, "delete.power-off"),
    t(Preparing, PoweringOffBeforeDelete, "delete.power-off"),
    t(Ready, PoweringOffBeforeDelete, "delete.power-off"),
    t(Available, PoweringOffBeforeDelete, "delete.power-off"),
    t(ExternallyProvisioned, PoweringOffBeforeDelete, "delete.power-off"),
    t(Deprovisioning, PoweringOffBeforeDelete, "delete.deprovisioned"),
    t(Deprovisioning, PoweringOffBeforeDelete, "delete.wipe-gave-up"),
    t(Deprovisioning, Deleting, "delete.unmanageable"),
    t(PoweringOffBeforeDelete, Deleting, "delete.unmanageable"),
    t(PoweringOffBeforeDelete, Deleting, "delete.off-gave-up"),
    t(PoweringOffBeforeDelete, Deleting, "delete.off"),

    // A detached host is forgotten from wherever it is.
    t(None, Deleting, "delete.detached"),
    t(Unmanaged, Deleting, "delete.detached"),
    t(Registering, Deleting, "delete.detached"),
    t(Inspecting, Deleting, "delete.detached"),
    t(MatchProfile, Deleting, "delete.detached"),
    t(Preparing, Deleting, "delete.detached"),
    t(Ready, Deleting, "delete.detached"),
    t(Available, Deleting, "delete.detached"),
    t(Provisioning, Deleting, "delete.detached"),
    t(Provisioned, Deleting, "delete.detached"),
    t(ExternallyProvisioned, Deleting, "delete.detached"),
    t(Deprovisioning, Deleting, "delete.detached"),
    t(PoweringOffBeforeDelete, Deleting, "delete.detached"),
];
