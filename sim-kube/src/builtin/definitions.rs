//! CustomResourceDefinitions: defaults, checks, and the serving of what they define.
//!
//! The real server establishes a CRD within a second of its creation; here it happens before the creation is
//! answered, as a second write of its own, so that no client has to wait.

use serde_json::{Value, json};

use super::defaults::fill;
use crate::clock;
use crate::registry::{self, storage_id};
use crate::schema::structural;
use crate::server::Inner;
use crate::status::Cause;
use crate::store::Obj;

pub(crate) const STORAGE: &str = "apiextensions.k8s.io/customresourcedefinitions";
pub(crate) const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";

pub(super) fn defaults(value: &mut Value) {
    let spec = &mut value["spec"];
    if !spec.is_object() {
        return;
    }
    fill(spec, "conversion", json!({"strategy": "None"}));
    let kind = spec["names"]["kind"].as_str().unwrap_or_default().to_owned();
    if spec["names"].is_object() {
        fill(&mut spec["names"], "singular", kind.to_lowercase().into());
        fill(&mut spec["names"], "listKind", format!("{kind}List").into());
    }
}

/// Only names and rules of the stored form; status belongs to the server.
pub(super) fn prepare(value: &mut Value) {
    if let Some(spec) = value.pointer_mut("/spec").and_then(Value::as_object_mut) {
        spec.shift_remove("preserveUnknownFields");
    }
}

