//! create, and what creation has in common with applying and patching something that is not there yet.

use http::StatusCode;
use serde_json::{Map, Value, json};

use super::decode::{self, Via};
use super::{Ctx, options, respond};
use crate::auth::restriction::{self, Write};
use crate::body::Reply;
use crate::fields::{self, Operation};
use crate::status::{ApiError, Cause, Result};
use crate::store::{Obj, Refused};
use crate::{builtin, clock, schema};

/// Attempts at a free random name before the collision is reported.
const NAME_ATTEMPTS: usize = 8;
/// Names are cut so that the suffix of five fits in a DNS label of 63.
const GENERATED_BASE_MAX: usize = 58;

pub(super) fn create(ctx: &Ctx) -> Result<Reply> {
    let resource = &ctx.resource;
    if !ctx.target.name.is_empty() && !resource.is_custom() {
        return Err(ApiError::method_not_allowed());
    }
    let dry_run = options::dry_run(&ctx.query, "CreateOptions")?;
    let validation = options::validation(&ctx.query, "CreateOptions")?;
    let mut value = decode::parse(ctx, &resource.kind)?;
    decode::check_kind(ctx, &mut value, &resource.kind, &resource.api_version())?;
    decode::admit_shape(ctx, &mut value, validation, &Via::Body)?;
    if !ctx.target.name.is_empty() {
        value["metadata"]["name"] = ctx.target.name.clone().into();
    }
    if let Some(version) = value["metadata"].get("resourceVersion").and_then(Value::as_str)
        && !matches!(version, "" | "0")
    {
        return Err(
            ApiError::internal("").with_message("resourceVersion should not be set on objects to be created")
        );
    }
    let created = insert(ctx, value, Operation::Update, dry_run)?;
    Ok(match created {
        Created::Stored(object) => respond::object(ctx, StatusCode::CREATED, &object),
        Created::Dry(value) => respond::value(ctx, StatusCode::CREATED, &value),
    })
}

pub(super) enum Created {
    Stored(Obj),
    Dry(Value),
}

