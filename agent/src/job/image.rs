//! Writing an image: the bytes go to the disk as they come, and the disk becomes bootable with the very last write.
//!
//! ```text
//! checksum file? -> config drive URL? -> choose disk -> spoil -> download ──────────> verify -> table -> config drive -> seal
//!                                                     (zeros at  (first MiB is kept   (digest)          (last MiB)     (first MiB)
//!                                                     both ends)  in memory)
//! ```
//! Until `seal` there is no partition table on the disk, neither the image's nor an older one: a power cut, a broken
//! download or a wrong checksum leaves a disk that no firmware boots.

use std::io::Read;
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use steelyard_agent_api::{ImageInfo, ImageWritten, Node};

use super::{Context, Job, State, zero};
use crate::checksum::{self, Expected, Wanted};
use crate::drive::{self, ConfigDrive, FETCH_MAX};
use crate::event::{Action, BodyMode, HttpEvent, HttpFailure, HttpId};
use crate::failure::Failure;
use crate::format;
use crate::hash::{Algorithm, Hasher};
use crate::hints;
use crate::platform::Platform;
use crate::table::{Partition, Table, TableError, disk_identifier};

/// What is held back: the partition table and anything that firmware could take for one. Partitions start behind it.
const HEAD: usize = 1 << 20;
/// Unit of writing: aligned, and small enough that a hundred hosts in one process buffer little.
const CHUNK: usize = 256 * 1024;
/// Bytes of the config drive written in one slice.
const DRIVE_SLICE: usize = 1 << 20;

/// In which form the result is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reporting {
    /// `standby.prepare_image`: `{"result": "prepare_image: <text>"}`.
    Command,
    /// `write_image`: [`ImageWritten`].
    Step,
}

/// The disk that was chosen.
#[derive(Debug, Clone)]
struct Target {
    name: String,
    serial: Option<String>,
    size: u64,
    sector: u64,
}

/// The download under way.
struct Stream {
    head: Vec<u8>,
    buffer: Vec<u8>,
    /// Where `buffer` goes.
    offset: u64,
    total: u64,
    length: Option<u64>,
    hasher: Hasher,
}

enum Stage {
    Checksum {
        url: String,
        algorithm: Option<Algorithm>,
    },
    FetchDrive {
        url: String,
    },
    Choose,
    Download,
    Table {
        head: Vec<u8>,
        total: u64,
        digest: String,
    },
    Drive(Box<DriveWrite>),
    Seal(Box<Sealing>),
    Ended,
}

/// All that is left to write when the config drive is there.
struct Sealing {
    head: Vec<u8>,
    table: Table,
    total: u64,
    digest: String,
    drive_bytes: Option<u64>,
}

struct DriveWrite {
    reader: Box<dyn Read + Send>,
    partition: Partition,
    length: u64,
    written: u64,
    hasher: Sha256,
    sealing: Sealing,
}

/// `write_image` and `standby.prepare_image`.
pub(crate) struct ImageJob {
    image: ImageInfo,
    url: String,
    node: Option<Node>,
    reporting: Reporting,
    authorization: Option<String>,
    md5_enabled: bool,
    expected: Option<Expected>,
    drive: Option<ConfigDrive>,
    /// Where the config drive still has to be fetched from.
    drive_url: Option<String>,
    stage: Stage,
    target: Option<Target>,
    request: Option<HttpId>,
    stream: Option<Stream>,
    attempts: u32,
    retry_at: Option<Instant>,
}

impl ImageJob {
    /// Checks what can be checked without the network and the disk. `InvalidParams` for an unusable `image_info`.
    pub(crate) fn new(
        image: ImageInfo,
        configdrive: Option<String>,
        node: Option<Node>,
        md5_enabled: bool,
        reporting: Reporting,
    ) -> Result<Self, Failure> {
        let [url] = &image.urls[..] else {
            return Err(Failure::InvalidParams(format!(
                "image_info.urls has {} entries, one is wanted",
                image.urls.len()
            )));
        };
        let url = url.clone();
        if !checksum::is_url(&url) {
            return Err(Failure::InvalidParams(format!(
                "image_info.urls: {url:?} is not an http or https URL"
            )));
        }
        let image_name = name(&image.id, &url);
        let wanted = checksum::wanted(&image, md5_enabled).map_err(|why| Failure::ChecksumUnusable {
            image: image_name.clone(),
            why,
        })?;
        if image.image_type.as_deref() == Some("partition") {
            return Err(invalid(
                &image_name,
                "partition images are not supported, only whole disk images",
            ));
        }
        if let Some(format) = image
            .disk_format
            .as_deref()
            .filter(|format| !format::declares_raw(format))
        {
            return Err(not_raw(&image_name, format));
        }
        let configdrive = configdrive
            .or_else(|| image.configdrive.clone())
            .filter(|text| !text.is_empty());
        let (drive, drive_url) = match configdrive {
            Some(text) if checksum::is_url(&text) => (None, Some(text)),
            Some(text) => (Some(ConfigDrive::from_text(&text)?), None),
            None => (None, None),
        };
        let authorization = authorization(&image)?;
        let mut job = Self {
            url,
            node,
            reporting,
            authorization,
            md5_enabled,
            expected: None,
            drive,
            drive_url,
            stage: Stage::Choose,
            target: None,
            request: None,
            stream: None,
            attempts: 0,
            retry_at: None,
            image,
        };
        match wanted {
            Wanted::Digest(expected) => {
                job.expected = Some(expected);
                job.stage = job.after_checksum();
            }
            Wanted::File { url, algorithm } => job.stage = Stage::Checksum { url, algorithm },
        }
        Ok(job)
    }

