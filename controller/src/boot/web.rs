//! What the boot services answer over HTTP:
//!
//! | path | what |
//! |---|---|
//! | `/ipxe/MAC` | the host's boot script |
//! | `/boot/NAME` | kernel, ramdisk, boot files |
//! | `/images/SHA256` | verified images |
//! | `/`, `/v1/..` | the agent API |

use super::{
    agent_api::{self, ApiRequest},
    ipxe,
    mac::Mac,
    state::Shared,
};
use crate::image::Blob;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited, combinators::BoxBody};
use std::{io, net::IpAddr, time::Duration};

pub(crate) type Body = BoxBody<Bytes, io::Error>;

/// An inventory with its logs; the rest is far smaller.
const BODY_MAX: usize = 16 << 20;
/// From the end of the headers to the end of the body.
const BODY_WITHIN: Duration = Duration::from_secs(30);

fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed()
}

fn reply(status: StatusCode, content_type: &'static str, bytes: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(full(bytes));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

fn plain(status: StatusCode, text: &str) -> Response<Body> {
    reply(status, "text/plain; charset=utf-8", format!("{text}\n"))
}

pub(crate) async fn handle<B>(shared: &Shared, request: Request<B>, from: IpAddr) -> Response<Body>
where
    B: hyper::body::Body<Data = Bytes> + Send + 'static,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    let path = request.uri().path().to_owned();
    if agent_api::serves(&path) {
        return agent(shared, request, &path, from).await;
    }
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut response = plain(
            StatusCode::METHOD_NOT_ALLOWED,
            "only GET and HEAD are answered here",
        );
        response
            .headers_mut()
            .insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let head = request.method() == Method::HEAD;
    let response = if let Some(mac) = path.strip_prefix("/ipxe/") {
        script(shared, mac.trim_end_matches(".ipxe"), from, head)
    } else if let Some(name) = path.strip_prefix("/boot/") {
        match shared.config.assets.get(name) {
            Some(blob) => serve_blob(blob, request.headers(), head).await,
            None => plain(
                StatusCode::NOT_FOUND,
                "there is no boot file of this name in --boot-assets",
            ),
        }
    } else if let Some(digest) = path.strip_prefix("/images/") {
        match shared.world.images.open(digest) {
            Some(blob) => serve_blob(&blob, request.headers(), head).await,
            None => plain(StatusCode::NOT_FOUND, "no verified image has this SHA-256"),
        }
    } else {
        plain(StatusCode::NOT_FOUND, "there is nothing at this path")
    };
    tracing::debug!(path, %from, status = response.status().as_u16(), "boot file request");
    response
}

fn script(shared: &Shared, mac: &str, from: IpAddr, head: bool) -> Response<Body> {
    match mac.parse::<Mac>() {
        // A HEAD starts no boot.
        Ok(_) if head => plain(StatusCode::OK, ""),
        Ok(mac) => reply(
            StatusCode::OK,
            "text/plain; charset=utf-8",
            shared.script(mac, from),
        ),
        Err(_) => plain(StatusCode::NOT_FOUND, ipxe::NO_PLAN),
    }
}

async fn agent<B>(shared: &Shared, request: Request<B>, path: &str, from: IpAddr) -> Response<Body>
where
    B: hyper::body::Body<Data = Bytes> + Send + 'static,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    let (parts, body) = request.into_parts();
    let body = match tokio::time::timeout(BODY_WITHIN, Limited::new(body, BODY_MAX).collect()).await {
        Ok(Ok(collected)) => collected.to_bytes(),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            return plain(StatusCode::PAYLOAD_TOO_LARGE, "the body is larger than 16 MiB");
        }
        Ok(Err(_)) => return plain(StatusCode::BAD_REQUEST, "the body broke off"),
        Err(_) => return plain(StatusCode::REQUEST_TIMEOUT, "the body did not arrive within 30 s"),
    };
    let version = parts
        .headers
        .get(steelyard_agent_api::VERSION_HEADER)
        .and_then(|v| v.to_str().ok());
    let query = parts.uri.query().unwrap_or_default();
    let asked = ApiRequest {
        method: &parts.method,
        path,
        query,
        version,
        from,
        body,
    };
    let (status, json) = agent_api::answer(shared, asked).await;
    let mut response = reply(
        status,
        "application/json",
        if parts.method == Method::HEAD {
            Vec::new()
        } else {
            json
        },
    );
    // Which API this is, as Ironic says it in each answer.
    let version = HeaderValue::from_static("1.68");
    response
        .headers_mut()
        .insert("x-openstack-ironic-api-version", version);
    response
}

