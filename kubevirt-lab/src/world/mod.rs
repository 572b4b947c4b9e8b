//! Networks for the controller: the operating system's loopback, memory, or a stack on the fabric.

mod fabric_net;
mod memory;

pub use fabric_net::FabricNet;
pub use memory::MemoryNet;
