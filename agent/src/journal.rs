//! The agent's own log, kept for `log.collect_system_logs` and for the inspection payload; also goes to `tracing`.

use std::collections::VecDeque;
use std::io::Write;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;

/// Lines kept. A deployment writes some twenty; the rest is room for retries.
const LINES_MAX: usize = 500;

/// A ring of lines, each with the time since the agent's start.
#[derive(Debug)]
pub(crate) struct Journal {
    started: Instant,
    lines: VecDeque<(Duration, String)>,
}

impl Journal {
    pub(crate) fn new(started: Instant) -> Self {
        Self {
            started,
            lines: VecDeque::new(),
        }
    }

    /// Notes a fact. Never a secret: everyone who may read inspection data reads this.
    pub(crate) fn note(&mut self, now: Instant, line: impl Into<String>) {
        let line = line.into();
        tracing::debug!(line, "agent");
        if self.lines.len() == LINES_MAX {
            self.lines.pop_front();
        }
        self.lines
            .push_back((now.saturating_duration_since(self.started), line));
    }

    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    fn text(&self) -> String {
        self.lines
            .iter()
            .map(|(at, line)| format!("[{:>12.6}] {line}\n", at.as_secs_f64()))
            .collect()
    }

    /// Base64 of a tar.gz with one file, `journal`.
    pub(crate) fn archive(&self) -> String {
        let text = self.text();
        let mut gz = GzEncoder::new(Vec::new(), Compression::default());
        let result = [
            &tar_header("journal", text.len())[..],
            text.as_bytes(),
            &padding(text.len()),
        ]
        .iter()
        .try_for_each(|part| gz.write_all(part))
        .and_then(|()| gz.finish());
        STANDARD.encode(result.expect("writing to a vector can't fail"))
    }
}

/// What fills the last block of a file, and the two empty blocks that end an archive.
fn padding(length: usize) -> Vec<u8> {
    vec![0; length.next_multiple_of(512) - length + 1024]
}

/// A ustar header (POSIX.1-2017, pax, "ustar Interchange Format").
fn tar_header(name: &str, length: usize) -> [u8; 512] {
    let mut header = [0u8; 512];
    let mut put = |at: usize, text: &[u8]| header[at..at + text.len()].copy_from_slice(text);
    put(0, name.as_bytes());
    put(100, b"0000644\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{length:011o}\0").as_bytes());
    put(136, b"00000000000\0");
    // The checksum is computed with blanks in its own field.
    put(148, b"        ");
    put(156, b"0");
    put(257, b"ustar\x0000");
    let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn the_archive_is_a_tar_with_the_lines() {
        let start = Instant::now();
        let mut journal = Journal::new(start);
        for i in 0..LINES_MAX + 3 {
            journal.note(start + Duration::from_millis(i as u64), format!("line {i}"));
        }
        let mut tar = Vec::new();
        let bytes = STANDARD.decode(journal.archive()).unwrap();
        flate2::read::GzDecoder::new(&bytes[..])
            .read_to_end(&mut tar)
            .unwrap();
        assert_eq!(tar.len() % 512, 0);
        assert_eq!(&tar[..8], b"journal\0");
        assert_eq!(&tar[257..265], b"ustar\x0000");
        let length = usize::from_str_radix(std::str::from_utf8(&tar[124..135]).unwrap(), 8).unwrap();
        let text = std::str::from_utf8(&tar[512..512 + length]).unwrap();
        assert!(
            text.starts_with("[    0.003000] line 3\n"),
            "the oldest lines go first: {}",
            &text[..40]
        );
        assert!(text.ends_with("line 502\n"));
        let sum: u32 = tar[..148]
            .iter()
            .chain(&[b' '; 8])
            .chain(&tar[156..512])
            .map(|&b| u32::from(b))
            .sum();
        assert_eq!(format!("{sum:06o}").as_bytes(), &tar[148..154]);
    }
}
