//! Which checksum an image must have (ipa `standby.py`, ironic `common/checksum_utils.py`).

use steelyard_agent_api::ImageInfo;

use crate::hash::Algorithm;

/// A checksum file is text with one line a file; Ubuntu's has 20 KiB for a release.
pub(crate) const FILE_MAX: usize = 1 << 20;

/// What `image_info` says about the checksum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wanted {
    Digest(Expected),
    /// A file that lists it; the algorithm is known if `os_hash_algo` named it.
    File {
        url: String,
        algorithm: Option<Algorithm>,
    },
}

/// The digest that the image must have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Expected {
    pub(crate) algorithm: Algorithm,
    /// Lower case hex.
    pub(crate) digest: String,
}

/// Chooses by the rules: `os_hash_algo` and `os_hash_value` first, then `checksum`.
pub(crate) fn wanted(image: &ImageInfo, md5_enabled: bool) -> Result<Wanted, String> {
    let named = image.os_hash_algo.as_deref().and_then(Algorithm::by_name);
    let (value, algorithm) = match (named, &image.os_hash_value, &image.checksum) {
        (Some(algorithm), Some(value), _) => (value, Some(algorithm)),
        (_, _, Some(value)) => (value, None),
        (None, Some(_), None) => {
            let name = image.os_hash_algo.as_deref().unwrap_or_default();
            return Err(format!("algorithm {name:?} is not one of sha256, sha512, md5"));
        }
        _ => return Err("none given: checksum, or os_hash_algo with os_hash_value, is required".to_owned()),
    };
    if is_url(value) {
        return Ok(Wanted::File {
            url: value.clone(),
            algorithm,
        });
    }
    expected(value, algorithm, md5_enabled).map(Wanted::Digest)
}

/// Whether a value is to be fetched.
pub(crate) fn is_url(value: &str) -> bool {
    let value = value.to_ascii_lowercase();
    value.starts_with("http://") || value.starts_with("https://")
}

/// Checks a digest and finds its algorithm by its length, if nothing named it.
pub(crate) fn expected(
    digest: &str,
    named: Option<Algorithm>,
    md5_enabled: bool,
) -> Result<Expected, String> {
    let digest = digest.trim().to_ascii_lowercase();
    if digest.is_empty() || !digest.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(format!(
            "{:?} is neither a hex digest nor a URL",
            shorten(&digest)
        ));
    }
    let algorithm = named
        .or_else(|| Algorithm::by_length(digest.len()))
        .ok_or_else(|| {
            format!(
                "{} hex digits fit no algorithm (32 md5, 64 sha256, 128 sha512)",
                digest.len()
            )
        })?;
    if digest.len() != algorithm.digits() {
        return Err(format!(
            "{} has {} hex digits, not {}",
            algorithm.name(),
            algorithm.digits(),
            digest.len()
        ));
    }
    if algorithm == Algorithm::Md5 && !md5_enabled {
        return Err("md5 is switched off by the service; name a sha256 or sha512".to_owned());
    }
    Ok(Expected { algorithm, digest })
}

/// The last segment of a URL's path.
pub(crate) fn base_name(url: &str) -> &str {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    path.rsplit('/').next().unwrap_or_default()
}

/// Finds the image's digest in a checksum file: one bare digest, GNU lines (`digest  name`, `digest *name`), the same with
/// the digest last, or BSD lines (`SHA256 (name) = digest`). `#` starts a comment.
pub(crate) fn in_file(text: &str, image_url: &str) -> Result<String, String> {
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect();
    match lines[..] {
        [] => return Err("the checksum file is empty".to_owned()),
        [only] if !only.contains(char::is_whitespace) => return Ok(only.to_owned()),
        _ => {}
    }
    let name = base_name(image_url);
    let line = lines
        .iter()
        .find(|line| {
            let gnu = [format!(" {name}"), format!(" *{name}"), format!("\t{name}")];
            gnu.iter().any(|end| line.ends_with(end.as_str()))
                || line.contains(&format!(" ({name}) "))
                || line.starts_with(&format!("{name} "))
        })
        .ok_or_else(|| format!("the checksum file has {} entries, none for {name:?}", lines.len()))?;
    let mut words = line.split_whitespace();
    let (first, last) = (
        words.next().unwrap_or_default(),
        words.next_back().unwrap_or_default(),
    );
    [first, last]
        .into_iter()
        .find(|word| {
            Algorithm::by_length(word.len()).is_some() && word.bytes().all(|b| b.is_ascii_hexdigit())
        })
        .map(str::to_owned)
        .ok_or_else(|| format!("the checksum file's line for {name:?} has no digest"))
}

