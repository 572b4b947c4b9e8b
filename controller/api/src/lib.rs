//! Steelyard's Kubernetes API: the kinds it serves, as Rust types and as CustomResourceDefinitions.
//!
//! No logic of the product lives here, no I/O and no client: `controller/core` decides over these types,
//! `controller` moves them. Two rules shape every type:
//!
//! * **Lenient on read.** An object that somebody else wrote, or that an older version stored, must never
//!   stop a whole watch. Missing fields take their defaults, unknown words become `Unknown`.
//! * **Strict at the door.** What may be *written* is said by the schemas of [`crds`], which the API server
//!   enforces; `deploy/crds/` is their golden copy.

mod condition;
pub mod crds;
mod kind;
pub mod loft;
pub mod metal3;
pub mod names;
pub mod quantity;
mod schema;
mod words;
pub mod yaml;

pub use condition::{Condition, ConditionStatus, Conditions};
pub use crds::{Described, custom_resource_definitions};
