//! sim-kube seen by its users: kube-rs in process, recorded requests of a real server, kubectl over TLS.

mod api;
mod join;
mod kubectl;
mod support;
mod wire;
