//! What the real server knows of its own kinds beyond their schema: defaults, rules, hooks. Custom resources
//! pass through untouched, save for CustomResourceDefinitions themselves.
//!
//! `defaults` fills in, `rules` refuses, `pods` is the kind with the most of both, `definitions` serves what a
//! CRD defines, `escalation` keeps RBAC honest, `convert` maps between versions.

mod convert;
mod defaults;
mod definitions;
mod escalation;
pub(crate) mod names;
mod pods;
mod rules;

use base64::prelude::{BASE64_STANDARD, Engine};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::clock;
use crate::registry::{self, Resource};
use crate::status::{ApiError, Cause, Result};
use crate::store::Obj;
use crate::verbs::Ctx;

pub(crate) use convert::convert;
pub(crate) use definitions::{CLEANUP as CRD_CLEANUP, STORAGE as CRD_STORAGE, establish, retire};
pub(crate) use pods::set_condition as set_pod_condition;
pub(crate) use rules::{metadata_update, validate};

/// A value of a Secret's `data`, decoded.
pub(crate) fn secret_text(secret: &Value, key: &str) -> Option<String> {
    let bytes = BASE64_STANDARD.decode(secret["data"][key].as_str()?).ok()?;
    String::from_utf8(bytes).ok()
}

/// The apiVersion in which objects of the resource are stored.
pub(crate) fn storage_api_version(resource: &Resource) -> String {
    if &*resource.storage == "/events" {
        return "v1".into();
    }
    registry::api_version(&resource.group, &resource.storage_version)
}

fn id(resource: &Resource) -> (&str, &str) {
    if resource.is_custom() {
        ("*", "*")
    } else {
        (&resource.group, &resource.plural)
    }
}

/// Kinds whose strategy counts generations.
pub(crate) fn has_generation(resource: &Resource) -> bool {
    resource.is_custom()
        || matches!(
            id(resource),
            ("", "pods" | "replicationcontrollers")
                | (
                    "apps",
                    "daemonsets" | "deployments" | "replicasets" | "statefulsets"
                )
                | ("batch", "jobs" | "cronjobs")
                | ("apiextensions.k8s.io", _)
                | ("admissionregistration.k8s.io", _)
                | ("discovery.k8s.io", _)
                | ("flowcontrol.apiserver.k8s.io", _)
                | (
                    "networking.k8s.io",
                    "ingresses" | "networkpolicies" | "ingressclasses"
                )
                | ("policy", "poddisruptionbudgets")
        )
}

/// Nodes may be created with a status; everything else with a status subresource starts without one.
pub(crate) fn resets_status(resource: &Resource) -> bool {
    !matches!(id(resource), ("", "nodes"))
}

/// Kinds for which PUT creates what is not there.
pub(crate) fn creates_on_update(resource: &Resource) -> bool {
    matches!(
        id(resource),
        ("coordination.k8s.io", "leases")
            | ("", "events" | "endpoints" | "limitranges" | "services")
            | ("events.k8s.io", "events")
            | ("rbac.authorization.k8s.io", _)
            | ("node.k8s.io", _)
            | ("admissionregistration.k8s.io", _)
    )
}

/// Kinds whose deletion answers with the object instead of a Status.
pub(crate) fn returns_deleted(resource: &Resource) -> bool {
    matches!(
        id(resource),
        (
            "",
            "pods"
                | "services"
                | "serviceaccounts"
                | "persistentvolumes"
                | "persistentvolumeclaims"
                | "podtemplates"
                | "resourcequotas"
        ) | ("storage.k8s.io", _)
    )
}

