//! One image from upstream into the cache: checksum file, download, verification, format.

use super::{
    Context, Mirror,
    cache::{self, Partial},
    checksum::{self, Algorithm, ChecksumError, Digest, Hasher, Source},
    format::{self, Format},
};
use crate::{
    http_client::{HttpClient, HttpError},
    image::Blob,
};
use bytes::Bytes;
use http::{Request, StatusCode, header};
use std::io;
use steelyard_api::metal3::{Image, ImageFormat};
use url::Url;

/// As browsers and curl follow at most.
const REDIRECTS_MAX: usize = 10;
/// Ubuntu's SHA256SUMS has 10 KiB.
const CHECKSUM_FILE_MAX: usize = 1 << 20;

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fetched {
    pub(crate) sha256: String,
    pub(crate) size: u64,
    /// Images that had to leave the cache.
    pub(crate) evicted: Vec<String>,
}

/// Why there is no image. Each text names the URL and what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("image.url {url:?} can't be fetched: {why}")]
    Url { url: String, why: String },
    #[error("{0}")]
    Checksum(#[from] ChecksumError),
    #[error("{what} {url}: {why}")]
    Http {
        what: &'static str,
        url: String,
        why: HttpError,
    },
    #[error("{what} {url} answered {status}: {fix}")]
    Status {
        what: &'static str,
        url: String,
        status: StatusCode,
        fix: &'static str,
    },
    #[error("{what} {url} redirects too often, or to something that is no http or https URL")]
    Redirects { what: &'static str, url: String },
    #[error("checksum file {url}: {why}")]
    ChecksumFile { url: String, why: String },
    #[error("image {url} has {got}, expected {expected}: correct image.checksum, or the file at the URL")]
    Mismatch {
        url: String,
        expected: Digest,
        got: String,
    },
    #[error(
        "image {url} is {format}: only raw whole-disk images can be written yet; convert it (qemu-img convert -O raw IN OUT) and give the new checksum"
    )]
    Format { url: String, format: &'static str },
    #[error("image {url} is a web page: correct image.url")]
    Html { url: String },
    #[error(
        "image {url} has neither an MBR nor a GPT in its first sectors, so it is no raw whole-disk image: correct image.url"
    )]
    NotADisk { url: String },
    #[error("image.format {0} is not supported yet: use a raw whole-disk image")]
    SpecFormat(ImageFormat),
    #[error("image {url} has more than {} MiB, the limit of the image cache: {fix}", .limit >> 20)]
    TooLarge {
        url: String,
        limit: u64,
        fix: &'static str,
    },
    #[error("the image cache can't be written: {0}")]
    Cache(#[from] io::Error),
}

pub(crate) async fn fetch(context: &Context, image: &Image) -> Result<Fetched, FetchError> {
    if let Some(format @ (ImageFormat::LiveIso | ImageFormat::Unknown)) = image.format {
        return Err(FetchError::SpecFormat(format));
    }
    let url = parse(&image.url)?;
    let expected = expected(context, image, &url).await?;
    if let Some(found) = in_cache(context, &expected).await {
        return Ok(found);
    }
    let partial = context.cache().partial();
    let also = expected.algorithm;
    let (partial, head, digests) = download(context, &url, partial, also).await?;
    let shown = shown(&url);
    let got = digests.iter().find(|d| d.algorithm == also);
    match format::sniff(&head) {
        Format::Html => return Err(FetchError::Html { url: shown }),
        Format::Other(format) => return Err(FetchError::Format { url: shown, format }),
        // A wrong checksum explains more than the format of a broken download.
        _ if got != Some(&expected) => {
            let got = got.map(Digest::to_string).unwrap_or_default();
            return Err(FetchError::Mismatch {
                url: shown,
                expected,
                got,
            });
        }
        Format::Unknown => return Err(FetchError::NotADisk { url: shown }),
        Format::Disk => {}
    }
    let size = partial.size();
    let sha256 = digests
        .iter()
        .find(|d| d.algorithm == Algorithm::Sha256)
        .map(|d| d.hex.clone())
        .unwrap_or_default();
    let evicted = context.cache().keep(partial, digests)?;
    tracing::info!(url = shown, sha256, size, "image fetched and verified");
    Ok(Fetched {
        sha256,
        size,
        evicted,
    })
}

