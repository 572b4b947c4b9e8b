//! BMCs: where one is ([`BmcAddress`]), how we get in ([`Credentials`]), and the driver ([`RedfishBmc`]) with its
//! two verbs, `observe` and `ensure`.
//!
//! BMCs are weak computers: one conversation at a time, one GET to look at a known system, and a password that was
//! refused is never sent again by the same client.

mod address;
mod error;
mod redfish;

pub use address::{AddressError, BmcAddress, NetworkBoot, Protocol};
pub use error::{BmcError, Retry};
pub use redfish::RedfishBmc;

use crate::secret::Secret;

/// What opens a BMC. `version` is the resourceVersion of the Secret that it was read from.
#[derive(Clone, Debug)]
pub struct Credentials {
    pub username: String,
    pub password: Secret,
    pub version: String,
}
