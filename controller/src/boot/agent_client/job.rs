//! What a list of commands says of a recorded job.

use super::OPERATION;
use crate::boot::vault::{JobKind, JobRecord};
use steelyard_agent_api::{
    CommandList, CommandResult, CommandStatus, DiskErased, EraseReport, StepKind, StepResult,
};
use steelyard_api::metal3::WipedDisk;
use steelyard_core::host::view::{JobFacts, JobState};

/// The command that a kind of job shows up as, without its extension.
fn command_name(kind: JobKind) -> &'static str {
    match kind {
        JobKind::Write => "execute_deploy_step",
        JobKind::Erase => "execute_clean_step",
        JobKind::PowerOff => "power_off",
    }
}

/// What the list says of a recorded job; `None`: it was never started.
pub(super) fn facts(job: &JobRecord, list: &CommandList) -> Option<JobFacts> {
    let ours = |command: &&CommandResult| {
        command.command_name == command_name(job.kind)
            // The steps changed under us and nothing was done: it is to be started again.
            && command.command_status != CommandStatus::CleanVersionMismatch
            && echoed(command).is_none_or(|operation| operation == job.operation)
    };
    let command = list.commands.iter().skip(job.after).rfind(ours)?;
    let state = match command.command_status {
        CommandStatus::Running => JobState::Running,
        CommandStatus::Succeeded => JobState::Succeeded {
            wiped: wiped(command),
        },
        CommandStatus::Failed | CommandStatus::CleanVersionMismatch => {
            let error = command.command_error.clone();
            let (kind, message, details) = error.map(|e| (e.class, e.message, e.details)).unwrap_or_default();
            let kind = if kind.is_empty() {
                "AgentError".to_owned()
            } else {
                kind
            };
            let message = match (
                message.is_empty(),
                details.is_empty() || message.contains(&details),
            ) {
                (true, _) => details,
                (false, true) => message,
                (false, false) => format!("{message}: {details}"),
            };
            JobState::Failed {
                kind,
                message: message.chars().take(2000).collect(),
            }
        }
    };
    Some(JobFacts {
        operation: job.operation.clone(),
        kind: job.kind.as_str().to_owned(),
        state,
    })
}

/// Our operation id, as a finished step gives it back.
fn echoed(command: &CommandResult) -> Option<String> {
    let result = command.command_result.as_ref()?;
    let step = [StepKind::Deploy, StepKind::Clean]
        .into_iter()
        .find_map(|kind| StepResult::from_value(kind, result))?;
    step.step.get(OPERATION)?.as_str().map(str::to_owned)
}

/// The evidence of an erase. A stock agent gives none; then the list is empty, and nothing counts as verified.
fn wiped(command: &CommandResult) -> Vec<WipedDisk> {
    let report = command
        .command_result
        .as_ref()
        .and_then(|result| StepResult::from_value(StepKind::Clean, result));
    let Some(report) = report.and_then(|step| serde_json::from_value::<EraseReport>(step.result).ok()) else {
        return Vec::new();
    };
    let disk = |disk: DiskErased| WipedDisk {
        verified: disk.verification.bytes_read > 0,
        verified_bytes: disk.verification.bytes_read,
        name: disk.name,
        serial: disk.serial.unwrap_or_default(),
        method: disk.method,
        size_bytes: disk.size,
    };
    report.disks.into_iter().map(disk).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn list(commands: Value) -> CommandList {
        serde_json::from_value(json!({ "commands": commands })).unwrap()
    }

    fn job(after: usize) -> JobRecord {
        JobRecord {
            operation: "op-1".into(),
            kind: JobKind::Erase,
            after,
        }
    }

    #[test]
    fn a_job_is_found_by_its_place_in_the_list() {
        let running = json!([
            {"id": "1", "command_name": "execute_clean_step", "command_status": "FAILED"},
            {"id": "2", "command_name": "get_clean_steps", "command_status": "SUCCEEDED"},
            {"id": "3", "command_name": "execute_clean_step", "command_status": "RUNNING"},
        ]);
        assert_eq!(
            facts(&job(1), &list(running.clone())).unwrap().state,
            JobState::Running
        );
        assert_eq!(
            facts(&job(3), &list(running)),
            None,
            "what was there before is not ours"
        );
        let mismatch = json!([{"id": "1", "command_name": "execute_clean_step", "command_status": "CLEAN_VERSION_MISMATCH"}]);
        assert_eq!(facts(&job(0), &list(mismatch)), None, "nothing was done");
        let foreign = json!([{"id": "1", "command_name": "execute_clean_step", "command_status": "SUCCEEDED",
            "command_result": {"clean_result": null, "clean_step": {"step": "erase_devices", OPERATION: "op-2"}}}]);
        assert_eq!(facts(&job(0), &list(foreign)), None, "it says whose it is");
    }

    #[test]
    fn failures_keep_the_agents_words() {
        let failed = json!([{"id": "1", "command_name": "execute_clean_step", "command_status": "FAILED",
            "command_error": {"type": "BlockDeviceEraseError", "code": 500, "message": "Error erasing block device",
                              "details": "/dev/sda reads 0xff"}}]);
        let state = facts(&job(0), &list(failed)).unwrap().state;
        let want = JobState::Failed {
            kind: "BlockDeviceEraseError".into(),
            message: "Error erasing block device: /dev/sda reads 0xff".into(),
        };
        assert_eq!(state, want);
    }

    #[test]
    fn evidence_is_read_and_its_absence_is_no_proof() {
        let done = |result: Value| {
            list(
                json!([{"id": "1", "command_name": "execute_clean_step", "command_status": "SUCCEEDED",
                "command_result": {"clean_result": result, "clean_step": {"step": "erase_devices", OPERATION: "op-1"}}}]),
            )
        };
        let report = json!({"disks": [{"name": "/dev/sda", "serial": "S", "size": 100, "method": "write-zeroes",
            "verification": {"expectation": "zeros", "samples": 2, "bytes_read": 64, "canaries": 1}, "duration_ms": 5}]});
        let JobState::Succeeded { wiped } = facts(&job(0), &done(report)).unwrap().state else {
            panic!("not done")
        };
        assert_eq!(
            (
                wiped[0].verified,
                wiped[0].verified_bytes,
                wiped[0].serial.as_str()
            ),
            (true, 64, "S")
        );
        let JobState::Succeeded { wiped } = facts(&job(0), &done(Value::Null)).unwrap().state else {
            panic!("not done")
        };
        assert!(wiped.is_empty());
    }
}
