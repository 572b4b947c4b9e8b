//! One TFTP transfer, without a socket: RFC 1350, options (RFC 2347), blksize (2348), timeout and tsize
//! (2349), windowsize (7440). Read only, from memory, octet mode.
//!
//! ```text
//! RRQ --> Transfer::open: OACK, or the first window
//! ACK --> on_packet: next window       poll(now): the window again, or giving up
//! ```
//! A transfer talks to the address that asked and to nobody else, but for the one error packet that RFC 1350
//! 4 wants for packets from a wrong port.

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use std::net::SocketAddr;

const OP_RRQ: u16 = 1;
const OP_WRQ: u16 = 2;
const OP_DATA: u16 = 3;
const OP_ACK: u16 = 4;
const OP_ERROR: u16 = 5;
const OP_OACK: u16 = 6;

const BLOCK_DEFAULT: usize = 512;
const BLOCK_MIN: usize = 8;
/// What fits an Ethernet frame: 1500 - 20 (IP) - 8 (UDP) - 4 (TFTP). Fragments are what boot ROMs lose.
const BLOCK_MAX: usize = 1468;
/// 64 blocks of 1468 bytes: a burst that a switch port's buffer takes.
const WINDOW_MAX: u16 = 64;
const TIMEOUT_DEFAULT: SignedDuration = SignedDuration::from_secs(1);
/// Nothing heard for so many timeouts: the client is gone.
const TRIES_MAX: u32 = 6;

/// A read request, as parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) file: String,
    options: Vec<(Wish, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    BlockSize,
    Timeout,
    TransferSize,
    WindowSize,
}

/// Why a request is refused: an error packet for the client, a text for us.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("not a TFTP request")]
    Malformed,
    #[error("mode {0:?} is not octet")]
    Mode(String),
    #[error("writing is not allowed")]
    Write,
    #[error("no file {0:?} here")]
    NoFile(String),
    #[error("too many transfers at once")]
    Busy,
}

impl Refusal {
    pub(crate) fn packet(&self) -> Vec<u8> {
        let code = match self {
            Refusal::Malformed | Refusal::Mode(_) => 4,
            Refusal::Write => 2,
            Refusal::NoFile(_) => 1,
            Refusal::Busy => 0,
        };
        error(code, &self.to_string())
    }
}

/// Reads a packet that came to the well-known port.
pub(crate) fn parse_request(packet: &[u8]) -> Result<Request, Refusal> {
    match packet {
        [0, op, rest @ ..] if u16::from(*op) == OP_RRQ => {
            let mut words = rest
                .split(|byte| *byte == 0)
                .map(|w| std::str::from_utf8(w).unwrap_or(""));
            // The last word ends with a zero, too, which leaves an empty word behind it.
            let (Some(file), Some(mode)) = (words.next(), words.next()) else {
                return Err(Refusal::Malformed);
            };
            if file.is_empty() || rest.last() != Some(&0) {
                return Err(Refusal::Malformed);
            }
            if !mode.eq_ignore_ascii_case("octet") {
                return Err(Refusal::Mode(mode.chars().take(20).collect()));
            }
            let mut options = Vec::new();
            while let (Some(name), Some(value)) = (words.next(), words.next()) {
                let wish = match name.to_ascii_lowercase().as_str() {
                    "blksize" => Wish::BlockSize,
                    "timeout" => Wish::Timeout,
                    "tsize" => Wish::TransferSize,
                    "windowsize" => Wish::WindowSize,
                    // RFC 2347: an option that we don't know is left out of the answer.
                    _ => continue,
                };
                if !options.iter().any(|(w, _)| *w == wish) {
                    options.push((wish, value.to_owned()));
                }
            }
            Ok(Request {
                file: file.trim_start_matches('/').to_owned(),
                options,
            })
        }
        [0, op, ..] if u16::from(*op) == OP_WRQ => Err(Refusal::Write),
        _ => Err(Refusal::Malformed),
    }
}

/// Where a transfer stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    Running,
    Done,
    /// The client aborted, or went away; in words.
    Failed(String),
}

/// Packets to send, each with its destination.
pub(crate) type Packets = Vec<(SocketAddr, Vec<u8>)>;

pub(crate) struct Transfer {
    peer: SocketAddr,
    file: Bytes,
    block: usize,
    window: u16,
    timeout: SignedDuration,
    /// Sent until the first ACK, if options were agreed on.
    oack: Option<Vec<u8>>,
    /// Blocks that the client has; counted from 1, without roll-over.
    acked: u64,
    /// The highest block sent.
    sent: u64,
    /// Since the last progress: sent again by time, or on a repeated ACK of a window.
    tries: u32,
    window_repeated: bool,
    due: Timestamp,
    progress: Progress,
}

impl Transfer {
    pub(crate) fn open(request: &Request, file: Bytes, peer: SocketAddr, now: Timestamp) -> (Self, Packets) {
        let mut transfer = Transfer {
            peer,
            file,
            block: BLOCK_DEFAULT,
            window: 1,
            timeout: TIMEOUT_DEFAULT,
            oack: None,
            acked: 0,
            sent: 0,
            tries: 0,
            window_repeated: false,
            due: now,
            progress: Progress::Running,
        };
        transfer.agree(&request.options);
        let packets = transfer.send(now);
        (transfer, packets)
    }

    pub(crate) fn progress(&self) -> &Progress {
        &self.progress
    }