fn shorten(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(checksum: Option<&str>, algo: Option<&str>, value: Option<&str>) -> ImageInfo {
        let own = |text: Option<&str>| text.map(str::to_owned);
        ImageInfo {
            checksum: own(checksum),
            os_hash_algo: own(algo),
            os_hash_value: own(value),
            ..ImageInfo::default()
        }
    }

    #[test]
    fn the_order_of_the_fields() {
        let (a, b, m) = ("A".repeat(64), "b".repeat(128), "c".repeat(32));
        let digest = |algorithm, digest: &str| {
            Ok(Wanted::Digest(Expected {
                algorithm,
                digest: digest.to_ascii_lowercase(),
            }))
        };
        let file = |algorithm| {
            Ok(Wanted::File {
                url: "http://h/SUMS".to_owned(),
                algorithm,
            })
        };
        let no = |part: &str| Err(part.to_owned());
        for (case, info, md5, expected) in [
            (
                "algo wins",
                image(Some(&m), Some("sha512"), Some(&b)),
                true,
                digest(Algorithm::Sha512, &b),
            ),
            (
                "by length",
                image(Some(&a), None, None),
                true,
                digest(Algorithm::Sha256, &a),
            ),
            (
                "unknown algo falls back",
                image(Some(&a), Some("sha3_256"), Some(&b)),
                true,
                digest(Algorithm::Sha256, &a),
            ),
            (
                "URL in checksum",
                image(Some("http://h/SUMS"), None, None),
                true,
                file(None),
            ),
            (
                "URL in value",
                image(None, Some("sha256"), Some("http://h/SUMS")),
                true,
                file(Some(Algorithm::Sha256)),
            ),
            (
                "md5 on",
                image(Some(&m), None, None),
                true,
                digest(Algorithm::Md5, &m),
            ),
            (
                "md5 off",
                image(Some(&m), None, None),
                false,
                no("md5 is switched off"),
            ),
            (
                "odd length",
                image(Some("abcd"), None, None),
                true,
                no("4 hex digits"),
            ),
            (
                "length of algo",
                image(None, Some("sha512"), Some(&a)),
                true,
                no("sha512 has 128"),
            ),
            (
                "no hex",
                image(Some("hello"), None, None),
                true,
                no("neither a hex digest"),
            ),
            (
                "unknown algo alone",
                image(None, Some("crc"), Some(&a)),
                true,
                no("\"crc\" is not one of"),
            ),
            ("none", image(None, None, None), true, no("none given")),
        ] {
            match (wanted(&info, md5), expected) {
                (Err(got), Err(part)) => assert!(got.contains(&part), "{case}: {got}"),
                (got, expected) => assert_eq!(got, expected, "{case}"),
            }
        }
    }

    #[test]
    fn files_of_all_kinds() {
        let a = "a".repeat(64);
        let b = "b".repeat(64);
        let url = "http://h/x/noble.img?token=1";
        for (case, text, expected) in [
            ("bare", format!("{a}\n"), Ok(&a)),
            ("GNU", format!("# c\n{b} *other.img\n{a} *noble.img\n"), Ok(&a)),
            (
                "GNU text mode",
                format!("{b}  noble.img.xz\n{a}  noble.img\n"),
                Ok(&a),
            ),
            (
                "BSD",
                format!("SHA256 (other.img) = {b}\nSHA256 (noble.img) = {a}\n"),
                Ok(&a),
            ),
            ("digest last", format!("noble.img {a}\nother {b}\n"), Ok(&a)),
            (
                "not listed",
                format!("{a}  my-noble.img.gz\n{b}  x\n"),
                Err("none for \"noble.img\""),
            ),
            (
                "a suffix of another name",
                format!("{a}  not-noble.img\n{b}  x\n"),
                Err("none for"),
            ),
            ("empty", "# nothing\n\n".to_owned(), Err("is empty")),
            (
                "no digest",
                "zzz  noble.img\nq  r\n".to_owned(),
                Err("has no digest"),
            ),
        ] {
            match (in_file(&text, url), expected) {
                (Err(got), Err(part)) => assert!(got.contains(part), "{case}: {got}"),
                (got, expected) => assert_eq!(got, expected.cloned().map_err(str::to_owned), "{case}"),
            }
        }
    }
}
