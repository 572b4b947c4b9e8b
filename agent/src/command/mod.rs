//! The commands that a service may give, and the record of those that it gave.

mod params;
mod steps;

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use steelyard_agent_api::{CommandError, CommandResult, CommandStatus, ImageInfo, Node, StepKind};

pub(crate) use params::Params;
pub(crate) use steps::manager;

use crate::failure::Failure;
use crate::job::{ImageJob, Job, Reporting, ShutdownJob};

/// Commands kept; one boot of the agent sees some ten. The oldest goes first.
const RECORDS_MAX: usize = 200;

/// All commands of this boot, in order of execution.
#[derive(Debug, Default)]
pub(crate) struct Records {
    list: Vec<CommandResult>,
}

impl Records {
    pub(crate) fn all(&self) -> Vec<CommandResult> {
        self.list.clone()
    }

    pub(crate) fn get(&self, id: &str) -> Option<&CommandResult> {
        self.list.iter().find(|record| record.id == id)
    }

    /// The last command, while it runs.
    pub(crate) fn running(&self) -> Option<&CommandResult> {
        self.list
            .last()
            .filter(|record| record.command_status == CommandStatus::Running)
    }

    pub(crate) fn push(&mut self, record: CommandResult) {
        if self.list.len() == RECORDS_MAX {
            self.list.remove(0);
        }
        self.list.push(record);
    }

    /// Ends a command.
    pub(crate) fn end(&mut self, id: &str, outcome: Result<Value, Failure>) -> Option<&CommandResult> {
        let record = self.list.iter_mut().find(|record| record.id == id)?;
        settle(record, outcome);
        Some(record)
    }
}

/// Writes the end of a command into its record.
pub(crate) fn settle(record: &mut CommandResult, outcome: Result<Value, Failure>) {
    match outcome {
        Ok(value) => {
            record.command_status = CommandStatus::Succeeded;
            record.command_result = (!value.is_null()).then_some(value);
        }
        Err(failure) => {
            record.command_status = match failure {
                Failure::VersionMismatch { .. } => CommandStatus::CleanVersionMismatch,
                _ => CommandStatus::Failed,
            };
            record.command_error = Some(CommandError::from(&failure));
        }
    }
}

/// What a command asks for, its parameters checked.
pub(crate) enum Command {
    /// Done before the reply.
    Sync(SyncCommand),
    /// Runs behind the reply.
    Async(Box<dyn Job>),
    /// A step: a job whose result is wrapped with the step, which the service recognises it by.
    Step {
        kind: StepKind,
        step: Value,
        job: Box<dyn Job>,
    },
}

/// Commands that take no time.
#[derive(Debug, PartialEq)]
pub(crate) enum SyncCommand {
    Value(Value),
    Sync,
    HardwareInfo,
    PartitionUuids,
    Logs,
    Lockdown,
}

/// A command that isn't there.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unknown {
    Extension(String),
    Command(String),
}

/// What resolving a command needs to know.
pub(crate) struct Scene<'a> {
    /// The cached node; commands that carry a newer one replace it.
    pub(crate) node: &'a mut Option<Node>,
    pub(crate) md5_enabled: bool,
}

