//! Proof of an erase: what to read back, and what was there before.
//!
//! "Done" is what a drive says, so we ask in a way that it can't answer wrongly by accident: patterns that were surely on
//! the medium before (canaries) must be gone, and a sample over the whole disk must read as the method promises.
//! NIST SP 800-88 r1, 4.7: representative sampling in equal subsections, with the first and the last addressable location.

use sha2::{Digest, Sha256};
use steelyard_agent_api::Verification;

use super::{Context, is_zero};
use crate::dice::Dice;
use crate::failure::Failure;

/// Bytes of a sample and of a canary: a sector of every drive there is.
const SAMPLE: u64 = 4096;
/// Equal subsections, one sample each at a random place.
const SUBSECTIONS: u64 = 1024;
/// Canaries, evenly spread: one in every 64th subsection.
const CANARIES: u64 = 16;
/// Both ends are read whole: tables and labels are there.
const EDGE: u64 = 1 << 20;
/// Disks up to this size are read whole.
const WHOLE: u64 = 32 << 20;
/// Unit of reading whole disks and ends.
const STRIDE: u64 = 256 * 1024;
/// Ranges handled in one slice of work.
const SLICE: usize = 64;

/// How much is read back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    Sample,
    Full,
}

struct Range {
    offset: u64,
    length: u64,
    /// What was there, if that must not be there again; only for methods that don't leave zeros.
    before: Option<[u8; 32]>,
}

/// The plan for one disk, and how far it has come.
pub(crate) struct Proof {
    disk: String,
    zeros: bool,
    ranges: Vec<Range>,
    /// Full reads of large disks aren't a list; they go from here on.
    stream: Option<(u64, u64)>,
    canaries: Vec<(u64, Vec<u8>)>,
    next: usize,
    bytes_read: u64,
    samples: u64,
}

impl Proof {
    /// Draws a plan for a disk of `size` bytes.
    pub(crate) fn plan(disk: &str, size: u64, zeros: bool, extent: Extent, dice: &mut Dice) -> Self {
        let mut ranges = Vec::new();
        let mut stream = None;
        let range = |offset, length| Range {
            offset,
            length,
            before: None,
        };
        if size <= WHOLE {
            ranges.extend(strides(0, size).map(|(offset, length)| range(offset, length)));
        } else {
            ranges.extend(
                strides(0, EDGE)
                    .chain(strides(size - EDGE, EDGE))
                    .map(|(o, l)| range(o, l)),
            );
            let section = size / SUBSECTIONS;
            for index in 0..SUBSECTIONS {
                let within = dice.below((section - SAMPLE) / SAMPLE) * SAMPLE;
                ranges.push(range((index * section).next_multiple_of(SAMPLE) + within, SAMPLE));
            }
            if extent == Extent::Full {
                stream = Some((0, size));
            }
        }
        let canaries = canaries(size, dice);
        Self {
            disk: disk.to_owned(),
            zeros,
            ranges,
            stream,
            canaries,
            next: 0,
            bytes_read: 0,
            samples: 0,
        }
    }

    /// A plan for ranges that were zeroed one by one (metadata), without canaries.
    pub(crate) fn of_ranges(disk: &str, zeroed: &[(u64, u64)]) -> Self {
        let ranges = zeroed
            .iter()
            .flat_map(|&(offset, length)| strides(offset, length));
        let ranges = ranges
            .map(|(offset, length)| Range {
                offset,
                length,
                before: None,
            })
            .collect();
        Self {
            disk: disk.to_owned(),
            zeros: true,
            ranges,
            stream: None,
            canaries: Vec::new(),
            next: 0,
            bytes_read: 0,
            samples: 0,
        }
    }

    /// Puts the canaries on the disk and sees that they are there.
    pub(crate) fn plant(&self, context: &mut Context<'_>) -> Result<(), Failure> {
        for (offset, pattern) in &self.canaries {
            context.platform.write_at(&self.disk, *offset, pattern)?;
        }
        context.platform.flush(&self.disk)?;
        for (offset, pattern) in &self.canaries {
            let mut read = vec![0; pattern.len()];
            context.platform.read_at(&self.disk, *offset, &mut read)?;
            if read != *pattern {
                return Err(Failure::Erase(format!(
                    "{}: what was written at byte {offset} is not what is read back: the disk is broken",
                    self.disk
                )));
            }
        }
        Ok(())
    }

