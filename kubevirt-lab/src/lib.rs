//! A data centre in one process: topology, simulated hosts, tenants and the controller.

pub mod host;
pub mod net;
