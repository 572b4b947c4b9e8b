//! Writing an image: the bytes go to the disk as they come, and the disk becomes bootable with the very last write.
//!
//! ```text
//! checksum file? -> config drive URL? -> choose disk -> spoil -> download ──────────> verify -> table -> config drive -> seal
//!                                                     (zeros at  (first MiB is kept   (digest)          (last MiB)     (first MiB)
//!                                                     both ends)  in memory)
//! ```
//! Until `seal` there is no partition table on the disk, neither the image's nor an older one: a power cut, a broken
//! download or a wrong checksum leaves a disk that no firmware boots.

mod finish;
mod info;
mod stream;

use std::time::Instant;

use steelyard_agent_api::{ImageInfo, Node};

use self::finish::{DriveWrite, Sealing};
use self::info::{authorization, invalid, name, not_raw};
use self::stream::Stream;
use super::{Context, Job, State, zero};
use crate::checksum::{self, Expected, Wanted};
use crate::drive::{ConfigDrive, FETCH_MAX};
use crate::event::{Action, BodyMode, HttpEvent, HttpFailure, HttpId};
use crate::failure::Failure;
use crate::format;
use crate::hash::Algorithm;
use crate::hints;
use crate::platform::Platform;

/// What is held back: the partition table and anything that firmware could take for one. Partitions start behind it.
const HEAD: usize = 1 << 20;
/// Unit of writing: aligned, and small enough that a hundred hosts in one process buffer little.
const CHUNK: usize = 256 * 1024;
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
        self.stream = Some(Stream::new(hasher));
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

/// Zeros over the first and the last MiB: no table, no boot sector, no backup table.
fn spoil(platform: &mut dyn Platform, target: &Target) -> Result<(), Failure> {
    let edge = (HEAD as u64).min(target.size);
    zero(platform, &target.name, 0, edge)?;
    zero(platform, &target.name, target.size - edge, edge)?;
    platform.flush(&target.name)?;
    Ok(())
}