/// Why a command doesn't start.
pub(crate) enum Refusal {
    Unknown(Unknown),
    /// 400 for unusable parameters of the command itself, a failed record for everything else.
    Failure(Failure),
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

/// Finds a command and checks its parameters.
pub(crate) fn resolve(
    extension: &str,
    command: &str,
    params: Map<String, Value>,
    scene: &mut Scene<'_>,
) -> Result<Command, Refusal> {
    let mut params = Params::new(command, params);
    match (extension, command) {
        ("deploy", "get_deploy_steps") => get_steps(StepKind::Deploy, params, scene),
        ("clean", "get_clean_steps") => get_steps(StepKind::Clean, params, scene),
        ("deploy", "execute_deploy_step") => execute_step(StepKind::Deploy, params, scene),
        ("clean", "execute_clean_step") => execute_step(StepKind::Clean, params, scene),
        ("standby", "prepare_image") => {
            let image: ImageInfo = params.required("image_info")?;
            let configdrive: Option<String> = params.optional("configdrive")?;
            params.end()?;
            steps::check_image(&image)?;
            let node = scene.node.clone();
            let job = ImageJob::new(image, configdrive, node, scene.md5_enabled, Reporting::Command)?;
            Ok(Command::Async(Box::new(job)))
        }
        ("standby", "power_off" | "run_image") => {
            params.end()?;
            Ok(Command::Async(Box::new(ShutdownJob {
                reboot: command == "run_image",
            })))
        }
        ("standby", "sync") => plain(params, SyncCommand::Sync),
        ("standby", "get_partition_uuids") => plain(params, SyncCommand::PartitionUuids),
        ("poll", "get_hardware_info") => plain(params, SyncCommand::HardwareInfo),
        ("log", "collect_system_logs") => plain(params, SyncCommand::Logs),
        ("system", "lockdown") => plain(params, SyncCommand::Lockdown),
        ("deploy" | "clean" | "standby" | "poll" | "log" | "system", _) => {
            Err(Refusal::Unknown(Unknown::Command(command.to_owned())))
        }
        _ => Err(Refusal::Unknown(Unknown::Extension(extension.to_owned()))),
    }
}

fn plain(params: Params, command: SyncCommand) -> Result<Command, Refusal> {
    params.end()?;
    Ok(Command::Sync(command))
}

fn get_steps(kind: StepKind, mut params: Params, scene: &mut Scene<'_>) -> Result<Command, Refusal> {
    remember(params.required("node")?, scene);
    let _ports: Value = params.required("ports")?;
    params.end()?;
    let steps = serde_json::to_value(steps::list(kind)).expect("a struct of strings and numbers is JSON");
    Ok(Command::Sync(SyncCommand::Value(steps)))
}

fn execute_step(kind: StepKind, mut params: Params, scene: &mut Scene<'_>) -> Result<Command, Refusal> {
    let step: Value = params.required("step")?;
    remember(params.required("node")?, scene);
    let _ports: Value = params.required("ports")?;
    let version: Option<BTreeMap<String, String>> = params.optional(&format!("{}_version", kind.word()))?;
    params.end()?;
    steps::check_version(version)?;
    // A step's own arguments are the step's failure, not a refused command.
    let job = steps::start(kind, &step, scene.node.clone(), scene.md5_enabled);
    let job = job.unwrap_or_else(|failure| Box::new(FailedJob(Some(failure))));
    Ok(Command::Step { kind, step, job })
}

/// Commands carry the node as it is now; hints and flags are read from it.
fn remember(node: Value, scene: &mut Scene<'_>) {
    if let Ok(node) = serde_json::from_value::<Node>(node) {
        *scene.node = Some(node);
    }
}

/// A step that failed before it began.
struct FailedJob(Option<Failure>);

impl Job for FailedJob {
    fn work(&mut self, _: &mut crate::job::Context<'_>) -> Result<crate::job::State, Failure> {
        Err(self
            .0
            .take()
            .unwrap_or_else(|| Failure::Deployment("failed before".to_owned())))
    }

    fn http(
        &mut self,
        _: crate::event::HttpId,
        _: crate::event::HttpEvent,
        context: &mut crate::job::Context<'_>,
    ) -> Result<crate::job::State, Failure> {
        self.work(context)
    }
}

/// A record of a command that has just started.
pub(crate) fn record(id: String, command: &str) -> CommandResult {
    CommandResult {
        id,
        command_name: command.to_owned(),
        command_status: CommandStatus::Running,
        command_error: None,
        command_result: None,
    }
}

/// IPA's dictionary of partitions for a whole disk image.
pub(crate) fn partition_uuids(identifier: Option<String>) -> Value {
    match identifier {
        None => json!({}),
        Some(identifier) => json!({
            "partitions": {"root": null},
            "root uuid": identifier,
            "efi system partition uuid": null,
            "PReP Boot partition uuid": null,
        }),
    }
}
