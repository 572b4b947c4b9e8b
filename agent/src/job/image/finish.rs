//! The end of a deployment: partition table, config drive, and the write that makes the disk bootable.

use std::io::Read;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use steelyard_agent_api::ImageWritten;

use super::info::name;
use super::{CHUNK, HEAD, ImageJob, Reporting, Stage, Target};
use crate::checksum::Expected;
use crate::drive;
use crate::failure::Failure;
use crate::job::{Context, State};
use crate::platform::Platform;
use crate::table::{Partition, Table, TableError, disk_identifier};

/// Bytes of the config drive written in one slice.
const DRIVE_SLICE: usize = 1 << 20;

/// All that is left to write when the config drive is there.
pub(super) struct Sealing {
    head: Vec<u8>,
    table: Table,
    total: u64,
    digest: String,
    drive_bytes: Option<u64>,
}

/// A config drive on its way to its partition.
pub(super) struct DriveWrite {
    reader: Box<dyn Read + Send>,
    partition: Partition,
    length: u64,
    written: u64,
    hasher: Sha256,
    sealing: Sealing,
}

impl ImageJob {
    /// The image is right: fit its partition table to this disk and find the place of the config drive.
    pub(super) fn table(
        &mut self,
        mut head: Vec<u8>,
        total: u64,
        digest: String,
        context: &mut Context<'_>,
    ) -> Result<State, Failure> {
        let target = self.target()?;
        let refused = |error: TableError| {
            Failure::Deployment(format!("image {}: {error}", name(&self.image.id, &self.url)))
        };
        head.resize(HEAD.min(usize::try_from(target.size).unwrap_or(HEAD)), 0);
        let mut table = Table::parse(&head, target.sector).map_err(refused)?;
        if table.partitions().is_empty() {
            return Err(Failure::Deployment(format!(
                "image {}: the partition table is empty",
                self.name()
            )));
        }
        table.fit(target.size).map_err(refused)?;
        let Some(drive) = self.drive.take() else {
            self.stage = Stage::Seal(Box::new(Sealing {
                head,
                table,
                total,
                digest,
                drive_bytes: None,
            }));
            return Ok(State::Busy);
        };
        let partition = match labelled(context.platform, &target, &head, &table)?[..] {
            [] => table
                .add_config_drive(context.dice.uuid().to_bytes_le())
                .map_err(refused)?,
            [existing] if existing.length >= drive.length() => existing,
            [existing] => {
                return Err(Failure::ConfigDrive(format!(
                    "{} bytes don't fit into the image's own partition {} ({} bytes)",
                    drive.length(),
                    existing.number,
                    existing.length
                )));
            }
            ref several => {
                let count = several.len();
                return Err(Failure::ConfigDrive(format!(
                    "the image has {count} partitions labelled {}",
                    drive::LABEL
                )));
            }
        };
        let length = drive.length();
        self.stage = Stage::Drive(Box::new(DriveWrite {
            reader: drive.into_reader(),
            partition,
            length,
            written: 0,
            hasher: Sha256::new(),
            sealing: Sealing {
                head,
                table,
                total,
                digest,
                drive_bytes: Some(length),
            },
        }));
        Ok(State::Busy)
    }

    pub(super) fn drive(
        &mut self,
        mut write: Box<DriveWrite>,
        context: &mut Context<'_>,
    ) -> Result<State, Failure> {
        let target = self.target()?;
        let count = (write.length - write.written).min(DRIVE_SLICE as u64) as usize;
        let mut slice = vec![0; count];
        let broken = |error: std::io::Error| Failure::ConfigDrive(format!("can't be unpacked: {error}"));
        write.reader.read_exact(&mut slice).map_err(broken)?;
        write.hasher.update(&slice);
        context
            .platform
            .write_at(&target.name, write.partition.start + write.written, &slice)?;
        write.written += count as u64;
        if write.written < write.length {
            self.stage = Stage::Drive(write);
            return Ok(State::Busy);
        }
        context.platform.flush(&target.name)?;
        let written = write.hasher.finalize();
        if hash_of(
            context.platform,
            &target.name,
            write.partition.start,
            write.length,
        )? != written[..]
        {
            return Err(Failure::ImageWrite(format!(
                "{}: the config drive reads back different",
                target.name
            )));
        }
        context.note(format!(
            "config drive: {} bytes in partition {}",
            write.length, write.partition.number
        ));
        self.stage = Stage::Seal(Box::new(write.sealing));
        Ok(State::Busy)
    }

    /// The last writes: the backup table, then the first MiB, which makes the disk bootable.
    pub(super) fn seal(&mut self, mut sealing: Sealing, context: &mut Context<'_>) -> Result<State, Failure> {
        let target = self.target()?;
        if let Some((at, bytes)) = sealing.table.backup() {
            context.platform.write_at(&target.name, at, &bytes)?;
        }
        context.platform.flush(&target.name)?;
        sealing.table.store(&mut sealing.head);
        context.platform.write_at(&target.name, 0, &sealing.head)?;
        context.platform.flush(&target.name)?;
        let mut read = vec![0; sealing.head.len()];
        context.platform.read_at(&target.name, 0, &mut read)?;
        if read != sealing.head {
            return Err(Failure::ImageWrite(format!(
                "{}: the partition table reads back different",
                target.name
            )));
        }
        context.platform.reread_partitions(&target.name)?;
        let text = format!(
            "image ({}) written to device {} root_uuid={}",
            self.image.id,
            target.name,
            disk_identifier(&sealing.head)
        );
        context.note(text.clone());
        Ok(State::Done(match self.reporting {
            Reporting::Command => json!({"result": format!("prepare_image: {text}")}),
            Reporting::Step => written(&self.expected, target, sealing, text),
        }))
    }
}

/// Partitions of the image that are labelled as config drives already.
fn labelled(
    platform: &mut dyn Platform,
    target: &Target,
    head: &[u8],
    table: &Table,
) -> Result<Vec<Partition>, Failure> {
    let mut found = Vec::new();
    for partition in table.partitions() {
        let mut prefix =
            vec![0; drive::LABEL_PREFIX.min(usize::try_from(partition.length).unwrap_or(usize::MAX))];
        platform.read_at(&target.name, partition.start, &mut prefix)?;
        // What belongs to the first MiB is not on the disk yet.
        if let Ok(start) = usize::try_from(partition.start)
            && let Some(held) = head.get(start..)
        {
            let count = held.len().min(prefix.len());
            prefix[..count].copy_from_slice(&held[..count]);
        }
        if drive::label(&prefix).is_some_and(|label| label.eq_ignore_ascii_case(drive::LABEL)) {
            found.push(partition);
        }
    }
    Ok(found)
}

fn hash_of(platform: &mut dyn Platform, disk: &str, start: u64, length: u64) -> Result<[u8; 32], Failure> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; CHUNK];
    let mut done = 0;
    while done < length {
        let count = (length - done).min(CHUNK as u64) as usize;
        platform.read_at(disk, start + done, &mut buffer[..count])?;
        hasher.update(&buffer[..count]);
        done += count as u64;
    }
    Ok(hasher.finalize().into())
}

fn written(expected: &Option<Expected>, target: Target, sealing: Sealing, text: String) -> Value {
    let algorithm = expected.as_ref().map_or("", |expected| expected.algorithm.name());
    let report = ImageWritten {
        result: text,
        device: target.name,
        serial: target.serial,
        bytes: sealing.total,
        algorithm: algorithm.to_owned(),
        digest: sealing.digest,
        configdrive_bytes: sealing.drive_bytes,
    };
    serde_json::to_value(report).expect("a struct of strings and numbers is JSON")
}
