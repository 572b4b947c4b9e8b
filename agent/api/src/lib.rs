//! Messages of the ironic-python-agent protocol, as both ends need them: the agent in the deploy ramdisk and the service
//! (our controller, or a stock Ironic) that commands it.
//!
//! A leaf crate: types and their JSON, no I/O, no decisions. Facts come from openstack/ironic-python-agent `api/app.py`,
//! `ironic_api_client.py`, `extensions/base.py` and openstack/ironic `api/controllers/v1/ramdisk.py`
//! (as ironic-python-agent does). Reading is tolerant: unknown fields are kept where they must be echoed (steps, nodes) and
//! ignored elsewhere, because the other end may be of another release.

mod command;
mod erase;
mod heartbeat;
mod image;
mod inventory;
mod lookup;
mod step;
mod token;
mod version;

pub use command::{
    CommandError, CommandList, CommandRequest, CommandResult, CommandStatus, Fault, FaultCode, commands,
};
pub use erase::{DiskErased, EraseReport, Verification};
pub use heartbeat::Heartbeat;
pub use image::{ImageInfo, ImageProxies, ImageWritten};
pub use inventory::{
    BootInfo, Configuration, Cpu, Disk, Firmware, Inspection, Interface, Inventory, ManagerVersion, Memory,
    PciDevice, SystemVendor,
};
pub use lookup::{InspectionAnswer, LookupAnswer, LookupConfig, Node, UnusableAnswer};
pub use step::{ExecuteStepParams, Step, StepKind, StepList, StepResult};
pub use token::AgentToken;
pub use version::{
    ApiVersion, BadVersion, DefaultVersion, FALLBACK, HEARTBEAT_MAX, INSPECTION_MIN, LOOKUP_MAX, Root,
    VERIFY_CA_MIN, VERSION_HEADER,
};

/// Query parameter that carries the token on every command (`GET` and `POST /v1/commands/`).
pub const TOKEN_QUERY: &str = "agent_token";

/// Paths of the service's side, relative to `ipa-api-url`.
pub mod paths {
    /// Version document of the service.
    pub const ROOT: &str = "/";
    /// `GET`, query `addresses` and `node_uuid`.
    pub const LOOKUP: &str = "/v1/lookup";
    /// `POST`, followed by `/{node uuid}`.
    pub const HEARTBEAT: &str = "/v1/heartbeat";
    /// `POST`; the usual value of `ipa-inspection-callback-url`.
    pub const INSPECTION: &str = "/v1/continue_inspection";
    /// The agent's own collection of commands; the trailing slash is part of it (308 without).
    pub const COMMANDS: &str = "/v1/commands/";
    /// The agent's own status.
    pub const STATUS: &str = "/v1/status";
}

#[cfg(test)]
mod tests;
