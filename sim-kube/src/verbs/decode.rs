//! A request's body to an object of the resource: parsed, typed, pruned, defaulted, in the stored version.

use serde_json::Value;

use super::Ctx;
use super::options::Validation;
use crate::patch::go_json_error;
use crate::schema;
use crate::status::{ApiError, Cause, Result};
use crate::{builtin, protobuf};

/// The real server quotes at most this much of a body that it cannot read.
const QUOTE_MAX: usize = 1024;
/// Far above what the real server's decoder allows, far below what a stack takes.
const DEPTH_MAX: usize = 400;

fn quote(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(QUOTE_MAX)]);
    if body.len() > QUOTE_MAX {
        format!("{text} [truncated]")
    } else {
        text.into_owned()
    }
}

/// JSON or YAML text as a value.
pub(super) fn parse(ctx: &Ctx, kind: &str) -> Result<Value> {
    let media = ctx.content_type.split(';').next().unwrap_or_default().trim();
    let unreadable = |why: String| {
        ApiError::bad_request(format!(
            "the object provided is unrecognized (must be of type {kind}): couldn't get version/kind; json parse error: {why} ({})",
            quote(&ctx.body)
        ))
    };
    let value: Value =
        match media {
            "" | "application/json" => serde_json::from_slice(&ctx.body)
                .map_err(|error| unreadable(go_json_error(&error, &ctx.body)))?,
            protobuf::MEDIA => protobuf::decode(&ctx.body).map_err(|error| {
                ApiError::bad_request(format!(
                    "the object provided is unrecognized (must be of type {kind}): {error}"
                ))
            })?,
            "application/yaml" | "application/apply-patch+yaml" => yaml(&ctx.body)
                .map_err(|error| ApiError::bad_request(format!("error decoding YAML: {error}")))?,
            _ => {
                return Err(ApiError::unsupported_media(
                    "application/json, application/yaml, application/vnd.kubernetes.protobuf",
                ));
            }
        };
    if !value.is_object() {
        return Err(unreadable(
            "json: cannot unmarshal into Go value of type struct".into(),
        ));
    }
    if depth(&value, 0) > DEPTH_MAX {
        return Err(ApiError::bad_request("the object provided is nested too deeply"));
    }
    Ok(value)
}

/// JSON is YAML too, and the common case; clients send it as `apply-patch+yaml`.
pub(super) fn yaml(body: &[u8]) -> std::result::Result<Value, String> {
    if let Ok(value) = serde_json::from_slice(body) {
        return Ok(value);
    }
    serde_saphyr::from_slice(body).map_err(|error| error.to_string())
}

fn depth(value: &Value, at: usize) -> usize {
    if at > DEPTH_MAX {
        return at;
    }
    match value {
        Value::Object(map) => map.values().map(|child| depth(child, at + 1)).max().unwrap_or(at),
        Value::Array(items) => items.iter().map(|child| depth(child, at + 1)).max().unwrap_or(at),
        _ => at,
    }
}

/// Checks apiVersion and kind against the endpoint's.
pub(super) fn check_kind(ctx: &Ctx, value: &mut Value, kind: &str, api_version: &str) -> Result<()> {
    let resource = &ctx.resource;
    let found = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
    let (found_version, found_kind) = (found("apiVersion"), found("kind"));
    let custom = resource.is_custom();
    if found_kind.is_empty() && custom {
        return Err(ApiError::bad_request(format!(
            "Object 'Kind' is missing in '{}'",
            quote(&ctx.body)
        )));
    }
    if !found_version.is_empty() && found_version != api_version {
        let message = format!(
            "the API version in the data ({found_version}) does not match the expected API version ({api_version})"
        );
        return Err(ApiError::bad_request(message));
    }
    if !found_kind.is_empty() && found_kind != kind {
        if custom {
            let name = value["metadata"]["name"].as_str().unwrap_or_default();
            let cause = Cause::invalid("kind", &found_kind.as_str().into(), format!("must be {kind}"));
            return Err(ApiError::invalid(&found_kind, &resource.group, name, vec![cause]));
        }
        let version = api_version.rsplit('/').next().unwrap_or_default();
        let message = format!(
            "{found_kind} in version {version:?} cannot be handled as a {kind}: converting ({found_kind}) to ({kind}): unknown conversion"
        );
        return Err(ApiError::bad_request(message));
    }
    value["apiVersion"] = api_version.into();
    value["kind"] = kind.into();
    Ok(())
}