pub(super) fn validate(value: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    let spec = &value["spec"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (group, plural) = (text(&spec["group"]), text(&spec["names"]["plural"]));
    let name = text(&value["metadata"]["name"]);
    if name != format!("{plural}.{group}") {
        let detail = "must be spec.names.plural+\".\"+spec.group";
        causes.push(Cause::invalid("metadata.name", &name.as_str().into(), detail));
    }
    if group.is_empty() {
        causes.push(Cause::required("spec.group", ""));
    } else if !group.contains('.') {
        causes.push(Cause::invalid(
            "spec.group",
            &group.as_str().into(),
            "should be a domain with at least one dot",
        ));
    }
    let protected = group.ends_with(".k8s.io") || group.ends_with(".kubernetes.io") || group == "k8s.io";
    if protected
        && value["metadata"]["annotations"]
            .get("api-approved.kubernetes.io")
            .is_none()
    {
        let detail = "protected groups must have approval annotation \"api-approved.kubernetes.io\", see https://github.com/kubernetes/enhancements/pull/1111";
        causes.push(Cause::required(
            "metadata.annotations[api-approved.kubernetes.io]",
            detail,
        ));
    }
    if !matches!(spec["scope"].as_str(), Some("Namespaced" | "Cluster")) {
        let allowed = ["Cluster", "Namespaced"].map(Value::from);
        causes.push(Cause::not_supported("spec.scope", &spec["scope"], &allowed));
    }
    for key in ["plural", "kind"] {
        if text(&spec["names"][key]).is_empty() {
            causes.push(Cause::required(format!("spec.names.{key}"), ""));
        }
    }
    versions(spec, causes);
    if let Some(old) = old {
        for key in ["group", "scope"] {
            super::immutable(&format!("spec.{key}"), &spec[key], &old["spec"][key], causes);
        }
        if is_established(old) {
            for key in ["plural", "kind"] {
                super::immutable(
                    &format!("spec.names.{key}"),
                    &spec["names"][key],
                    &old["spec"]["names"][key],
                    causes,
                );
            }
        }
        let stored = old["status"]["storedVersions"].as_array().into_iter().flatten();
        for (at, stored) in stored.enumerate() {
            if !spec["versions"]
                .as_array()
                .into_iter()
                .flatten()
                .any(|v| v["name"] == *stored)
            {
                let detail = "must appear in spec.versions";
                causes.push(Cause::invalid(
                    format!("status.storedVersions[{at}]"),
                    stored,
                    detail,
                ));
            }
        }
    }
}

fn versions(spec: &Value, causes: &mut Vec<Cause>) {
    let versions = spec["versions"].as_array().map(Vec::as_slice).unwrap_or_default();
    if versions.is_empty() {
        causes.push(Cause::required("spec.versions", "must have at least one version"));
        return;
    }
    if versions.iter().filter(|v| v["storage"] == true).count() != 1 {
        let detail = "must have exactly one version marked as storage version";
        causes.push(Cause::invalid("spec.versions", &spec["versions"], detail));
    }
    for (at, version) in versions.iter().enumerate() {
        let path = format!("spec.versions[{at}]");
        if let Some(error) = super::names::label(version["name"].as_str().unwrap_or_default()) {
            causes.push(Cause::invalid(format!("{path}.name"), &version["name"], error));
        }
        let schema = &version["schema"]["openAPIV3Schema"];
        if !schema.is_object() {
            causes.push(Cause::required(
                format!("{path}.schema.openAPIV3Schema"),
                "schemas are required",
            ));
            continue;
        }
        structural::check(schema, &format!("{path}.schema.openAPIV3Schema"), causes);
        structural::check_paths(version, &path, causes);
    }
    let strategy = spec["conversion"]["strategy"].as_str().unwrap_or("None");
    if strategy != "None" {
        let detail = "sim-kube converts with strategy None only";
        causes.push(Cause::invalid(
            "spec.conversion.strategy",
            &strategy.into(),
            detail,
        ));
    }
}

fn condition_is(crd: &Value, kind: &str) -> bool {
    let conditions = crd["status"]["conditions"].as_array().into_iter().flatten();
    conditions
        .into_iter()
        .any(|c| c["type"] == kind && c["status"] == "True")
}

fn is_established(crd: &Value) -> bool {
    condition_is(crd, "Established")
}

/// Another CRD of the group that already has one of these names.
fn name_conflict(inner: &Inner, crd: &Value) -> Option<(&'static str, String)> {
    let (group, names, me) = (
        &crd["spec"]["group"],
        &crd["spec"]["names"],
        &crd["metadata"]["name"],
    );
    let others: Vec<Obj> = inner.store.list(STORAGE, "").objects;
    let others = others
        .iter()
        .filter(|o| o.value["spec"]["group"] == *group && o.value["metadata"]["name"] != *me);
    for other in others {
        let taken = &other.value["status"]["acceptedNames"];
        for (key, reason) in [("kind", "KindConflict"), ("listKind", "ListKindConflict")] {
            if names[key] == taken[key] && names[key].is_string() {
                return Some((reason, format!("{} is already in use", names[key])));
            }
        }
        let words = |value: &Value| -> Vec<String> {
            let mut words: Vec<String> = value["shortNames"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect();
            words.extend(
                ["plural", "singular"]
                    .iter()
                    .filter_map(|k| value[*k].as_str())
                    .map(str::to_owned),
            );
            words
        };
        let taken = words(taken);
        if let Some(word) = words(names).into_iter().find(|w| taken.contains(w)) {
            return Some(("ShortNamesConflict", format!("{word:?} is already in use")));
        }
    }
    None
}

fn set_condition(
    status: &mut Value,
    now: jiff::Timestamp,
    kind: &str,
    is: bool,
    reason: &str,
    message: &str,
) {
    fill(status, "conditions", json!([]));
    let is = if is { "True" } else { "False" };
    let Some(conditions) = status.pointer_mut("/conditions").and_then(Value::as_array_mut) else {
        return;
    };
    let fresh = json!({"type": kind, "status": is, "lastTransitionTime": clock::rfc3339(now), "reason": reason, "message": message});
    match conditions.iter_mut().find(|c| c["type"] == kind) {
        Some(found) if found["status"] == is && found["reason"] == reason => {}
        Some(found) => *found = fresh,
        None => conditions.push(fresh),
    }
}

/// Accepts the names, records versions, and (re)installs the resource.
pub(crate) fn establish(inner: &Inner, name: &str) {
    // A conflict means that somebody changed the CRD at the same time; their write establishes it then.
    let Some(current) = inner.store.get(STORAGE, "", name) else {
        return;
    };
    let mut crd = current.value.clone();
    let now = inner.now();
    fill(&mut crd, "status", json!({}));
    let conflict = name_conflict(inner, &crd);
    let names = crd["spec"]["names"].clone();
    let status = &mut crd["status"];
    match &conflict {
        None => {
            status["acceptedNames"] = names;
            set_condition(
                status,
                now,
                "NamesAccepted",
                true,
                "NoConflicts",
                "no conflicts found",
            );
            set_condition(
                status,
                now,
                "Established",
                true,
                "InitialNamesAccepted",
                "the initial names have been accepted",
            );
        }
        Some((reason, message)) => {
            fill(status, "acceptedNames", json!({"plural": "", "kind": ""}));
            set_condition(status, now, "NamesAccepted", false, reason, message);
            if status["acceptedNames"]["plural"] == "" {
                set_condition(
                    status,
                    now,
                    "Established",
                    false,
                    "NotAccepted",
                    "not all names are accepted",
                );
            }
        }
    }
    let versions = crd["spec"]["versions"].as_array().cloned().unwrap_or_default();
    let storage = versions
        .iter()
        .find(|v| v["storage"] == true)
        .map(|v| v["name"].clone())
        .unwrap_or_default();
    fill(&mut crd["status"], "storedVersions", json!([]));
    if let Some(stored) = crd
        .pointer_mut("/status/storedVersions")
        .and_then(Value::as_array_mut)
        && !stored.contains(&storage)
    {
        stored.push(storage);
    }
    if crd != current.value
        && inner
            .store
            .update(&STORAGE.into(), current.version, crd.clone())
            .is_err()
    {
        return;
    }
    if is_established(&crd) {
        let group = crd["spec"]["group"].as_str().unwrap_or_default();
        let plural = crd["status"]["acceptedNames"]["plural"]
            .as_str()
            .unwrap_or_default();
        inner
            .registry
            .install(group, plural, registry::resources_of(&crd));
    }
}

/// Deletion of a CRD waits until its objects are gone: the finalizer, and the condition that says so.
pub(super) fn begin_deletion(crd: &mut Value, now: jiff::Timestamp) {
    if crd["metadata"].get("deletionTimestamp").is_some() {
        return;
    }
    fill(&mut crd["metadata"], "finalizers", json!([]));
    if let Some(finalizers) = crd
        .pointer_mut("/metadata/finalizers")
        .and_then(Value::as_array_mut)
        && !finalizers.iter().any(|f| f == CLEANUP)
    {
        finalizers.push(CLEANUP.into());
    }
    fill(crd, "status", json!({}));
    let message = "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon";
    set_condition(
        &mut crd["status"],
        now,
        "Terminating",
        true,
        "InstanceDeletionPending",
        message,
    );
}

/// The definition is gone, and so is the resource.
pub(crate) fn retire(inner: &Inner, crd: &Value) {
    let group = crd["spec"]["group"].as_str().unwrap_or_default();
    let plural = crd["spec"]["names"]["plural"].as_str().unwrap_or_default();
    inner.registry.install(group, plural, Vec::new());
    inner.store.close(&storage_id(group, plural));
}
