//! Validation of built-in objects: the rules that users and controllers meet, in the real server's words.

use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::{Map, Value};

use super::{definitions, id, immutable, names, pods};
use crate::status::Cause;
use crate::verbs::Ctx;

/// `MaxSecretSize` and the ConfigMap's limit.
const DATA_MAX: usize = 1024 * 1024;

/// What no update may change, whatever the kind.
pub(crate) fn metadata_update(new: &Value, old: &Value, causes: &mut Vec<Cause>) {
    if old["metadata"].get("deletionTimestamp").is_none() {
        return;
    }
    let list = |value: &Value| -> Vec<String> {
        let list = value["metadata"]["finalizers"].as_array().into_iter().flatten();
        list.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let before = list(old);
    let added: Vec<String> = list(new)
        .into_iter()
        .filter(|f| !before.contains(f))
        .map(|f| format!("{f:?}"))
        .collect();
    if !added.is_empty() {
        let detail = format!(
            "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
            added.join(", ")
        );
        causes.push(Cause::forbidden("metadata.finalizers", &detail));
        // The real server says it twice: once for the metadata, once for the strategy.
        causes.push(Cause::forbidden("metadata.finalizers", &detail));
    }
}

pub(crate) fn validate(
    ctx: &Ctx,
    value: &Value,
    old: Option<&Value>,
    subresource: &str,
    causes: &mut Vec<Cause>,
) {
    match id(&ctx.resource) {
        ("", "secrets") => secret(value, old, causes),
        ("", "configmaps") => config_map(value, old, causes),
        ("", "pods") => pods::validate(value, old, subresource, causes),
        ("", "services") => service(value, old, causes),
        ("", "nodes") => node(value, causes),
        ("", "events") | ("events.k8s.io", "events") => event(value, causes),
        ("apps", "deployments" | "replicasets" | "statefulsets" | "daemonsets") => {
            workload(value, old, subresource, causes)
        }
        ("coordination.k8s.io", _) => lease(value, causes),
        ("rbac.authorization.k8s.io", kind) => rbac(kind, value, old, causes),
        ("certificates.k8s.io", _) => csr(value, old, causes),
        ("apiextensions.k8s.io", _) => definitions::validate(value, old, causes),
        ("scheduling.k8s.io", _) => priority_class(value, old, causes),
        _ => {}
    }
}

fn data_keys(value: &Value, field: &str, causes: &mut Vec<Cause>) -> usize {
    let mut size = 0;
    for (key, text) in value[field].as_object().into_iter().flatten() {
        size += text.as_str().map_or(0, str::len);
        if let Some(error) = names::config_key(key) {
            causes.push(Cause::invalid(
                format!("{field}[{key}]"),
                &key.as_str().into(),
                error,
            ));
        }
    }
    size
}

/// An immutable object keeps its data, and stays immutable.
fn sealed(value: &Value, old: &Value, fields: &[&str], causes: &mut Vec<Cause>) {
    if old["immutable"] != true {
        return;
    }
    if value["immutable"] != true {
        causes.push(Cause::forbidden(
            "immutable",
            "field is immutable when `immutable` is set",
        ));
    }
    let content = |value: &Value| {
        if value.is_null() {
            Value::Object(Map::new())
        } else {
            value.clone()
        }
    };
    for field in fields {
        if content(&value[*field]) != content(&old[*field]) {
            causes.push(Cause::forbidden(
                *field,
                "field is immutable when `immutable` is set",
            ));
        }
    }
}

fn secret(value: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    let size = data_keys(value, "data", causes);
    if size > DATA_MAX * 4 / 3 {
        causes.push(Cause::too_long("data", DATA_MAX as u64));
    }
    for (key, text) in value["data"].as_object().into_iter().flatten() {
        if text.as_str().is_some_and(|t| BASE64_STANDARD.decode(t).is_err()) {
            causes.push(Cause::invalid_text(
                format!("data[{key}]"),
                "<redacted>: illegal base64 data",
            ));
        }
    }
    let required: &[&str] = match value["type"].as_str().unwrap_or_default() {
        "kubernetes.io/tls" => &["tls.crt", "tls.key"],
        "kubernetes.io/dockerconfigjson" => &[".dockerconfigjson"],
        "kubernetes.io/dockercfg" => &[".dockercfg"],
        "kubernetes.io/ssh-auth" => &["ssh-privatekey"],
        _ => &[],
    };
    for key in required {
        if value["data"].get(*key).is_none() {
            causes.push(Cause::required(format!("data[{key}]"), ""));
        }
    }
    if let Some(old) = old {
        immutable("type", &value["type"], &old["type"], causes);
        sealed(value, old, &["data"], causes);
    }
}

fn config_map(value: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    let size = data_keys(value, "data", causes) + data_keys(value, "binaryData", causes);
    if size > DATA_MAX {
        causes.push(Cause::too_long("", DATA_MAX as u64));
    }
    if let Some(old) = old {
        sealed(value, old, &["data", "binaryData"], causes);
    }
}

fn service(value: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    let spec = &value["spec"];
    let kind = spec["type"].as_str().unwrap_or_default();
    if !matches!(kind, "ClusterIP" | "NodePort" | "LoadBalancer" | "ExternalName") {
        let allowed = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"].map(Value::from);
        causes.push(Cause::not_supported("spec.type", &kind.into(), &allowed));
    }
    let ports = spec["ports"].as_array().map(Vec::as_slice).unwrap_or_default();
    if ports.is_empty() && kind != "ExternalName" && spec["clusterIP"] != "None" {
        causes.push(Cause::required("spec.ports", ""));
    }
    for (at, port) in ports.iter().enumerate() {
        let number = port["port"].as_i64().unwrap_or(0);
        if !(1..=65535).contains(&number) {
            let detail = "must be between 1 and 65535, inclusive";
            causes.push(Cause::invalid(
                format!("spec.ports[{at}].port"),
                &number.into(),
                detail,
            ));
        }
        if ports.len() > 1 && port["name"].as_str().unwrap_or_default().is_empty() {
            causes.push(Cause::required(format!("spec.ports[{at}].name"), ""));
        }
    }
    if let Some(old) = old
        && old["spec"]["type"] == "ClusterIP"
        && kind == "ClusterIP"
        && old["spec"]["clusterIP"] != spec["clusterIP"]
    {
        let detail = "may not change once set";
        causes.push(Cause::invalid("spec.clusterIPs[0]", &spec["clusterIP"], detail));
    }
}

fn node(value: &Value, causes: &mut Vec<Cause>) {
    for (at, taint) in value["spec"]["taints"]
        .as_array()
        .into_iter()
        .flatten()
        .enumerate()
    {
        let effect = taint["effect"].as_str().unwrap_or_default();
        if !matches!(effect, "NoSchedule" | "PreferNoSchedule" | "NoExecute") {
            let allowed = ["NoSchedule", "PreferNoSchedule", "NoExecute"].map(Value::from);
            causes.push(Cause::not_supported(
                format!("spec.taints[{at}].effect"),
                &effect.into(),
                &allowed,
            ));
        }
        if let Some(error) = names::qualified_name(taint["key"].as_str().unwrap_or_default()) {
            causes.push(Cause::invalid(
                format!("spec.taints[{at}].key"),
                &taint["key"],
                error,
            ));
        }
    }
}

fn event(value: &Value, causes: &mut Vec<Cause>) {
    let about = value["involvedObject"]["namespace"].as_str().unwrap_or_default();
    let namespace = value["metadata"]["namespace"].as_str().unwrap_or_default();
    // Events about cluster-scoped objects live in default.
    let fits = about == namespace || (about.is_empty() && matches!(namespace, "default" | "kube-system"));
    if !fits {
        causes.push(Cause::invalid(
            "involvedObject.namespace",
            &about.into(),
            "does not match event.namespace",
        ));
    }
}

fn workload(value: &Value, old: Option<&Value>, subresource: &str, causes: &mut Vec<Cause>) {
    if subresource == "status" {
        return;
    }
    let spec = &value["spec"];
    if !spec["selector"].is_object() {
        causes.push(Cause::required("spec.selector", ""));
    } else {
        let selector = crate::selector::Labels::from_value(&spec["selector"]);
        if !selector.matches(&spec["template"]) {
            let labels = &spec["template"]["metadata"]["labels"];
            causes.push(Cause::invalid(
                "spec.template.metadata.labels",
                labels,
                "`selector` does not match template `labels`",
            ));
        }
    }
    pods::spec(&spec["template"]["spec"], "spec.template.spec", causes);
    if spec["replicas"].as_i64().is_some_and(|n| n < 0) {
        causes.push(Cause::invalid(
            "spec.replicas",
            &spec["replicas"],
            "must be greater than or equal to 0",
        ));
    }
    if let Some(old) = old {
        immutable(
            "spec.selector",
            &spec["selector"],
            &old["spec"]["selector"],
            causes,
        );
    }
}

fn lease(value: &Value, causes: &mut Vec<Cause>) {
    let spec = &value["spec"];
    if spec["leaseDurationSeconds"].as_i64().is_some_and(|n| n <= 0) {
        causes.push(Cause::invalid(
            "spec.leaseDurationSeconds",
            &spec["leaseDurationSeconds"],
            "must be greater than 0",
        ));
    }
    if spec["leaseTransitions"].as_i64().is_some_and(|n| n < 0) {
        causes.push(Cause::invalid(
            "spec.leaseTransitions",
            &spec["leaseTransitions"],
            "must be greater than or equal to 0",
        ));
    }
}

fn rbac(kind: &str, value: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    if matches!(kind, "rolebindings" | "clusterrolebindings") {
        let role = &value["roleRef"];
        let allowed: &[&str] = if kind == "rolebindings" {
            &["Role", "ClusterRole"]
        } else {
            &["ClusterRole"]
        };
        if !allowed.iter().any(|k| role["kind"] == *k) {
            let allowed: Vec<Value> = allowed.iter().map(|k| Value::from(*k)).collect();
            causes.push(Cause::not_supported("roleRef.kind", &role["kind"], &allowed));
        }
        if role["name"].as_str().unwrap_or_default().is_empty() {
            causes.push(Cause::required("roleRef.name", ""));
        }
        for (at, subject) in value["subjects"].as_array().into_iter().flatten().enumerate() {
            if subject["name"].as_str().unwrap_or_default().is_empty() {
                causes.push(Cause::required(format!("subjects[{at}].name"), ""));
            }
            if subject["kind"] == "ServiceAccount"
                && subject["namespace"].as_str().unwrap_or_default().is_empty()
            {
                causes.push(Cause::required(format!("subjects[{at}].namespace"), ""));
            }
        }
        if let Some(old) = old
            && old["roleRef"] != value["roleRef"]
        {
            causes.push(Cause::invalid(
                "roleRef",
                &value["roleRef"],
                "cannot change roleRef",
            ));
        }
        return;
    }
    for (at, rule) in value["rules"].as_array().into_iter().flatten().enumerate() {
        if rule["verbs"].as_array().is_none_or(Vec::is_empty) {
            causes.push(Cause::required(
                format!("rules[{at}].verbs"),
                "verbs must contain at least one value",
            ));
        }
        let paths = rule["nonResourceURLs"].as_array().is_some_and(|p| !p.is_empty());
        if !paths && rule["apiGroups"].as_array().is_none_or(Vec::is_empty) {
            causes.push(Cause::required(
                format!("rules[{at}].apiGroups"),
                "resource rules must supply at least one api group",
            ));
        }
        if !paths && rule["resources"].as_array().is_none_or(Vec::is_empty) {
            causes.push(Cause::required(
                format!("rules[{at}].resources"),
                "resource rules must supply at least one resource",
            ));
        }
    }
}

fn csr(value: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    let spec = &value["spec"];
    if old.is_none() {
        let pem = spec["request"]
            .as_str()
            .and_then(|text| BASE64_STANDARD.decode(text).ok());
        let readable = pem
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .is_some_and(|pem| pem.contains("CERTIFICATE REQUEST"));
        if !readable {
            causes.push(Cause::invalid(
                "spec.request",
                &spec["request"],
                "PEM block type must be CERTIFICATE REQUEST",
            ));
        }
        if spec["usages"].as_array().is_none_or(Vec::is_empty) {
            causes.push(Cause::required("spec.usages", ""));
        }
        let signer = spec["signerName"].as_str().unwrap_or_default();
        if signer.is_empty() {
            causes.push(Cause::required("spec.signerName", ""));
        } else if !signer.contains('/') {
            causes.push(Cause::invalid(
                "spec.signerName",
                &signer.into(),
                "must be a fully qualified domain and path of the form 'example.com/signer-name'",
            ));
        }
        if spec["expirationSeconds"].as_i64().is_some_and(|s| s < 600) {
            causes.push(Cause::invalid(
                "spec.expirationSeconds",
                &spec["expirationSeconds"],
                "may not specify a duration less than 600 seconds (10 minutes)",
            ));
        }
    }
    let conditions = value["status"]["conditions"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let has = |kind: &str| conditions.iter().any(|c| c["type"] == kind);
    if has("Approved") && has("Denied") {
        causes.push(Cause::invalid_text(
            "status.conditions",
            "\"Denied\": Approved and Denied conditions are mutually exclusive",
        ));
    }
    if let Some(old) = old {
        let was = old["status"]["conditions"].as_array().into_iter().flatten();
        for kind in was
            .filter_map(|c| c["type"].as_str())
            .filter(|k| matches!(*k, "Approved" | "Denied"))
        {
            if !has(kind) {
                causes.push(Cause::forbidden(
                    "status.conditions",
                    format!("updates may not remove a condition of type {kind:?}"),
                ));
            }
        }
    }
}

fn priority_class(value: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    if let Some(old) = old {
        immutable("value", &value["value"], &old["value"], causes);
    }
}
