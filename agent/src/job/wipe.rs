//! One disk on its way from full to proven empty.
//!
//! ```text
//! Plant -> Remember -> Erase -(secure erase fails, and may)-> next method ... -> Check -> done
//!                      Overwrite ------------------------------------------------^
//!          Metadata -------------------------------------------------------------^
//! ```

use std::time::Instant;

use steelyard_agent_api::{DiskErased, Node};

use super::verify::{Extent, Proof};
use super::{Context, ERASE_POLL, zero};
use crate::failure::Failure;
use crate::platform::{BlockDevice, EraseMethod, Progress};
use crate::table::Table;

/// Bytes overwritten in one slice of work.
const OVERWRITE_SLICE: u64 = 4 << 20;
/// What a metadata wipe clears at both ends of a disk and of each partition: tables, boot sectors, and all signatures
/// that wipefs knows (btrfs at 64 KiB, ZFS labels in the first and last 512 KiB).
const SIGNATURES: u64 = 1 << 20;

/// What the node allows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    pub(crate) nvme: bool,
    pub(crate) ata: bool,
    /// Fall back to slower methods when a drive refuses a secure erase.
    pub(crate) continue_after_failure: bool,
    pub(crate) extent: Extent,
}

impl Rules {
    /// From `driver_internal_info`, with Ironic's defaults.
    pub(crate) fn of(node: Option<&Node>, extent: Extent) -> Self {
        let flag = |name: &str, default: bool| node.and_then(|node| node.flag(name)).unwrap_or(default);
        Self {
            nvme: flag("agent_enable_nvme_secure_erase", true),
            ata: flag("agent_enable_ata_secure_erase", true),
            continue_after_failure: flag("agent_continue_if_secure_erase_failed", false)
                || flag("agent_continue_if_ata_erase_failed", false),
            extent,
        }
    }
}

enum Stage {
    Plant,
    Remember,
    Erase,
    Overwrite { at: u64 },
    Metadata { ranges: Vec<(u64, u64)>, next: usize },
    Check,
}

/// What to do next with this disk.
pub(crate) enum Wiping {
    Busy,
    Until(Instant),
    Done(DiskErased),
}

/// One disk.
pub(crate) struct Wipe {
    disk: BlockDevice,
    rules: Rules,
    /// The fastest last, so that the next one is popped.
    methods: Vec<EraseMethod>,
    method: Option<EraseMethod>,
    proof: Option<Proof>,
    stage: Stage,
    began: Instant,
}

impl Wipe {
    /// A full erase.
    pub(crate) fn full(disk: BlockDevice, rules: Rules, now: Instant) -> Self {
        let allowed =
            |method: &EraseMethod| (rules.nvme || !method.is_nvme()) && (rules.ata || !method.is_ata());
        let mut methods: Vec<EraseMethod> = disk.erase_methods.iter().copied().filter(allowed).collect();
        methods.push(EraseMethod::Overwrite);
        methods.sort_unstable();
        methods.dedup();
        methods.reverse();
        Self {
            disk,
            rules,
            methods,
            method: None,
            proof: None,
            stage: Stage::Plant,
            began: now,
        }
    }

