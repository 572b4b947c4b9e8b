//! put and patch, on the object and on its subresources: read, change, check, compare-and-swap, again if need be.

use http::StatusCode;
use serde_json::{Map, Value};

use super::create::{self, Created};
use super::decode::{self, Via};
use super::options::{self, Validation};
use super::{Ctx, apply, respond};
use crate::auth::restriction::{self, Write};
use crate::body::Reply;
use crate::fields::{self, Operation};
use crate::patch::{Patch, PatchType};
use crate::status::{ApiError, Cause, Result};
use crate::store::{Obj, Refused};
use crate::{builtin, clock};

/// The real server retries a patch against a moving object five times.
const ATTEMPTS: usize = 5;

pub(super) enum Outcome {
    /// What the object is now; it may be gone, if its last finalizer was taken.
    Stored(Obj),
    Dry(Value),
}

impl Outcome {
    pub(super) fn reply(&self, ctx: &Ctx) -> Reply {
        match self {
            Outcome::Stored(object) => respond::object(ctx, StatusCode::OK, object),
            Outcome::Dry(value) => respond::value(ctx, StatusCode::OK, value),
        }
    }
}

pub(super) fn put(ctx: &Ctx, subresource: &str) -> Result<Reply> {
    let resource = &ctx.resource;
    let dry_run = options::dry_run(&ctx.query, "UpdateOptions")?;
    let validation = options::validation(&ctx.query, "UpdateOptions")?;
    let mut value = decode::parse(ctx, &resource.kind)?;
    decode::check_kind(ctx, &mut value, &resource.kind, &resource.api_version())?;
    check_url(ctx, &mut value)?;
    decode::admit_shape(ctx, &mut value, validation, &Via::Body)?;
    let given = version_of(&value)?;
    if given.is_none() && resource.is_custom() {
        let cause = Cause::invalid(
            "metadata.resourceVersion",
            &0.into(),
            "must be specified for an update",
        );
        return Err(ApiError::invalid(
            &resource.plural,
            &resource.group,
            &ctx.target.name,
            vec![cause],
        ));
    }
    let exists = ctx
        .inner
        .store
        .get(&resource.storage, ctx.namespace(), &ctx.target.name)
        .is_some();
    if !exists && subresource.is_empty() && builtin::creates_on_update(resource) && given.is_none() {
        return Ok(match create::insert(ctx, value, Operation::Update, dry_run)? {
            Created::Stored(object) => respond::object(ctx, StatusCode::CREATED, &object),
            Created::Dry(value) => respond::value(ctx, StatusCode::CREATED, &value),
        });
    }
    let outcome = modify(ctx, subresource, Operation::Update, dry_run, "update", |_| {
        Ok(value.clone())
    })?;
    Ok(outcome.reply(ctx))
}

/// Name and namespace in the body agree with the URL.
fn check_url(ctx: &Ctx, value: &mut Value) -> Result<()> {
    if !value["metadata"].is_object() {
        value["metadata"] = Value::Object(Map::new());
    }
    let name = value["metadata"]["name"].as_str().unwrap_or_default();
    if name.is_empty() {
        let message = format!(
            "the name of the object () does not match the name on the URL ({})",
            ctx.target.name
        );
        return Err(ApiError::bad_request(message));
    }
    if name != ctx.target.name {
        let message = format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            ctx.target.name
        );
        return Err(ApiError::bad_request(message));
    }
    let namespace = value["metadata"]["namespace"].as_str().unwrap_or_default();
    if !namespace.is_empty() && namespace != ctx.namespace() {
        let message = "the namespace of the provided object does not match the namespace sent on the request";
        return Err(ApiError::bad_request(message));
    }
    if ctx.resource.namespaced {
        value["metadata"]["namespace"] = ctx.target.namespace.clone().into();
    }
    Ok(())
}

/// The resourceVersion that the client insists on.
fn version_of(value: &Value) -> Result<Option<u64>> {
    match value["metadata"].get("resourceVersion") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.is_empty() || text == "0" => Ok(None),
        Some(Value::String(text)) => text.parse().map(Some).map_err(|_| {
            ApiError::bad_request(format!("invalid resourceVersion {text:?}: it is not a number"))
        }),
        Some(other) => Err(ApiError::bad_request(format!("invalid resourceVersion {other}"))),
    }
}

