//! The serial console: what firmware, boot loader and OS print. Bounded; readable by tests, `lab-status` and people.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Lines that are kept: a boot prints about 60, a long join script some hundreds.
const LINES_MAX: usize = 1000;
const LINE_MAX: usize = 512;

/// A handle to a machine's console; clones see the same one.
#[derive(Clone, Default)]
pub struct Console {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    ring: Mutex<Ring>,
    printed: Notify,
}

#[derive(Default)]
struct Ring {
    lines: VecDeque<String>,
    /// Lines that were ever printed.
    total: u64,
}

impl Console {
    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.shared.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Prints text, line by line.
    pub fn print(&self, text: impl AsRef<str>) {
        let mut ring = self.ring();
        for line in text.as_ref().lines() {
            if ring.lines.len() == LINES_MAX {
                ring.lines.pop_front();
            }
            let mut line: String = line.chars().filter(|c| !c.is_control() || *c == '\t').collect();
            if let Some((cut, _)) = line.char_indices().nth(LINE_MAX) {
                line.truncate(cut);
            }
            tracing::trace!(line, "console");
            ring.lines.push_back(line);
            ring.total += 1;
        }
        drop(ring);
        self.shared.printed.notify_waiters();
    }

    /// The lines that are still held, oldest first.
    pub fn lines(&self) -> Vec<String> {
        self.ring().lines.iter().cloned().collect()
    }

    pub fn contains(&self, text: &str) -> bool {
        self.ring().lines.iter().any(|line| line.contains(text))
    }

    /// Returns once a line with `text` is held.
    pub async fn wait_for(&self, text: &str) {
        loop {
            let printed = self.shared.printed.notified();
            let mut printed = std::pin::pin!(printed);
            // Registered before the look, so that no line is missed.
            printed.as_mut().enable();
            if self.contains(text) {
                return;
            }
            printed.await;
        }
    }

    pub fn clear(&self) {
        self.ring().lines.clear();
    }
}

impl fmt::Display for Console {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines().iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}
