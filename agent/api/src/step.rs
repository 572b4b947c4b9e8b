//! Steps: the units of cleaning and deployment that an agent offers and executes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Which family of steps; it names the commands and the keys of their answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum StepKind {
    Deploy,
    Clean,
}

impl StepKind {
    /// `deploy`, `clean`: prefix of keys such as `clean_result`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Deploy => "deploy",
            Self::Clean => "clean",
        }
    }
}

/// A step as agents list it, and as services send it back for execution.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Step {
    pub step: String,
    pub interface: String,
    #[serde(default)]
    pub priority: i64,
    #[serde(default)]
    pub reboot_requested: bool,
    #[serde(default)]
    pub abortable: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub argsinfo: Option<Value>,
    /// Keyword arguments, only when executed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub args: Option<Map<String, Value>>,
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

impl Step {
    /// A step of the `deploy` interface, to be executed with these arguments.
    pub fn deploy(step: &str, args: Map<String, Value>) -> Self {
        Self {
            step: step.to_owned(),
            interface: "deploy".to_owned(),
            args: Some(args),
            ..Self::default()
        }
    }
}

/// Result of `get_deploy_steps` and `get_clean_steps`: steps by hardware manager.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct StepList {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deploy_steps: Option<BTreeMap<String, Vec<Step>>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clean_steps: Option<BTreeMap<String, Vec<Step>>>,
    #[serde(default)]
    pub hardware_manager_version: BTreeMap<String, String>,
}

impl StepList {
    /// All steps of this kind, whichever manager offers them.
    pub fn of(&self, kind: StepKind) -> impl Iterator<Item = &Step> {
        let steps = match kind {
            StepKind::Deploy => &self.deploy_steps,
            StepKind::Clean => &self.clean_steps,
        };
        steps.iter().flat_map(BTreeMap::values).flatten()
    }
}

/// Parameters of `execute_deploy_step` and `execute_clean_step`.
#[derive(Debug, Clone, PartialEq)]
pub struct ExecuteStepParams {
    pub kind: StepKind,
    pub step: Step,
    pub node: Value,
    pub ports: Value,
    /// `hardware_manager_version` as the agent gave it; a different one now is CLEAN_VERSION_MISMATCH.
    pub version: Option<BTreeMap<String, String>>,
}

impl ExecuteStepParams {
    /// The `params` object of the command.
    pub fn into_params(self) -> Map<String, Value> {
        let mut params = Map::new();
        params.insert(
            "step".to_owned(),
            serde_json::to_value(self.step).unwrap_or_default(),
        );
        params.insert("node".to_owned(), self.node);
        params.insert("ports".to_owned(), self.ports);
        let version = serde_json::to_value(self.version).unwrap_or_default();
        params.insert(format!("{}_version", self.kind.word()), version);
        params
    }
}

/// Result of an executed step: what it returned, and the step itself, by which the service recognises it.
#[derive(Debug, Clone, PartialEq)]
pub struct StepResult {
    pub kind: StepKind,
    pub result: Value,
    pub step: Value,
}

impl StepResult {
    /// `{"<kind>_result", "<kind>_step"}`.
    pub fn into_value(self) -> Value {
        let mut object = Map::new();
        object.insert(format!("{}_result", self.kind.word()), self.result);
        object.insert(format!("{}_step", self.kind.word()), self.step);
        Value::Object(object)
    }

    /// Reads a `command_result`; `None` when it isn't one of this kind.
    pub fn from_value(kind: StepKind, value: &Value) -> Option<Self> {
        let result = value.get(format!("{}_result", kind.word()))?.clone();
        let step = value.get(format!("{}_step", kind.word()))?.clone();
        Some(Self { kind, result, step })
    }
}
