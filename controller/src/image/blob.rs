//! Bytes that are served: in memory, or in a file that is read as it is sent.

use bytes::Bytes;
use futures::TryStreamExt;
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::body::Frame;
use std::{
    io::{self, SeekFrom},
    path::Path,
    sync::Arc,
};
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio_util::io::ReaderStream;

/// What is read from a file at once, and so held per download.
const CHUNK: usize = 256 << 10;

#[derive(Clone)]
pub enum Blob {
    Memory(Bytes),
    File { path: Arc<Path>, size: u64 },
}

impl std::fmt::Debug for Blob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Blob::Memory(bytes) => write!(f, "Blob({} bytes)", bytes.len()),
            Blob::File { path, size } => write!(f, "Blob({}, {size} bytes)", path.display()),
        }
    }
}

impl Blob {
    pub fn size(&self) -> u64 {
        match self {
            Blob::Memory(bytes) => bytes.len() as u64,
            Blob::File { size, .. } => *size,
        }
    }

    /// A part as a body. A range outside of the blob is an error.
    pub async fn read(&self, start: u64, length: u64) -> io::Result<BoxBody<Bytes, io::Error>> {
        let outside = || io::Error::new(io::ErrorKind::UnexpectedEof, "the range ends outside of the file");
        let end = start
            .checked_add(length)
            .filter(|end| *end <= self.size())
            .ok_or_else(outside)?;
        match self {
            Blob::Memory(bytes) => {
                // Both fit: they are at most the length of bytes that are in memory.
                let part = bytes.slice(start as usize..end as usize);
                Ok(Full::new(part).map_err(|never| match never {}).boxed())
            }
            Blob::File { path, .. } => {
                let mut file = tokio::fs::File::open(path).await?;
                file.seek(SeekFrom::Start(start)).await?;
                let chunks = ReaderStream::with_capacity(file.take(length), CHUNK);
                Ok(BodyExt::boxed(StreamBody::new(chunks.map_ok(Frame::data))))
            }
        }
    }
}
