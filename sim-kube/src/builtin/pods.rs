//! Pods: defaults, the ServiceAccount's token volume, quality of service, and which changes are allowed.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::defaults::{canonical, fill};
use crate::clock;
use crate::quantity::Quantity;
use crate::status::{ApiError, Cause, Result};
use crate::verbs::Ctx;

fn containers(spec: &mut Value) -> impl Iterator<Item = &mut Value> {
    let lists = spec.as_object_mut().into_iter().flatten();
    let lists = lists.filter(|(key, _)| {
        matches!(
            key.as_str(),
            "containers" | "initContainers" | "ephemeralContainers"
        )
    });
    lists.filter_map(|(_, list)| list.as_array_mut()).flatten()
}

/// `SetDefaults_PodSpec` and what it calls.
pub(super) fn defaults(spec: &mut Value) {
    if !spec.is_object() {
        return;
    }
    for (key, default) in [
        ("restartPolicy", json!("Always")),
        ("terminationGracePeriodSeconds", json!(30)),
        ("dnsPolicy", json!("ClusterFirst")),
        ("securityContext", json!({})),
        ("schedulerName", json!("default-scheduler")),
        ("enableServiceLinks", json!(true)),
    ] {
        // Templates are not given enableServiceLinks by the real server either; pods are.
        fill(spec, key, default);
    }
    for container in containers(spec) {
        container_defaults(container);
    }
    for volume in spec
        .pointer_mut("/volumes")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        for kind in ["secret", "configMap", "projected", "downwardAPI"] {
            if volume.get(kind).is_some() {
                fill(&mut volume[kind], "defaultMode", 420.into());
            }
        }
        if volume.as_object().is_some_and(|v| v.len() == 1) {
            volume["emptyDir"] = json!({});
        }
    }
}

fn container_defaults(container: &mut Value) {
    let image = container["image"].as_str().unwrap_or_default();
    let tag = image
        .rsplit('/')
        .next()
        .and_then(|last| last.split_once(':'))
        .map_or("latest", |(_, tag)| tag);
    let policy = if tag == "latest" && !image.contains('@') {
        "Always"
    } else {
        "IfNotPresent"
    };
    fill(container, "resources", json!({}));
    let limits = container["resources"]["limits"].clone();
    if let Some(limits) = limits.as_object() {
        fill(&mut container["resources"], "requests", json!({}));
        for (name, limit) in limits {
            fill(&mut container["resources"]["requests"], name, limit.clone());
        }
    }
    for key in ["limits", "requests"] {
        if container["resources"].get(key).is_some() {
            canonical(&mut container["resources"][key]);
        }
    }
    fill(container, "terminationMessagePath", "/dev/termination-log".into());
    fill(container, "terminationMessagePolicy", "File".into());
    fill(container, "imagePullPolicy", policy.into());
    for port in container
        .pointer_mut("/ports")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        fill(port, "protocol", "TCP".into());
    }
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if container.get(probe).is_some_and(Value::is_object) {
            let probe = &mut container[probe];
            for (key, default) in [
                ("timeoutSeconds", 1),
                ("periodSeconds", 10),
                ("successThreshold", 1),
                ("failureThreshold", 3),
            ] {
                fill(probe, key, default.into());
            }
        }
    }
}

/// Admission that the real server runs on every pod: ServiceAccount, priority, tolerations.
pub(super) fn prepare_create(ctx: &Ctx, value: &mut Value) -> Result<()> {
    if !value["spec"].is_object() {
        value["spec"] = json!({});
    }
    service_account(ctx, value)?;
    priority(ctx, value)?;
    tolerations(&mut value["spec"]);
    let qos = qos_class(&value["spec"]);
    value["status"] = json!({"phase": "Pending", "qosClass": qos});
    Ok(())
}

