//! The authorization chain: superusers, then Node, then RBAC; and the words of a refusal.

use serde_json::Value;

use super::{Identity, node, rbac};
use crate::path::Target;
use crate::server::Inner;
use crate::status::ApiError;

/// What is asked for, as authorizers see it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Attributes {
    pub(crate) verb: String,
    pub(crate) group: String,
    pub(crate) resource: String,
    pub(crate) subresource: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) path: String,
    pub(crate) is_resource: bool,
}

/// An answer, with the reason that a review shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) allowed: bool,
    pub(crate) reason: String,
}

impl Attributes {
    pub(crate) fn of(target: &Target, verb: &str) -> Attributes {
        Attributes {
            verb: verb.to_owned(),
            group: target.group.clone(),
            resource: target.resource.clone(),
            subresource: target.subresource.clone(),
            namespace: target.namespace.clone(),
            name: target.name.clone(),
            path: target.path.clone(),
            is_resource: target.is_resource,
        }
    }

    /// From the `spec` of a SubjectAccessReview.
    pub(crate) fn of_review(spec: &Value) -> Attributes {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        if let Some(non_resource) = spec.get("nonResourceAttributes") {
            return Attributes {
                verb: text(&non_resource["verb"]),
                path: text(&non_resource["path"]),
                ..Attributes::default()
            };
        }
        let resource = &spec["resourceAttributes"];
        Attributes {
            verb: text(&resource["verb"]),
            group: text(&resource["group"]),
            resource: text(&resource["resource"]),
            subresource: text(&resource["subresource"]),
            namespace: text(&resource["namespace"]),
            name: text(&resource["name"]),
            path: String::new(),
            is_resource: true,
        }
    }

    pub(crate) fn resource_path(&self) -> String {
        if self.subresource.is_empty() {
            self.resource.clone()
        } else {
            format!("{}/{}", self.resource, self.subresource)
        }
    }

    pub(crate) fn refusal(&self, user: &Identity, verdict: &Verdict) -> Box<ApiError> {
        let tail = if verdict.reason.is_empty() {
            String::new()
        } else {
            format!(": {}", verdict.reason)
        };
        if !self.is_resource {
            return ApiError::forbidden_path(&format!(
                "User {:?} cannot {} path {:?}{tail}",
                user.user, self.verb, self.path
            ));
        }
        let scope = if self.namespace.is_empty() {
            "at the cluster scope".to_owned()
        } else {
            format!("in the namespace {:?}", self.namespace)
        };
        let what = self.resource_path();
        let why = format!(
            "User {:?} cannot {} resource {what:?} in API group {:?} {scope}{tail}",
            user.user, self.verb, self.group
        );
        ApiError::forbidden(&self.group, &self.resource, &self.name, &why)
    }
}

pub(crate) fn authorize(inner: &Inner, user: &Identity, ask: &Attributes) -> Verdict {
    if user.is_in("system:masters") {
        return Verdict {
            allowed: true,
            reason: String::new(),
        };
    }
    let by_node = node::authorize(inner, user, ask);
    if by_node.allowed {
        return by_node;
    }
    let by_rbac = rbac::authorize(inner, user, ask);
    if by_rbac.allowed {
        return by_rbac;
    }
    Verdict {
        allowed: false,
        reason: by_node.reason,
    }
}
