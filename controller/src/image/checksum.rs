//! Which digest an image must have (as Ironic and Metal3 have it): given literally, or listed in a file
//! such as SHA256SUMS.

use sha2::Digest as _;
use std::fmt;
use steelyard_api::metal3::{ChecksumType, Image};
use url::Url;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Algorithm {
    Md5,
    Sha256,
    Sha512,
}

impl Algorithm {
    pub(crate) const ALL: [Algorithm; 3] = [Algorithm::Md5, Algorithm::Sha256, Algorithm::Sha512];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Algorithm::Md5 => "md5",
            Algorithm::Sha256 => "sha256",
            Algorithm::Sha512 => "sha512",
        }
    }

    fn hex_digits(self) -> usize {
        match self {
            Algorithm::Md5 => 32,
            Algorithm::Sha256 => 64,
            Algorithm::Sha512 => 128,
        }
    }
}

/// A digest in lower-case hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Digest {
    pub(crate) algorithm: Algorithm,
    pub(crate) hex: String,
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm.as_str(), self.hex)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ChecksumError {
    #[error("image.checksum is missing: give the digest, or the URL of a file that lists it")]
    Missing,
    #[error("image.checksumType {0:?} is unknown: use md5, sha256, sha512 or auto")]
    Type(String),
    #[error("image.checksum {found:?} is not {what}")]
    NotADigest { found: String, what: String },
    #[error("image.checksum {0:?} is not an http or https URL")]
    Url(String),
    #[error("it is empty")]
    Empty,
    #[error("it has no line for {file}: correct image.checksum, or the file's name in image.url")]
    NotListed { file: String },
    #[error("its line for {file} holds no digest{}", .algorithm.map(|a| format!(" of type {}", a.as_str())).unwrap_or_default())]
    NoDigest {
        file: String,
        algorithm: Option<Algorithm>,
    },
}

/// Where the digest comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Literal(Digest),
    File { url: Url, algorithm: Option<Algorithm> },
}

pub(crate) fn source(image: &Image) -> Result<Source, ChecksumError> {
    let algorithm = match image.checksum_type {
        None | Some(ChecksumType::Auto) => None,
        Some(ChecksumType::Md5) => Some(Algorithm::Md5),
        Some(ChecksumType::Sha256) => Some(Algorithm::Sha256),
        Some(ChecksumType::Sha512) => Some(Algorithm::Sha512),
        Some(other) => return Err(ChecksumError::Type(other.to_string())),
    };
    let text = image.checksum.as_deref().unwrap_or_default().trim();
    if text.is_empty() {
        return Err(ChecksumError::Missing);
    }
    if text.contains("://") {
        let url = Url::parse(text)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        return url
            .map(|url| Source::File { url, algorithm })
            .ok_or_else(|| ChecksumError::Url(text.chars().take(200).collect()));
    }
    digest(text, algorithm)
        .map(Source::Literal)
        .ok_or_else(|| ChecksumError::NotADigest {
            found: text.chars().take(140).collect(),
            what: match algorithm {
                Some(a) => format!("a {} digest of {} hexadecimal digits", a.as_str(), a.hex_digits()),
                None => "a digest of 32 (md5), 64 (sha256) or 128 (sha512) hexadecimal digits".into(),
            },
        })
}

/// A word as a digest; without a given algorithm its length says which.
fn digest(word: &str, algorithm: Option<Algorithm>) -> Option<Digest> {
    if !word.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let found = Algorithm::ALL
        .into_iter()
        .find(|a| a.hex_digits() == word.len())?;
    if algorithm.is_some_and(|wanted| wanted != found) {
        return None;
    }
    Some(Digest {
        algorithm: found,
        hex: word.to_ascii_lowercase(),
    })
}

/// The digest that a checksum file lists for `file`: one bare digest, or lines as of GNU (`HEX  FILE`,
/// `HEX *FILE`) or BSD (`SHA256 (FILE) = HEX`).
pub(crate) fn find(text: &str, file: &str, algorithm: Option<Algorithm>) -> Result<Digest, ChecksumError> {
    let lines: Vec<_> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect();
    let none = || ChecksumError::NoDigest {
        file: file.to_owned(),
        algorithm,
    };
    match lines.as_slice() {
        [] => Err(ChecksumError::Empty),
        [only] if !only.contains(char::is_whitespace) => digest(only, algorithm).ok_or_else(none),
        _ => {
            // More than one line may name the file, one per algorithm.
            let mut named = lines.iter().filter(|line| names(line, file)).peekable();
            if named.peek().is_none() {
                return Err(ChecksumError::NotListed {
                    file: file.to_owned(),
                });
            }
            let of_line = |line: &&str| {
                let mut words = line.split_whitespace();
                let (first, last) = (words.next()?, words.next_back());
                digest(first, algorithm).or_else(|| digest(last?, algorithm))
            };
            named.find_map(of_line).ok_or_else(none)
        }
    }
}

