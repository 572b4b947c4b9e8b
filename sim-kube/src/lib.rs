//! An embedded Kubernetes API server that real clients believe.
//!
//! ```text
//! request -> auth -> router -> verbs -> schema/builtin -> store -> watch log -> watchers
//!                                                           ^
//!                                         loops (GC, namespaces, CSR, nodes, ...)
//! ```
//! [`ApiServer`] is a `tower::Service` that `kube::Client` accepts directly; [`serve`] and
//! [`serve_connection`] put TLS in front of it. Time and randomness are injected through [`Options`].

mod auth;
mod body;
mod builtin;
mod clock;
mod discovery;
mod fields;
mod kubeconfig;
mod loops;
mod openapi;
mod patch;
mod path;
mod pki;
mod protobuf;
mod quantity;
mod random;
mod registry;
mod router;
mod schema;
mod seed;
mod selector;
mod serve;
mod server;
mod status;
mod store;
mod table;
mod verbs;

pub use auth::Identity;
pub use clock::Now;
pub use serve::{serve, serve_connection};
pub use server::{AnonymousAuth, ApiServer, IdentifiedService, Options, ResponseBody};