    fn after_checksum(&mut self) -> Stage {
        self.drive_url
            .take()
            .map_or(Stage::Choose, |url| Stage::FetchDrive { url })
    }

    fn name(&self) -> String {
        name(&self.image.id, &self.url)
    }

    fn step(&mut self, context: &mut Context<'_>) -> Result<State, Failure> {
        if self.request.is_some() {
            return Ok(State::Waiting);
        }
        if let Some(at) = self.retry_at
            && context.now < at
        {
            return Ok(State::Until(at));
        }
        self.retry_at = None;
        match std::mem::replace(&mut self.stage, Stage::Ended) {
            Stage::Checksum { url, algorithm } => {
                self.request = Some(context.get(
                    &url,
                    BodyMode::Whole {
                        max: checksum::FILE_MAX,
                    },
                    None,
                ));
                self.stage = Stage::Checksum { url, algorithm };
                Ok(State::Waiting)
            }
            Stage::FetchDrive { url } => {
                self.request = Some(context.get(&url, BodyMode::Whole { max: FETCH_MAX }, None));
                self.stage = Stage::FetchDrive { url };
                Ok(State::Waiting)
            }
            Stage::Choose => self.choose(context),
            Stage::Download => {
                self.stage = Stage::Download;
                self.begin_download(context)
            }
            Stage::Table { head, total, digest } => self.table(head, total, digest, context),
            Stage::Drive(write) => self.drive(write, context),
            Stage::Seal(sealing) => self.seal(*sealing, context),
            Stage::Ended => Err(Failure::Deployment("the job has ended already".to_owned())),
        }
    }

    fn choose(&mut self, context: &mut Context<'_>) -> Result<State, Failure> {
        let disks = context.platform.disks();
        let skipped = self.node.as_ref().map(Node::skipped_devices).unwrap_or_default();
        let hints = self.node.as_ref().and_then(Node::root_device_hints);
        let disk = hints::choose(&disks, hints, &skipped)?;
        let target = Target {
            name: disk.facts.name.clone(),
            serial: disk.facts.serial.clone(),
            size: disk.facts.size,
            sector: disk.sector(),
        };
        context.note(format!("image {} goes to {}", self.name(), target.name));
        self.target = Some(target.clone());
        spoil(context.platform, &target)?;
        self.attempts = 0;
        self.stage = Stage::Download;
        Ok(State::Busy)
    }

    fn begin_download(&mut self, context: &mut Context<'_>) -> Result<State, Failure> {
        let hasher = self
            .expected
            .as_ref()
            .map_or(Algorithm::Sha256, |expected| expected.algorithm)
            .hasher();
        self.stream = Some(Stream {
            head: Vec::with_capacity(HEAD),
            buffer: Vec::with_capacity(CHUNK),
            offset: HEAD as u64,
            total: 0,
            length: None,
            hasher,
        });
        self.request = Some(context.get(&self.url, BodyMode::Chunks, self.authorization.as_deref()));
        Ok(State::Waiting)
    }

    /// A transfer failed in a way that may pass: again after a pause, up to the limit (ipa: 9 retries, 10 s).
    fn retry(&mut self, url: String, why: String, context: &mut Context<'_>) -> Result<State, Failure> {
        self.request = None;
        self.stream = None;
        if self.attempts >= context.parameters.download_retries {
            let attempts = self.attempts + 1;
            return Err(Failure::ImageDownload {
                url,
                why: format!("{why} (attempt {attempts} of {attempts})"),
            });
        }
        self.attempts += 1;
        context.note(format!("download of {url} failed, trying again: {why}"));
        let at = context.now + context.parameters.download_retry_interval;
        self.retry_at = Some(at);
        Ok(State::Until(at))
    }

