//! The scale subresource: `autoscaling/v1 Scale` over whatever paths the resource names.

use http::StatusCode;
use serde_json::{Map, Value, json};

use super::update::{Outcome, modify};
use super::{Ctx, decode, options, respond};
use crate::body::Reply;
use crate::fields::Operation;
use crate::patch::{Patch, PatchType};
use crate::schema::builtin as schemas;
use crate::status::{ApiError, Cause, Result};

struct Paths {
    spec: Vec<String>,
    status: Vec<String>,
    selector: Option<Vec<String>>,
}

fn paths(ctx: &Ctx) -> Paths {
    let own = |parts: &[&str]| parts.iter().map(|p| (*p).to_owned()).collect();
    match ctx.resource.custom.as_ref().and_then(|c| c.scale.as_ref()) {
        Some(scale) => Paths {
            spec: scale.spec_replicas.clone(),
            status: scale.status_replicas.clone(),
            selector: scale.selector.clone(),
        },
        None => Paths {
            spec: own(&["spec", "replicas"]),
            status: own(&["status", "replicas"]),
            selector: None,
        },
    }
}

fn at<'a>(value: &'a Value, path: &[String]) -> Option<&'a Value> {
    path.iter().try_fold(value, |v, key| v.get(key))
}

fn set(value: &mut Value, path: &[String], leaf: Value) {
    let Some((last, parents)) = path.split_last() else {
        return;
    };
    let mut node = value;
    for key in parents {
        if !node[key].is_object() {
            node[key] = Value::Object(Map::new());
        }
        node = &mut node[key];
    }
    node[last] = leaf;
}

fn scale_of(ctx: &Ctx, value: &Value) -> Value {
    let paths = paths(ctx);
    let meta = &value["metadata"];
    let mut metadata = Map::new();
    for key in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        metadata.extend(meta.get(key).map(|v| (key.to_owned(), v.clone())));
    }
    let replicas = at(value, &paths.spec).cloned();
    let mut status = json!({"replicas": at(value, &paths.status).and_then(Value::as_i64).unwrap_or(0)});
    if let Some(selector) = paths.selector.and_then(|path| at(value, &path).cloned()) {
        status["selector"] = selector;
    } else if let Some(labels) = value["spec"]["selector"]["matchLabels"].as_object() {
        let pairs: Vec<String> = labels
            .iter()
            .map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default()))
            .collect();
        status["selector"] = pairs.join(",").into();
    }
    let spec = replicas
        .filter(|r| r.as_i64() != Some(0))
        .map_or_else(|| json!({}), |r| json!({"replicas": r}));
    json!({"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata, "spec": spec, "status": status})
}

pub(super) fn dispatch(ctx: &Ctx, verb: &str) -> Result<Reply> {
    let stored = ctx
        .inner
        .store
        .get(&ctx.resource.storage, ctx.namespace(), &ctx.target.name)
        .ok_or_else(|| ctx.not_found(&ctx.target.name))?;
    let scale = scale_of(ctx, &stored.value);
    if verb == "get" {
        return Ok(respond::status(ctx, StatusCode::OK, &scale));
    }
    let wanted = match verb {
        "update" => {
            let mut body = decode::parse(ctx, "Scale")?;
            body["apiVersion"] = "autoscaling/v1".into();
            body
        }
        _ => {
            let kind = PatchType::of(&ctx.content_type, ctx.resource.is_custom())?;
            if kind == PatchType::Apply {
                return Err(ApiError::unsupported_media(
                    "application/json-patch+json, application/merge-patch+json",
                ));
            }
            let mut value = scale.clone();
            let schema = schemas::schema("autoscaling", "v1", "Scale").unwrap_or_default();
            Patch::parse(kind, &ctx.body)?.apply(&mut value, &schema)?;
            value
        }
    };
    let replicas = wanted["spec"]["replicas"].as_i64().unwrap_or(0);
    if replicas < 0 {
        let cause = Cause::invalid(
            "spec.replicas",
            &replicas.into(),
            "must be greater than or equal to 0",
        );
        return Err(ApiError::invalid(
            "Scale",
            "autoscaling",
            &ctx.target.name,
            vec![cause],
        ));
    }
    let version = wanted["metadata"]["resourceVersion"].clone();
    let insisted = if version == scale["metadata"]["resourceVersion"] && verb == "patch" {
        Value::Null
    } else {
        version
    };
    let dry_run = options::dry_run(&ctx.query, "UpdateOptions")?;
    let outcome = modify(ctx, "scale", Operation::Update, dry_run, "patch", |old| {
        let mut value = old.value.clone();
        set(&mut value, &paths(ctx).spec, replicas.into());
        value["metadata"]["resourceVersion"] = insisted.clone();
        Ok(value)
    })?;
    let value = match &outcome {
        Outcome::Stored(object) => scale_of(ctx, &object.value),
        Outcome::Dry(value) => scale_of(ctx, value),
    };
    Ok(respond::status(ctx, StatusCode::OK, &value))
}
