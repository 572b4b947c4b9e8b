//! `erase_devices` and `erase_devices_metadata`: every disk that isn't removable, several at a time, all of them tried
//! before the step fails.

use std::collections::VecDeque;
use std::time::Instant;

use steelyard_agent_api::{EraseReport, Node};

pub(crate) use super::verify::Extent;
use super::wipe::{Rules, Wipe, Wiping};
use super::{Context, Job, State};
use crate::event::{HttpEvent, HttpId};
use crate::failure::Failure;
use crate::hints;
use crate::platform::BlockDevice;
use crate::table::{Table, shared_file_system};

/// Bytes from which a partition table is read.
const HEAD: usize = 1 << 20;
/// Disks at a time when the service doesn't say (ironic sends `disk_erasure_concurrency` 4).
const CONCURRENCY: usize = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Everything(Extent),
    Metadata,
}

/// Erases disks and collects the evidence.
pub(crate) struct EraseJob {
    what: What,
    node: Option<Node>,
    planned: bool,
    waiting: VecDeque<Wipe>,
    /// Under way; the time is when to look again.
    active: VecDeque<(Wipe, Option<Instant>)>,
    report: EraseReport,
    failures: Vec<Failure>,
}

impl EraseJob {
    pub(crate) fn everything(node: Option<Node>, extent: Extent) -> Self {
        Self::new(node, What::Everything(extent))
    }

    pub(crate) fn metadata(node: Option<Node>) -> Self {
        Self::new(node, What::Metadata)
    }

    fn new(node: Option<Node>, what: What) -> Self {
        Self {
            what,
            node,
            planned: false,
            waiting: VecDeque::new(),
            active: VecDeque::new(),
            report: EraseReport::default(),
            failures: Vec::new(),
        }
    }

    fn plan(&mut self, context: &mut Context<'_>) -> Result<(), Failure> {
        let disks = context.platform.disks();
        let skipped = self.node.as_ref().map(Node::skipped_devices).unwrap_or_default();
        let skip_read_only = self
            .node
            .as_ref()
            .and_then(|node| node.flag("agent_erase_skip_read_only"));
        for disk in disks
            .into_iter()
            .filter(|disk| !disk.removable && disk.facts.size > 0)
        {
            if hints::is_skipped(&disk.facts, &skipped)? {
                context.note(format!("{} is left alone: skip_block_devices", disk.facts.name));
                continue;
            }
            if disk.read_only {
                if skip_read_only.unwrap_or(false) || self.what == What::Metadata {
                    context.note(format!("{} is left alone: read-only", disk.facts.name));
                    continue;
                }
                return Err(Failure::Erase(format!(
                    "{} is read-only and can't be erased; agent_erase_skip_read_only leaves such disks alone",
                    disk.facts.name
                )));
            }
            let table = read_table(&disk, context)?;
            self.guard(&disk, table.as_ref(), context)?;
            self.waiting.push_back(match self.what {
                What::Everything(extent) => {
                    Wipe::full(disk, Rules::of(self.node.as_ref(), extent), context.now)
                }
                What::Metadata => Wipe::metadata(disk, table.as_ref(), context.now),
            });
        }
        Ok(())
    }

    /// Checked for all disks before the first is touched.
    fn guard(&self, disk: &BlockDevice, table: Option<&Table>, context: &Context<'_>) -> Result<(), Failure> {
        let allowed = self
            .node
            .as_ref()
            .and_then(|node| node.flag("wipe_special_filesystems"))
            .unwrap_or(false);
        if allowed || !context.parameters.guard_special_filesystems {
            return Ok(());
        }
        let partitions = table.map(Table::partitions).unwrap_or_default();
        match partitions.iter().find_map(shared_file_system) {
            Some(what) => Err(Failure::ProtectedDevice {
                device: disk.facts.name.clone(),
                what,
            }),
            None => Ok(()),
        }
    }

    fn concurrency(&self) -> usize {
        let asked = self
            .node
            .as_ref()
            .and_then(|node| node.count("disk_erasure_concurrency"));
        asked
            .and_then(|count| usize::try_from(count).ok())
            .unwrap_or(CONCURRENCY)
            .max(1)
    }

    fn finish(&mut self) -> Result<State, Failure> {
        match self.failures.len() {
            0 => {
                self.report.disks.sort_by(|a, b| a.name.cmp(&b.name));
                let report = serde_json::to_value(&self.report);
                Ok(State::Done(
                    report.expect("a struct of strings and numbers is JSON"),
                ))
            }
            1 => Err(self.failures.remove(0)),
            count => {
                let all: Vec<String> = self.failures.iter().map(ToString::to_string).collect();
                Err(Failure::Erase(format!("{count} disks: {}", all.join("; "))))
            }
        }
    }
}

impl Job for EraseJob {
    fn work(&mut self, context: &mut Context<'_>) -> Result<State, Failure> {
        if !self.planned {
            self.plan(context)?;
            self.planned = true;
        }
        while self.active.len() < self.concurrency()
            && let Some(wipe) = self.waiting.pop_front()
        {
            self.active.push_back((wipe, None));
        }
        if self.active.is_empty() {
            return self.finish();
        }
        // The first that may go on gets this slice, and goes to the end of the queue.
        let now = context.now;
        let Some(ready) = self
            .active
            .iter()
            .position(|(_, at)| at.is_none_or(|at| at <= now))
        else {
            return Ok(self
                .active
                .iter()
                .filter_map(|(_, at)| *at)
                .min()
                .map_or(State::Busy, State::Until));
        };
        if let Some((mut wipe, _)) = self.active.remove(ready) {
            match wipe.work(context) {
                Ok(Wiping::Busy) => self.active.push_back((wipe, None)),
                Ok(Wiping::Until(at)) => self.active.push_back((wipe, Some(at))),
                Ok(Wiping::Done(erased)) => self.report.disks.push(erased),
                Err(failure) => {
                    context.note(format!("{}: {failure}", wipe.name()));
                    self.failures.push(failure);
                }
            }
        }
        Ok(State::Busy)
    }

    fn http(&mut self, _: HttpId, _: HttpEvent, context: &mut Context<'_>) -> Result<State, Failure> {
        self.work(context)
    }
}

/// The partition table, if there is a readable one: a damaged table is no reason not to erase.
fn read_table(disk: &BlockDevice, context: &mut Context<'_>) -> Result<Option<Table>, Failure> {
    let mut head = vec![0; HEAD.min(usize::try_from(disk.facts.size).unwrap_or(HEAD))];
    context.platform.read_at(&disk.facts.name, 0, &mut head)?;
    Ok(Table::parse(&head, disk.sector()).ok())
}