    /// Notes what is on the disk, where zeros can't be expected; `true` when all is noted.
    pub(crate) fn remember(&mut self, context: &mut Context<'_>) -> Result<bool, Failure> {
        if self.zeros {
            return Ok(true);
        }
        let end = self.ranges.len().min(self.next + SLICE);
        for range in &mut self.ranges[self.next..end] {
            let mut bytes = vec![0; range.length as usize];
            context.platform.read_at(&self.disk, range.offset, &mut bytes)?;
            range.before = (!is_zero(&bytes)).then(|| Sha256::digest(&bytes).into());
        }
        self.next = end;
        let done = end == self.ranges.len();
        if done {
            self.next = 0;
        }
        Ok(done)
    }

    /// Reads back; `true` when everything was as it must be.
    pub(crate) fn check(&mut self, context: &mut Context<'_>) -> Result<bool, Failure> {
        if self.next == 0 && self.samples == 0 {
            self.check_canaries(context)?;
        }
        let end = self.ranges.len().min(self.next + SLICE);
        for index in self.next..end {
            let (offset, length, before) = (
                self.ranges[index].offset,
                self.ranges[index].length,
                self.ranges[index].before,
            );
            self.check_range(offset, length, before, context)?;
        }
        self.next = end;
        if end < self.ranges.len() {
            return Ok(false);
        }
        let Some((at, size)) = self.stream else {
            return Ok(true);
        };
        let part = (size - at).min(STRIDE * SLICE as u64);
        for (offset, length) in strides(at, part) {
            self.check_range(offset, length, None, context)?;
        }
        self.stream = Some((at + part, size));
        Ok(at + part == size)
    }

    fn check_canaries(&mut self, context: &mut Context<'_>) -> Result<(), Failure> {
        for (offset, pattern) in &self.canaries {
            let mut read = vec![0; pattern.len()];
            context.platform.read_at(&self.disk, *offset, &mut read)?;
            if read == *pattern {
                return Err(Failure::Erase(format!(
                    "{}: the disk says that it is erased, but what was written at byte {offset} before is still there",
                    self.disk
                )));
            }
            self.bytes_read += pattern.len() as u64;
        }
        Ok(())
    }

    fn check_range(
        &mut self,
        offset: u64,
        length: u64,
        before: Option<[u8; 32]>,
        context: &mut Context<'_>,
    ) -> Result<(), Failure> {
        let mut bytes = vec![0; length as usize];
        context.platform.read_at(&self.disk, offset, &mut bytes)?;
        self.samples += 1;
        self.bytes_read += length;
        if self.zeros && !is_zero(&bytes) {
            let at = offset + bytes.iter().position(|&byte| byte != 0).unwrap_or(0) as u64;
            return Err(Failure::Erase(format!(
                "{}: byte {at} is not zero after the erase",
                self.disk
            )));
        }
        if let Some(before) = before
            && Sha256::digest(&bytes)[..] == before
        {
            return Err(Failure::Erase(format!(
                "{}: the {length} bytes at {offset} are the same as before the erase",
                self.disk
            )));
        }
        Ok(())
    }

    /// What goes into the report.
    pub(crate) fn evidence(&self) -> Verification {
        Verification {
            expectation: if self.zeros { "zeros" } else { "changed" }.to_owned(),
            samples: self.samples,
            bytes_read: self.bytes_read,
            canaries: self.canaries.len() as u64,
        }
    }
}

fn canaries(size: u64, dice: &mut Dice) -> Vec<(u64, Vec<u8>)> {
    let section = size / CANARIES;
    if section < SAMPLE {
        return Vec::new();
    }
    let one = |index: u64| {
        // In the middle of a section, away from the ends that tables occupy.
        let offset = (index * section + section / 2) / SAMPLE * SAMPLE;
        let pattern = (0..SAMPLE / 8).flat_map(|_| dice.next().to_be_bytes()).collect();
        (offset.min(size - SAMPLE) / SAMPLE * SAMPLE, pattern)
    };
    (0..CANARIES).map(one).collect()
}

/// Cuts a range into pieces of at most [`STRIDE`].
fn strides(offset: u64, length: u64) -> impl Iterator<Item = (u64, u64)> {
    (0..length.div_ceil(STRIDE)).map(move |i| (offset + i * STRIDE, (length - i * STRIDE).min(STRIDE)))
}
