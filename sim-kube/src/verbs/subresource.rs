//! Subresources that are not plain status: binding, eviction, approval, finalize, token, scale.

use http::StatusCode;
use serde_json::{Value, json};

use super::options::Validation;
use super::update::{self, modify};
use super::{Ctx, decode, options, respond, scale};
use crate::auth::tokens;
use crate::body::Reply;
use crate::fields::Operation;
use crate::patch::{Patch, PatchType};
use crate::status::{ApiError, Cause, Result};
use crate::{builtin, clock};

pub(super) fn dispatch(ctx: &Ctx, verb: &str) -> Result<Reply> {
    let sub = ctx.target.subresource.as_str();
    let Some(known) = ctx.resource.subresource(sub) else {
        return Err(ApiError::page_not_found());
    };
    if ctx.target.rest || !known.verbs.iter().any(|v| v == verb) {
        return Err(ApiError::method_not_allowed());
    }
    match (sub, verb) {
        ("scale", _) => scale::dispatch(ctx, verb),
        ("binding", "create") => bind(ctx),
        ("eviction", "create") => evict(ctx),
        ("token", "create") => token(ctx),
        ("finalize", "update") => finalize(ctx),
        ("approval", "update" | "patch") => approval(ctx, verb),
        (_, "get") => {
            let found = ctx
                .inner
                .store
                .get(&ctx.resource.storage, ctx.namespace(), &ctx.target.name);
            let object = found.ok_or_else(|| ctx.not_found(&ctx.target.name))?;
            Ok(respond::object(ctx, StatusCode::OK, &object))
        }
        (_, "update") => update::put(ctx, sub),
        (_, "patch") => update::patch(ctx, sub),
        _ => Err(ApiError::method_not_allowed()),
    }
}

fn done(ctx: &Ctx) -> Reply {
    let status =
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
    respond::status(ctx, StatusCode::CREATED, &status)
}

fn bind(ctx: &Ctx) -> Result<Reply> {
    let binding = decode::parse(ctx, "Binding")?;
    let dry_run = options::dry_run(&ctx.query, "CreateOptions")?;
    let node = binding["target"]["name"].as_str().unwrap_or_default();
    if node.is_empty() {
        let cause = Cause::required("target.name", "");
        return Err(ApiError::invalid("Binding", "", &ctx.target.name, vec![cause]));
    }
    modify(ctx, "binding", Operation::Update, dry_run, "patch", |old| {
        let refuse = |why: String| Err(ApiError::conflict("", "pods/binding", &ctx.target.name, &why));
        if old.is_deleting() {
            return refuse(format!(
                "pod {} is being deleted, cannot be assigned to a host",
                ctx.target.name
            ));
        }
        let current = old.value["spec"]["nodeName"].as_str().unwrap_or_default();
        if !current.is_empty() {
            return refuse(format!(
                "pod {} is already assigned to node {current:?}",
                ctx.target.name
            ));
        }
        let mut value = old.value.clone();
        value["spec"]["nodeName"] = node.into();
        builtin::set_pod_condition(&mut value, "PodScheduled", "True", None, ctx.now);
        Ok(value)
    })?;
    Ok(done(ctx))
}

fn evict(ctx: &Ctx) -> Result<Reply> {
    let eviction = decode::parse(ctx, "Eviction")?;
    let pod = ctx
        .inner
        .store
        .get(&ctx.resource.storage, ctx.namespace(), &ctx.target.name)
        .ok_or_else(|| ctx.not_found(&ctx.target.name))?;
    let running = matches!(pod.value["status"]["phase"].as_str(), Some("Running"));
    for budget in ctx
        .inner
        .store
        .list("policy/poddisruptionbudgets", ctx.namespace())
        .objects
    {
        let selector = &budget.value["spec"]["selector"];
        let matches =
            selector.is_object() && crate::selector::Labels::from_value(selector).matches(&pod.value);
        if running && matches && budget.value["status"]["disruptionsAllowed"].as_i64().unwrap_or(0) <= 0 {
            let details = json!({"causes": [{"reason": "DisruptionBudget",
                "message": format!("The disruption budget {} does not allow evicting pods currently", budget.name())}]});
            let message = "Cannot evict pod as it would violate the pod's disruption budget.";
            return Err(ApiError::too_many_requests(message, details));
        }
    }
    super::delete::evict(ctx, &eviction["deleteOptions"])?;
    Ok(done(ctx))
}

/// A namespace's spec.finalizers; the last one gone releases it.
fn finalize(ctx: &Ctx) -> Result<Reply> {
    let body = decode::parse(ctx, &ctx.resource.kind)?;
    let outcome = modify(ctx, "finalize", Operation::Update, false, "update", |old| {
        let mut value = old.value.clone();
        value["spec"]["finalizers"] = body["spec"]["finalizers"].clone();
        if value["spec"]["finalizers"].is_null() {
            value["spec"] = json!({});
        }
        value["metadata"]["resourceVersion"] = body["metadata"]["resourceVersion"].clone();
        Ok(value)
    })?;
    Ok(outcome.reply(ctx))
}

