//! delete and deletecollection: preconditions, propagation, finalizers, grace.

use http::StatusCode;
use serde_json::{Value, json};

use super::read::Selection;
use super::update::mark_deleted;
use super::{Ctx, options, respond};
use crate::auth::restriction::{self, Write};
use crate::body::Reply;
use crate::builtin;
use crate::status::{self, ApiError, Cause, Result};
use crate::store::{Obj, Refused};

/// Compare-and-swap attempts; each failure means that somebody else made progress.
const ATTEMPTS: usize = 10;

#[derive(Debug, Default)]
pub(crate) struct DeleteOptions {
    uid: Option<String>,
    version: Option<String>,
    propagation: Option<String>,
    grace_seconds: Option<i64>,
    dry_run: bool,
}

impl DeleteOptions {
    fn parse(ctx: &Ctx) -> Result<DeleteOptions> {
        let body: Value = match ctx.body.is_empty() {
            true => Value::Null,
            false if ctx.content_type.starts_with(crate::protobuf::MEDIA) => {
                crate::protobuf::decode(&ctx.body)
                    .map_err(|e| ApiError::bad_request(format!("error decoding DeleteOptions: {e}")))?
            }
            false => super::decode::yaml(&ctx.body)
                .map_err(|e| ApiError::bad_request(format!("error decoding DeleteOptions: {e}")))?,
        };
        Self::from_value(&body, ctx)
    }

    fn from_value(body: &Value, ctx: &Ctx) -> Result<DeleteOptions> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let query = |key: &str| ctx.query.get(key).map(str::to_owned);
        let dry_in_body = body["dryRun"]
            .as_array()
            .is_some_and(|values| values.iter().any(|v| v == "All"));
        let mut out = DeleteOptions {
            uid: text(&body["preconditions"]["uid"]),
            version: text(&body["preconditions"]["resourceVersion"]),
            propagation: text(&body["propagationPolicy"]).or_else(|| query("propagationPolicy")),
            grace_seconds: body["gracePeriodSeconds"]
                .as_i64()
                .or_else(|| query("gracePeriodSeconds").and_then(|s| s.parse().ok())),
            dry_run: dry_in_body || options::dry_run(&ctx.query, "DeleteOptions")?,
        };
        if let Some(orphan) = body["orphanDependents"].as_bool() {
            if out.propagation.is_some() {
                let cause = Cause::invalid(
                    "propagationPolicy",
                    &out.propagation.clone().into(),
                    "orphanDependents and deletionPropagation cannot be both set",
                );
                return Err(ApiError::invalid("DeleteOptions", "meta.k8s.io", "", vec![cause]));
            }
            out.propagation = Some(if orphan { "Orphan" } else { "Background" }.into());
        }
        if let Some(policy) = &out.propagation
            && !matches!(policy.as_str(), "Foreground" | "Background" | "Orphan")
        {
            let allowed = ["Foreground", "Background", "Orphan"].map(Value::from);
            let cause = Cause::not_supported("propagationPolicy", &policy.as_str().into(), &allowed);
            return Err(ApiError::invalid("DeleteOptions", "meta.k8s.io", "", vec![cause]));
        }
        Ok(out)
    }
}

enum Deleted {
    /// Finalizers or grace keep it for now.
    Marked(Obj),
    Gone(Obj),
    Dry(Value),
}

pub(super) fn delete(ctx: &Ctx) -> Result<Reply> {
    let options = DeleteOptions::parse(ctx)?;
    delete_with(ctx, &options)
}

/// An eviction's deletion: options come from its body.
pub(super) fn evict(ctx: &Ctx, options: &Value) -> Result<()> {
    let options = DeleteOptions::from_value(options, ctx)?;
    one(ctx, &ctx.target.name, &options).map(|_| ())
}

fn delete_with(ctx: &Ctx, options: &DeleteOptions) -> Result<Reply> {
    let resource = &ctx.resource;
    Ok(match one(ctx, &ctx.target.name, options)? {
        Deleted::Marked(object) => respond::object(ctx, StatusCode::OK, &object),
        Deleted::Gone(object) if builtin::returns_deleted(resource) => {
            respond::object(ctx, StatusCode::OK, &object)
        }
        Deleted::Dry(value) if builtin::returns_deleted(resource) => {
            respond::value(ctx, StatusCode::OK, &value)
        }
        Deleted::Gone(object) => {
            let done = status::success(
                object.name(),
                &resource.group,
                &resource.plural,
                Some(object.uid()),
            );
            respond::status(ctx, StatusCode::OK, &done)
        }
        Deleted::Dry(value) => {
            let uid = value["metadata"]["uid"].as_str();
            let done = status::success(&ctx.target.name, &resource.group, &resource.plural, uid);
            respond::status(ctx, StatusCode::OK, &done)
        }
    })
}

