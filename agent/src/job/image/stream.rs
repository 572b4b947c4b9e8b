//! The download: each piece is hashed and written as it comes, but for the first MiB, which is kept.

use super::info::{not_raw, too_long};
use super::{CHUNK, HEAD, ImageJob, Stage, Target};
use crate::failure::Failure;
use crate::format;
use crate::hash::Hasher;
use crate::job::{Context, State};
use crate::platform::Platform;

/// A download under way.
pub(super) struct Stream {
    head: Vec<u8>,
    buffer: Vec<u8>,
    /// Where `buffer` goes.
    offset: u64,
    total: u64,
    length: Option<u64>,
    hasher: Hasher,
}

impl ImageJob {
    pub(super) fn head(&mut self, length: Option<u64>) -> Result<State, Failure> {
        let (image, target) = (self.name(), self.target.clone());
        if let (Some(stream), Some(target)) = (&mut self.stream, target) {
            stream.length = length;
            if let Some(length) = length.filter(|&length| length > target.size) {
                return Err(too_long(&image, length, &target));
            }
        }
        Ok(State::Waiting)
    }

    pub(super) fn chunk(&mut self, bytes: &[u8], context: &mut Context<'_>) -> Result<State, Failure> {
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

    pub(super) fn end(&mut self, context: &mut Context<'_>) -> Result<State, Failure> {
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
}

impl Stream {
    pub(super) fn new(hasher: Hasher) -> Self {
        Self {
            head: Vec::with_capacity(HEAD),
            buffer: Vec::with_capacity(CHUNK),
            offset: HEAD as u64,
            total: 0,
            length: None,
            hasher,
        }
    }

    fn write_out(&mut self, platform: &mut dyn Platform, target: &Target) -> Result<(), Failure> {
        if !self.buffer.is_empty() {
            platform.write_at(&target.name, self.offset, &self.buffer)?;
            self.offset += self.buffer.len() as u64;
            self.buffer.clear();
        }
        Ok(())
    }
}
