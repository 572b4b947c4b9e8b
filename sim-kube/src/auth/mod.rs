//! Who asks, and whether they may.
//!
//! `identity` is established once per connection (client certificate) or per request (bearer token), then
//! checked by the Node authorizer and RBAC, in that order, as `--authorization-mode=Node,RBAC` does.

mod authorize;
mod identity;
mod node;
pub(crate) mod rbac;
pub(crate) mod restriction;
pub(crate) mod reviews;
pub(crate) mod tokens;

pub(crate) use authorize::{Attributes, Verdict, authorize};
pub use identity::Identity;
pub(crate) use identity::{ANONYMOUS, from_certificate};
