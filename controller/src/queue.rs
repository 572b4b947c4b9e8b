//! What is to be decided next, and when: a due-time queue in a fixed order.
//!
//! Work that is woken while it is being done is done once more afterwards; work that is woken twice while
//! it waits is done once, at the earlier time.

use crate::key::Key;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::{
    sync::Notify,
    time::{Duration, Instant},
};

/// An object whose lifecycle is to be decided.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Work {
    Host(Key),
    Claim(Key),
    Provider(Key),
    Tenant(Key),
}

#[derive(Clone, Default)]
pub struct Queue(Arc<Inner>);

#[derive(Default)]
struct Inner {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    due: BTreeSet<(Instant, Work)>,
    when: BTreeMap<Work, Instant>,
    running: BTreeSet<Work>,
    /// Woken while running: when to run again.
    again: BTreeMap<Work, Instant>,
}

impl Queue {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Decide `work` now.
    pub fn wake(&self, work: Work) {
        self.wake_at(work, Instant::now());
    }

    /// Decide `work` in `delay`: for work that is woken by many at once and costs more than one object.
    pub fn wake_after(&self, work: Work, delay: Duration) {
        self.wake_at(work, Instant::now() + delay);
    }

    pub fn wake_at(&self, work: Work, at: Instant) {
        let mut state = self.state();
        if state.running.contains(&work) {
            let again = state.again.entry(work).or_insert(at);
            *again = (*again).min(at);
            return;
        }
        state.schedule(work, at);
        drop(state);
        self.0.changed.notify_one();
    }

    /// The next work that is due; it counts as running until [`Queue::done`].
    pub async fn next(&self) -> Work {
        loop {
            let changed = self.0.changed.notified();
            let next = {
                let mut state = self.state();
                match state.due.first().cloned() {
                    Some((at, work)) if at <= Instant::now() => {
                        state.due.pop_first();
                        state.when.remove(&work);
                        state.running.insert(work.clone());
                        return work;
                    }
                    first => first.map(|(at, _)| at),
                }
            };
            match next {
                Some(at) => tokio::select! {
                    biased;
                    () = changed => {}
                    () = tokio::time::sleep_until(at) => {}
                },
                None => changed.await,
            }
        }
    }

    /// `work` has been decided; run it again at `wake` unless something wakes it before.
    pub fn done(&self, work: Work, wake: Option<Instant>) {
        let mut state = self.state();
        state.running.remove(&work);
        let again = state.again.remove(&work);
        if let Some(at) = again.into_iter().chain(wake).min() {
            state.schedule(work, at);
        }
        drop(state);
        self.0.changed.notify_one();
    }

    /// How much waits and runs.
    pub fn depth(&self) -> (usize, usize) {
        let state = self.state();
        (state.due.len(), state.running.len())
    }
}

impl State {
    fn schedule(&mut self, work: Work, at: Instant) {
        if let Some(&before) = self.when.get(&work) {
            if before <= at {
                return;
            }
            self.due.remove(&(before, work.clone()));
        }
        self.due.insert((at, work.clone()));
        self.when.insert(work, at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str) -> Work {
        Work::Host(Key::new("ns", name))
    }

    #[tokio::test(start_paused = true)]
    async fn earliest_first_and_once() {
        let q = Queue::default();
        let now = Instant::now();
        q.wake_at(host("b"), now + Duration::from_secs(5));
        q.wake_at(host("a"), now + Duration::from_secs(9));
        q.wake_at(host("a"), now + Duration::from_secs(1));
        assert_eq!(q.next().await, host("a"));
        assert_eq!(Instant::now() - now, Duration::from_secs(1));
        q.done(host("a"), None);
        assert_eq!(q.next().await, host("b"));
        q.done(host("b"), None);
        assert_eq!(q.depth(), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn woken_while_running_runs_again() {
        let q = Queue::default();
        q.wake(host("a"));
        let work = q.next().await;
        q.wake(host("a"));
        assert_eq!(q.depth(), (0, 1), "never twice at once");
        q.done(work, Some(Instant::now() + Duration::from_secs(60)));
        let before = Instant::now();
        assert_eq!(q.next().await, host("a"));
        assert_eq!(Instant::now(), before, "the wake-up was not lost, nor put off");
    }
}
