//! The four patch types that a PATCH may carry.

mod strategic;

use serde_json::Value;

use crate::schema::Schema;
use crate::status::{ApiError, Result};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PatchType {
    Json,
    Merge,
    Strategic,
    Apply,
}

impl PatchType {
    /// From the content type; custom resources take no strategic patches.
    pub(crate) fn of(content_type: &str, custom: bool) -> Result<PatchType> {
        let media = content_type.split(';').next().unwrap_or_default().trim();
        match media {
            "application/json-patch+json" => Ok(PatchType::Json),
            "application/merge-patch+json" => Ok(PatchType::Merge),
            "application/strategic-merge-patch+json" if !custom => Ok(PatchType::Strategic),
            "application/apply-patch+yaml" => Ok(PatchType::Apply),
            _ if custom => Err(ApiError::unsupported_media(
                "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml",
            )),
            _ => Err(ApiError::unsupported_media(
                "application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json, \
                 application/apply-patch+yaml",
            )),
        }
    }
}

/// A patch, parsed once, applied again after each conflict.
pub(crate) enum Patch {
    Json(json_patch::Patch),
    Merge(Value),
    Strategic(Value),
}

/// kube-apiserver refuses longer JSON patches.
const OPERATIONS_MAX: usize = 10_000;

impl Patch {
    pub(crate) fn parse(kind: PatchType, body: &[u8]) -> Result<Patch> {
        let value: Value = serde_json::from_slice(body).map_err(|error| {
            ApiError::bad_request(format!("error decoding patch: {}", go_json_error(&error, body)))
        })?;
        match kind {
            PatchType::Json => {
                let Some(list) = value.as_array() else {
                    let what = if value.is_object() { "object" } else { "value" };
                    return Err(ApiError::bad_request(format!(
                        "error decoding patch: json: cannot unmarshal {what} into Go value of type []handlers.jsonPatchOp"
                    )));
                };
                if list.len() > OPERATIONS_MAX {
                    let message = format!(
                        "The allowed maximum operations in a JSON patch is {OPERATIONS_MAX}, got {}",
                        list.len()
                    );
                    return Err(ApiError::bad_request(message));
                }
                let patch = serde_json::from_value(value).map_err(|_| ApiError::unprocessable())?;
                Ok(Patch::Json(patch))
            }
            _ if !value.is_object() => Err(ApiError::bad_request(
                "error decoding patch: json: cannot unmarshal into Go value of type map[string]interface {}",
            )),
            PatchType::Strategic => Ok(Patch::Strategic(value)),
            _ => Ok(Patch::Merge(value)),
        }
    }

    pub(crate) fn apply(&self, object: &mut Value, schema: &Schema) -> Result<()> {
        match self {
            Patch::Json(patch) => json_patch::patch(object, patch).map_err(|_| ApiError::unprocessable()),
            Patch::Merge(patch) => {
                merge(object, patch);
                Ok(())
            }
            Patch::Strategic(patch) => strategic::apply(object, patch, schema),
        }
    }
}

/// RFC 7386.
pub(crate) fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    let Some(map) = target.as_object_mut() else { return };
    for (key, value) in patch {
        if value.is_null() {
            map.shift_remove(key);
        } else {
            merge(map.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

/// serde's complaint in the words of Go's decoder, for the two cases that people meet.
pub(crate) fn go_json_error(error: &serde_json::Error, body: &[u8]) -> String {
    if error.is_eof() {
        return "unexpected end of JSON input".into();
    }
    let line_start = body
        .split_inclusive(|b| *b == b'\n')
        .take(error.line().saturating_sub(1))
        .map(<[u8]>::len)
        .sum::<usize>();
    let at = (line_start + error.column().saturating_sub(1)).min(body.len().saturating_sub(1));
    let character = body.get(at).copied().unwrap_or_default() as char;
    format!("invalid character {character:?} looking for beginning of value")
}

#[cfg(test)]
mod tests;