    /// Only what makes a disk look used.
    pub(crate) fn metadata(disk: BlockDevice, table: Option<&Table>, now: Instant) -> Self {
        let size = disk.facts.size;
        let mut areas = vec![(0, size)];
        areas.extend(
            table
                .iter()
                .flat_map(|table| table.partitions())
                .map(|p| (p.start, p.length)),
        );
        let mut ranges = Vec::new();
        // Partitions first: with the table gone they could not be found again after a failure.
        for (start, length) in areas.into_iter().rev() {
            let length = length.min(size.saturating_sub(start));
            let edge = SIGNATURES.min(length);
            ranges.push((start, edge));
            ranges.push((start + length - edge, edge));
        }
        let rules = Rules::of(None, Extent::Sample);
        let stage = Stage::Metadata { ranges, next: 0 };
        Self {
            disk,
            rules,
            methods: Vec::new(),
            method: None,
            proof: None,
            stage,
            began: now,
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.disk.facts.name
    }

    /// One slice.
    pub(crate) fn work(&mut self, context: &mut Context<'_>) -> Result<Wiping, Failure> {
        match &mut self.stage {
            Stage::Plant => self.plant(context),
            Stage::Remember => {
                if self.proof()?.remember(context)? {
                    self.stage = match self.method {
                        Some(EraseMethod::Overwrite) => Stage::Overwrite { at: 0 },
                        _ => Stage::Erase,
                    };
                }
                Ok(Wiping::Busy)
            }
            Stage::Erase => self.erase(context),
            Stage::Overwrite { at } => {
                let part = (self.disk.facts.size - *at).min(OVERWRITE_SLICE);
                zero(context.platform, &self.disk.facts.name, *at, part)?;
                *at += part;
                if *at == self.disk.facts.size {
                    context.platform.flush(&self.disk.facts.name)?;
                    self.stage = Stage::Check;
                }
                Ok(Wiping::Busy)
            }
            Stage::Metadata { ranges, next } => {
                let (offset, length) = ranges[*next];
                zero(context.platform, &self.disk.facts.name, offset, length)?;
                *next += 1;
                if *next == ranges.len() {
                    context.platform.flush(&self.disk.facts.name)?;
                    self.proof = Some(Proof::of_ranges(&self.disk.facts.name, ranges));
                    self.stage = Stage::Check;
                }
                Ok(Wiping::Busy)
            }
            Stage::Check => self.check(context),
        }
    }

    fn proof(&mut self) -> Result<&mut Proof, Failure> {
        let name = &self.disk.facts.name;
        self.proof
            .as_mut()
            .ok_or_else(|| Failure::Erase(format!("{name}: no plan for the verification")))
    }

    fn plant(&mut self, context: &mut Context<'_>) -> Result<Wiping, Failure> {
        let method = self.methods.pop().unwrap_or(EraseMethod::Overwrite);
        let (name, size) = (self.disk.facts.name.clone(), self.disk.facts.size);
        context.note(format!("erasing {name} ({size} bytes) with {method}"));
        let proof = Proof::plan(
            &name,
            size,
            method.leaves_zeros(),
            self.rules.extent,
            context.dice,
        );
        proof.plant(context)?;
        self.proof = Some(proof);
        self.method = Some(method);
        self.stage = Stage::Remember;
        Ok(Wiping::Busy)
    }

    fn erase(&mut self, context: &mut Context<'_>) -> Result<Wiping, Failure> {
        let name = self.disk.facts.name.clone();
        let method = self.method.unwrap_or(EraseMethod::Overwrite);
        match context.platform.erase(&name, method) {
            Ok(Progress::Working) => Ok(Wiping::Until(context.now + ERASE_POLL)),
            Ok(Progress::Done) => {
                context.platform.flush(&name)?;
                self.stage = Stage::Check;
                Ok(Wiping::Busy)
            }
            // Losing a shortcut costs time; losing a secure erase is the operator's decision.
            Err(error) if method == EraseMethod::WriteZeroes || self.rules.continue_after_failure => {
                context.note(format!(
                    "{method} of {name} failed, going on with the next method: {error}"
                ));
                self.stage = Stage::Plant;
                Ok(Wiping::Busy)
            }
            Err(error) => Err(Failure::Erase(format!(
                "{method}: {error}. Set agent_continue_if_secure_erase_failed to overwrite such disks instead"
            ))),
        }
    }

    fn check(&mut self, context: &mut Context<'_>) -> Result<Wiping, Failure> {
        if !self.proof()?.check(context)? {
            return Ok(Wiping::Busy);
        }
        let verification = self.proof()?.evidence();
        context.platform.reread_partitions(&self.disk.facts.name)?;
        let method = self
            .method
            .map_or("metadata".to_owned(), |method| method.to_string());
        context.note(format!(
            "{} is erased, {} bytes were read back",
            self.name(),
            verification.bytes_read
        ));
        let duration = context.now.saturating_duration_since(self.began);
        Ok(Wiping::Done(DiskErased {
            name: self.disk.facts.name.clone(),
            serial: self.disk.facts.serial.clone(),
            wwn: self.disk.facts.wwn.clone(),
            size: self.disk.facts.size,
            method,
            verification,
            duration_ms: u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
        }))
    }
}
