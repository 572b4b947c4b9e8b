//! A fact has a time, or a reason why we lack it. Unknown is a value: a BMC that does not answer is not
//! a server that is off.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Observed<T> {
    Known { value: T, at: Timestamp },
    Unknown { since: Timestamp, why: Ignorance },
}

/// Why a fact is missing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Ignorance {
    /// Nobody has looked yet, or the last look is older than the last accepted intent.
    NotAsked,
    /// The peer does not answer; the text names the peer and what happened.
    Unreachable(String),
    /// The peer answered and refused us. `credentials` is the version of the Secret that was tried.
    Refused { why: String, credentials: String },
    /// The peer answered something that we can't use.
    Unreadable(String),
}

impl<T> Observed<T> {
    pub fn known(&self) -> Option<&T> {
        match self {
            Observed::Known { value, .. } => Some(value),
            Observed::Unknown { .. } => None,
        }
    }

    pub fn ignorance(&self) -> Option<&Ignorance> {
        match self {
            Observed::Known { .. } => None,
            Observed::Unknown { why, .. } => Some(why),
        }
    }

    /// The value, if it was observed at or after `since`.
    pub fn known_since(&self, since: Timestamp) -> Option<&T> {
        match self {
            Observed::Known { value, at } if *at >= since => Some(value),
            _ => None,
        }
    }

    pub fn not_asked(since: Timestamp) -> Self {
        Observed::Unknown {
            since,
            why: Ignorance::NotAsked,
        }
    }

    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Observed<U> {
        match self {
            Observed::Known { value, at } => Observed::Known { value: f(value), at },
            Observed::Unknown { since, why } => Observed::Unknown { since, why },
        }
    }
}
