//! One tree of tasks: whatever runs in the background belongs to a [`Tasks`], ends with it, and if it
//! panics, takes the process down instead of leaving a silent hole.

use std::{
    future::Future,
    sync::{Arc, OnceLock},
    time::Duration,
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

#[derive(Clone, Debug, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
    /// The first task that panicked.
    panicked: Arc<OnceLock<&'static str>>,
}

impl Tasks {
    pub fn new(stop: CancellationToken) -> Self {
        Tasks {
            tracker: TaskTracker::new(),
            stop,
            panicked: Arc::default(),
        }
    }

    /// A tree of its own that is stopped with this one, or alone.
    pub fn child(&self) -> Tasks {
        Tasks::new(self.stop.child_token())
    }

    /// Runs `work` until it ends or the tree is stopped.
    pub fn spawn(&self, name: &'static str, work: impl Future<Output = ()> + Send + 'static) {
        let (stop, panicked) = (self.stop.clone(), self.panicked.clone());
        self.tracker.spawn(async move {
            let guard = StopOnPanic {
                name,
                stop: stop.clone(),
                panicked,
            };
            stop.run_until_cancelled(work).await;
            drop(guard);
        });
    }

    /// Tells everything to stop.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Stops everything when the guard is dropped: for an owner who may itself be dropped.
    pub fn stop_on_drop(&self) -> DropGuard {
        self.stop.clone().drop_guard()
    }

    /// Resolves when the tree has been told to stop.
    pub async fn stopped(&self) {
        self.stop.cancelled().await;
    }

    pub fn stopping(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// The task that panicked, if that is why the tree stops.
    pub fn panicked(&self) -> Option<&'static str> {
        self.panicked.get().copied()
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
    panicked: Arc<OnceLock<&'static str>>,
}

impl Drop for StopOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(task = self.name, "a task panicked; stopping");
            self.panicked.get_or_init(|| self.name);
            self.stop.cancel();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn a_panic_stops_its_tree_and_is_told() {
        let all = Tasks::default();
        let ours = all.child();
        ours.spawn("quiet", std::future::pending());
        ours.spawn("loud", async { panic!("a test's panic") });
        tokio::time::timeout(PATIENCE, ours.stopped())
            .await
            .expect("the panic stops the tree");
        ours.end(PATIENCE).await;
        assert_eq!(ours.panicked(), Some("loud"));
        assert!(!all.stopping(), "whoever owns the child decides what that means");
    }

    #[tokio::test]
    async fn a_tree_ends_with_its_owner_or_its_parent() {
        let all = Tasks::default();
        let (dropped, stopped) = (all.child(), all.child());
        drop(dropped.stop_on_drop());
        assert!(dropped.stopping() && !all.stopping() && !stopped.stopping());
        all.stop();
        assert!(stopped.stopping());
        assert_eq!(stopped.panicked(), None);
    }
}
