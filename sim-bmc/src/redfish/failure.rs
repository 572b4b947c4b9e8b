//! A request that is refused: a status, and messages that say why (DSP0266 "Error responses").

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use super::message::{BASE_PREFIX, Message};
use crate::bmc::Reply;

#[derive(Debug)]
pub(crate) struct Failure {
    status: StatusCode,
    messages: Vec<Message>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Failure {
    pub(crate) fn new(status: StatusCode, message: Message) -> Failure {
        Failure {
            status,
            messages: vec![message],
            headers: Vec::new(),
        }
    }

    pub(crate) fn bad_request(message: Message) -> Failure {
        Failure::new(StatusCode::BAD_REQUEST, message)
    }

    pub(crate) fn many(messages: Vec<Message>) -> Failure {
        Failure {
            status: StatusCode::BAD_REQUEST,
            messages,
            headers: Vec::new(),
        }
    }

    pub(crate) fn conflict(message: Message) -> Failure {
        Failure::new(StatusCode::CONFLICT, message)
    }

    pub(crate) fn not_found(uri: &str) -> Failure {
        Failure::new(StatusCode::NOT_FOUND, Message::resource_missing(uri))
    }

    pub(crate) fn forbidden() -> Failure {
        Failure::new(StatusCode::FORBIDDEN, Message::insufficient_privilege())
    }

    pub(crate) fn unauthorized() -> Failure {
        Failure::new(StatusCode::UNAUTHORIZED, Message::access_unauthorized())
            .with(header::WWW_AUTHENTICATE, "Basic realm=\"Redfish\"")
    }

    pub(crate) fn method_not_allowed(allow: &[&str]) -> Failure {
        Failure::new(StatusCode::METHOD_NOT_ALLOWED, Message::operation_not_allowed())
            .with(header::ALLOW, &allow.join(", "))
    }

    pub(crate) fn unavailable(seconds: i64) -> Failure {
        Failure::new(
            StatusCode::SERVICE_UNAVAILABLE,
            Message::service_unavailable(&seconds.to_string()),
        )
        .with(header::RETRY_AFTER, &seconds.to_string())
    }

    fn with(mut self, name: HeaderName, value: &str) -> Failure {
        if let Ok(value) = HeaderValue::try_from(value) {
            self.headers.push((name, value));
        }
        self
    }

    pub(crate) fn into_reply(self) -> Reply {
        let (code, text) = match self.messages.as_slice() {
            [only] => (only.id(), only.text()),
            _ => (
                format!("{BASE_PREFIX}.GeneralError"),
                Message::general_error().text(),
            ),
        };
        let info: Vec<Value> = self.messages.iter().map(Message::to_json).collect();
        let body = json!({"error": {"code": code, "message": text, "@Message.ExtendedInfo": info}});
        let mut reply = Reply::new(Bytes::from(body.to_string()));
        *reply.status_mut() = self.status;
        reply.headers_mut().extend(self.headers);
        reply
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        reply
    }
}

/// Puts the headers of every answer on one that the engine has not seen.
fn outside(failure: Failure) -> Reply {
    let mut reply = failure.into_reply();
    reply
        .headers_mut()
        .insert("odata-version", HeaderValue::from_static("4.0"));
    reply
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    reply
}

pub(crate) fn unavailable(seconds: i64) -> Reply {
    outside(Failure::unavailable(seconds))
}

pub(crate) fn refused_credentials() -> Reply {
    outside(Failure::unauthorized())
}

pub(crate) fn body_too_large() -> Reply {
    outside(Failure::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        Message::payload_too_large(),
    ))
}

pub(crate) fn unreadable_body() -> Reply {
    outside(Failure::bad_request(Message::unrecognized_request_body()))
}
