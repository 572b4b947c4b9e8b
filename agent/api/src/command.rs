//! Commands: what the service posts to the agent, and what it reads back (ipa `api/app.py`, `extensions/base.py`).

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::AgentToken;

/// Full names of the commands that our agent knows.
pub mod commands {
    pub const GET_DEPLOY_STEPS: &str = "deploy.get_deploy_steps";
    pub const EXECUTE_DEPLOY_STEP: &str = "deploy.execute_deploy_step";
    pub const GET_CLEAN_STEPS: &str = "clean.get_clean_steps";
    pub const EXECUTE_CLEAN_STEP: &str = "clean.execute_clean_step";
    pub const PREPARE_IMAGE: &str = "standby.prepare_image";
    pub const SYNC: &str = "standby.sync";
    pub const POWER_OFF: &str = "standby.power_off";
    pub const RUN_IMAGE: &str = "standby.run_image";
    pub const GET_PARTITION_UUIDS: &str = "standby.get_partition_uuids";
    pub const GET_HARDWARE_INFO: &str = "poll.get_hardware_info";
    pub const COLLECT_SYSTEM_LOGS: &str = "log.collect_system_logs";
    pub const LOCKDOWN: &str = "system.lockdown";
}

/// Body of `POST /v1/commands/`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CommandRequest {
    /// `extension.command`.
    pub name: String,
    #[serde(default)]
    pub params: Map<String, Value>,
}

impl CommandRequest {
    pub fn new(name: &str, params: Map<String, Value>) -> Self {
        Self {
            name: name.to_owned(),
            params,
        }
    }

    /// Path and query of the request; the token goes into the query, so the result is a secret, too.
    pub fn path_and_query(token: &AgentToken, wait: bool) -> String {
        // Tokens are urlsafe text by construction (`secrets.token_urlsafe`); anything else is escaped.
        let mut escaped = String::with_capacity(token.expose().len());
        for byte in token.expose().bytes() {
            match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                    escaped.push(char::from(byte))
                }
                other => escaped.push_str(&format!("%{other:02X}")),
            }
        }
        format!(
            "{}?wait={wait}&{}={escaped}",
            crate::paths::COMMANDS,
            crate::TOKEN_QUERY
        )
    }
}

/// Where a command is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum CommandStatus {
    Running,
    Succeeded,
    Failed,
    /// The hardware managers changed since the steps were read; the service reads them again.
    #[serde(alias = "VERSION_MISMATCH")]
    CleanVersionMismatch,
}

/// One command as the agent tells of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CommandResult {
    pub id: String,
    /// Without the extension: `execute_deploy_step`.
    pub command_name: String,
    pub command_status: CommandStatus,
    #[serde(default)]
    pub command_error: Option<CommandError>,
    #[serde(default)]
    pub command_result: Option<Value>,
}

/// Why a command failed. `type` is the name of IPA's Python class, which services compare.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandError {
    #[serde(rename = "type", default)]
    pub class: String,
    #[serde(default)]
    pub code: u16,
    #[serde(default)]
    pub message: String,
    #[serde(default)]
    pub details: String,
}

/// Answer of `GET /v1/commands/`, in order of execution.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CommandList {
    pub commands: Vec<CommandResult>,
}

/// Whose mistake an HTTP error is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FaultCode {
    Client,
    Server,
}

/// Body of every HTTP error, of the agent and of the service alike.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    #[serde(rename = "faultcode")]
    pub code: FaultCode,
    #[serde(rename = "faultstring")]
    pub text: String,
}

impl Fault {
    /// An error for this HTTP status.
    pub fn for_status(status: u16, text: impl Into<String>) -> Self {
        Self {
            code: if status >= 500 {
                FaultCode::Server
            } else {
                FaultCode::Client
            },
            text: text.into(),
        }
    }
}