    /// When [`Transfer::poll`] has something to do.
    pub(crate) fn poll_at(&self) -> Timestamp {
        self.due
    }

    /// RFC 2347: a value that we can't use is left out; those that we take are confirmed.
    fn agree(&mut self, options: &[(Wish, String)]) {
        let mut oack = OP_OACK.to_be_bytes().to_vec();
        let mut confirm = |name: &str, value: &dyn std::fmt::Display| {
            oack.extend_from_slice(name.as_bytes());
            oack.push(0);
            oack.extend_from_slice(value.to_string().as_bytes());
            oack.push(0);
        };
        for (wish, value) in options {
            let Ok(number) = value.parse::<u64>() else {
                continue;
            };
            match wish {
                Wish::BlockSize if number >= BLOCK_MIN as u64 => {
                    self.block = usize::try_from(number).unwrap_or(BLOCK_MAX).min(BLOCK_MAX);
                    confirm("blksize", &self.block);
                }
                Wish::Timeout if (1..=255).contains(&number) => {
                    self.timeout = SignedDuration::from_secs(number as i64);
                    confirm("timeout", &number);
                }
                Wish::TransferSize => confirm("tsize", &self.file.len()),
                Wish::WindowSize if (1..=65535).contains(&number) => {
                    self.window = u16::try_from(number).unwrap_or(WINDOW_MAX).min(WINDOW_MAX);
                    confirm("windowsize", &self.window);
                }
                _ => {}
            }
        }
        if oack.len() > 2 {
            self.oack = Some(oack);
        }
    }

    /// The number of the last block: one that is shorter than the block size, so possibly empty.
    fn last(&self) -> u64 {
        (self.file.len() / self.block) as u64 + 1
    }

    /// The OACK, or the window after the last acknowledged block.
    fn send(&mut self, now: Timestamp) -> Packets {
        self.due = now.saturating_add(self.timeout).unwrap_or(Timestamp::MAX);
        if let Some(oack) = &self.oack {
            return vec![(self.peer, oack.clone())];
        }
        let end = (self.acked + u64::from(self.window)).min(self.last());
        let packets = (self.acked + 1..=end)
            .map(|n| (self.peer, self.data(n)))
            .collect();
        self.sent = end;
        packets
    }

    fn data(&self, number: u64) -> Vec<u8> {
        let start = ((number - 1) as usize * self.block).min(self.file.len());
        let end = (start + self.block).min(self.file.len());
        let mut packet = Vec::with_capacity(4 + end - start);
        packet.extend_from_slice(&OP_DATA.to_be_bytes());
        // Block numbers roll over to 0, as all clients in the field expect.
        packet.extend_from_slice(&(number as u16).to_be_bytes());
        packet.extend_from_slice(&self.file[start..end]);
        packet
    }

    pub(crate) fn on_packet(&mut self, packet: &[u8], from: SocketAddr, now: Timestamp) -> Packets {
        let (op, number) = match packet {
            [a, b, c, d, ..] => (u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d])),
            _ => return Vec::new(),
        };
        if from != self.peer {
            // RFC 1350 4: tell them, go on. An error is never answered by an error.
            return if op == OP_ERROR {
                Vec::new()
            } else {
                vec![(from, error(5, "unknown transfer ID"))]
            };
        }
        if self.progress != Progress::Running {
            return Vec::new();
        }
        match op {
            OP_ACK => self.acknowledged(number, now),
            OP_ERROR => {
                let text = packet[4..].split(|byte| *byte == 0).next().unwrap_or_default();
                let text: String = String::from_utf8_lossy(text).chars().take(120).collect();
                self.progress = Progress::Failed(format!("the client stopped: error {number} {text}"));
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    fn acknowledged(&mut self, number: u16, now: Timestamp) -> Packets {
        if self.oack.is_some() {
            if number != 0 {
                return Vec::new();
            }
            self.oack = None;
            self.tries = 0;
            return self.send(now);
        }
        // How far the acknowledged block is beyond the last one that we knew of, modulo roll-over.
        let ahead = u64::from(number.wrapping_sub(self.acked as u16));
        if ahead > self.sent - self.acked {
            return Vec::new();
        }
        if ahead == 0 {
            // A repeated ACK. With one block in flight it must not cause a repeated block (RFC 1123 4.2.3.1);
            // of a window it says that the first block was lost (RFC 7440 4): once, then time decides.
            if self.window == 1 || self.window_repeated {
                return Vec::new();
            }
            self.window_repeated = true;
            return self.send(now);
        }
        self.acked += ahead;
        self.tries = 0;
        self.window_repeated = false;
        if self.acked == self.last() {
            self.progress = Progress::Done;
            return Vec::new();
        }
        self.send(now)
    }

    /// Sends again what was not acknowledged in time, or gives up.
    pub(crate) fn poll(&mut self, now: Timestamp) -> Packets {
        if self.progress != Progress::Running || now < self.due {
            return Vec::new();
        }
        self.tries += 1;
        if self.tries >= TRIES_MAX {
            self.progress = Progress::Failed(format!(
                "the client fell silent at block {} of {}",
                self.acked,
                self.last()
            ));
            return Vec::new();
        }
        self.send(now)
    }
}

fn error(code: u16, text: &str) -> Vec<u8> {
    let mut packet = OP_ERROR.to_be_bytes().to_vec();
    packet.extend_from_slice(&code.to_be_bytes());
    packet.extend_from_slice(text.as_bytes());
    packet.push(0);
    packet
}

#[cfg(test)]
mod tests;