pub(super) fn patch(ctx: &Ctx, subresource: &str) -> Result<Reply> {
    let kind = PatchType::of(&ctx.content_type, ctx.resource.is_custom())?;
    let dry_run = options::dry_run(&ctx.query, "PatchOptions")?;
    let validation = options::validation(&ctx.query, "PatchOptions")?;
    if kind == PatchType::Apply {
        return apply::apply(ctx, subresource, validation, dry_run);
    }
    if ctx.query.get("force").is_some() {
        let cause = Cause::forbidden("force", "may not be specified for non-apply patch");
        return Err(ApiError::invalid("PatchOptions", "meta.k8s.io", "", vec![cause]));
    }
    let patch = Patch::parse(kind, &ctx.body)?;
    let outcome = modify(ctx, subresource, Operation::Update, dry_run, "patch", |old| {
        let mut value = respond::external(&ctx.resource, &old.value).into_owned();
        patch.apply(&mut value, ctx.resource.schema())?;
        patched_shape(ctx, &mut value, validation, &Via::Patch)?;
        Ok(value)
    })?;
    Ok(outcome.reply(ctx))
}

/// A patch may not rename, and its result is decoded like any body.
pub(super) fn patched_shape(ctx: &Ctx, value: &mut Value, validation: Validation, via: &Via) -> Result<()> {
    let resource = &ctx.resource;
    if !value.is_object() {
        return Err(ApiError::unprocessable());
    }
    decode::check_kind(ctx, value, &resource.kind, &resource.api_version())?;
    check_url(ctx, value)?;
    decode::admit_shape(ctx, value, validation, via)
}

/// The loop behind every change of an existing object.
pub(super) fn modify(
    ctx: &Ctx,
    subresource: &str,
    operation: Operation,
    dry_run: bool,
    verb: &'static str,
    change: impl Fn(&Obj) -> Result<Value>,
) -> Result<Outcome> {
    let resource = &ctx.resource;
    let stale = || ApiError::modified(&resource.group, &resource.plural, &ctx.target.name);
    for _ in 0..ATTEMPTS {
        let old = ctx
            .inner
            .store
            .get(&resource.storage, ctx.namespace(), &ctx.target.name)
            .ok_or_else(|| ctx.not_found(&ctx.target.name))?;
        let candidate = change(&old)?;
        let insisted = version_of(&candidate)?;
        if insisted.is_some_and(|version| version != old.version) {
            return Err(stale());
        }
        let new = prepare(ctx, subresource, operation, verb, &old, candidate)?;
        if new == old.value {
            return Ok(Outcome::Stored(old));
        }
        if dry_run {
            return Ok(Outcome::Dry(new));
        }
        let gone = old.is_deleting() && builtin::is_released(resource, &new);
        let result = match gone {
            true => ctx.inner.store.delete(&resource.storage, old.version, new),
            false => ctx.inner.store.update(&resource.storage, old.version, new),
        };
        match result {
            Ok(object) if gone => {
                builtin::after_delete(ctx, &object);
                return Ok(Outcome::Stored(object));
            }
            Ok(object) => {
                builtin::after_write(ctx, &object);
                return Ok(Outcome::Stored(object));
            }
            Err(Refused::Missing) => return Err(ctx.not_found(&ctx.target.name)),
            Err(_) if insisted.is_some() => return Err(stale()),
            Err(_) => {}
        }
    }
    Err(stale())
}