    fn current_url(&self) -> String {
        match &self.stage {
            Stage::Checksum { url, .. } | Stage::FetchDrive { url } => url.clone(),
            _ => self.url.clone(),
        }
    }

    fn answer(&mut self, event: HttpEvent, context: &mut Context<'_>) -> Result<State, Failure> {
        let url = self.current_url();
        match event {
            HttpEvent::Response { status: 200, body } => self.fetched(&body, context),
            HttpEvent::Head { status: 200, length } => self.head(length),
            // Ours to fix, or nobody's: asking again gives the same answer.
            HttpEvent::Response { status, .. } | HttpEvent::Head { status, .. } if status < 500 => {
                Err(Failure::ImageDownload {
                    url,
                    why: format!("the server answered {status}"),
                })
            }
            HttpEvent::Response { status, .. } | HttpEvent::Head { status, .. } => {
                if let Some(id) = self.request {
                    context.actions.push(Action::CancelHttp(id));
                }
                self.retry(url, format!("the server answered {status}"), context)
            }
            HttpEvent::Chunk(bytes) => self.chunk(&bytes, context),
            HttpEvent::End => self.end(context),
            HttpEvent::Failed {
                kind: HttpFailure::TooLong,
                why,
            } => Err(Failure::ImageDownload { url, why }),
            HttpEvent::Failed { why, .. } => self.retry(url, why, context),
        }
    }

    /// A small file is here: the checksum file, or the config drive.
    fn fetched(&mut self, body: &[u8], context: &mut Context<'_>) -> Result<State, Failure> {
        self.request = None;
        self.attempts = 0;
        match std::mem::replace(&mut self.stage, Stage::Choose) {
            Stage::Checksum { url, algorithm } => {
                let unusable = |why: String| Failure::ChecksumUnusable {
                    image: self.name(),
                    why: format!("{why} ({url})"),
                };
                let text = String::from_utf8_lossy(body);
                let digest = checksum::in_file(&text, &self.url).map_err(unusable)?;
                let expected = checksum::expected(&digest, algorithm, self.md5_enabled).map_err(unusable)?;
                context.note(format!(
                    "{url} names {} {}",
                    expected.algorithm.name(),
                    expected.digest
                ));
                self.expected = Some(expected);
                self.stage = self.after_checksum();
            }
            Stage::FetchDrive { .. } => self.drive = Some(ConfigDrive::from_download(body)?),
            other => self.stage = other,
        }
        Ok(State::Busy)
    }

    fn head(&mut self, length: Option<u64>) -> Result<State, Failure> {
        let (image, target) = (self.name(), self.target.clone());
        if let (Some(stream), Some(target)) = (&mut self.stream, target) {
            stream.length = length;
            if let Some(length) = length.filter(|&length| length > target.size) {
                return Err(too_long(&image, length, &target));
            }
        }
        Ok(State::Waiting)
    }

