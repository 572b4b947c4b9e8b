//! The envelope: every answer, good or bad, is `{data, isSuccess, message, errors, meta}`.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::model::Refusal;

const API_VERSION: &str = "v2";

/// A good answer: HTTP 200, whatever was asked.
pub(super) struct Answer {
    data: Value,
    message: &'static str,
}

impl Answer {
    pub(super) fn new(data: Value) -> Answer {
        Answer {
            data,
            message: "Success",
        }
    }

    /// A creation answers with the new id alone.
    pub(super) fn created(id: u32) -> Answer {
        Answer {
            data: json!({ "id": id }),
            message: "Created",
        }
    }

    pub(super) fn done(message: &'static str) -> Answer {
        Answer {
            data: Value::Null,
            message,
        }
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        Json(json!({
            "data": self.data,
            "isSuccess": true,
            "message": self.message,
            "errors": {},
            "meta": { "apiVersion": API_VERSION, "statusCode": 200 },
        }))
        .into_response()
    }
}

pub(super) struct Failure {
    status: StatusCode,
    name: &'static str,
    message: String,
}

impl Failure {
    pub(super) fn new(status: StatusCode, name: &'static str, message: impl Into<String>) -> Failure {
        Failure {
            status,
            name,
            message: message.into(),
        }
    }

    pub(super) fn unauthorized(message: &str) -> Failure {
        Failure::new(StatusCode::UNAUTHORIZED, "Unauthorized", message)
    }

    pub(super) fn invalid(message: impl Into<String>) -> Failure {
        Failure::new(StatusCode::BAD_REQUEST, "ValidationError", message)
    }

    pub(super) fn missing(what: &str, id: u32) -> Failure {
        Failure::new(
            StatusCode::NOT_FOUND,
            "NotFound",
            format!("{what} {id} does not exist"),
        )
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Failure {
        let (status, name) = match &refusal {
            Refusal::Invalid(_) => (StatusCode::BAD_REQUEST, "ValidationError"),
            Refusal::Conflict(_) => (StatusCode::CONFLICT, "Conflict"),
            Refusal::NotFound(_) => (StatusCode::NOT_FOUND, "NotFound"),
            Refusal::Forbidden(_) => (StatusCode::FORBIDDEN, "Forbidden"),
        };
        Failure::new(status, name, refusal.to_string())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let body = json!({
            "data": null,
            "isSuccess": false,
            "message": self.message,
            "errors": { "name": self.name, "error": self.message },
            "meta": { "apiVersion": API_VERSION, "statusCode": self.status.as_u16() },
        });
        (self.status, Json(body)).into_response()
    }
}

/// A JSON body, whatever its Content-Type says: clients of this API often send none.
pub(super) fn body<T: DeserializeOwned>(bytes: &Bytes) -> Result<T, Failure> {
    serde_json::from_slice(bytes)
        .map_err(|error| Failure::invalid(format!("the body is not what this path takes: {error}")))
}

pub(super) type Reply = Result<Answer, Failure>;
