//! TFTP client (RFC 1350) with blksize and tsize (RFC 2347, 2348, 2349), as UEFI firmware uses it.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, timeout_at};

use super::timing::Retry;
use crate::net::{Stack, UdpSocket};

const PORT: u16 = 69;
/// Ethernet's 1500 less IP, UDP and TFTP headers; what EDK2 asks for.
const BLOCK: usize = 1468;
/// A boot file is a network boot program, not an image.
const FILE_MAX: usize = 32 << 20;

const RRQ: u16 = 1;
const DATA: u16 = 3;
const ACK: u16 = 4;
const ERROR: u16 = 5;
const OACK: u16 = 6;

#[derive(Debug, thiserror::Error)]
pub(crate) enum TftpError {
    #[error("{server} did not answer for {file:?} within {waited:?}")]
    Timeout {
        server: Ipv4Addr,
        file: String,
        waited: Duration,
    },
    #[error("{server} refused {file:?}: {text} (code {code})")]
    Refused {
        server: Ipv4Addr,
        file: String,
        code: u16,
        text: String,
    },
    #[error("{file:?} is larger than {FILE_MAX} bytes")]
    TooLarge { file: String },
    #[error("{server} answered out of protocol: {what}")]
    Protocol { server: Ipv4Addr, what: &'static str },
    #[error("network: {0}")]
    Io(#[from] io::Error),
}

/// Reads a file.
pub(crate) async fn read(
    stack: &Stack,
    server: Ipv4Addr,
    file: &str,
    retry: Retry,
) -> Result<Bytes, TftpError> {
    let socket = stack.udp_bind(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0))?;
    let mut transfer = Transfer {
        socket,
        server,
        file: file.to_owned(),
        peer: None,
        block: 512,
        size: None,
        data: Vec::new(),
        next: 1,
        last: request(file),
    };
    loop {
        let packet = transfer.exchange(retry).await?;
        if transfer.take(&packet)? {
            // The last acknowledgement is not itself acknowledged; it is sent once.
            transfer.send()?;
            return Ok(transfer.data.into());
        }
    }
}

fn request(file: &str) -> Vec<u8> {
    let mut packet = RRQ.to_be_bytes().to_vec();
    for word in [file, "octet", "tsize", "0", "blksize", &BLOCK.to_string()] {
        packet.extend_from_slice(word.as_bytes());
        packet.push(0);
    }
    packet
}

struct Transfer {
    socket: UdpSocket,
    server: Ipv4Addr,
    file: String,
    /// The server's port for this transfer (its TID), from its first answer on.
    peer: Option<SocketAddrV4>,
    block: usize,
    size: Option<usize>,
    data: Vec<u8>,
    next: u16,
    /// The last packet we sent, which is repeated on silence.
    last: Vec<u8>,
}

impl Transfer {
    fn send(&self) -> io::Result<()> {
        self.socket.send_to(
            &self.last,
            self.peer.unwrap_or(SocketAddrV4::new(self.server, PORT)),
        )
    }

    /// Sends our packet until something comes back from the right peer.
    async fn exchange(&mut self, retry: Retry) -> Result<Bytes, TftpError> {
        let start = Instant::now();
        let mut until = start;
        for wait in retry.waits() {
            self.send()?;
            until += wait;
            while let Ok(received) = timeout_at(until, self.socket.recv_from()).await {
                let (packet, from) = received?;
                // RFC 1350 4: a packet from another TID is not ours.
                if *from.ip() == self.server
                    && self.peer.is_none_or(|peer| peer == from)
                    && self.is_new(&packet)
                {
                    self.peer = Some(from);
                    return Ok(packet);
                }
            }
        }
        Err(TftpError::Timeout {
            server: self.server,
            file: self.file.clone(),
            waited: start.elapsed(),
        })
    }

    /// A repeated block is ignored: answering it would double every later packet (the Sorcerer's Apprentice, RFC 1123 4.2.3.1).
    fn is_new(&self, packet: &Bytes) -> bool {
        !(word(packet, 0) == Some(DATA) && word(packet, 2) != Some(self.next))
    }

    /// Takes an answer in; true when the file is complete.
    fn take(&mut self, packet: &Bytes) -> Result<bool, TftpError> {
        let server = self.server;
        let protocol = |what| TftpError::Protocol { server, what };
        match word(packet, 0) {
            Some(OACK) if self.data.is_empty() => {
                self.options(&packet[2..])
                    .ok_or_else(|| protocol("an option that was not asked for"))?;
                if self.size.is_some_and(|size| size > FILE_MAX) {
                    return Err(TftpError::TooLarge {
                        file: self.file.clone(),
                    });
                }
                self.acknowledge(0);
                Ok(false)
            }
            Some(DATA) => {
                let data = packet
                    .get(4..)
                    .ok_or_else(|| protocol("a block without a number"))?;
                if data.len() > self.block {
                    return Err(protocol("a block larger than agreed"));
                }
                self.data.extend_from_slice(data);
                if self.data.len() > FILE_MAX {
                    return Err(TftpError::TooLarge {
                        file: self.file.clone(),
                    });
                }
                self.acknowledge(self.next);
                // Blocks wrap around at 65535 (common practice for files above 94 MB).
                self.next = self.next.wrapping_add(1);
                let complete = data.len() < self.block;
                if complete && self.size.is_some_and(|size| size != self.data.len()) {
                    return Err(protocol("fewer bytes than tsize announced"));
                }
                Ok(complete)
            }
            Some(ERROR) => {
                let text = packet
                    .get(4..)
                    .unwrap_or_default()
                    .split(|byte| *byte == 0)
                    .next()
                    .unwrap_or_default();
                Err(TftpError::Refused {
                    server: self.server,
                    file: self.file.clone(),
                    code: word(packet, 2).unwrap_or(0),
                    text: String::from_utf8_lossy(text).into_owned(),
                })
            }
            _ => Err(protocol("an unexpected packet")),
        }
    }

    fn options(&mut self, data: &[u8]) -> Option<()> {
        let mut words = data
            .split(|byte| *byte == 0)
            .map(|word| std::str::from_utf8(word).unwrap_or_default());
        while let Some(name) = words.next().filter(|name| !name.is_empty()) {
            let value = words.next()?.parse().ok()?;
            match name.to_ascii_lowercase().as_str() {
                "blksize" if (8..=BLOCK).contains(&value) => self.block = value,
                "tsize" => self.size = Some(value),
                _ => return None,
            }
        }
        Some(())
    }

    fn acknowledge(&mut self, block: u16) {
        self.last = [ACK.to_be_bytes(), block.to_be_bytes()].concat();
    }
}

fn word(packet: &[u8], at: usize) -> Option<u16> {
    let bytes = packet.get(at..at + 2)?;
    Some(u16::from_be_bytes([bytes[0], bytes[1]]))
}
