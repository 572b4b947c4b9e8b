//! The Kubernetes side: watches and caches in; object writes, status, events out.
//!
//! ```text
//! watch -> cache -> who is concerned -> queue        save: writes, then status (compare-and-swap), then events
//! ```

mod cache;
mod events;
pub mod index;
mod lease;
mod save;
mod vault;

pub use cache::Cache;
pub use events::Events;
pub use index::Store;
pub use lease::{Election, Leadership, LeaseConfig};
pub use save::{FIELD_MANAGER, SaveError, Saver};
pub use vault::SecretVault;