fn service_account(ctx: &Ctx, value: &mut Value) -> Result<()> {
    let spec = &mut value["spec"];
    let legacy = spec["serviceAccount"].as_str().unwrap_or("default").to_owned();
    fill(spec, "serviceAccountName", legacy.into());
    let name = spec["serviceAccountName"]
        .as_str()
        .unwrap_or("default")
        .to_owned();
    spec["serviceAccount"] = name.clone().into();
    let pod_name = value["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let Some(account) = ctx
        .inner
        .store
        .get("/serviceaccounts", &ctx.target.namespace, &name)
    else {
        let why = format!(
            "error looking up service account {}/{name}: serviceaccount {name:?} not found",
            ctx.target.namespace
        );
        return Err(ApiError::forbidden("", "pods", &pod_name, &why));
    };
    let spec = &mut value["spec"];
    let mounts = spec["automountServiceAccountToken"]
        .as_bool()
        .or(account.value["automountServiceAccountToken"].as_bool());
    let already = spec["volumes"].as_array().into_iter().flatten().any(|v| {
        v["name"]
            .as_str()
            .is_some_and(|n| n.starts_with("kube-api-access-"))
    });
    if mounts == Some(false) || already {
        return Ok(());
    }
    let volume = format!("kube-api-access-{}", ctx.inner.random.suffix(5));
    fill(spec, "volumes", json!([]));
    if let Some(volumes) = spec.pointer_mut("/volumes").and_then(Value::as_array_mut) {
        volumes.push(json!({"name": volume, "projected": {"defaultMode": 420, "sources": [
            {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
        ]}}));
    }
    let path = "/var/run/secrets/kubernetes.io/serviceaccount";
    for container in containers(spec) {
        fill(container, "volumeMounts", json!([]));
        if let Some(mounts) = container
            .pointer_mut("/volumeMounts")
            .and_then(Value::as_array_mut)
            && !mounts.iter().any(|m| m["mountPath"] == path)
        {
            mounts.push(json!({"name": volume, "readOnly": true, "mountPath": path}));
        }
    }
    Ok(())
}

fn priority(ctx: &Ctx, value: &mut Value) -> Result<()> {
    let classes = ctx
        .inner
        .store
        .list("scheduling.k8s.io/priorityclasses", "")
        .objects;
    let pod = value["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let spec = &mut value["spec"];
    let class = match spec["priorityClassName"].as_str() {
        Some(name) if !name.is_empty() => {
            let Some(class) = classes.iter().find(|c| c.name() == name) else {
                return Err(ApiError::forbidden(
                    "",
                    "pods",
                    &pod,
                    &format!("no PriorityClass with name {name} was found"),
                ));
            };
            Some(class)
        }
        _ => classes.iter().find(|c| c.value["globalDefault"] == true),
    };
    if let Some(class) = class {
        spec["priorityClassName"] = class.name().into();
    }
    spec["priority"] = class.map_or_else(|| 0.into(), |c| c.value["value"].clone());
    let policy = class
        .and_then(|c| c.value["preemptionPolicy"].as_str())
        .unwrap_or("PreemptLowerPriority");
    fill(spec, "preemptionPolicy", policy.into());
    Ok(())
}

/// DefaultTolerationSeconds: five minutes on a node that is not ready or not reachable.
fn tolerations(spec: &mut Value) {
    fill(spec, "tolerations", json!([]));
    let Some(list) = spec.pointer_mut("/tolerations").and_then(Value::as_array_mut) else {
        return;
    };
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let covered = list.iter().any(|t| {
            let key_fits = t["key"] == key || t["key"].as_str().unwrap_or_default().is_empty();
            key_fits && matches!(t["effect"].as_str(), None | Some("" | "NoExecute"))
        });
        if !covered {
            list.push(
                json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}),
            );
        }
    }
}

