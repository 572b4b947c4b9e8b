//! Steelyard's deploy agent: the program in the ramdisk that reports the hardware, wipes disks and writes images.
//!
//! This library is the agent without I/O: [`Agent::on`] takes events and returns actions, [`Platform`] is the machine.
//! Two shells drive it: Linux, and the lab's simulated hosts. It speaks the ironic-python-agent protocol, so that either
//! our controller or a stock Ironic can command it.

mod agent;
mod api;
mod checksum;
mod command;
mod dice;
mod drive;
mod enrol;
mod event;
mod failure;
mod format;
mod hash;
mod heartbeat;
mod hints;
mod job;
mod journal;
mod parameters;
mod platform;
mod table;

pub use agent::{Agent, Options};
pub use api::COMMAND_BODY_MAX;
pub use event::{
    Action, ApiReply, ApiRequest, BodyMode, Event, HttpEvent, HttpFailure, HttpId, HttpRequest, RequestId,
};
pub use parameters::{BadParameter, Parameters};
pub use platform::{BlockDevice, DiskError, EraseMethod, Platform, Progress};

/// What heartbeats and `/v1/status` tell as the agent's version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
