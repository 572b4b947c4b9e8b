//! Request bodies in, response bodies out: bounded reading, and the one body type that we answer with.

use std::convert::Infallible;

use bytes::{Bytes, BytesMut};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use serde_json::Value;

use crate::status::{ApiError, Result};

/// Same as the real server's `--max-request-bytes` for resources: 3 MiB.
pub(crate) const BODY_LIMIT: usize = 3 * 1024 * 1024;

/// What the server answers with: either one buffer or an endless watch.
pub type ResponseBody = UnsyncBoxBody<Bytes, Infallible>;
pub(crate) type Reply = Response<ResponseBody>;

pub(crate) async fn read<B>(body: B) -> Result<Bytes>
where
    B: http_body::Body<Data = Bytes> + Send,
{
    if body.size_hint().lower() > BODY_LIMIT as u64 {
        return Err(ApiError::too_large());
    }
    let mut body = std::pin::pin!(body);
    let mut first: Option<Bytes> = None;
    let mut rest = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            return Err(ApiError::bad_request("unable to read the request body"));
        };
        let Ok(data) = frame.into_data() else { continue };
        if first.as_ref().map_or(0, Bytes::len) + rest.len() + data.len() > BODY_LIMIT {
            return Err(ApiError::too_large());
        }
        match first {
            None => first = Some(data),
            Some(_) => rest.extend_from_slice(&data),
        }
    }
    let first = first.unwrap_or_default();
    if rest.is_empty() {
        return Ok(first);
    }
    let mut whole = BytesMut::with_capacity(first.len() + rest.len());
    whole.extend_from_slice(&first);
    whole.extend_from_slice(&rest);
    Ok(whole.freeze())
}

fn base(code: StatusCode, content_type: &'static str, body: ResponseBody) -> Reply {
    let mut response = Response::new(body);
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

pub(crate) fn bytes(code: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Reply {
    base(code, content_type, Full::new(body.into()).boxed_unsync())
}

pub(crate) fn json(code: StatusCode, value: &Value) -> Reply {
    bytes(code, "application/json", value.to_string())
}

pub(crate) fn text(code: StatusCode, body: impl Into<Bytes>) -> Reply {
    bytes(code, "text/plain; charset=utf-8", body)
}

pub(crate) fn stream<S>(content_type: &'static str, stream: S) -> Reply
where
    S: futures::Stream<Item = std::result::Result<http_body::Frame<Bytes>, Infallible>> + Send + 'static,
{
    base(
        StatusCode::OK,
        content_type,
        StreamBody::new(stream).boxed_unsync(),
    )
}

pub(crate) fn error(error: &ApiError) -> Reply {
    if error.plain {
        return text(error.status_code(), error.body());
    }
    let mut response = bytes(error.status_code(), "application/json", error.body());
    if let Some(seconds) = error.retry_after {
        response
            .headers_mut()
            .insert(http::header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}
