//! Packet captures in pcapng (draft-ietf-opsawg-pcapng): a section header, one interface of Ethernet with
//! nanosecond timestamps named after the network, one enhanced packet block per frame. Written by hand: four
//! block layouts, and the one maintained crate (pcap-file 2.0) is from 2023.

use std::io::{self, BufWriter, Write};

use crate::{dataplane::Network, names::Nanos};

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const ENHANCED_PACKET: u32 = 6;
const BYTE_ORDER_MAGIC: u32 = 0x1a2b_3c4d;
const LINKTYPE_ETHERNET: u16 = 1;
const OPT_END: u16 = 0;
const SHB_USERAPPL: u16 = 4;
const IF_NAME: u16 = 2;
const IF_TSRESOL: u16 = 9;

pub(crate) struct PcapngWriter {
    to: BufWriter<Box<dyn Write + Send>>,
}

impl PcapngWriter {
    /// Writes the section header and the interface named `network`.
    pub(crate) fn new(to: Box<dyn Write + Send>, network: &str) -> io::Result<PcapngWriter> {
        let mut writer = PcapngWriter {
            to: BufWriter::with_capacity(64 * 1024, to),
        };
        let mut section = Vec::new();
        section.extend(BYTE_ORDER_MAGIC.to_le_bytes());
        section.extend(1u16.to_le_bytes()); // version 1.0
        section.extend(0u16.to_le_bytes());
        section.extend(u64::MAX.to_le_bytes()); // section length: not known in advance
        option(&mut section, SHB_USERAPPL, b"sim-fabric");
        option(&mut section, OPT_END, b"");
        writer.block(SECTION_HEADER, &section)?;
        let mut interface = Vec::new();
        interface.extend(LINKTYPE_ETHERNET.to_le_bytes());
        interface.extend(0u16.to_le_bytes());
        interface.extend(0u32.to_le_bytes()); // snap length: none
        option(&mut interface, IF_NAME, network.as_bytes());
        option(&mut interface, IF_TSRESOL, &[9]); // 10^-9 s; the default would be microseconds
        option(&mut interface, OPT_END, b"");
        writer.block(INTERFACE, &interface)?;
        writer.flush()?;
        Ok(writer)
    }

    /// One frame; allocates nothing.
    pub(crate) fn packet(&mut self, at: Nanos, frame: &[u8]) -> io::Result<()> {
        let padding = frame.len().next_multiple_of(4) - frame.len();
        let length = u32::try_from(12 + 20 + frame.len() + padding).map_err(io::Error::other)?;
        let size = u32::try_from(frame.len()).map_err(io::Error::other)?;
        let at = at.max(0).cast_unsigned();
        let mut head = [0; 28];
        let fields = [
            ENHANCED_PACKET,
            length,
            0,
            (at >> 32) as u32,
            (at & 0xffff_ffff) as u32,
            size,
            size,
        ];
        for (slot, field) in head.chunks_exact_mut(4).zip(fields) {
            slot.copy_from_slice(&field.to_le_bytes());
        }
        self.to.write_all(&head)?;
        self.to.write_all(frame)?;
        self.to.write_all(&[0; 3][..padding])?;
        self.to.write_all(&length.to_le_bytes())
    }

    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }

    fn block(&mut self, kind: u32, body: &[u8]) -> io::Result<()> {
        let length = u32::try_from(12 + body.len()).map_err(io::Error::other)?;
        self.to.write_all(&kind.to_le_bytes())?;
        self.to.write_all(&length.to_le_bytes())?;
        self.to.write_all(body)?;
        self.to.write_all(&length.to_le_bytes())
    }
}

/// Code, length, value padded to 32 bits.
fn option(to: &mut Vec<u8>, code: u16, value: &[u8]) {
    let value = &value[..value.len().min(usize::from(u16::MAX - 3))];
    to.extend(code.to_le_bytes());
    to.extend((value.len() as u16).to_le_bytes());
    to.extend(value);
    to.resize(to.len().next_multiple_of(4), 0);
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct CaptureId(pub(crate) u64);

/// A capture at work on one network. A writer that fails ends it: half a block would spoil what follows.
pub(crate) struct Tap {
    pub(crate) id: CaptureId,
    pub(crate) writer: PcapngWriter,
    pub(crate) frames: u64,
    pub(crate) failed: bool,
}

impl Tap {
    pub(crate) fn see(&mut self, at: Nanos, frame: &[u8], network: &str) {
        if self.failed {
            return;
        }
        match self.writer.packet(at, frame) {
            Ok(()) => self.frames += 1,
            Err(error) => self.fail(network, &error),
        }
    }

    pub(crate) fn flush(&mut self, network: &str) {
        if !self.failed
            && let Err(error) = self.writer.flush()
        {
            self.fail(network, &error);
        }
    }

    fn fail(&mut self, network: &str, error: &io::Error) {
        self.failed = true;
        tracing::error!(network, %error, frames = self.frames, "capture stopped, its file cannot be written");
    }
}

/// Makes the writer for a network that is about to be captured.
pub(crate) type Factory = Box<dyn FnMut(&str) -> io::Result<Box<dyn Write + Send>> + Send>;

/// All captures: hands out ids, and opens one for each new network if somebody asked for that.
#[derive(Default)]
pub(crate) struct Captures {
    last: u64,
    each: Vec<(CaptureId, Factory)>,
    open: usize,
}

impl Captures {
    pub(crate) fn next_id(&mut self) -> CaptureId {
        self.last += 1;
        CaptureId(self.last)
    }

    /// Whether frames may be waiting in a buffer.
    pub(crate) fn any(&self) -> bool {
        self.open > 0
    }

    pub(crate) fn attach(
        &mut self,
        id: CaptureId,
        network: &mut Network,
        to: Box<dyn Write + Send>,
    ) -> io::Result<()> {
        let writer = PcapngWriter::new(to, &network.config.name)?;
        network.taps.push(Tap {
            id,
            writer,
            frames: 0,
            failed: false,
        });
        self.open += 1;
        Ok(())
    }

    pub(crate) fn add_each(&mut self, id: CaptureId, factory: Factory) {
        self.each.push((id, factory));
    }

    pub(crate) fn network_made(&mut self, network: &mut Network) {
        let ids: Vec<CaptureId> = self.each.iter().map(|(id, _)| *id).collect();
        for id in ids {
            self.start(id, network);
        }
    }

    /// Starts a capture of every network on this one.
    pub(crate) fn start(&mut self, id: CaptureId, network: &mut Network) {
        let Some((_, factory)) = self.each.iter_mut().find(|(other, _)| *other == id) else {
            return;
        };
        let name = network.config.name.clone();
        if let Err(error) = factory(&name).and_then(|to| self.attach(id, network, to)) {
            tracing::error!(network = name, %error, "capture not started");
        }
    }

    /// Ends every capture of this id; its frames are flushed.
    pub(crate) fn detach<'a>(&mut self, id: CaptureId, networks: impl Iterator<Item = &'a mut Network>) {
        self.each.retain(|(other, _)| *other != id);
        let mut open = 0;
        for network in networks {
            for tap in network.taps.iter_mut().filter(|tap| tap.id == id) {
                tap.flush(&network.config.name);
            }
            network.taps.retain(|tap| tap.id != id);
            open += network.taps.len();
        }
        self.open = open;
    }
}
