//! The Node authorizer: what a kubelet may do with its own node, its pods and what they refer to.

use std::sync::LazyLock;

use serde_json::Value;

use super::rbac::{Rule, rules};
use super::{Attributes, Identity, Verdict};
use crate::server::Inner;

/// Rules of the recorded ClusterRole `system:node`, which the real authorizer carries as a constant too.
static NODE_RULES: LazyLock<Vec<Rule>> = LazyLock::new(|| {
    let roles = crate::seed::recorded_rbac();
    let found = roles["clusterRoles"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|role| role["name"] == "system:node");
    found.map(rules).unwrap_or_default()
});

/// The node's name, for a user that is one.
pub(crate) fn node_name(user: &Identity) -> Option<&str> {
    let name = user.user.strip_prefix("system:node:")?;
    user.is_in("system:nodes").then_some(name)
}

fn deny(reason: impl Into<String>) -> Verdict {
    Verdict {
        allowed: false,
        reason: reason.into(),
    }
}

fn allow() -> Verdict {
    Verdict {
        allowed: true,
        reason: String::new(),
    }
}

pub(super) fn authorize(inner: &Inner, user: &Identity, ask: &Attributes) -> Verdict {
    let Some(node) = node_name(user) else {
        return deny("");
    };
    if ask.is_resource {
        match (ask.group.as_str(), ask.resource.as_str()) {
            ("", "secrets" | "configmaps" | "persistentvolumeclaims") => {
                return read_referenced(inner, node, ask);
            }
            ("", "serviceaccounts") if ask.subresource == "token" => return token(inner, node, ask),
            ("coordination.k8s.io", "leases") => return lease(node, ask),
            _ => {}
        }
    }
    if NODE_RULES.iter().any(|rule| rule.allows(ask)) {
        allow()
    } else {
        deny("")
    }
}

fn read_referenced(inner: &Inner, node: &str, ask: &Attributes) -> Verdict {
    if !matches!(ask.verb.as_str(), "get" | "list" | "watch") {
        return deny("can only read resources of this type");
    }
    if !ask.subresource.is_empty() {
        return deny("cannot read subresource");
    }
    if ask.namespace.is_empty() {
        return deny("can only read namespaced object of this type");
    }
    if ask.name.is_empty() {
        return deny("No Object name found");
    }
    if pods_on(inner, node, &ask.namespace).any(|pod| refers(&pod.value["spec"], &ask.resource, &ask.name)) {
        return allow();
    }
    deny(format!(
        "no relationship found between node '{node}' and this object"
    ))
}

fn pods_on(inner: &Inner, node: &str, namespace: &str) -> impl Iterator<Item = crate::store::Obj> {
    let pods = inner.store.list("/pods", namespace).objects;
    let node = node.to_owned();
    pods.into_iter()
        .filter(move |pod| pod.value["spec"]["nodeName"] == node.as_str())
}

/// Whether a pod's spec names the object anywhere that a kubelet resolves.
fn refers(spec: &Value, resource: &str, name: &str) -> bool {
    let keys: &[(&str, &str)] = match resource {
        "secrets" => &[
            ("secret", "secretName"),
            ("secretRef", "name"),
            ("secretKeyRef", "name"),
            ("secret", "name"),
        ],
        "configmaps" => &[
            ("configMap", "name"),
            ("configMapRef", "name"),
            ("configMapKeyRef", "name"),
        ],
        _ => &[("persistentVolumeClaim", "claimName")],
    };
    let pulls = resource == "secrets"
        && spec["imagePullSecrets"]
            .as_array()
            .into_iter()
            .flatten()
            .any(|secret| secret["name"] == name);
    pulls || holds(spec, keys, name)
}

fn holds(value: &Value, keys: &[(&str, &str)], name: &str) -> bool {
    match value {
        Value::Object(map) => map.iter().any(|(key, child)| {
            keys.iter()
                .any(|(outer, inner)| key == outer && child[*inner] == name)
                || holds(child, keys, name)
        }),
        Value::Array(items) => items.iter().any(|item| holds(item, keys, name)),
        _ => false,
    }
}

fn token(inner: &Inner, node: &str, ask: &Attributes) -> Verdict {
    if ask.verb != "create" {
        return deny("only create of a token is allowed");
    }
    let uses = pods_on(inner, node, &ask.namespace)
        .any(|pod| pod.value["spec"]["serviceAccountName"] == ask.name.as_str());
    if uses {
        allow()
    } else {
        deny(format!(
            "no relationship found between node '{node}' and this object"
        ))
    }
}

fn lease(node: &str, ask: &Attributes) -> Verdict {
    if !matches!(
        ask.verb.as_str(),
        "get" | "create" | "update" | "patch" | "delete"
    ) {
        return deny("can only get, create, update, patch, or delete a node lease");
    }
    if ask.namespace != "kube-node-lease" {
        return deny("can only access leases in the \"kube-node-lease\" system namespace");
    }
    if ask.verb != "create" && ask.name != node {
        return deny("can only access node lease with the same name as the requesting node");
    }
    allow()
}
