//! The heartbeat that an agent posts; the answer is 202 without a body that matters.

use serde::{Deserialize, Serialize};

use crate::AgentToken;

/// Body of `POST /v1/heartbeat/{uuid}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Where commands go: `https://ADDRESS:9999`, IPv6 in brackets.
    pub callback_url: String,
    /// Optional in JSON so that a service can refuse its absence with 400 itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_token: Option<AgentToken>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_version: Option<String>,
    /// PEM text of the agent's self-signed certificate (from 1.68 on); the service pins it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_verify_ca: Option<String>,
    /// `start`, `end` or `error`, of clients that aren't agents (from 1.72 on).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_status: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_status_message: Option<String>,
}