fn qos_class(spec: &Value) -> &'static str {
    let all = ["containers", "initContainers"]
        .iter()
        .flat_map(|key| spec[*key].as_array().into_iter().flatten());
    let (mut any, mut guaranteed) = (false, true);
    for container in all {
        let amount = |kind: &str, name: &str| {
            container["resources"][kind][name]
                .as_str()
                .and_then(Quantity::parse)
                .filter(|q| q.nanos() != 0)
        };
        for name in ["cpu", "memory"] {
            let (limit, request) = (amount("limits", name), amount("requests", name));
            any |= limit.is_some() || request.is_some();
            guaranteed &= limit.is_some() && limit.map(Quantity::nanos) == request.map(Quantity::nanos);
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

/// Adds or changes a condition in `status.conditions`.
pub(crate) fn set_condition(
    pod: &mut Value,
    kind: &str,
    status: &str,
    why: Option<(&str, &str)>,
    now: Timestamp,
) {
    fill(pod, "status", json!({}));
    fill(&mut pod["status"], "conditions", json!([]));
    let Some(conditions) = pod
        .pointer_mut("/status/conditions")
        .and_then(Value::as_array_mut)
    else {
        return;
    };
    let mut condition = json!({"type": kind, "status": status, "lastProbeTime": null, "lastTransitionTime": clock::rfc3339(now)});
    if let Some((reason, message)) = why {
        condition["reason"] = reason.into();
        condition["message"] = message.into();
    }
    match conditions.iter_mut().find(|c| c["type"] == kind) {
        Some(found) => {
            if found["status"] == status {
                condition["lastTransitionTime"] = found["lastTransitionTime"].clone();
            }
            *found = condition;
        }
        None => conditions.push(condition),
    }
}

pub(super) fn validate(value: &Value, old: Option<&Value>, subresource: &str, causes: &mut Vec<Cause>) {
    if subresource == "status" || subresource == "binding" {
        return;
    }
    spec(&value["spec"], "spec", causes);
    if let Some(old) = old {
        update(value, old, causes);
    }
}

pub(super) fn spec(spec: &Value, path: &str, causes: &mut Vec<Cause>) {
    let containers = spec["containers"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    if containers.is_empty() {
        causes.push(Cause::required(format!("{path}.containers"), ""));
    }
    let mut seen: Vec<&str> = Vec::new();
    for (list, containers) in [
        (
            "initContainers",
            spec["initContainers"]
                .as_array()
                .map(Vec::as_slice)
                .unwrap_or_default(),
        ),
        ("containers", containers),
    ] {
        for (at, container) in containers.iter().enumerate() {
            let path = format!("{path}.{list}[{at}]");
            let name = container["name"].as_str().unwrap_or_default();
            if name.is_empty() {
                causes.push(Cause::required(format!("{path}.name"), ""));
            } else if let Some(error) = super::names::label(name) {
                causes.push(Cause::invalid(format!("{path}.name"), &name.into(), error));
            } else if seen.contains(&name) {
                causes.push(Cause::duplicate(format!("{path}.name"), &name.into()));
            }
            seen.push(name);
            if container["image"].as_str().unwrap_or_default().is_empty() {
                causes.push(Cause::required(format!("{path}.image"), ""));
            }
            resources(&container["resources"], &format!("{path}.resources"), causes);
        }
    }
    let policy = spec["restartPolicy"].as_str().unwrap_or_default();
    if !matches!(policy, "Always" | "OnFailure" | "Never" | "") {
        let allowed = ["Always", "OnFailure", "Never"].map(Value::from);
        causes.push(Cause::not_supported(
            format!("{path}.restartPolicy"),
            &policy.into(),
            &allowed,
        ));
    }
}

fn resources(resources: &Value, path: &str, causes: &mut Vec<Cause>) {
    for (name, request) in resources["requests"].as_object().into_iter().flatten() {
        let amount = |value: &Value| value.as_str().and_then(Quantity::parse);
        let Some(wanted) = amount(request) else { continue };
        if wanted.is_negative() {
            causes.push(Cause::invalid(
                format!("{path}.requests[{name}]"),
                request,
                "must be greater than or equal to 0",
            ));
        }
        if let Some(limit) = amount(&resources["limits"][name])
            && wanted.nanos() > limit.nanos()
        {
            let detail = format!(
                "must be less than or equal to {name} limit of {}",
                limit.canonical()
            );
            causes.push(Cause::invalid(format!("{path}.requests"), request, detail));
        }
    }
}

/// Everything but images, deadlines, tolerations and gates is fixed once a pod exists.
fn update(new: &Value, old: &Value, causes: &mut Vec<Cause>) {
    let fixed = |pod: &Value| {
        let mut spec = pod["spec"].clone();
        for container in containers(&mut spec) {
            container["image"] = Value::Null;
        }
        for key in [
            "activeDeadlineSeconds",
            "tolerations",
            "terminationGracePeriodSeconds",
            "schedulingGates",
        ] {
            if let Some(map) = spec.as_object_mut() {
                map.shift_remove(key);
            }
        }
        spec
    };
    if fixed(new) != fixed(old) {
        let detail = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,\
            `spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),\
            `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";
        causes.push(Cause::forbidden("spec", detail));
    }
}
