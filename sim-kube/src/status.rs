//! `metav1.Status`: how the server says no. One constructor per kind of refusal, in its words.

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Map, Value, json};

pub(crate) type Result<T> = std::result::Result<T, Box<ApiError>>;

/// A refusal, ready to be sent.
#[derive(Debug, Clone)]
pub(crate) struct ApiError {
    pub(crate) code: u16,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
    pub(crate) details: Option<Value>,
    pub(crate) retry_after: Option<u32>,
    /// Answered as text, as the mux of the real server does ("404 page not found").
    pub(crate) plain: bool,
}

/// One field error: what apimachinery calls `field.Error`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cause {
    pub(crate) reason: &'static str,
    pub(crate) message: String,
    pub(crate) field: String,
}

impl Cause {
    fn new(reason: &'static str, field: impl Into<String>, message: String) -> Cause {
        Cause {
            reason,
            message,
            field: field.into(),
        }
    }
    pub(crate) fn required(field: impl Into<String>, detail: &str) -> Cause {
        let message = if detail.is_empty() {
            "Required value".into()
        } else {
            format!("Required value: {detail}")
        };
        Cause::new("FieldValueRequired", field, message)
    }
    pub(crate) fn invalid(field: impl Into<String>, value: &Value, detail: impl AsRef<str>) -> Cause {
        Cause::new(
            "FieldValueInvalid",
            field,
            format!("Invalid value: {}: {}", shown(value), detail.as_ref()),
        )
    }
    /// A type error as kube-openapi prints it: the value is the name of its type.
    pub(crate) fn invalid_text(field: impl Into<String>, message: impl Into<String>) -> Cause {
        Cause::new(
            "FieldValueInvalid",
            field,
            format!("Invalid value: {}", message.into()),
        )
    }
    pub(crate) fn type_invalid(field: impl Into<String>, message: impl Into<String>) -> Cause {
        Cause::new(
            "FieldValueTypeInvalid",
            field,
            format!("Invalid value: {}", message.into()),
        )
    }
    pub(crate) fn not_supported(field: impl Into<String>, value: &Value, allowed: &[Value]) -> Cause {
        let allowed: Vec<String> = allowed.iter().map(shown).collect();
        let message = format!(
            "Unsupported value: {}: supported values: {}",
            shown(value),
            allowed.join(", ")
        );
        Cause::new("FieldValueNotSupported", field, message)
    }
    pub(crate) fn duplicate(field: impl Into<String>, value: &Value) -> Cause {
        Cause::new(
            "FieldValueDuplicate",
            field,
            format!("Duplicate value: {}", shown(value)),
        )
    }
    pub(crate) fn forbidden(field: impl Into<String>, detail: impl AsRef<str>) -> Cause {
        Cause::new(
            "FieldValueForbidden",
            field,
            format!("Forbidden: {}", detail.as_ref()),
        )
    }
    pub(crate) fn too_many(field: impl Into<String>, actual: usize, limit: u64) -> Cause {
        let message = format!("Too many: {actual}: must have at most {limit} items");
        Cause::new("FieldValueTooMany", field, message)
    }
    pub(crate) fn too_long(field: impl Into<String>, limit: u64) -> Cause {
        Cause::new(
            "FieldValueTooLong",
            field,
            format!("Too long: may not be more than {limit} bytes"),
        )
    }
    fn text(&self) -> String {
        format!("{}: {}", self.field, self.message)
    }
}

fn shown(value: &Value) -> String {
    value.to_string()
}

/// `resource.group` and `Kind.group`, without the dot for the core group.
pub(crate) fn qualified(name: &str, group: &str) -> String {
    if group.is_empty() {
        name.to_owned()
    } else {
        format!("{name}.{group}")
    }
}

fn details(name: &str, group: &str, kind: &str) -> Map<String, Value> {
    let mut map = Map::new();
    for (key, value) in [("name", name), ("group", group), ("kind", kind)] {
        if !value.is_empty() {
            map.insert(key.into(), value.into());
        }
    }
    map
}

