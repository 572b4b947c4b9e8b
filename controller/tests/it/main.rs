//! The controller's engine over in-memory networks: drivers against the simulators, the Kubernetes side
//! against sim-kube. Nothing here has a socket.

mod desk;
mod events;
mod http_client;
mod lease;
mod netris;
mod store;
mod support;
mod tenants;
