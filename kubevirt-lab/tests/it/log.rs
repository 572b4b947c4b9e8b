//! What the product logs while a test runs: read when a test fails, searched for secrets when it ends.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

/// Everything that the controller would ever print, and the news of the others.
const FILTER: &str = "info,steelyard_controller=trace,steelyard_core=trace";

#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Collects what this thread logs until the guard drops. Tests run on one thread each.
    pub(crate) fn start() -> (Log, DefaultGuard) {
        let log = Log::default();
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter(EnvFilter::new(FILTER))
            .with_writer(log.clone())
            .with_ansi(false)
            .without_time()
            .finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    /// The last `lines` lines that are not mere detail.
    pub(crate) fn tail(&self, lines: usize) -> String {
        let text = self.text();
        let news: Vec<&str> = text
            .lines()
            .filter(|l| !l.starts_with("TRACE") && !l.starts_with("DEBUG"))
            .collect();
        news[news.len().saturating_sub(lines)..].join("\n")
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Log;

    fn make_writer(&self) -> Log {
        self.clone()
    }
}