/// The digest that upstream, or the spec, gives now.
pub(crate) async fn expected(context: &Context, image: &Image, url: &Url) -> Result<Digest, FetchError> {
    let (sums, algorithm) = match checksum::source(image)? {
        Source::Literal(digest) => return Ok(digest),
        Source::File { url, algorithm } => (url, algorithm),
    };
    let what = "checksum file";
    let mut body = Vec::new();
    let fix = "correct image.checksum";
    get(context, &sums, what, fix, |chunk| {
        if body.len() + chunk.len() > CHECKSUM_FILE_MAX {
            return Err(FetchError::ChecksumFile {
                url: shown(&sums),
                why: "it has more than 1 MiB".into(),
            });
        }
        body.extend_from_slice(&chunk);
        Ok(())
    })
    .await?;
    let text = String::from_utf8_lossy(&body);
    checksum::find(&text, &checksum::file_name(url), algorithm).map_err(|why| FetchError::ChecksumFile {
        url: shown(&sums),
        why: why.to_string(),
    })
}

/// Already here? What an earlier run left is hashed before it is believed.
async fn in_cache(context: &Context, expected: &Digest) -> Option<Fetched> {
    let (sha256, cached) = {
        let mut cache = context.cache();
        let sha256 = cache.find(expected)?;
        let cached = cache.get(&sha256)?;
        (sha256, cached)
    };
    let fetched = Fetched {
        sha256: sha256.clone(),
        size: cached.blob.size(),
        evicted: Vec::new(),
    };
    if cached.verified {
        return Some(fetched);
    }
    let Blob::File { path, .. } = cached.blob else {
        return Some(fetched);
    };
    let also = expected.algorithm;
    let hashed = tokio::task::spawn_blocking(move || cache::rehash(&path, also)).await;
    let good = matches!(hashed, Ok(Ok(digests)) if digests.contains(expected)
        && digests.iter().any(|d| d.algorithm == Algorithm::Sha256 && d.hex == sha256));
    if good {
        context.cache().trust(&sha256);
        return Some(fetched);
    }
    tracing::warn!(sha256, "cached image is damaged; it is fetched again");
    context.cache().remove(&sha256);
    None
}

async fn download(
    context: &Context,
    url: &Url,
    mut partial: Partial,
    also: Algorithm,
) -> Result<(Partial, Vec<u8>, Vec<Digest>), FetchError> {
    let mut hasher = Hasher::new(also);
    let mut head = Vec::with_capacity(format::HEAD);
    let fix = "correct image.url, or map it with --image-mirror";
    get(context, url, "image", fix, |chunk| {
        if partial.too_large(chunk.len() as u64) {
            let fix = if partial.in_memory() {
                "give the controller a directory with --image-cache DIR"
            } else {
                "raise --image-cache-limit"
            };
            return Err(FetchError::TooLarge {
                url: shown(url),
                limit: partial.limit(),
                fix,
            });
        }
        if head.len() < format::HEAD {
            head.extend(chunk.iter().take(format::HEAD - head.len()));
        }
        hasher.update(&chunk);
        partial.write(&chunk)?;
        Ok(())
    })
    .await?;
    Ok((partial, head, hasher.finish()))
}