/// A file, or the part of it that was asked for (RFC 9110 14).
async fn serve_blob(blob: &Blob, asked: &HeaderMap, head: bool) -> Response<Body> {
    let size = blob.size();
    let range = match asked.get(header::RANGE).and_then(|v| v.to_str().ok()) {
        // If-Range names a version of the file; ours have none, so only the whole is right.
        Some(range) if !asked.contains_key(header::IF_RANGE) => parse_range(range, size),
        _ => Range::Whole,
    };
    let (status, start, length) = match range {
        Range::Whole => (StatusCode::OK, 0, size),
        Range::Part { start, length } => (StatusCode::PARTIAL_CONTENT, start, length),
        Range::Unsatisfiable => {
            let mut response = plain(StatusCode::RANGE_NOT_SATISFIABLE, "the file is shorter");
            response
                .headers_mut()
                .insert(header::CONTENT_RANGE, number_header(format!("bytes */{size}")));
            return response;
        }
    };
    let body = if head {
        full(Bytes::new())
    } else {
        match blob.read(start, length).await {
            Ok(body) => body,
            Err(error) => {
                tracing::warn!(error = %error, "a cached file can't be read");
                return plain(StatusCode::INTERNAL_SERVER_ERROR, "the file can't be read");
            }
        }
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/octet-stream"),
    );
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    if status == StatusCode::PARTIAL_CONTENT {
        let end = start + length - 1;
        headers.insert(
            header::CONTENT_RANGE,
            number_header(format!("bytes {start}-{end}/{size}")),
        );
    }
    response
}

fn number_header(text: String) -> HeaderValue {
    HeaderValue::from_str(&text).expect("digits and punctuation are valid in a header")
}

#[derive(Debug, PartialEq, Eq)]
enum Range {
    Whole,
    Part { start: u64, length: u64 },
    Unsatisfiable,
}

/// One range; several, or another unit, are answered with the whole file, as RFC 9110 14.2 allows.
fn parse_range(text: &str, size: u64) -> Range {
    let Some((first, last)) = text
        .trim()
        .strip_prefix("bytes=")
        .and_then(|spec| spec.split_once('-'))
    else {
        return Range::Whole;
    };
    if last.contains(',') {
        return Range::Whole;
    }
    let digits = |text: &str| text.trim().parse::<u64>();
    match (first.trim().is_empty(), digits(first), digits(last)) {
        (true, _, Ok(0)) => Range::Unsatisfiable,
        (true, _, Ok(_)) if size == 0 => Range::Unsatisfiable,
        (true, _, Ok(suffix)) => Range::Part {
            start: size - suffix.min(size),
            length: suffix.min(size),
        },
        (false, Ok(start), _) if start >= size => Range::Unsatisfiable,
        (false, Ok(start), Ok(end)) if end >= start => Range::Part {
            start,
            length: end.min(size - 1) - start + 1,
        },
        (false, Ok(start), Err(_)) if last.trim().is_empty() => Range::Part {
            start,
            length: size - start,
        },
        _ => Range::Whole,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let part = |start, length| Range::Part { start, length };
        for (text, want) in [
            ("bytes=0-9", part(0, 10)),
            ("bytes=90-", part(90, 10)),
            ("bytes=90-1000", part(90, 10)),
            ("bytes=-10", part(90, 10)),
            ("bytes=-1000", part(0, 100)),
            ("bytes=99-99", part(99, 1)),
            ("bytes=100-", Range::Unsatisfiable),
            ("bytes=-0", Range::Unsatisfiable),
            ("bytes=5-4", Range::Whole),
            ("bytes=0-1,5-6", Range::Whole),
            ("lines=0-1", Range::Whole),
            ("bytes=a-b", Range::Whole),
            ("bytes=-", Range::Whole),
            (
                "bytes=18446744073709551615-18446744073709551615",
                Range::Unsatisfiable,
            ),
        ] {
            assert_eq!(parse_range(text, 100), want, "{text}");
        }
        assert_eq!(parse_range("bytes=-5", 0), Range::Unsatisfiable);
    }
}