/// What exists before creation, for ownership: Go structs that are no pointers are always there.
pub(crate) fn empty_object(resource: &Resource) -> Value {
    let mut empty = json!({"metadata": {}});
    if resource.is_custom() {
        return empty;
    }
    empty["spec"] = json!({});
    empty["status"] = json!({});
    match id(resource) {
        ("", "pods") => empty["spec"] = json!({"containers": []}),
        ("", "nodes") => {
            empty["status"] = json!({"daemonEndpoints": {"kubeletEndpoint": {"Port": 0}}, "nodeInfo": {}})
        }
        ("", "services") => empty["status"] = json!({"loadBalancer": {}}),
        ("apps", _) => {
            empty["spec"] = json!({"template": {"metadata": {}, "spec": {"containers": []}}, "strategy": {}, "updateStrategy": {}});
        }
        ("batch", "jobs") => {
            empty["spec"] = json!({"template": {"metadata": {}, "spec": {"containers": []}}})
        }
        ("", "events") => {
            for key in ["involvedObject", "source"] {
                empty[key] = json!({});
            }
        }
        ("rbac.authorization.k8s.io", _) => empty["roleRef"] = json!({}),
        ("apiextensions.k8s.io", _) => empty["spec"] = json!({"names": {}, "versions": []}),
        _ => {}
    }
    // A field that the object lacks is not "removed" by its creation.
    empty
}

/// Kinds that the real server keeps no managedFields for.
pub(crate) fn strip_managed(resource: &Resource, value: &mut Value) {
    if matches!(id(resource), ("certificates.k8s.io", _))
        && let Some(metadata) = value.pointer_mut("/metadata").and_then(Value::as_object_mut)
    {
        metadata.shift_remove("managedFields");
    }
}

/// Defaults of the kind, as decoding applies them.
pub(crate) fn scheme_defaults(ctx: &Ctx, value: &mut Value) {
    defaults::scheme(ctx, value);
}

pub(crate) fn prepare_create(ctx: &Ctx, value: &mut Value) -> Result<()> {
    defaults::strategy(ctx, value);
    match id(&ctx.resource) {
        ("", "pods") => pods::prepare_create(ctx, value)?,
        ("certificates.k8s.io", _) => {
            let spec = &mut value["spec"];
            spec["username"] = ctx.user.user.clone().into();
            spec["groups"] = ctx.user.groups.clone().into();
            if !ctx.user.uid.is_empty() {
                spec["uid"] = ctx.user.uid.clone().into();
            }
            if !ctx.user.extra.is_empty() {
                spec["extra"] = ctx
                    .user
                    .extra
                    .iter()
                    .map(|(k, v)| (k.clone(), v.clone().into()))
                    .collect::<Map<_, _>>()
                    .into();
            }
            value["status"] = json!({});
        }
        ("apiextensions.k8s.io", _) => definitions::prepare(value),
        _ => {}
    }
    Ok(())
}

