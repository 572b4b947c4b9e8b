//! Tenants' clusters: how we reach them, their nodes, and the tickets that nodes join with.
//!
//! Whoever runs a tenant's control plane (vCluster, or the lab) writes its kubeconfig into the Secret
//! `vc-NAME`; nothing else is known of it. All traffic goes over the services network.

mod cluster;
mod connect;
pub mod join_service;
mod node;
mod registry;
mod ticket;
pub mod user_data;

pub use cluster::{TENANT_PATIENCE, TenantCluster, TenantError, within};
pub use registry::Tenants;
pub use ticket::{ClaimTicket, TicketOffice};
