//! Steelyard's controller: it watches Kubernetes, asks the world, decides (in `steelyard-core`), saves,
//! and then does. See ARCHITECTURE.md for the map.

pub mod bmc;
pub mod boot;
pub mod fabric;
pub mod image;
pub mod http_client;
pub mod key;
pub mod net;
pub mod store;
pub mod tenant;
pub mod tls;
pub mod world;

pub use net::{Listener, Net, OsNet, Stream, Udp};
pub use world::{Clock, Dice, World};
