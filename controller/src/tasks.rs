//! One tree of tasks: whatever runs in the background belongs to a [`Tasks`], ends with it, and if it
//! panics, takes the process down instead of leaving a silent hole.

use std::{future::Future, time::Duration};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

#[derive(Clone, Debug, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl Tasks {
    pub fn new(stop: CancellationToken) -> Self {
        Tasks { tracker: TaskTracker::new(), stop }
    }

    /// Runs `work` until it ends or the tree is stopped.
    pub fn spawn(&self, name: &'static str, work: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tracker.spawn(async move {
            let guard = StopOnPanic { name, stop: stop.clone() };
            stop.run_until_cancelled(work).await;
            drop(guard);
        });
    }

    /// Resolves when the tree has been told to stop.
    pub async fn stopped(&self) {
        self.stop.cancelled().await;
    }

    pub fn stopping(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Stops everything and waits for it, for at most `patience`.
    pub async fn end(&self, patience: Duration) {
        self.stop.cancel();
        self.tracker.close();
        if tokio::time::timeout(patience, self.tracker.wait()).await.is_err() {
            tracing::warn!(left = self.tracker.len(), "tasks did not end in time");
        }
    }
}

struct StopOnPanic {
    name: &'static str,
    stop: CancellationToken,
}

impl Drop for StopOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(task = self.name, "a task panicked; stopping");
            self.stop.cancel();
        }
    }
}