/// GET with redirects and mirrors. The sink gets the body of a successful answer only.
async fn get(
    context: &Context,
    url: &Url,
    what: &'static str,
    fix: &'static str,
    mut sink: impl FnMut(Bytes) -> Result<(), FetchError>,
) -> Result<(), FetchError> {
    let mut at = mirrored(url, &context.config.mirrors);
    let named = name(url, &at);
    for _ in 0..=REDIRECTS_MAX {
        let client = HttpClient::new(context.net.clone(), context.tls.clone(), context.config.timeout);
        let http = |why| FetchError::Http {
            what,
            url: named.clone(),
            why,
        };
        let response = client.stream(request(&at)?, &mut sink).await.map_err(http)??;
        let status = response.status();
        if status == StatusCode::OK {
            return Ok(());
        }
        if !status.is_redirection() {
            return Err(FetchError::Status {
                what,
                url: named,
                status,
                fix,
            });
        }
        let next = response
            .headers()
            .get(header::LOCATION)
            .and_then(|l| l.to_str().ok())
            .and_then(|l| at.join(l).ok());
        at = next
            .filter(|url| matches!(url.scheme(), "http" | "https"))
            .ok_or_else(|| FetchError::Redirects {
                what,
                url: named.clone(),
            })?;
    }
    Err(FetchError::Redirects { what, url: named })
}

fn request(at: &Url) -> Result<Request<Bytes>, FetchError> {
    Request::builder()
        .uri(at.as_str())
        .header(header::USER_AGENT, "steelyard")
        .header(header::ACCEPT, "*/*")
        .body(Bytes::new())
        .map_err(|why| FetchError::Url {
            url: shown(at),
            why: why.to_string(),
        })
}

fn parse(text: &str) -> Result<Url, FetchError> {
    let bad = |why: String| FetchError::Url {
        url: text.chars().take(200).collect(),
        why,
    };
    let url = Url::parse(text).map_err(|e| bad(e.to_string()))?;
    match url.scheme() {
        "http" | "https" if url.has_host() => Ok(url),
        scheme => Err(bad(format!(
            "scheme {scheme} is not supported, use http or https"
        ))),
    }
}

/// The URL after `--image-mirror`: the longest prefix that fits wins.
fn mirrored(url: &Url, mirrors: &[Mirror]) -> Url {
    let text = url.as_str();
    let best = mirrors
        .iter()
        .filter(|m| text.starts_with(&m.prefix))
        .max_by_key(|m| m.prefix.len());
    let mapped = best.and_then(|m| {
        // PREFIX https://a and URL http://b: the rest begins with a slash, or one is put there.
        let rest = text[m.prefix.len()..].trim_start_matches('/');
        Url::parse(&format!("{}/{rest}", m.url.trim_end_matches('/'))).ok()
    });
    mapped.unwrap_or_else(|| url.clone())
}

fn name(url: &Url, at: &Url) -> String {
    if url == at {
        shown(url)
    } else {
        format!("{} (from the mirror {})", shown(url), shown(at))
    }
}

/// A URL for people: without what may be a password.
fn shown(url: &Url) -> String {
    let mut url = url.clone();
    if url.password().is_some() || !url.username().is_empty() {
        // Both can only fail for URLs without a host, which have none of the two.
        let _ = (url.set_password(None), url.set_username(""));
    }
    url.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirrors() {
        let mirror = |prefix: &str, url: &str| Mirror {
            prefix: prefix.into(),
            url: url.into(),
        };
        let mirrors = [
            mirror("https://a.example", "http://m:1/a"),
            mirror("https://a.example/noble", "http://m:1/n/"),
        ];
        let map = |url: &str| mirrored(&Url::parse(url).unwrap(), &mirrors).to_string();
        assert_eq!(map("https://a.example/x/y.img"), "http://m:1/a/x/y.img");
        assert_eq!(map("https://a.example/noble/y.img"), "http://m:1/n/y.img");
        assert_eq!(map("https://b.example/y.img"), "https://b.example/y.img");
    }

    #[test]
    fn passwords_are_not_shown() {
        assert_eq!(
            shown(&Url::parse("https://u:p@h/i.img").unwrap()),
            "https://h/i.img"
        );
    }
}
