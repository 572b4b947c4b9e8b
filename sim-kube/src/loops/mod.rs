//! What kube-controller-manager does for an otherwise empty cluster. Each loop follows the watch log of what it
//! cares about, so that its cost follows changes, not objects.
//!
//! `gc` owners and finalizers, `namespaces` their content, `definitions` CRDs' objects, `accounts` default
//! ServiceAccounts, `csr` approval and signing, `bootstrap` cluster-info and token expiry, `nodes` health,
//! `roles` aggregation.

mod accounts;
mod bootstrap;
mod csr;
mod definitions;
mod follow;
mod gc;
mod namespaces;
mod nodes;
mod roles;
mod system;

use std::sync::Arc;

use crate::server::Inner;

/// Runs all loops as one future, in a fixed order, so that a seeded run repeats.
pub(crate) async fn run(inner: Arc<Inner>) {
    tokio::join!(
        biased;
        gc::run(&inner),
        namespaces::run(&inner),
        definitions::run(&inner),
        accounts::run(&inner),
        csr::run(&inner),
        bootstrap::run(&inner),
        nodes::run(&inner),
        roles::run(&inner),
    );
}