pub(crate) fn prepare_update(ctx: &Ctx, new: &mut Value, old: &Value, subresource: &str) -> Result<()> {
    defaults::scheme(ctx, new);
    defaults::strategy(ctx, new);
    match (id(&ctx.resource), subresource) {
        (("", "namespaces"), "") => {
            new["spec"]["finalizers"] = old["spec"]["finalizers"].clone();
            if new["spec"]["finalizers"].is_null() {
                new["spec"] = json!({});
            }
        }
        (("certificates.k8s.io", _), "") => new["spec"] = old["spec"].clone(),
        (("certificates.k8s.io", _), "status") => {
            // Only approval may say Approved or Denied.
            let kept = old["status"]["conditions"].as_array().into_iter().flatten();
            let mut conditions: Vec<Value> = kept
                .filter(|c| matches!(c["type"].as_str(), Some("Approved" | "Denied")))
                .cloned()
                .collect();
            let given = new["status"]["conditions"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            conditions.extend(
                given
                    .into_iter()
                    .filter(|c| !matches!(c["type"].as_str(), Some("Approved" | "Denied"))),
            );
            if !conditions.is_empty() {
                new["status"]["conditions"] = conditions.into();
                stamp_conditions(&mut new["status"]["conditions"], ctx.now);
            }
        }
        (("apiextensions.k8s.io", _), "") => definitions::prepare(new),
        (("", "nodes"), "status") => mirror_allocatable(new),
        _ => {}
    }
    Ok(())
}

/// Allocatable defaults to capacity, resource by resource only when it is absent altogether.
fn mirror_allocatable(node: &mut Value) {
    let empty = node["status"]["allocatable"]
        .as_object()
        .is_none_or(Map::is_empty);
    if empty && node["status"]["capacity"].is_object() {
        node["status"]["allocatable"] = node["status"]["capacity"].clone();
    }
}

/// Approval conditions get their times from the server.
pub(crate) fn stamp_conditions(conditions: &mut Value, now: Timestamp) {
    for condition in conditions.as_array_mut().into_iter().flatten() {
        for key in ["lastUpdateTime", "lastTransitionTime"] {
            if condition.get(key).is_none_or(Value::is_null) {
                condition[key] = clock::rfc3339(now).into();
            }
        }
        if condition.get("status").is_none() {
            condition["status"] = "True".into();
        }
    }
}

/// Whether nothing keeps a deleted object any more.
pub(crate) fn is_released(resource: &Resource, value: &Value) -> bool {
    let held = |list: &Value| list.as_array().is_some_and(|l| !l.is_empty());
    if held(&value["metadata"]["finalizers"]) {
        return false;
    }
    match id(resource) {
        ("", "namespaces") => !held(&value["spec"]["finalizers"]),
        ("", "pods") => {
            value["metadata"]["deletionGracePeriodSeconds"]
                .as_i64()
                .unwrap_or(0)
                == 0
        }
        _ => true,
    }
}

/// Only pods that run on a node are given time to end.
pub(crate) fn grace_seconds(resource: &Resource, value: &Value, asked: Option<i64>) -> i64 {
    if id(resource) != ("", "pods") {
        return 0;
    }
    let ended = matches!(value["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
    if value["spec"]["nodeName"].as_str().unwrap_or_default().is_empty() || ended {
        return 0;
    }
    asked
        .unwrap_or_else(|| {
            value["spec"]["terminationGracePeriodSeconds"]
                .as_i64()
                .unwrap_or(30)
        })
        .max(0)
}

pub(crate) fn prepare_deletion(resource: &Resource, value: &mut Value) {
    if id(resource) != ("", "namespaces") {
        return;
    }
    value["status"]["phase"] = "Terminating".into();
    // The real server gives namespaces a deletion time without a grace period.
    if let Some(metadata) = value.pointer_mut("/metadata").and_then(Value::as_object_mut) {
        metadata.shift_remove("deletionGracePeriodSeconds");
    }
}

/// What deletion adds before it is decided whether the object stays.
pub(crate) fn begin_deletion(ctx: &Ctx, value: &mut Value) {
    if id(&ctx.resource) == ("apiextensions.k8s.io", "customresourcedefinitions") {
        definitions::begin_deletion(value, ctx.now);
    }
}

/// Content checks that depend on who asks.
pub(crate) fn admit(ctx: &Ctx, value: &Value, old: Option<&Value>) -> Result<()> {
    match id(&ctx.resource) {
        ("rbac.authorization.k8s.io", _) => escalation::check(ctx, value, old),
        ("certificates.k8s.io", _) if ctx.target.subresource == "approval" => {
            escalation::check_signer(ctx, value, "approve")
        }
        _ => Ok(()),
    }
}

pub(crate) fn admit_delete(ctx: &Ctx, value: &Value) -> Result<()> {
    let name = value["metadata"]["name"].as_str().unwrap_or_default();
    if id(&ctx.resource) == ("", "namespaces") && matches!(name, "default" | "kube-system" | "kube-public") {
        return Err(ApiError::forbidden(
            "",
            "namespaces",
            name,
            "this namespace may not be deleted",
        ));
    }
    Ok(())
}

pub(crate) fn after_write(ctx: &Ctx, object: &Obj) {
    if id(&ctx.resource) == ("apiextensions.k8s.io", "customresourcedefinitions")
        && ctx.target.subresource.is_empty()
    {
        establish(&ctx.inner, object.name());
    }
}

pub(crate) fn after_delete(ctx: &Ctx, object: &Obj) {
    if id(&ctx.resource) == ("apiextensions.k8s.io", "customresourcedefinitions") {
        retire(&ctx.inner, &object.value);
    }
}

/// `field is immutable`, the most common refusal.
fn immutable(path: &str, new: &Value, old: &Value, causes: &mut Vec<Cause>) {
    if new != old {
        causes.push(Cause::invalid(path, new, "field is immutable"));
    }
}