/// Approval writes conditions only, and each of them once.
fn approval(ctx: &Ctx, verb: &str) -> Result<Reply> {
    let dry_run = options::dry_run(&ctx.query, "UpdateOptions")?;
    let body = if verb == "update" {
        Some(decode::parse(ctx, &ctx.resource.kind)?)
    } else {
        None
    };
    let patch = match verb {
        "patch" => Some(Patch::parse(PatchType::of(&ctx.content_type, false)?, &ctx.body)?),
        _ => None,
    };
    let outcome = modify(ctx, "approval", Operation::Update, dry_run, "update", |old| {
        let mut wanted = body.clone().unwrap_or_else(|| old.value.clone());
        if let Some(patch) = &patch {
            patch.apply(&mut wanted, ctx.resource.schema())?;
            update::patched_shape(ctx, &mut wanted, Validation::Warn, &decode::Via::Patch)?;
        }
        let mut value = old.value.clone();
        value["metadata"]["resourceVersion"] = wanted["metadata"]["resourceVersion"].clone();
        if wanted["status"].get("conditions").is_some() {
            value["status"]["conditions"] = wanted["status"]["conditions"].clone();
            builtin::stamp_conditions(&mut value["status"]["conditions"], ctx.now);
        }
        Ok(value)
    })?;
    Ok(outcome.reply(ctx))
}

/// An hour by default, ten minutes at least, as the real server has it.
const TOKEN_SECONDS: i64 = 3600;
const TOKEN_SECONDS_MIN: i64 = 600;

fn token(ctx: &Ctx) -> Result<Reply> {
    let mut request = decode::parse(ctx, "TokenRequest")?;
    let account = ctx
        .inner
        .store
        .get("/serviceaccounts", ctx.namespace(), &ctx.target.name)
        .ok_or_else(|| ctx.not_found(&ctx.target.name))?;
    let seconds = request["spec"]["expirationSeconds"]
        .as_i64()
        .unwrap_or(TOKEN_SECONDS);
    if seconds < TOKEN_SECONDS_MIN {
        let cause = Cause::invalid(
            "spec.expirationSeconds",
            &seconds.into(),
            "may not specify a duration less than 10 minutes",
        );
        return Err(ApiError::invalid(
            "TokenRequest",
            "authentication.k8s.io",
            "",
            vec![cause],
        ));
    }
    let audiences: Vec<String> = request["spec"]["audiences"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect();
    let audiences = if audiences.is_empty() {
        vec![tokens::ISSUER.to_owned()]
    } else {
        audiences
    };
    let reference = request["spec"]["boundObjectRef"].clone();
    let bound = bound_object(ctx, &reference)?;
    let ask = tokens::Ask {
        namespace: ctx.namespace(),
        name: &ctx.target.name,
        uid: account.uid(),
        audiences: &audiences,
        seconds,
        bound: bound
            .as_ref()
            .map(|(kind, name, uid)| (kind.as_str(), name.as_str(), uid.as_str())),
    };
    let token =
        tokens::issue(&ctx.inner, &ask).ok_or_else(|| ApiError::internal("the token could not be signed"))?;
    let expires = ctx.now + jiff::SignedDuration::from_secs(seconds);
    request["kind"] = "TokenRequest".into();
    request["apiVersion"] = "authentication.k8s.io/v1".into();
    request["metadata"] = json!({
        "name": account.name(), "namespace": account.namespace(), "uid": account.uid(),
        "creationTimestamp": clock::rfc3339(ctx.now),
    });
    request["spec"] =
        json!({"audiences": audiences, "expirationSeconds": seconds, "boundObjectRef": reference});
    request["status"] = json!({"token": token, "expirationTimestamp": clock::rfc3339(expires)});
    Ok(respond::status(ctx, StatusCode::CREATED, &request))
}

fn bound_object(ctx: &Ctx, reference: &Value) -> Result<Option<(String, String, String)>> {
    let Some(kind) = reference["kind"].as_str() else {
        return Ok(None);
    };
    let name = reference["name"].as_str().unwrap_or_default();
    let (storage, plural, namespace) = match kind {
        "Pod" => ("/pods", "pods", ctx.namespace()),
        "Secret" => ("/secrets", "secrets", ctx.namespace()),
        "Node" => ("/nodes", "nodes", ""),
        _ => {
            let message = format!(
                "cannot bind token for serviceaccount {:?} to type {kind}",
                ctx.target.name
            );
            return Err(ApiError::bad_request(message));
        }
    };
    let object = ctx
        .inner
        .store
        .get(storage, namespace, name)
        .ok_or_else(|| ApiError::not_found("", plural, name))?;
    if reference["uid"]
        .as_str()
        .is_some_and(|uid| !uid.is_empty() && uid != object.uid())
    {
        let why = format!(
            "the UID in the bound object reference ({}) does not match the UID in record. The object might have been deleted and then recreated",
            reference["uid"]
        );
        return Err(ApiError::conflict("", plural, name, &why));
    }
    Ok(Some((kind.to_owned(), name.to_owned(), object.uid().to_owned())))
}
