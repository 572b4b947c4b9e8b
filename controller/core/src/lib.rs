//! Every decision that Steelyard takes, as pure functions.
//!
//! A lifecycle is one total function: what is desired and observed goes in with a [`Moment`]; a
//! [`Decision`] comes out: object writes, the whole next status, intents, questions, the next wake-up
//! and what users should read. Nothing here does I/O, reads a clock or rolls dice, and the manifest of
//! this package cannot name a client or a runtime.
//!
//! ```text
//! view + policy + moment --decide--> Decision { writes, status, intents, look, wake, events, rule }
//! ```

#[macro_use]
mod broken;

pub mod backoff;
pub mod claim;
pub mod host;
pub mod intent;
pub mod moment;
#[cfg(feature = "mutants")]
pub mod mutant;
pub mod observed;
pub mod provider;
pub mod restore;
pub mod write;

pub use broken::password_is_retried;
pub use moment::{Jitter, Moment};
pub use observed::{Ignorance, Observed};
pub use write::{Change, ObjectRef, ObjectWrite};

use jiff::{SignedDuration, Timestamp};

/// What a lifecycle wants done next, and why.
#[must_use]
#[derive(Clone, Debug, PartialEq)]
pub struct Decision<Status, Intent> {
    /// Changes to objects (finalizers, labels, spec, HardwareData, Secrets), in order, each with the
    /// resourceVersion it was decided on. They are carried out before the status is saved; a conflict
    /// drops the whole decision.
    pub writes: Vec<ObjectWrite>,
    /// The whole next status, saved by compare-and-swap before any intent runs.
    pub status: Status,
    /// "Make it so": at most one per device; a level and never an edge, or a job with an id.
    pub intents: Vec<Intent>,
    /// What must be known to decide again, and how fresh.
    pub look: Vec<Look>,
    /// When to decide again if nothing changes before.
    pub wake: Wake,
    /// What `kubectl describe` should show.
    pub events: Vec<Notice>,
    /// The rule that decided: in status, log line, page and test.
    pub rule: Rule,
}

impl<S, I> Decision<S, I> {
    /// A decision that only records `status`: nothing to do until something changes.
    pub fn settled(rule: Rule, status: S) -> Self {
        Decision {
            writes: Vec::new(),
            status,
            intents: Vec::new(),
            look: Vec::new(),
            wake: Wake::OnChange,
            events: Vec::new(),
            rule,
        }
    }
}

/// The name of the rule that decided, e.g. `inspect.await-agent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub struct Rule(pub &'static str);

impl std::fmt::Display for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

/// A question to the observers: what, and how old an answer may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Look {
    pub what: Question,
    pub within: SignedDuration,
}

/// What can be asked about a host. Facts that are pushed to us (agent, boot services, nodes) need no question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub enum Question {
    /// Power, boot override, identity and NICs, from the BMC.
    Bmc,
    /// The job that the agent works on.
    AgentJob,
    /// Which network each port is in, as the fabric says.
    Fabric,
    /// The node in the tenant's cluster.
    Node,
}

/// When a lifecycle is decided again although nothing that it watches has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub enum Wake {
    OnChange,
    At(Timestamp),
}

impl Wake {
    /// The earlier of two wake-ups.
    pub fn sooner(self, other: Wake) -> Wake {
        match (self, other) {
            (Wake::At(a), Wake::At(b)) => Wake::At(a.min(b)),
            (Wake::At(a), Wake::OnChange) | (Wake::OnChange, Wake::At(a)) => Wake::At(a),
            (Wake::OnChange, Wake::OnChange) => Wake::OnChange,
        }
    }
}

/// An Event for users: `kubectl describe` shows it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Notice {
    pub warning: bool,
    /// CamelCase, from Metal3's list where it has one, e.g. `InspectionStarted`.
    pub reason: &'static str,
    pub message: String,
}

impl Notice {
    pub fn normal(reason: &'static str, message: impl Into<String>) -> Self {
        Notice {
            warning: false,
            reason,
            message: message.into(),
        }
    }
    pub fn warning(reason: &'static str, message: impl Into<String>) -> Self {
        Notice {
            warning: true,
            reason,
            message: message.into(),
        }
    }
}
