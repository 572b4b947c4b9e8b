//! Carries intents out: one worker per device, each with one order at a time.
//!
//! An order replaces the one that waits; one that was given before the last look at the device is dropped,
//! because whoever gave it decides again on what that look found. So there is no queue of stale orders, and
//! a restart equals a start.

mod agent;
mod bmc;
mod fabric;
mod render;
mod worker;

pub use agent::AgentDesk;
pub use bmc::{BmcAccess, BmcDesk, BmcReach};
pub use fabric::{FabricContext, FabricDesk};
pub use render::Renderer;
pub use worker::{Device, Worker};
