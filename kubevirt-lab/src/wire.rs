//! A cable between processes: Ethernet frames over a unix socket, each after its length (two bytes, big-endian).

use crate::net::Wire;
use bytes::Bytes;
use std::io;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::mpsc,
};

/// Frames that wait in each direction; what comes on top is lost, as in a switch.
const QUEUE: usize = 4096;

/// This process's end of the cable.
pub(crate) struct UnixWire {
    out: mpsc::Sender<Bytes>,
    frames: mpsc::Receiver<Bytes>,
}

impl UnixWire {
    /// The end, and what moves its frames.
    pub(crate) fn new(stream: UnixStream) -> (Self, impl Future<Output = io::Result<()>> + Send) {
        let (reader, writer) = stream.into_split();
        let (out, outgoing) = mpsc::channel(QUEUE);
        let (incoming, frames) = mpsc::channel(QUEUE);
        let moving = async move {
            tokio::select! {
                result = read(reader, incoming) => result,
                result = write(writer, outgoing) => result,
            }
        };
        (UnixWire { out, frames }, moving)
    }
}

async fn read(mut from: OwnedReadHalf, to: mpsc::Sender<Bytes>) -> io::Result<()> {
    loop {
        let length = from.read_u16().await?;
        let mut frame = vec![0; usize::from(length)];
        from.read_exact(&mut frame).await?;
        // A full queue loses the frame; TCP repeats it.
        let _ = to.try_send(frame.into());
    }
}

async fn write(mut to: OwnedWriteHalf, mut from: mpsc::Receiver<Bytes>) -> io::Result<()> {
    while let Some(frame) = from.recv().await {
        let Ok(length) = u16::try_from(frame.len()) else {
            continue;
        };
        let mut message = Vec::with_capacity(frame.len() + 2);
        message.extend_from_slice(&length.to_be_bytes());
        message.extend_from_slice(&frame);
        to.write_all(&message).await?;
    }
    Ok(())
}

impl Wire for UnixWire {
    fn send(&mut self, frame: Bytes) {
        let _ = self.out.try_send(frame);
    }

    async fn recv(&mut self) -> Option<Bytes> {
        self.frames.recv().await
    }

    fn try_recv(&mut self) -> Option<Bytes> {
        self.frames.try_recv().ok()
    }
}
