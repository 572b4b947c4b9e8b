//! The standard streams of a command.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use super::super::console::Console;

/// Bytes that a pipe, a substitution or a file may collect.
const BUFFER_MAX: usize = 8 << 20;

/// Where output goes.
#[derive(Clone)]
pub(crate) enum Out {
    Console(Console),
    Buffer(Arc<Mutex<Vec<u8>>>),
    Null,
}

impl Out {
    pub(crate) fn buffer() -> Self {
        Self::Buffer(Arc::default())
    }

    pub(crate) fn write(&self, data: impl AsRef<[u8]>) {
        match self {
            Self::Console(console) => console.print(String::from_utf8_lossy(data.as_ref())),
            Self::Buffer(buffer) => {
                let mut buffer = buffer.lock().unwrap_or_else(PoisonError::into_inner);
                let room = BUFFER_MAX.saturating_sub(buffer.len());
                let data = data.as_ref();
                buffer.extend_from_slice(&data[..data.len().min(room)]);
            }
            Self::Null => {}
        }
    }

    pub(crate) fn line(&self, text: impl AsRef<str>) {
        self.write(format!("{}\n", text.as_ref()));
    }

    pub(crate) fn take(&self) -> Vec<u8> {
        match self {
            Self::Buffer(buffer) => {
                std::mem::take(&mut *buffer.lock().unwrap_or_else(PoisonError::into_inner))
            }
            _ => Vec::new(),
        }
    }
}

/// The three standard streams of a command. Input is whole when a command starts: pipes run one side after the other.
#[derive(Clone)]
pub(crate) struct Io {
    pub stdin: Arc<Mutex<Bytes>>,
    pub stdout: Out,
    pub stderr: Out,
}

impl Io {
    pub(crate) fn console(console: &Console) -> Self {
        let out = Out::Console(console.clone());
        Self {
            stdin: Arc::default(),
            stdout: out.clone(),
            stderr: out,
        }
    }

    pub(crate) fn with_stdin(&self, stdin: impl Into<Bytes>) -> Self {
        Self {
            stdin: Arc::new(Mutex::new(stdin.into())),
            ..self.clone()
        }
    }

    pub(super) fn read_all(&self) -> Bytes {
        std::mem::take(&mut *self.stdin.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The next line, without its end.
    pub(super) fn read_line(&self) -> Option<String> {
        let mut stdin = self.stdin.lock().unwrap_or_else(PoisonError::into_inner);
        if stdin.is_empty() {
            return None;
        }
        let end = stdin
            .iter()
            .position(|byte| *byte == b'\n')
            .map_or(stdin.len(), |end| end + 1);
        let line = stdin.split_to(end);
        Some(String::from_utf8_lossy(&line).trim_end_matches('\n').to_owned())
    }
}