/// Checks the namespace, completes metadata, defaults, validates, admits and stores.
pub(super) fn insert(ctx: &Ctx, mut value: Value, operation: Operation, dry_run: bool) -> Result<Created> {
    check_namespace(ctx, &mut value)?;
    let managed = value["metadata"].get("managedFields").cloned();
    complete_metadata(ctx, &mut value);
    if ctx.resource.has_status()
        && builtin::resets_status(&ctx.resource)
        && let Some(map) = value.as_object_mut()
    {
        map.shift_remove("status");
    }
    builtin::scheme_defaults(ctx, &mut value);
    // Ownership is taken of what the client sent, before strategies and admission add theirs.
    let mut sent = value.clone();
    builtin::prepare_create(ctx, &mut value)?;
    if operation == Operation::Update {
        fields::track(
            &builtin::empty_object(&ctx.resource),
            &mut sent,
            ctx.resource.schema(),
            &ctx.who(operation, ""),
        );
    }
    let managed = if operation == Operation::Update {
        sent["metadata"].get("managedFields").cloned()
    } else {
        managed
    };
    let generated =
        value["metadata"].get("generateName").is_some() && value["metadata"].get("name").is_none();
    for attempt in 0..NAME_ATTEMPTS {
        let mut candidate = value.clone();
        if generated {
            let base = value["metadata"]["generateName"].as_str().unwrap_or_default();
            let base: String = base.chars().take(GENERATED_BASE_MAX).collect();
            candidate["metadata"]["name"] = format!("{base}{}", ctx.inner.random.suffix(5)).into();
        }
        check(ctx, &candidate)?;
        if let Some(managed) = &managed {
            candidate["metadata"]["managedFields"] = managed.clone();
        }
        builtin::strip_managed(&ctx.resource, &mut candidate);
        if dry_run {
            let name = candidate["metadata"]["name"].as_str().unwrap_or_default();
            if ctx
                .inner
                .store
                .get(&ctx.resource.storage, ctx.namespace(), name)
                .is_some()
            {
                return Err(ApiError::already_exists(
                    &ctx.resource.group,
                    &ctx.resource.plural,
                    name,
                ));
            }
            return Ok(Created::Dry(candidate));
        }
        let name = candidate["metadata"]["name"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        match ctx.inner.store.create(&ctx.resource.storage, candidate) {
            Ok(object) => {
                builtin::after_write(ctx, &object);
                return Ok(Created::Stored(object));
            }
            Err(Refused::Exists) if generated && attempt + 1 < NAME_ATTEMPTS => {}
            Err(_) => {
                return Err(ApiError::already_exists(
                    &ctx.resource.group,
                    &ctx.resource.plural,
                    &name,
                ));
            }
        }
    }
    Err(ApiError::internal("no free name was found"))
}

fn check_namespace(ctx: &Ctx, value: &mut Value) -> Result<()> {
    let resource = &ctx.resource;
    if !value["metadata"].is_object() {
        value["metadata"] = json!({});
    }
    let given = value["metadata"]["namespace"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    if !resource.namespaced {
        if !given.is_empty() {
            let message = "namespace must be empty for cluster-scoped resources";
            return Err(ApiError::bad_request(format!(
                "the namespace of the provided object does not match the namespace sent on the request: {message}"
            )));
        }
        return Ok(());
    }
    if ctx.target.namespace.is_empty() {
        return Err(ApiError::bad_request(
            "an empty namespace may not be set during creation",
        ));
    }
    if !given.is_empty() && given != ctx.target.namespace {
        let message = "the namespace of the provided object does not match the namespace sent on the request";
        return Err(ApiError::bad_request(message));
    }
    value["metadata"]["namespace"] = ctx.target.namespace.clone().into();
    let Some(namespace) = ctx.inner.store.get("/namespaces", "", &ctx.target.namespace) else {
        return Err(ApiError::not_found("", "namespaces", &ctx.target.namespace));
    };
    if namespace.is_deleting() && !resource.is("authorization.k8s.io", "localsubjectaccessreviews") {
        let (ns, name) = (
            &ctx.target.namespace,
            value["metadata"]["name"].as_str().unwrap_or_default(),
        );
        let why = format!("unable to create new content in namespace {ns} because it is being terminated");
        let cause = json!([{
            "reason": "NamespaceTerminating",
            "message": format!("namespace {ns} is being terminated"),
            "field": "metadata.namespace"
        }]);
        return Err(
            ApiError::forbidden(&resource.group, &resource.plural, name, &why).with_detail("causes", cause)
        );
    }
    Ok(())
}

fn complete_metadata(ctx: &Ctx, value: &mut Value) {
    let Some(metadata) = value.pointer_mut("/metadata").and_then(Value::as_object_mut) else {
        return;
    };
    for server_owned in [
        "uid",
        "resourceVersion",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "managedFields",
        "selfLink",
    ] {
        metadata.shift_remove(server_owned);
    }
    metadata
        .retain(|_, v| !(v.is_null() || v.as_str() == Some("") || v.as_array().is_some_and(Vec::is_empty)));
    metadata.insert("uid".into(), ctx.inner.random.uid().into());
    metadata.insert("creationTimestamp".into(), clock::rfc3339(ctx.now).into());
    if builtin::has_generation(&ctx.resource) {
        metadata.insert("generation".into(), 1.into());
    }
}

/// Validation and admission of a complete new object.
fn check(ctx: &Ctx, value: &Value) -> Result<()> {
    validate(ctx, value, None, "")?;
    let name = value["metadata"]["name"].as_str().unwrap_or_default();
    let write = Write {
        verb: "create",
        resource: &ctx.resource,
        subresource: "",
        name,
        new: Some(value),
        old: None,
    };
    restriction::admit(&ctx.user, &write)?;
    builtin::admit(ctx, value, None)
}

/// All checks of an object's content; `old` on update.
pub(super) fn validate(ctx: &Ctx, value: &Value, old: Option<&Value>, subresource: &str) -> Result<()> {
    let resource = &ctx.resource;
    let mut causes = Vec::new();
    builtin::names::metadata(value, resource, &mut causes);
    if let Some(old) = old {
        builtin::metadata_update(value, old, &mut causes);
    }
    match &resource.custom {
        Some(custom) => {
            causes.extend(schema::validate(value, old, &custom.schema));
            scale_replicas(value, custom, &mut causes);
            if let Some(cel) = custom.cel() {
                if causes.iter().any(blocks_rules) {
                    causes.push(Cause::invalid("<nil>", &Value::Null, "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation"));
                } else {
                    causes.extend(cel.validate(value, old));
                }
            }
        }
        None => builtin::validate(ctx, value, old, subresource, &mut causes),
    }
    if causes.is_empty() {
        return Ok(());
    }
    let name = value["metadata"]["name"].as_str().unwrap_or_default();
    Err(ApiError::invalid(&resource.kind, &resource.group, name, causes))
}

/// Errors after which the real server does not run CEL rules.
fn blocks_rules(cause: &Cause) -> bool {
    matches!(
        cause.reason,
        "FieldValueNotSupported"
            | "FieldValueRequired"
            | "FieldValueTooLong"
            | "FieldValueTooMany"
            | "FieldValueTypeInvalid"
    )
}

fn scale_replicas(value: &Value, custom: &schema::crd::CrdVersion, causes: &mut Vec<Cause>) {
    let Some(scale) = &custom.scale else { return };
    for path in [&scale.spec_replicas, &scale.status_replicas] {
        let found = path.iter().try_fold(value, |v, key| v.get(key));
        if let Some(replicas) = found.and_then(Value::as_i64)
            && replicas < 0
        {
            let path = format!(".{}", path.join("."));
            causes.push(Cause::invalid(
                path,
                &replicas.into(),
                "should be a non-negative integer",
            ));
        }
    }
}

/// An empty object map, for callers that fill it.
pub(super) fn empty() -> Value {
    Value::Object(Map::new())
}
