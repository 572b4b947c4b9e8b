//! The agent token: the shared secret between one boot of the agent and the service.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What lookup answers instead of a token that it has handed out before (ironic `api/controllers/v1/ramdisk.py`).
const MASK: &str = "******";

/// A secret: no `Display`, and `Debug` shows only whether it is the mask.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AgentToken(String);

impl AgentToken {
    /// Shortest token that an agent accepts (ipa `agent.py`: 32 characters).
    pub const LENGTH_MIN: usize = 32;

    /// Wraps a token as it came, without checking it.
    pub fn new(token: impl Into<String>) -> Self {
        Self(token.into())
    }

    /// The answer of a service that has given the token away already.
    pub fn masked() -> Self {
        Self(MASK.to_owned())
    }

    /// Whether this is the mask and no token.
    pub fn is_masked(&self) -> bool {
        self.0 == MASK
    }

    /// Whether an agent may use it: long enough, and not the mask.
    pub fn is_usable(&self) -> bool {
        self.0.len() >= Self::LENGTH_MIN
    }

    /// The secret, for the one place that puts it on the wire.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Compares without telling by its duration where the first difference is.
    pub fn matches(&self, candidate: &str) -> bool {
        let (own, other) = (self.0.as_bytes(), candidate.as_bytes());
        let differences = own.iter().zip(other).fold(0u8, |acc, (a, b)| acc | (a ^ b));
        own.len() == other.len() && differences == 0
    }
}

impl fmt::Debug for AgentToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_masked() {
            "AgentToken(masked)"
        } else {
            "AgentToken(redacted)"
        })
    }
}