fn check_preconditions(ctx: &Ctx, object: &Obj, options: &DeleteOptions) -> Result<()> {
    let resource = &ctx.resource;
    // Here the real server names the kind, not the resource.
    let refuse = |why: String| {
        Err(ApiError::conflict(
            &resource.group,
            &resource.kind,
            object.name(),
            &why,
        ))
    };
    if let Some(uid) = options.uid.as_deref()
        && uid != object.uid()
    {
        let why = format!(
            "the UID in the precondition ({uid}) does not match the UID in record ({}). The object might have been deleted and then recreated",
            object.uid()
        );
        return refuse(why);
    }
    if let Some(version) = options.version.as_deref()
        && version != object.version.to_string()
    {
        let why = format!(
            "the ResourceVersion in the precondition ({version}) does not match the ResourceVersion in record ({}). The object might have been modified",
            object.version
        );
        return refuse(why);
    }
    Ok(())
}

fn one(ctx: &Ctx, name: &str, options: &DeleteOptions) -> Result<Deleted> {
    let resource = &ctx.resource;
    let store = &ctx.inner.store;
    for _ in 0..ATTEMPTS {
        let old = store
            .get(&resource.storage, ctx.namespace(), name)
            .ok_or_else(|| ctx.not_found(name))?;
        check_preconditions(ctx, &old, options)?;
        let write = Write {
            verb: "delete",
            resource,
            subresource: "",
            name,
            new: None,
            old: Some(&old.value),
        };
        restriction::admit(&ctx.user, &write)?;
        builtin::admit_delete(ctx, &old.value)?;
        let mut new = old.value.clone();
        propagation_finalizers(&mut new, options.propagation.as_deref());
        builtin::begin_deletion(ctx, &mut new);
        let grace = builtin::grace_seconds(resource, &new, options.grace_seconds);
        let stays = grace > 0 || !builtin::is_released(resource, &new);
        if !stays {
            if options.dry_run {
                return Ok(Deleted::Dry(new));
            }
            match store.delete(&resource.storage, old.version, new) {
                Ok(object) => {
                    builtin::after_delete(ctx, &object);
                    return Ok(Deleted::Gone(object));
                }
                Err(Refused::Missing) => return Err(ctx.not_found(name)),
                Err(_) => continue,
            }
        }
        let sooner = old.value["metadata"]["deletionGracePeriodSeconds"]
            .as_i64()
            .is_none_or(|current| grace < current);
        if !old.is_deleting() {
            mark_deleted(ctx, &mut new, grace);
            builtin::prepare_deletion(resource, &mut new);
        } else if sooner {
            new["metadata"]["deletionGracePeriodSeconds"] = grace.into();
        }
        if options.dry_run {
            return Ok(Deleted::Dry(new));
        }
        if new == old.value {
            return Ok(Deleted::Marked(old));
        }
        match store.update(&resource.storage, old.version, new) {
            Ok(object) => {
                builtin::after_write(ctx, &object);
                return Ok(Deleted::Marked(object));
            }
            Err(Refused::Missing) => return Err(ctx.not_found(name)),
            Err(_) => {}
        }
    }
    Err(ApiError::modified(&resource.group, &resource.plural, name))
}

/// Foreground and Orphan deletion are finalizers that the garbage collector takes away.
fn propagation_finalizers(value: &mut Value, policy: Option<&str>) {
    let Some(policy) = policy else { return };
    let mut finalizers: Vec<Value> = value["metadata"]["finalizers"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    finalizers.retain(|f| f != "foregroundDeletion" && f != "orphan");
    match policy {
        "Foreground" => finalizers.push("foregroundDeletion".into()),
        "Orphan" => finalizers.push("orphan".into()),
        _ => {}
    }
    let Some(metadata) = value.pointer_mut("/metadata").and_then(Value::as_object_mut) else {
        return;
    };
    if finalizers.is_empty() {
        metadata.shift_remove("finalizers");
    } else {
        metadata.insert("finalizers".into(), finalizers.into());
    }
}

pub(super) fn delete_collection(ctx: &Ctx) -> Result<Reply> {
    let options = DeleteOptions::parse(ctx)?;
    let selection = Selection::parse(ctx)?;
    let listed = ctx.inner.store.list(&ctx.resource.storage, ctx.namespace());
    let chosen: Vec<Obj> = listed
        .objects
        .into_iter()
        .filter(|o| selection.matches(ctx, o))
        .collect();
    let limit = options::limit(&ctx.query)?;
    let mut items = Vec::new();
    for object in chosen.into_iter().take(limit) {
        match one(ctx, object.name(), &options) {
            Ok(Deleted::Gone(object) | Deleted::Marked(object)) => {
                items.push(respond::external(&ctx.resource, &object.value).into_owned());
            }
            Ok(Deleted::Dry(value)) => items.push(respond::external(&ctx.resource, &value).into_owned()),
            // Somebody else was faster.
            Err(error) if error.code == 404 => {}
            Err(error) => return Err(error),
        }
    }
    let (version, kind) = respond::list_kind(&ctx.resource);
    let metadata = json!({"continue": "", "resourceVersion": listed.version.to_string()});
    let list = json!({"apiVersion": version, "items": items, "kind": kind, "metadata": metadata});
    Ok(respond::status(ctx, StatusCode::OK, &list))
}