/// Where unknown fields of a write are reported.
pub(super) enum Via {
    Body,
    Patch,
    Apply,
}

/// Types, prunes and defaults an object of the requested version, then converts it to the stored one.
pub(super) fn admit_shape(ctx: &Ctx, value: &mut Value, validation: Validation, via: &Via) -> Result<()> {
    let resource = &ctx.resource;
    let schema = resource.schema();
    let cannot = |why: &str| {
        format!(
            "{0} in version {1:?} cannot be handled as a {0}: {why}",
            resource.kind, resource.version
        )
    };
    if resource.is_custom() {
        check_metadata_types(ctx, value, schema)?;
    } else if let Some(error) = schema::typecheck(value, schema) {
        return Err(ApiError::bad_request(cannot(&error)));
    }
    let mut unknown = Vec::new();
    schema::prune(value, schema, &mut unknown);
    if !unknown.is_empty() {
        report_unknown(ctx, value, &unknown, validation, via, &cannot)?;
    }
    drop_nulls(value, schema, resource.is_custom());
    schema::apply_defaults(value, schema);
    builtin::convert(
        value,
        &resource.storage,
        &builtin::storage_api_version(resource),
        resource.is_custom(),
    );
    Ok(())
}

fn report_unknown(
    ctx: &Ctx,
    value: &Value,
    unknown: &[String],
    validation: Validation,
    via: &Via,
    cannot: &dyn Fn(&str) -> String,
) -> Result<()> {
    let texts: Vec<String> = unknown
        .iter()
        .map(|path| format!("unknown field {path:?}"))
        .collect();
    if let Via::Apply = via {
        let (ns, name) = (ctx.namespace(), &ctx.target.name);
        let message = format!(
            "failed to create typed patch object ({ns}/{name}; {}, Kind={}): .{}: field not declared in schema",
            ctx.resource.api_version(),
            ctx.resource.kind,
            unknown[0]
        );
        let mut error = ApiError::internal("");
        error.message = message;
        error.reason = "";
        return Err(error);
    }
    match validation {
        Validation::Ignore => {}
        Validation::Warn => texts.into_iter().for_each(|text| ctx.warn(text)),
        Validation::Strict => {
            let why = format!("strict decoding error: {}", texts.join(", "));
            return Err(match via {
                Via::Patch => ApiError::invalid(
                    "",
                    "",
                    "",
                    vec![Cause::invalid("patch", &value.to_string().into(), why)],
                ),
                _ => ApiError::bad_request(cannot(&why)),
            });
        }
    }
    Ok(())
}

/// A custom object's metadata is a Go struct; the rest is checked by its schema, with other words.
fn check_metadata_types(ctx: &Ctx, value: &Value, schema: &schema::Schema) -> Result<()> {
    let Some(metadata) = schema.property("metadata") else {
        return Ok(());
    };
    let wrapped = value.get("metadata").unwrap_or(&Value::Null);
    if let Some(error) = schema::typecheck(wrapped, metadata) {
        let kind = &ctx.resource.kind;
        let version = &ctx.resource.version;
        return Err(ApiError::bad_request(format!(
            "{kind} in version {version:?} cannot be handled as a {kind}: {error}"
        )));
    }
    Ok(())
}

/// Go structs have no nulls: a null field is an absent one. Custom objects keep theirs, metadata aside.
fn drop_nulls(value: &mut Value, schema: &schema::Schema, custom: bool) {
    match value {
        Value::Object(map) => {
            if custom {
                if let Some(metadata) = map.get_mut("metadata") {
                    drop_nulls(metadata, schema.property("metadata").unwrap_or(schema), false);
                }
                return;
            }
            map.retain(|key, child| {
                !(child.is_null() && (schema.properties.contains_key(key) || schema.additional.is_some()))
            });
            for (key, child) in map.iter_mut() {
                if let Some(property) = schema.property(key) {
                    drop_nulls(child, property, false);
                }
            }
        }
        Value::Array(items) => {
            if let Some(item) = schema.item() {
                items.iter_mut().for_each(|child| drop_nulls(child, item, false));
            }
        }
        _ => {}
    }
}
