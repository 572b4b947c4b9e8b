//! The config drive: a small file system image that cloud-init reads (as ironic-python-agent does).

use std::fmt;
use std::io::{self, Cursor, Read};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::read::GzDecoder;

use crate::failure::Failure;
use crate::table::CONFIG_DRIVE_MAX;

/// What cloud-init looks for; case doesn't matter.
pub(crate) const LABEL: &str = "config-2";
/// A fetched config drive is at most 64 MiB, or that in base64 (4/3) with line breaks.
pub(crate) const FETCH_MAX: usize = 96 << 20;
/// Enough of a file system for [`label`]: an ISO's volume descriptor is at 32 KiB.
pub(crate) const LABEL_PREFIX: usize = 34 * 1024;

/// A config drive as it came: still compressed, so that 64 MiB of image are not held in memory.
pub(crate) struct ConfigDrive {
    bytes: Vec<u8>,
    compressed: bool,
    length: u64,
}

// User data carries join tokens: never shown.
impl fmt::Debug for ConfigDrive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConfigDrive")
            .field("length", &self.length)
            .finish_non_exhaustive()
    }
}

impl ConfigDrive {
    /// From the command: base64 of gzip of the image.
    pub(crate) fn from_text(text: &str) -> Result<Self, Failure> {
        let packed: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
        let bytes = STANDARD
            .decode(packed)
            .map_err(|error| Failure::ConfigDrive(format!("not base64 of a gzip: {error}")))?;
        Self::checked(bytes, true)
    }

    /// From a URL: the same text, or the image itself.
    pub(crate) fn from_download(body: &[u8]) -> Result<Self, Failure> {
        let text = std::str::from_utf8(body).ok().filter(|text| {
            text.bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"+/=\r\n".contains(&byte))
        });
        match text {
            Some(text) if !text.is_empty() => Self::from_text(text),
            _ => Self::checked(body.to_vec(), body.starts_with(&[0x1f, 0x8b])),
        }
    }

    /// Unpacks it once, to know its size and that it is whole, before any disk is touched.
    fn checked(bytes: Vec<u8>, compressed: bool) -> Result<Self, Failure> {
        let mut drive = Self {
            bytes,
            compressed,
            length: 0,
        };
        let fail = |error: io::Error| Failure::ConfigDrive(format!("not a gzip of an image: {error}"));
        let mut prefix = Vec::new();
        let mut reader = drive.reader().take(CONFIG_DRIVE_MAX + 1);
        (&mut reader)
            .take(LABEL_PREFIX as u64)
            .read_to_end(&mut prefix)
            .map_err(fail)?;
        let rest = io::copy(&mut reader, &mut io::sink()).map_err(fail)?;
        drop(reader);
        drive.length = prefix.len() as u64 + rest;
        if drive.length > CONFIG_DRIVE_MAX {
            return Err(Failure::ConfigDrive("larger than 64 MiB".to_owned()));
        }
        match label(&prefix) {
            Some(label) if label.eq_ignore_ascii_case(LABEL) => Ok(drive),
            found => Err(Failure::ConfigDrive(format!(
                "a file system labelled {LABEL} is wanted, found {}; cloud-init would not see it",
                found.map_or("none".to_owned(), |label| format!("label {label:?}"))
            ))),
        }
    }

    /// Bytes of the image.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// The image, from its beginning.
    pub(crate) fn reader(&self) -> Box<dyn Read + '_> {
        if self.compressed {
            Box::new(GzDecoder::new(&self.bytes[..]))
        } else {
            Box::new(&self.bytes[..])
        }
    }

    /// The same, owning the bytes.
    pub(crate) fn into_reader(self) -> Box<dyn Read + Send> {
        let bytes = Cursor::new(self.bytes);
        if self.compressed {
            Box::new(GzDecoder::new(bytes))
        } else {
            Box::new(bytes)
        }
    }
}

/// The label of the file system that starts with these bytes: ISO 9660, FAT or ext.
pub(crate) fn label(prefix: &[u8]) -> Option<String> {
    let text = |from: usize, length: usize| {
        let bytes = prefix.get(from..from + length)?;
        let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(length);
        Some(String::from_utf8_lossy(&bytes[..end]).trim().to_owned())
    };
    let has = |at: usize, magic: &[u8]| prefix.get(at..).is_some_and(|rest| rest.starts_with(magic));
    if has(32 * 1024, b"\x01CD001") {
        return text(32 * 1024 + 40, 32);
    }
    if has(82, b"FAT32") {
        return text(71, 11);
    }
    if has(54, b"FAT") {
        return text(43, 11);
    }
    if has(1024 + 56, b"\x53\xef") {
        return text(1024 + 120, 16);
    }
    None
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    /// Not a whole file system, but what carries its label.
    pub(crate) fn iso(label: &str, size: usize) -> Vec<u8> {
        let mut image = vec![0x5a; size];
        image[32 * 1024..32 * 1024 + 6].copy_from_slice(b"\x01CD001");
        image[32 * 1024 + 40..32 * 1024 + 72].copy_from_slice(format!("{label:<32}").as_bytes());
        image
    }

    pub(crate) fn packed(image: &[u8]) -> String {
        let mut gz = GzEncoder::new(Vec::new(), Compression::fast());
        gz.write_all(image).unwrap();
        STANDARD.encode(gz.finish().unwrap())
    }

    #[test]
    fn text_download_and_raw_give_the_same_image() {
        let image = iso("config-2", 40_000);
        let text = packed(&image);
        let broken: String = text
            .as_bytes()
            .chunks(76)
            .map(|l| format!("{}\n", std::str::from_utf8(l).unwrap()))
            .collect();
        for drive in [
            ConfigDrive::from_text(&text).unwrap(),
            ConfigDrive::from_text(&broken).unwrap(),
            ConfigDrive::from_download(text.as_bytes()).unwrap(),
            ConfigDrive::from_download(&image).unwrap(),
            ConfigDrive::from_download(&STANDARD.decode(&text).unwrap()).unwrap(),
        ] {
            assert_eq!(drive.length(), 40_000);
            let mut read = Vec::new();
            drive.into_reader().read_to_end(&mut read).unwrap();
            assert!(read == image);
        }
    }

    #[test]
    fn what_is_no_config_drive_is_refused() {
        let cut = packed(&iso("config-2", 40_000));
        for (text, why) in [
            ("%%%".to_owned(), "not base64"),
            (STANDARD.encode("hello"), "not a gzip"),
            (
                STANDARD.encode(&STANDARD.decode(&cut).unwrap()[..100]),
                "not a gzip",
            ),
            (packed(&iso("cidata", 40_000)), "label \"cidata\""),
            (packed(&[0; 1000]), "found none"),
            (packed(&iso("config-2", (64 << 20) + 1)), "larger than 64 MiB"),
        ] {
            let error = ConfigDrive::from_text(&text).unwrap_err().to_string();
            assert!(error.contains(why), "{error} should say {why}");
        }
    }

    #[test]
    fn labels_of_file_systems() {
        let mut fat = vec![0; 512];
        fat[43..54].copy_from_slice(b"CONFIG-2   ");
        fat[54..59].copy_from_slice(b"FAT16");
        assert_eq!(label(&fat).as_deref(), Some("CONFIG-2"));
        let mut ext = vec![0; 4096];
        ext[1024 + 56..1024 + 58].copy_from_slice(b"\x53\xef");
        ext[1024 + 120..1024 + 124].copy_from_slice(b"root");
        assert_eq!(label(&ext).as_deref(), Some("root"));
        assert_eq!(label(&[]), None);
    }
}
