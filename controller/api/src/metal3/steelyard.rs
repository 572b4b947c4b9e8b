//! `status.steelyard`: what the controller must still know after it was killed.
//!
//! Everything here is written before it is needed, and nothing that can be observed again is kept here. Times
//! carry all their digits, because facts are compared with them.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema::is_default;
use crate::words::words;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct SteelyardStatus {
    /// The rule that decided last.
    pub rule: String,
    /// What is waited for, in words.
    pub message: String,
    /// The step inside the provisioning state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// When the step began: its time limit runs from here.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::timestamp")]
    pub step_since: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation: Option<Operation>,
    /// Nothing is tried again before this.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::timestamp")]
    pub retry_at: Option<Timestamp>,
    /// The generation of the spec that the last failure was of: another one is tried at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "int64"))]
    pub failed_generation: Option<i64>,
    /// The BMC address that the credentials were last sent to: another address is another BMC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bmc_address: Option<String>,
    /// Where the ports belong when nobody uses the host; recorded before the first move.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub home_network: Option<String>,
    /// Where the ports were last seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// The address in the provisioning network, as CIDR.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wipe: Option<WipeEvidence>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claim: Option<ClaimRecord>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentRecord>,
    /// What inspection found that a node will offer beside CPU and memory, for example `nvidia.com/gpu: 8`.
    /// HardwareDetails has no field for it.
    #[serde(skip_serializing_if = "is_default")]
    #[schemars(schema_with = "counts")]
    pub devices: BTreeMap<String, u64>,
    /// Tries of a step that is counted apart from `errorCount`.
    #[serde(skip_serializing_if = "is_default")]
    #[schemars(schema_with = "counts")]
    pub attempts: BTreeMap<String, u32>,
}

words! {
    pub enum OperationKind { Inspect = "Inspect", Write = "Write", Erase = "Erase", }
}

/// A job that was, or is about to be, given to the agent. Its id is saved before the job is started, so that
/// whoever comes after a crash looks for it instead of starting another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Operation {
    pub id: String,
    pub kind: OperationKind,
    #[serde(default)]
    pub attempt: u32,
    #[schemars(schema_with = "crate::schema::timestamp")]
    pub started_at: Timestamp,
    #[schemars(schema_with = "crate::schema::timestamp")]
    pub deadline: Timestamp,
    /// When the last intent was accepted: facts that are older say nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::timestamp")]
    pub accepted_at: Option<Timestamp>,
}

/// Proof that nothing of the last user is left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WipeEvidence {
    pub operation_id: String,
    #[schemars(schema_with = "crate::schema::timestamp")]
    pub finished_at: Timestamp,
    #[serde(default)]
    pub disks: Vec<WipedDisk>,
    /// Why nothing was wiped, where that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skipped: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct WipedDisk {
    pub name: String,
    pub serial: String,
    pub method: String,
    #[schemars(schema_with = "bytes")]
    pub size_bytes: u64,
    /// How much was read back and found empty.
    #[schemars(schema_with = "bytes")]
    pub verified_bytes: u64,
    pub verified: bool,
}

/// The claim whose machine this is, or last was until the wipe is proven.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ClaimRecord {
    pub namespace: String,
    pub name: String,
    pub uid: String,
}

/// The agent that we talk to. Its token and certificate are in the Secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct AgentRecord {
    pub secret_name: String,
    /// Another boot is another agent: its token is refused.
    pub boot_id: String,
}

fn bytes(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": "integer", "format": "int64", "minimum": 0 })
}

fn counts(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "object",
        "additionalProperties": { "type": "integer", "format": "int64", "minimum": 0 },
    })
}