fn names(line: &str, file: &str) -> bool {
    let gnu = line
        .strip_suffix(file)
        .and_then(|rest| rest.strip_suffix("./").or(Some(rest)));
    gnu.is_some_and(|rest| rest.ends_with([' ', '*', '\t'])) || line.contains(&format!(" ({file}) "))
}

/// The name that checksum files list an image under: the last part of its URL's path.
pub(crate) fn file_name(url: &Url) -> String {
    url.path_segments()
        .and_then(|mut parts| parts.next_back())
        .unwrap_or_default()
        .to_owned()
}

/// Several digests of one stream.
#[derive(Clone)]
pub(crate) struct Hasher {
    sha256: sha2::Sha256,
    md5: Option<md5::Md5>,
    sha512: Option<sha2::Sha512>,
}

impl Hasher {
    /// SHA-256, which names the image here, and what upstream gives.
    pub(crate) fn new(also: Algorithm) -> Self {
        Hasher {
            sha256: sha2::Sha256::new(),
            md5: (also == Algorithm::Md5).then(md5::Md5::new),
            sha512: (also == Algorithm::Sha512).then(sha2::Sha512::new),
        }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        if let Some(md5) = &mut self.md5 {
            md5.update(bytes);
        }
        if let Some(sha512) = &mut self.sha512 {
            sha512.update(bytes);
        }
    }

    pub(crate) fn finish(self) -> Vec<Digest> {
        let mut digests = vec![Digest {
            algorithm: Algorithm::Sha256,
            hex: hex(&self.sha256.finalize()),
        }];
        digests.extend(self.md5.map(|h| Digest {
            algorithm: Algorithm::Md5,
            hex: hex(&h.finalize()),
        }));
        digests.extend(self.sha512.map(|h| Digest {
            algorithm: Algorithm::Sha512,
            hex: hex(&h.finalize()),
        }));
        digests
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
    const M: &str = "cccccccccccccccccccccccccccccccc";

    fn image(checksum: &str, kind: Option<ChecksumType>) -> Image {
        Image {
            url: "http://h/i.img".into(),
            checksum: Some(checksum.into()),
            checksum_type: kind,
            ..Image::default()
        }
    }

    #[test]
    fn sources() {
        let literal = |algorithm, hex: &str| {
            Ok(Source::Literal(Digest {
                algorithm,
                hex: hex.into(),
            }))
        };
        assert_eq!(source(&image(A, None)), literal(Algorithm::Sha256, A));
        assert_eq!(
            source(&image(&A.to_uppercase(), Some(ChecksumType::Auto))),
            literal(Algorithm::Sha256, A)
        );
        assert_eq!(
            source(&image(M, Some(ChecksumType::Md5))),
            literal(Algorithm::Md5, M)
        );
        let url = Url::parse("https://h/SHA256SUMS").unwrap();
        assert_eq!(
            source(&image(url.as_str(), None)),
            Ok(Source::File { url, algorithm: None })
        );
        assert_eq!(source(&Image::default()), Err(ChecksumError::Missing));
        for bad in ["abc", "ftp://h/SUMS", "http://", &A.replace('a', "x")] {
            assert!(source(&image(bad, None)).is_err(), "{bad}");
        }
        let error = source(&image(M, Some(ChecksumType::Sha256)))
            .unwrap_err()
            .to_string();
        assert!(error.contains("sha256") && error.contains("64"), "{error}");
    }

    #[test]
    fn files() {
        let f = "noble.img";
        for (text, want) in [
            (format!("{A}\n"), Some(A)),
            (format!("# comment\n{B} *other.img\n{A} *noble.img\n"), Some(A)),
            (format!("{A}  noble.img\r\n"), Some(A)),
            (format!("{A}  ./noble.img\n{B}  x\n"), Some(A)),
            (
                format!("SHA256 (other.img) = {B}\nSHA256 (noble.img) = {A}\n"),
                Some(A),
            ),
            (format!("{M}  noble.img\n{A}  noble.img\n"), Some(A)),
            (format!("{A}  not-noble.img\n{B}  x\n"), None),
            (format!("{B}  noble.img.sig\n{B} y\n"), None),
            (String::new(), None),
            ("<html>\n404 noble.img\n".into(), None),
        ] {
            let found = find(&text, f, Some(Algorithm::Sha256)).ok().map(|d| d.hex);
            assert_eq!(found.as_deref(), want, "{text}");
        }
        assert_eq!(
            find(&format!("{M}  {f}\n{A} x"), f, None).unwrap().algorithm,
            Algorithm::Md5
        );
        assert_eq!(
            file_name(&Url::parse("https://h/a/noble.img?x=/y.img").unwrap()),
            f
        );
    }

    #[test]
    fn hashes_of_nothing() {
        let all = Hasher::new(Algorithm::Md5).finish();
        assert_eq!(
            all[0].hex,
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        assert_eq!(all[1].to_string(), "md5:d41d8cd98f00b204e9800998ecf8427e");
    }
}
