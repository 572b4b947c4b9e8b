//! Steelyard's controller: it watches Kubernetes, asks the world, decides (in `steelyard-core`), saves,
//! and then does. See ARCHITECTURE.md for the map.

mod args;
pub mod bmc;
pub mod boot;
pub mod execute;
pub mod fabric;
pub mod http_client;
pub mod image;
pub mod key;
pub mod net;
pub mod observe;
pub mod queue;
pub mod reconcile;
mod run;
pub mod secret;
pub mod store;
pub mod tasks;
pub mod tenant;
pub mod tls;
pub mod world;

pub use args::Args;
pub use net::{Listener, Net, OsNet, Stream, Udp};
pub use run::{RunError, run};
pub use world::{Clock, Dice, World};
