//! A data centre in one process: topology, simulated hosts, tenants and the controller.
//!
//! ```text
//! cli (up, down, demo ..) -> lab: Kubernetes API, fabric, racks (BMC + host), mirror, tenants, controller
//!                             plan: who stands where      world: networks for the controller
//!                             host: a simulated server    net: its TCP/IP stack
//! ```

pub mod cli;
mod files;
pub mod host;
pub mod lab;
pub mod net;
mod pki;
pub mod plan;
mod ready;
mod wire;
pub mod world;

pub use files::Registration;
pub use ready::NotReady;
// Whoever runs a lab in its own process owns its tasks and its randomness.
pub use steelyard_controller::{Dice, tasks::Tasks};
