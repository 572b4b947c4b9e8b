//! Server-side apply as a verb: creates what is missing, merges what is there, refuses conflicts.

use http::StatusCode;
use serde_json::Value;

use super::create::{self, Created};
use super::decode::Via;
use super::options::{self, Validation};
use super::update::{self, modify};
use super::{Ctx, decode, respond};
use crate::body::Reply;
use crate::fields::{self, Operation};
use crate::status::{ApiError, Result};

pub(super) fn apply(ctx: &Ctx, subresource: &str, validation: Validation, dry_run: bool) -> Result<Reply> {
    options::apply_manager(&ctx.query)?;
    let force = ctx.query.flag("force");
    let mut config: Value = decode::yaml(&ctx.body)
        .map_err(|error| ApiError::bad_request(format!("error decoding YAML: {error}")))?;
    if !config.is_object() {
        return Err(ApiError::bad_request(
            "error decoding YAML: the patch is not an object",
        ));
    }
    if config["metadata"]
        .get("managedFields")
        .is_some_and(|m| m.as_array().is_none_or(|m| !m.is_empty()))
    {
        return Err(ApiError::bad_request("metadata.managedFields must be nil"));
    }
    if config["metadata"]["name"].as_str().unwrap_or_default().is_empty() {
        if !config["metadata"].is_object() {
            config["metadata"] = create::empty();
        }
        config["metadata"]["name"] = ctx.target.name.clone().into();
    }
    let config = shape_of_config(ctx, config, validation)?;
    let who = ctx.who(Operation::Apply, subresource);
    let merged = |live: &Value| {
        let mut live = live.clone();
        if live["metadata"].is_null() {
            live["metadata"] = create::empty();
        }
        fields::apply(&live, &config, ctx.resource.schema(), &who, force)
            .map_err(|c| ApiError::apply_conflict(&c))
    };
    let exists = ctx
        .inner
        .store
        .get(&ctx.resource.storage, ctx.namespace(), &ctx.target.name);
    if exists.is_none() && subresource.is_empty() {
        if config["metadata"].get("uid").is_some() {
            let why = "uid mismatch: the provided object specified uid, and no existing object was found";
            return Err(ApiError::conflict(
                &ctx.resource.group,
                &ctx.resource.plural,
                &ctx.target.name,
                why,
            ));
        }
        let mut value = merged(&create::empty())?;
        update::patched_shape(ctx, &mut value, Validation::Ignore, &Via::Body)?;
        return Ok(match create::insert(ctx, value, Operation::Apply, dry_run)? {
            Created::Stored(object) => respond::object(ctx, StatusCode::CREATED, &object),
            Created::Dry(value) => respond::value(ctx, StatusCode::CREATED, &value),
        });
    }
    let outcome = modify(ctx, subresource, Operation::Apply, dry_run, "patch", |old| {
        let live = respond::external(&ctx.resource, &old.value);
        let mut value = merged(&live)?;
        update::patched_shape(ctx, &mut value, Validation::Ignore, &Via::Body)?;
        Ok(value)
    })?;
    Ok(outcome.reply(ctx))
}

/// The configuration is checked for unknown fields and types, but neither defaulted nor converted.
fn shape_of_config(ctx: &Ctx, mut config: Value, validation: Validation) -> Result<Value> {
    decode::check_kind(ctx, &mut config, &ctx.resource.kind, &ctx.resource.api_version())?;
    let mut probe = config.clone();
    decode::admit_shape(ctx, &mut probe, validation, &Via::Apply)?;
    Ok(config)
}
