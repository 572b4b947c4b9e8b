//! Defaults of the built-in kinds, as the real server's `SetDefaults_*` functions put them.

use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::{Value, json};

use super::{id, pods};
use crate::quantity::Quantity;
use crate::verbs::Ctx;

/// Sets a field that is absent.
pub(super) fn fill(value: &mut Value, key: &str, default: Value) {
    if value.get(key).is_none_or(Value::is_null) {
        value[key] = default;
    }
}

/// What decoding fills in: the fields of these belong to the client that sent the object.
pub(super) fn scheme(ctx: &Ctx, value: &mut Value) {
    match id(&ctx.resource) {
        ("", "namespaces") => name_label(value),
        ("", "secrets") => secret(value),
        ("", "pods") => pods::defaults(&mut value["spec"]),
        ("", "services") => service(value),
        ("", "persistentvolumeclaims") => fill(&mut value["spec"], "volumeMode", "Filesystem".into()),
        ("apps", kind) => workload(kind, value),
        ("batch", "jobs") => pods::defaults(&mut value["spec"]["template"]["spec"]),
        ("rbac.authorization.k8s.io", _) => rbac(value),
        ("scheduling.k8s.io", _) => fill(value, "preemptionPolicy", "PreemptLowerPriority".into()),
        ("storage.k8s.io", "storageclasses") => {
            fill(value, "reclaimPolicy", "Delete".into());
            fill(value, "volumeBindingMode", "Immediate".into());
        }
        ("apiextensions.k8s.io", _) => crate::builtin::definitions::defaults(value),
        _ => {}
    }
}

/// What strategies and admission add: nobody's fields.
pub(super) fn strategy(ctx: &Ctx, value: &mut Value) {
    match id(&ctx.resource) {
        ("", "namespaces") => namespace(value),
        ("", "nodes") => node(ctx, value),
        ("", "services") => cluster_ip(ctx, value),
        _ => {}
    }
}

fn name_label(value: &mut Value) {
    let name = value["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    if !name.is_empty() {
        if !value["metadata"]["labels"].is_object() {
            value["metadata"]["labels"] = json!({});
        }
        value["metadata"]["labels"]["kubernetes.io/metadata.name"] = name.into();
    }
}

fn namespace(value: &mut Value) {
    if value["metadata"].get("deletionTimestamp").is_some() {
        return;
    }
    fill(value, "spec", json!({}));
    fill(&mut value["spec"], "finalizers", json!(["kubernetes"]));
    if !value["status"].is_object() || value["status"].get("phase").is_none() {
        fill(value, "status", json!({}));
        value["status"]["phase"] = "Active".into();
    }
}

/// stringData is write-only: it lands in data.
fn secret(value: &mut Value) {
    fill(value, "type", "Opaque".into());
    let given = value
        .as_object_mut()
        .and_then(|map| map.shift_remove("stringData"));
    let Some(given) = given.as_ref().and_then(Value::as_object) else {
        return;
    };
    if given.is_empty() {
        return;
    }
    fill(value, "data", json!({}));
    for (key, text) in given {
        value["data"][key] = BASE64_STANDARD.encode(text.as_str().unwrap_or_default()).into();
    }
}

/// Canonical quantities, as Go's marshaller writes them.
pub(super) fn canonical(quantities: &mut Value) {
    for (_, quantity) in quantities.as_object_mut().into_iter().flatten() {
        let text = match &*quantity {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            _ => continue,
        };
        if let Some(parsed) = Quantity::parse(&text) {
            *quantity = parsed.canonical().into();
        }
    }
}

