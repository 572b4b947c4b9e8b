//! Long operations: a job is worked at in slices that take milliseconds, so that heartbeats and requests get their turn,
//! and consumes the answers to its own requests as they come.

mod erase;
mod image;
mod shutdown;
mod verify;
mod wipe;

use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::Value;

pub(crate) use erase::{EraseJob, Extent};
pub(crate) use image::{ImageJob, Reporting};
pub(crate) use shutdown::{ShutdownJob, flush_all};

use crate::dice::Dice;
use crate::event::{Action, BodyMode, HttpEvent, HttpId, HttpRequest};
use crate::failure::Failure;
use crate::journal::Journal;
use crate::parameters::Parameters;
use crate::platform::Platform;

/// What a job may use.
pub(crate) struct Context<'a> {
    pub(crate) platform: &'a mut dyn Platform,
    pub(crate) dice: &'a mut Dice,
    pub(crate) journal: &'a mut Journal,
    pub(crate) parameters: &'a Parameters,
    pub(crate) http: &'a mut HttpIds,
    pub(crate) actions: &'a mut Vec<Action>,
    pub(crate) now: Instant,
}

impl Context<'_> {
    pub(crate) fn note(&mut self, line: impl Into<String>) {
        self.journal.note(self.now, line);
    }

    /// Starts a download.
    pub(crate) fn get(&mut self, url: &str, mode: BodyMode, authorization: Option<&str>) -> HttpId {
        let id = self.http.next();
        let headers = authorization
            .iter()
            .map(|value| ("Authorization", (*value).to_owned()))
            .collect();
        self.actions.push(Action::Http(HttpRequest {
            id,
            method: "GET",
            url: url.to_owned(),
            headers,
            body: Bytes::new(),
            mode,
            timeout: self.parameters.download_timeout,
            insecure: self.parameters.insecure,
        }));
        id
    }
}

/// Numbers of requests, never used twice.
#[derive(Debug, Default)]
pub(crate) struct HttpIds(u64);

impl HttpIds {
    pub(crate) fn next(&mut self) -> HttpId {
        self.0 += 1;
        HttpId(self.0)
    }
}

/// Where a job is.
#[derive(Debug, PartialEq)]
pub(crate) enum State {
    /// There is more to do at once.
    Busy,
    /// Nothing to do before this time.
    Until(Instant),
    /// Nothing to do before the next event of a request.
    Waiting,
    Done(Value),
}

/// A long operation.
pub(crate) trait Job: Send {
    /// One slice; called when [`State::Busy`] or when the time of [`State::Until`] has come.
    fn work(&mut self, context: &mut Context<'_>) -> Result<State, Failure>;
    /// An event of a request. Events of requests that aren't this job's, or not any more, must be ignored.
    fn http(&mut self, id: HttpId, event: HttpEvent, context: &mut Context<'_>) -> Result<State, Failure>;
    /// What the shell has to do when the job has ended well.
    fn afterwards(&self) -> Option<Action> {
        None
    }
}

/// How often a disk that erases by itself is asked whether it is done.
const ERASE_POLL: Duration = Duration::from_secs(1);
static ZEROS: [u8; 1 << 20] = [0; 1 << 20];

/// Writes zeros over a range that is part of a disk; at most a few MiB.
fn zero(platform: &mut dyn Platform, disk: &str, offset: u64, length: u64) -> Result<(), Failure> {
    let mut done = 0;
    while done < length {
        let count = (length - done).min(ZEROS.len() as u64);
        platform.write_at(disk, offset + done, &ZEROS[..count as usize])?;
        done += count;
    }
    Ok(())
}

/// Whether all bytes are zero. Compares with a constant: a memcmp, fast also in unoptimised builds.
fn is_zero(bytes: &[u8]) -> bool {
    bytes
        .chunks(ZEROS.len())
        .all(|chunk| chunk == &ZEROS[..chunk.len()])
}
