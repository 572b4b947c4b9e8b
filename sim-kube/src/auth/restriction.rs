//! NodeRestriction admission: a kubelet writes its own node, its lease and its pods, and not their labels at will.

use serde_json::Value;

use super::Identity;
use super::node::node_name;
use crate::registry::Resource;
use crate::status::{ApiError, Result};

const KUBELET_LABELS: &[&str] = &[
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/instance-type",
    "node.kubernetes.io/instance-type",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.kubernetes.io/region",
    "failure-domain.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
];

/// Whether NodeRestriction keeps a kubelet from setting this label on its node.
fn restricted(label: &str) -> bool {
    let Some((prefix, _)) = label.split_once('/') else {
        return false;
    };
    let within =
        |domain: &str| prefix == domain || prefix.strip_suffix(domain).is_some_and(|p| p.ends_with('.'));
    if within("node-restriction.kubernetes.io") {
        return true;
    }
    if !(within("kubernetes.io") || within("k8s.io")) || KUBELET_LABELS.contains(&label) {
        return false;
    }
    !(within("kubelet.kubernetes.io") || within("node.kubernetes.io"))
}

pub(crate) struct Write<'a> {
    pub(crate) verb: &'a str,
    pub(crate) resource: &'a Resource,
    pub(crate) subresource: &'a str,
    pub(crate) name: &'a str,
    pub(crate) new: Option<&'a Value>,
    pub(crate) old: Option<&'a Value>,
}

pub(crate) fn admit(user: &Identity, write: &Write<'_>) -> Result<()> {
    let Some(node) = node_name(user) else {
        return Ok(());
    };
    let resource = write.resource;
    let refuse = |why: &str| {
        Err(ApiError::forbidden(
            &resource.group,
            &resource.plural,
            write.name,
            why,
        ))
    };
    match (&*resource.group, &*resource.plural) {
        ("", "nodes") => admit_node(node, write, &refuse),
        ("coordination.k8s.io", "leases") if write.verb == "create" => {
            let namespace = write
                .new
                .map(|v| v["metadata"]["namespace"].as_str().unwrap_or_default());
            if namespace != Some("kube-node-lease") || write.name != node {
                return refuse("can only access node lease with the same name as the requesting node");
            }
            Ok(())
        }
        ("", "pods") => admit_pod(node, write, &refuse),
        _ => Ok(()),
    }
}

fn admit_node(node: &str, write: &Write<'_>, refuse: &dyn Fn(&str) -> Result<()>) -> Result<()> {
    if write.name != node {
        return refuse(&format!(
            "node {node:?} is not allowed to modify node {:?}",
            write.name
        ));
    }
    let Some(new) = write.new else { return Ok(()) };
    if write.verb != "create"
        && write
            .old
            .is_some_and(|old| old["spec"]["taints"] != new["spec"]["taints"])
    {
        return refuse(&format!("node {node:?} is not allowed to modify taints"));
    }
    let labels = |value: Option<&Value>| {
        value
            .and_then(|v| v["metadata"]["labels"].as_object().cloned())
            .unwrap_or_default()
    };
    let (new, old) = (labels(Some(new)), labels(write.old));
    let mut changed: Vec<&String> = new
        .iter()
        .filter(|(k, v)| old.get(*k) != Some(*v))
        .map(|(k, _)| k)
        .collect();
    changed.extend(old.keys().filter(|key| !new.contains_key(*key)));
    let mut bad: Vec<&str> = changed
        .into_iter()
        .filter(|key| restricted(key))
        .map(String::as_str)
        .collect();
    bad.sort_unstable();
    if bad.is_empty() {
        return Ok(());
    }
    let list = bad.join(", ");
    if write.verb == "create" {
        return refuse(&format!(
            "node {node:?} is not allowed to set the following labels: {list}"
        ));
    }
    refuse(&format!("is not allowed to modify labels: {list}"))
}

fn admit_pod(node: &str, write: &Write<'_>, refuse: &dyn Fn(&str) -> Result<()>) -> Result<()> {
    let bound = |value: Option<&Value>| value.is_some_and(|v| v["spec"]["nodeName"] == node);
    match write.verb {
        "create" if write.subresource.is_empty() => {
            let mirror = write.new.is_some_and(|v| {
                v["metadata"]["annotations"]
                    .get("kubernetes.io/config.mirror")
                    .is_some()
            });
            if !mirror {
                return refuse(&format!(
                    "pod does not have \"kubernetes.io/config.mirror\" annotation, node {node:?} can only create mirror pods"
                ));
            }
            if bound(write.new) {
                Ok(())
            } else {
                refuse(&format!(
                    "node {node:?} can only create pods with spec.nodeName set to itself"
                ))
            }
        }
        "update" | "patch" if write.subresource == "status" => {
            if bound(write.old) {
                Ok(())
            } else {
                refuse(&format!(
                    "node {node:?} can only update pod status for pods with spec.nodeName set to itself"
                ))
            }
        }
        "delete" => {
            if bound(write.old) {
                Ok(())
            } else {
                refuse(&format!(
                    "node {node:?} can only delete pods with spec.nodeName set to itself"
                ))
            }
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::restricted;

    #[test]
    fn labels() {
        for (label, want) in [
            ("a", false),
            ("example.com/x", false),
            ("node-restriction.kubernetes.io/x", true),
            ("kubernetes.io/hostname", false),
            ("kubernetes.io/other", true),
            ("node.kubernetes.io/x", false),
            ("node-role.kubernetes.io/control-plane", true),
            ("sub.kubelet.kubernetes.io/x", false),
        ] {
            assert_eq!(restricted(label), want, "{label}");
        }
    }
}
