//! What lookup and the inspection callback answer.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::AgentToken;

/// Answer of `GET /v1/lookup`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LookupAnswer {
    pub node: Node,
    pub config: LookupConfig,
}

/// The node as far as an agent reads it; everything else is kept in `rest`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Node {
    pub uuid: String,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub properties: Map<String, Value>,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub instance_info: Map<String, Value>,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub driver_internal_info: Map<String, Value>,
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

fn null_is_empty<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Map<String, Value>, D::Error> {
    Ok(Option::<Map<String, Value>>::deserialize(from)?.unwrap_or_default())
}

impl Node {
    /// Hints for the root device: `instance_info.root_device`, else `properties.root_device`.
    pub fn root_device_hints(&self) -> Option<&Map<String, Value>> {
        [&self.instance_info, &self.properties]
            .into_iter()
            .find_map(|of| {
                of.get("root_device")
                    .and_then(Value::as_object)
                    .filter(|hints| !hints.is_empty())
            })
    }

    /// Devices that neither an erase nor an image may touch: `properties.skip_block_devices`, a list of hints.
    pub fn skipped_devices(&self) -> Vec<&Map<String, Value>> {
        let list = self
            .properties
            .get("skip_block_devices")
            .and_then(Value::as_array);
        list.into_iter().flatten().filter_map(Value::as_object).collect()
    }

    /// A boolean of `driver_internal_info`, as Ironic stores it (a JSON boolean, or its text).
    pub fn flag(&self, name: &str) -> Option<bool> {
        match self.driver_internal_info.get(name)? {
            Value::Bool(value) => Some(*value),
            Value::String(text) => match text.to_ascii_lowercase().as_str() {
                "true" | "1" | "yes" | "on" => Some(true),
                "false" | "0" | "no" | "off" => Some(false),
                _ => None,
            },
            _ => None,
        }
    }

    /// A count of `driver_internal_info`.
    pub fn count(&self, name: &str) -> Option<u64> {
        self.driver_internal_info.get(name).and_then(Value::as_u64)
    }
}

/// `config` of the lookup answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LookupConfig {
    /// Seconds after which the service gives an agent up; beats come at 0.3 to 0.6 of it. Ironic's default is 300.
    pub heartbeat_timeout: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_token: Option<AgentToken>,
    #[serde(default = "yes")]
    pub agent_token_required: bool,
    #[serde(default = "yes")]
    pub agent_md5_checksum_enable: bool,
    #[serde(default)]
    pub disable_deep_image_inspection: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub permitted_image_formats: Vec<String>,
    #[serde(default)]
    pub agent_skip_bmc_detect: bool,
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

fn yes() -> bool {
    true
}

impl LookupConfig {
    /// A configuration with Ironic's defaults for everything but these two.
    pub fn new(heartbeat_timeout: u64, agent_token: AgentToken) -> Self {
        Self {
            heartbeat_timeout,
            agent_token: Some(agent_token),
            agent_token_required: true,
            agent_md5_checksum_enable: true,
            disable_deep_image_inspection: false,
            permitted_image_formats: vec!["raw".to_owned(), "gpt".to_owned()],
            agent_skip_bmc_detect: true,
            rest: Map::new(),
        }
    }
}

/// Why an answer with status 200 can't be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnusableAnswer(pub String);

impl std::fmt::Display for UnusableAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "unusable lookup answer: {}", self.0)
    }
}

impl std::error::Error for UnusableAnswer {}

impl LookupAnswer {
    /// Reads a body, and checks what an agent can't do without (ipa `ironic_api_client.py` `_do_lookup`).
    pub fn parse(body: &[u8]) -> Result<Self, UnusableAnswer> {
        let answer: Self = serde_json::from_slice(body).map_err(|e| UnusableAnswer(e.to_string()))?;
        if answer.node.uuid.is_empty() {
            return Err(UnusableAnswer("node.uuid is empty".to_owned()));
        }
        if answer.config.heartbeat_timeout == 0 {
            return Err(UnusableAnswer("config.heartbeat_timeout is 0".to_owned()));
        }
        Ok(answer)
    }
}

/// Answer of the inspection callback: `{"uuid"}` of old, the form of lookup from 1.84 on.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct InspectionAnswer {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<Node>,
}

impl InspectionAnswer {
    /// The answer of a service that found the node.
    pub fn found(uuid: &str) -> Self {
        Self {
            uuid: Some(uuid.to_owned()),
            node: None,
        }
    }

    /// The node's uuid in either form.
    pub fn node_uuid(&self) -> Option<&str> {
        self.uuid
            .as_deref()
            .or_else(|| self.node.as_ref().map(|node| node.uuid.as_str()))
    }
}