/// Completes a changed object: what the client may not touch comes from `old`, then rules, owners, checks.
fn prepare(
    ctx: &Ctx,
    subresource: &str,
    operation: Operation,
    verb: &str,
    old: &Obj,
    mut new: Value,
) -> Result<Value> {
    let resource = &ctx.resource;
    if let Some(uid) = new["metadata"].get("uid").and_then(Value::as_str)
        && !uid.is_empty()
        && uid != old.uid()
    {
        let why = format!(
            "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
            old.uid()
        );
        return Err(ApiError::conflict(
            &resource.group,
            &resource.plural,
            &ctx.target.name,
            &why,
        ));
    }
    scope(ctx, subresource, &old.value, &mut new);
    keep_metadata(&old.value, &mut new);
    builtin::prepare_update(ctx, &mut new, &old.value, subresource)?;
    bump_generation(ctx, &old.value, &mut new);
    create::validate(ctx, &new, Some(&old.value), subresource)?;
    let name = &ctx.target.name;
    let write = Write {
        verb,
        resource,
        subresource,
        name,
        new: Some(&new),
        old: Some(&old.value),
    };
    restriction::admit(&ctx.user, &write)?;
    builtin::admit(ctx, &new, Some(&old.value))?;
    if operation == Operation::Update {
        fields::track(
            &old.value,
            &mut new,
            resource.schema(),
            &ctx.who(operation, subresource),
        );
    }
    builtin::strip_managed(resource, &mut new);
    Ok(new)
}

/// The main endpoint leaves status alone; `/status` leaves everything else alone.
fn scope(ctx: &Ctx, subresource: &str, old: &Value, new: &mut Value) {
    let resource = &ctx.resource;
    match subresource {
        "status" => {
            let status = new.get("status").cloned();
            let metadata = new["metadata"].clone();
            let mut scoped = old.clone();
            if !resource.is_custom() {
                scoped["metadata"] = metadata;
            } else if let Some(managed) = metadata.get("managedFields") {
                scoped["metadata"]["managedFields"] = managed.clone();
            }
            if let Some(map) = scoped.as_object_mut() {
                map.shift_remove("status");
                map.extend(status.map(|status| ("status".to_owned(), status)));
            }
            *new = scoped;
        }
        "" if resource.has_status() => {
            if let Some(map) = new.as_object_mut() {
                map.shift_remove("status");
                map.extend(
                    old.get("status")
                        .map(|status| ("status".to_owned(), status.clone())),
                );
            }
        }
        _ => {}
    }
}

fn keep_metadata(old: &Value, new: &mut Value) {
    let Some(metadata) = new.pointer_mut("/metadata").and_then(Value::as_object_mut) else {
        return;
    };
    for key in [
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "resourceVersion",
        "selfLink",
        "generateName",
        "namespace",
    ] {
        match old["metadata"].get(key) {
            Some(value) => metadata.insert(key.to_owned(), value.clone()),
            None => metadata.shift_remove(key),
        };
    }
    for key in ["labels", "annotations"] {
        // Go omits empty maps.
        if metadata
            .get(key)
            .is_some_and(|m| m.is_null() || m.as_object().is_some_and(Map::is_empty))
        {
            metadata.shift_remove(key);
        }
    }
    for key in ["finalizers", "ownerReferences"] {
        if metadata
            .get(key)
            .is_some_and(|l| l.is_null() || l.as_array().is_some_and(Vec::is_empty))
        {
            metadata.shift_remove(key);
        }
    }
}

/// The generation counts changes of what is desired: everything but metadata, and status where it is apart.
fn bump_generation(ctx: &Ctx, old: &Value, new: &mut Value) {
    if !builtin::has_generation(&ctx.resource) {
        return;
    }
    let apart = ctx.resource.has_status();
    let desired = |value: &Value| -> Map<String, Value> {
        let fields = value.as_object().into_iter().flatten();
        fields
            .filter(|(key, _)| *key != "metadata" && !(apart && *key == "status"))
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect()
    };
    if desired(old) != desired(new) {
        let generation = old["metadata"]["generation"].as_i64().unwrap_or(0);
        new["metadata"]["generation"] = (generation + 1).into();
    }
}

/// Marks an object for deletion, in `value`.
pub(super) fn mark_deleted(ctx: &Ctx, value: &mut Value, grace_seconds: i64) {
    let at = ctx.now + jiff::SignedDuration::from_secs(grace_seconds);
    value["metadata"]["deletionTimestamp"] = clock::rfc3339(at).into();
    value["metadata"]["deletionGracePeriodSeconds"] = grace_seconds.into();
    if let Some(generation) = value["metadata"].get("generation").and_then(Value::as_i64) {
        value["metadata"]["generation"] = (generation + 1).into();
    }
}