impl ApiError {
    fn make(
        code: u16,
        reason: &'static str,
        message: impl Into<String>,
        details: Option<Value>,
    ) -> Box<ApiError> {
        Box::new(ApiError {
            code,
            reason,
            message: message.into(),
            details,
            retry_after: None,
            plain: false,
        })
    }

    pub(crate) fn page_not_found() -> Box<ApiError> {
        let mut error = ApiError::make(404, "NotFound", "404 page not found\n", None);
        error.plain = true;
        error
    }
    pub(crate) fn bad_request(message: impl Into<String>) -> Box<ApiError> {
        ApiError::make(400, "BadRequest", message, None)
    }
    pub(crate) fn unauthorized() -> Box<ApiError> {
        ApiError::make(401, "Unauthorized", "Unauthorized", None)
    }
    pub(crate) fn not_found(group: &str, resource: &str, name: &str) -> Box<ApiError> {
        let message = format!("{} {name:?} not found", qualified(resource, group));
        ApiError::make(
            404,
            "NotFound",
            message,
            Some(details(name, group, resource).into()),
        )
    }
    pub(crate) fn already_exists(group: &str, resource: &str, name: &str) -> Box<ApiError> {
        let message = format!("{} {name:?} already exists", qualified(resource, group));
        ApiError::make(
            409,
            "AlreadyExists",
            message,
            Some(details(name, group, resource).into()),
        )
    }
    pub(crate) fn conflict(group: &str, resource: &str, name: &str, why: &str) -> Box<ApiError> {
        let what = qualified(resource, group);
        let message = format!("Operation cannot be fulfilled on {what} {name:?}: {why}");
        ApiError::make(
            409,
            "Conflict",
            message,
            Some(details(name, group, resource).into()),
        )
    }
    pub(crate) fn modified(group: &str, resource: &str, name: &str) -> Box<ApiError> {
        let why =
            "the object has been modified; please apply your changes to the latest version and try again";
        ApiError::conflict(group, resource, name, why)
    }
    pub(crate) fn apply_conflict(conflicts: &[(String, String)]) -> Box<ApiError> {
        let causes: Vec<Value> = conflicts
            .iter()
            .map(|(who, field)| json!({"reason": "FieldManagerConflict", "message": format!("conflict with {who}"), "field": field}))
            .collect();
        let message = match conflicts {
            [(who, field)] => format!("Apply failed with 1 conflict: conflict with {who}: {field}"),
            many => {
                let mut by_manager: indexmap::IndexMap<&str, Vec<&str>> = indexmap::IndexMap::new();
                for (who, field) in many {
                    by_manager.entry(who).or_default().push(field);
                }
                let mut message = format!("Apply failed with {} conflicts: ", many.len());
                let parts: Vec<String> = by_manager
                    .iter()
                    .map(|(who, fields)| match fields.as_slice() {
                        [one] => format!("conflict with {who}: {one}"),
                        fields => format!("conflicts with {who}:\n- {}", fields.join("\n- ")),
                    })
                    .collect();
                message.push_str(&parts.join("\n"));
                message
            }
        };
        ApiError::make(409, "Conflict", message, Some(json!({"causes": causes})))
    }
    pub(crate) fn invalid(kind: &str, group: &str, name: &str, causes: Vec<Cause>) -> Box<ApiError> {
        // An aggregate says each thing once, though all causes are listed.
        let mut texts: Vec<String> = Vec::new();
        for text in causes.iter().map(Cause::text) {
            if !texts.contains(&text) {
                texts.push(text);
            }
        }
        let text = match texts.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let message = format!("{} {name:?} is invalid: {text}", qualified(kind, group));
        let mut details = details(name, group, kind);
        let causes = causes
            .into_iter()
            .map(|c| json!({"reason": c.reason, "message": c.message, "field": c.field}))
            .collect::<Vec<_>>();
        details.insert("causes".into(), causes.into());
        ApiError::make(422, "Invalid", message, Some(details.into()))
    }
    /// A patch that parses but cannot be applied.
    pub(crate) fn unprocessable() -> Box<ApiError> {
        let message = "the server rejected our request due to an error in our request";
        ApiError::make(422, "Invalid", message, Some(json!({})))
    }
    pub(crate) fn method_not_allowed() -> Box<ApiError> {
        let message = "the server does not allow this method on the requested resource";
        ApiError::make(405, "MethodNotAllowed", message, Some(json!({})))
    }
    pub(crate) fn unsupported_media(accepted: &str) -> Box<ApiError> {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {accepted}"
        );
        ApiError::make(415, "UnsupportedMediaType", message, None)
    }
    pub(crate) fn not_acceptable() -> Box<ApiError> {
        let message = "only the following media types are accepted: application/json, application/yaml, \
                       application/vnd.kubernetes.protobuf";
        ApiError::make(406, "NotAcceptable", message, None)
    }
    pub(crate) fn forbidden(group: &str, resource: &str, name: &str, why: &str) -> Box<ApiError> {
        let what = qualified(resource, group);
        let message = if name.is_empty() {
            format!("{what} is forbidden: {why}")
        } else {
            format!("{what} {name:?} is forbidden: {why}")
        };
        ApiError::make(
            403,
            "Forbidden",
            message,
            Some(details(name, group, resource).into()),
        )
    }
    pub(crate) fn forbidden_path(why: &str) -> Box<ApiError> {
        ApiError::make(403, "Forbidden", format!("forbidden: {why}"), Some(json!({})))
    }
    pub(crate) fn expired(message: impl Into<String>) -> Box<ApiError> {
        ApiError::make(410, "Expired", message, None)
    }
    pub(crate) fn rv_too_large(asked: u64, current: u64) -> Box<ApiError> {
        let message = format!("Timeout: Too large resource version: {asked}, current: {current}");
        let details = json!({
            "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
            "retryAfterSeconds": 1
        });
        let mut error = ApiError::make(504, "Timeout", message, Some(details));
        error.retry_after = Some(1);
        error
    }
    pub(crate) fn too_large() -> Box<ApiError> {
        let message = format!("Request entity too large: limit is {}", crate::body::BODY_LIMIT);
        ApiError::make(413, "RequestEntityTooLarge", message, None)
    }
    pub(crate) fn too_many_requests(message: impl Into<String>, details: Value) -> Box<ApiError> {
        ApiError::make(429, "TooManyRequests", message, Some(details))
    }
    pub(crate) fn internal(message: impl AsRef<str>) -> Box<ApiError> {
        let message = format!("Internal error occurred: {}", message.as_ref());
        ApiError::make(500, "InternalError", message, None)
    }

    pub(crate) fn with_message(mut self: Box<Self>, message: &str) -> Box<ApiError> {
        message.clone_into(&mut self.message);
        self
    }

    pub(crate) fn with_detail(mut self: Box<Self>, key: &str, value: Value) -> Box<ApiError> {
        let details = self.details.get_or_insert_with(|| json!({}));
        details[key] = value;
        self
    }

    pub(crate) fn to_value(&self) -> Value {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason,
        });
        if let Some(details) = &self.details {
            status["details"] = details.clone();
        }
        status["code"] = self.code.into();
        status
    }

    pub(crate) fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    pub(crate) fn body(&self) -> Bytes {
        if self.plain {
            return Bytes::from(self.message.clone().into_bytes());
        }
        Bytes::from(self.to_value().to_string())
    }
}

/// The `Status` that a completed deletion answers with.
pub(crate) fn success(name: &str, group: &str, resource: &str, uid: Option<&str>) -> Value {
    let mut map = details(name, group, resource);
    if let Some(uid) = uid {
        map.insert("uid".into(), uid.into());
    }
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": map})
}