    fn chunk(&mut self, bytes: &[u8], context: &mut Context<'_>) -> Result<State, Failure> {
        let image = self.name();
        let (Some(stream), Some(target)) = (&mut self.stream, &self.target) else {
            return Ok(State::Waiting);
        };
        let fresh = stream.head.len() < format::PREFIX;
        stream.hasher.update(bytes);
        stream.total += bytes.len() as u64;
        if stream.total > target.size {
            return Err(too_long(&image, stream.total, target));
        }
        let (to_head, mut rest) = bytes.split_at(bytes.len().min(HEAD - stream.head.len()));
        stream.head.extend_from_slice(to_head);
        if fresh && let Some(format) = format::not_raw(&stream.head) {
            return Err(not_raw(&image, format));
        }
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(CHUNK - stream.buffer.len()));
            stream.buffer.extend_from_slice(now);
            rest = later;
            if stream.buffer.len() == CHUNK {
                stream.write_out(context.platform, target)?;
            }
        }
        Ok(State::Waiting)
    }

    fn end(&mut self, context: &mut Context<'_>) -> Result<State, Failure> {
        let (image, url) = (self.name(), self.url.clone());
        let (Some(mut stream), Some(target)) = (self.stream.take(), self.target.clone()) else {
            return Ok(State::Waiting);
        };
        self.request = None;
        if let Some(length) = stream.length.filter(|&length| length != stream.total) {
            return self.retry(url, format!("{} of {length} bytes came", stream.total), context);
        }
        stream.write_out(context.platform, &target)?;
        let digest = stream.hasher.finish();
        match &self.expected {
            Some(expected) if expected.digest == digest => {}
            Some(expected) => {
                return Err(Failure::ImageChecksum {
                    image,
                    algorithm: expected.algorithm.name(),
                    expected: expected.digest.clone(),
                    actual: digest,
                    bytes: stream.total,
                    device: target.name,
                });
            }
            None => {
                return Err(Failure::ChecksumUnusable {
                    image,
                    why: "none was found".to_owned(),
                });
            }
        }
        context.note(format!(
            "image {image}: {} bytes with the right checksum",
            stream.total
        ));
        self.stage = Stage::Table {
            head: stream.head,
            total: stream.total,
            digest,
        };
        Ok(State::Busy)
    }

    /// The image is right: fit its partition table to this disk and find the place of the config drive.
    fn table(
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

    fn drive(&mut self, mut write: Box<DriveWrite>, context: &mut Context<'_>) -> Result<State, Failure> {
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
    fn seal(&mut self, mut sealing: Sealing, context: &mut Context<'_>) -> Result<State, Failure> {
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

    fn target(&self) -> Result<Target, Failure> {
        self.target
            .clone()
            .ok_or_else(|| Failure::Deployment("no disk was chosen".to_owned()))
    }

    /// Whatever went wrong: stop the transfer and leave nothing that boots.
    fn give_up(&mut self, failure: Failure, context: &mut Context<'_>) -> Failure {
        if let Some(id) = self.request.take() {
            context.actions.push(Action::CancelHttp(id));
        }
        self.stage = Stage::Ended;
        self.stream = None;
        if let Some(target) = &self.target
            && let Err(error) = spoil(context.platform, target)
        {
            return Failure::ImageWrite(format!(
                "{failure}; and the disk could not be made unbootable: {error}"
            ));
        }
        failure
    }
}

impl Job for ImageJob {
    fn work(&mut self, context: &mut Context<'_>) -> Result<State, Failure> {
        self.step(context)
            .map_err(|failure| self.give_up(failure, context))
    }

    fn http(&mut self, id: HttpId, event: HttpEvent, context: &mut Context<'_>) -> Result<State, Failure> {
        if self.request != Some(id) {
            return self.work(context);
        }
        self.answer(event, context)
            .map_err(|failure| self.give_up(failure, context))
    }
}

impl Stream {
    fn write_out(&mut self, platform: &mut dyn Platform, target: &Target) -> Result<(), Failure> {
        if !self.buffer.is_empty() {
            platform.write_at(&target.name, self.offset, &self.buffer)?;
            self.offset += self.buffer.len() as u64;
            self.buffer.clear();
        }
        Ok(())
    }
}

/// Zeros over the first and the last MiB: no table, no boot sector, no backup table.
fn spoil(platform: &mut dyn Platform, target: &Target) -> Result<(), Failure> {
    let edge = (HEAD as u64).min(target.size);
    zero(platform, &target.name, 0, edge)?;
    zero(platform, &target.name, target.size - edge, edge)?;
    platform.flush(&target.name)?;
    Ok(())
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

fn name(id: &str, url: &str) -> String {
    let base = checksum::base_name(url);
    if id.is_empty() || id == base {
        base.to_owned()
    } else {
        format!("{id} ({base})")
    }
}

fn invalid(image: &str, why: &str) -> Failure {
    Failure::InvalidImage {
        image: image.to_owned(),
        why: why.to_owned(),
    }
}

fn not_raw(image: &str, format: &str) -> Failure {
    invalid(
        image,
        &format!(
            "it is {format}, and for now only raw images are written: convert it (`qemu-img convert -O raw`) and name that"
        ),
    )
}

fn too_long(image: &str, length: u64, target: &Target) -> Failure {
    Failure::ImageWrite(format!(
        "image {image} has {length} bytes or more, {} only {}",
        target.name, target.size
    ))
}

/// The `Authorization` value that `image_info` asks for.
fn authorization(image: &ImageInfo) -> Result<Option<String>, Failure> {
    if let Some(packed) = &image.image_request_authorization {
        let value = STANDARD
            .decode(packed)
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok());
        let bad = || {
            Failure::InvalidParams("image_info.image_request_authorization is not base64 of text".to_owned())
        };
        return value.ok_or_else(bad).map(Some);
    }
    match (
        image.image_server_auth_strategy.as_deref(),
        &image.image_server_user,
        &image.image_server_password,
    ) {
        (Some("http_basic"), Some(user), Some(password)) => Ok(Some(format!(
            "Basic {}",
            STANDARD.encode(format!("{user}:{password}"))
        ))),
        (Some("http_basic"), _, _) => Err(Failure::InvalidParams(
            "image_info.image_server_auth_strategy is http_basic, but user or password is missing".to_owned(),
        )),
        _ => Ok(None),
    }
}
