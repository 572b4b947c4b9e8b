//! One worker: waits for an order or for the time of the next look, acts, looks, reports.

use std::{
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::{sync::Notify, time::Instant};

/// What a worker drives.
pub trait Device: Send + 'static {
    type Order: Clone + Send + 'static;
    /// Orders given before a look are dropped after it: whoever gave them decides again on what it found.
    /// False for a device that serves many, since only those are told of whom a look says something new.
    const FORGETFUL: bool = true;

    /// Brings the order about as far as the device accepts it. What came of it is found by the look that follows.
    fn ensure(&mut self, order: Self::Order) -> impl Future<Output = ()> + Send;
    /// Looks at the device and reports.
    fn observe(&mut self) -> impl Future<Output = ()> + Send;
    /// A newer order comes while `waiting` has not been begun.
    fn merge(waiting: Self::Order, newer: Self::Order) -> Self::Order {
        drop(waiting);
        newer
    }
}

/// The order book of one worker. Orders come from decisions, at any time.
pub struct Worker<O> {
    book: Mutex<Book<O>>,
    changed: Notify,
}

struct Book<O> {
    order: Option<O>,
    look_at: Option<Instant>,
}

impl<O: Clone + Send + 'static> Worker<O> {
    pub fn new() -> Arc<Self> {
        Arc::new(Worker {
            book: Mutex::new(Book {
                order: None,
                look_at: None,
            }),
            changed: Notify::new(),
        })
    }

    fn book(&self) -> MutexGuard<'_, Book<O>> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn order<D: Device<Order = O>>(&self, order: O) {
        let mut book = self.book();
        book.order = Some(match book.order.take() {
            Some(waiting) => D::merge(waiting, order),
            None => order,
        });
        drop(book);
        self.changed.notify_one();
    }

    /// Changes the order that waits, if one does: what was wanted is not wanted any more.
    pub fn amend(&self, change: impl FnOnce(&mut Option<O>)) {
        change(&mut self.book().order);
    }

    /// Look at `at` at the latest.
    pub fn look_at(&self, at: Instant) {
        let mut book = self.book();
        book.look_at = Some(book.look_at.map_or(at, |before| before.min(at)));
        drop(book);
        self.changed.notify_one();
    }

    /// Works for ever.
    pub async fn run<D: Device<Order = O>>(self: Arc<Self>, mut device: D) {
        loop {
            if let Some(order) = self.next().await {
                device.ensure(order).await;
            }
            // Orders from before this look were decided on older facts.
            {
                let mut book = self.book();
                book.look_at = None;
                if D::FORGETFUL {
                    book.order = None;
                }
            }
            device.observe().await;
        }
    }

    /// Waits for an order, or (`None`) until a look is due.
    async fn next(&self) -> Option<O> {
        loop {
            let changed = self.changed.notified();
            let look_at = {
                let mut book = self.book();
                if let Some(order) = book.order.take() {
                    return Some(order);
                }
                book.look_at
            };
            match look_at {
                Some(at) if at <= Instant::now() => return None,
                Some(at) => tokio::select! {
                    biased;
                    () = changed => {}
                    () = tokio::time::sleep_until(at) => {}
                },
                None => changed.await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::sync::mpsc;

    struct Recorder(mpsc::UnboundedSender<String>);

    impl Device for Recorder {
        type Order = &'static str;
        async fn ensure(&mut self, order: &'static str) {
            let _ = self.0.send(format!("ensure {order}"));
        }
        async fn observe(&mut self) {
            let _ = self.0.send("look".into());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn newer_order_replaces_and_every_order_is_followed_by_a_look() {
        let (tx, mut rx) = mpsc::unbounded_channel();
        let worker = Worker::new();
        worker.order::<Recorder>("on");
        worker.order::<Recorder>("off");
        worker.look_at(Instant::now() + Duration::from_secs(9));
        let mut work = std::pin::pin!(worker.clone().run(Recorder(tx)));
        let mut seen = Vec::new();
        while seen.len() < 2 {
            tokio::select! { biased; Some(s) = rx.recv() => seen.push(s), () = &mut work => {} }
        }
        assert_eq!(seen, ["ensure off", "look"]);
        worker.look_at(Instant::now() + Duration::from_secs(3));
        let before = Instant::now();
        tokio::select! { biased; s = rx.recv() => assert_eq!(s.as_deref(), Some("look")), () = &mut work => {} }
        assert_eq!(before.elapsed(), Duration::from_secs(3));
    }
}