/// The taint that the TaintNodesByCondition admission gives every new node.
fn node(ctx: &Ctx, value: &mut Value) {
    fill(value, "spec", json!({}));
    fill(value, "status", json!({}));
    let creating = value["metadata"].get("resourceVersion").is_none() && ctx.target.name.is_empty();
    if creating {
        let taints = value["spec"]["taints"].as_array().cloned().unwrap_or_default();
        if !taints
            .iter()
            .any(|taint| taint["key"] == "node.kubernetes.io/not-ready")
        {
            let mut taints = taints;
            taints.push(json!({"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}));
            value["spec"]["taints"] = taints.into();
        }
    }
    for key in ["capacity", "allocatable"] {
        if value["status"].get(key).is_some() {
            canonical(&mut value["status"][key]);
        }
    }
    fill(
        &mut value["status"],
        "daemonEndpoints",
        json!({"kubeletEndpoint": {"Port": 0}}),
    );
    fill(&mut value["status"], "nodeInfo", json!({}));
    for key in [
        "machineID",
        "systemUUID",
        "bootID",
        "kernelVersion",
        "osImage",
        "containerRuntimeVersion",
        "kubeletVersion",
        "kubeProxyVersion",
        "operatingSystem",
        "architecture",
    ] {
        fill(&mut value["status"]["nodeInfo"], key, "".into());
    }
}

/// First address of the service range, and how many follow: 10.96.0.0/16 as kubeadm has it.
const SERVICE_RANGE: u32 = 0x0a60_0000;

fn service(value: &mut Value) {
    fill(value, "spec", json!({}));
    fill(value, "status", json!({"loadBalancer": {}}));
    let spec = &mut value["spec"];
    fill(spec, "type", "ClusterIP".into());
    fill(spec, "sessionAffinity", "None".into());
    for port in spec
        .pointer_mut("/ports")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        fill(port, "protocol", "TCP".into());
        let target = port["port"].clone();
        fill(port, "targetPort", target);
    }
    let kind = spec["type"].as_str().unwrap_or_default().to_owned();
    if kind == "ExternalName" {
        return;
    }
    fill(spec, "internalTrafficPolicy", "Cluster".into());
    if matches!(kind.as_str(), "NodePort" | "LoadBalancer") {
        fill(spec, "externalTrafficPolicy", "Cluster".into());
    }
}

fn cluster_ip(ctx: &Ctx, value: &mut Value) {
    let spec = &mut value["spec"];
    if spec["type"] == "ExternalName" {
        return;
    }
    if spec["clusterIP"].as_str().unwrap_or_default().is_empty() {
        spec["clusterIP"] = allocate(ctx).into();
    }
    let address = spec["clusterIP"].clone();
    fill(spec, "clusterIPs", json!([address]));
    fill(spec, "ipFamilies", json!(["IPv4"]));
    fill(spec, "ipFamilyPolicy", "SingleStack".into());
}

/// The lowest free address. Services are few; a scan is cheaper than a second book.
fn allocate(ctx: &Ctx) -> String {
    let taken: std::collections::BTreeSet<String> = ctx
        .inner
        .store
        .list("/services", "")
        .objects
        .iter()
        .filter_map(|s| s.value["spec"]["clusterIP"].as_str().map(str::to_owned))
        .collect();
    let addresses = (1..u32::from(u16::MAX)).map(|n| std::net::Ipv4Addr::from(SERVICE_RANGE + n).to_string());
    addresses
        .into_iter()
        .find(|address| !taken.contains(address))
        .unwrap_or_default()
}

fn workload(kind: &str, value: &mut Value) {
    let spec = &mut value["spec"];
    if !spec.is_object() || kind == "controllerrevisions" {
        return;
    }
    match kind {
        "deployments" => {
            fill(spec, "replicas", 1.into());
            fill(spec, "strategy", json!({"type": "RollingUpdate"}));
            fill(&mut spec["strategy"], "type", "RollingUpdate".into());
            if spec["strategy"]["type"] == "RollingUpdate" {
                fill(&mut spec["strategy"], "rollingUpdate", json!({}));
                fill(
                    &mut spec["strategy"]["rollingUpdate"],
                    "maxUnavailable",
                    "25%".into(),
                );
                fill(&mut spec["strategy"]["rollingUpdate"], "maxSurge", "25%".into());
            }
            fill(spec, "revisionHistoryLimit", 10.into());
            fill(spec, "progressDeadlineSeconds", 600.into());
        }
        "statefulsets" => {
            fill(spec, "replicas", 1.into());
            fill(spec, "podManagementPolicy", "OrderedReady".into());
            fill(spec, "revisionHistoryLimit", 10.into());
            fill(
                spec,
                "updateStrategy",
                json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 0}}),
            );
        }
        "daemonsets" => {
            fill(spec, "revisionHistoryLimit", 10.into());
            fill(
                spec,
                "updateStrategy",
                json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}}),
            );
        }
        _ => fill(spec, "replicas", 1.into()),
    }
    if spec["template"]["spec"].is_object() {
        pods::defaults(&mut spec["template"]["spec"]);
    }
    fill(value, "status", json!({}));
}

fn rbac(value: &mut Value) {
    let group = "rbac.authorization.k8s.io";
    if value.get("roleRef").is_some() {
        fill(&mut value["roleRef"], "apiGroup", group.into());
    }
    for subject in value
        .pointer_mut("/subjects")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        if matches!(subject["kind"].as_str(), Some("User" | "Group")) {
            fill(subject, "apiGroup", group.into());
        }
    }
    if matches!(value["kind"].as_str(), Some("Role" | "ClusterRole"))
        && value.get("aggregationRule").is_none()
    {
        fill(value, "rules", json!([]));
    }
}
