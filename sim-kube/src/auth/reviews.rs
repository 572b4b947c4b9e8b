//! Review resources: questions that are answered and never stored.

use serde_json::{Value, json};

use super::{Attributes, Identity, authorize, rbac, tokens};
use crate::server::Inner;
use crate::status::{ApiError, Result};

fn strings(value: &Value) -> Vec<String> {
    value
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}

/// Whether the resource is a review, which only knows create.
pub(crate) fn is_review(group: &str, resource: &str) -> bool {
    matches!(
        (group, resource),
        ("authentication.k8s.io", "selfsubjectreviews" | "tokenreviews")
            | (
                "authorization.k8s.io",
                "selfsubjectaccessreviews"
                    | "subjectaccessreviews"
                    | "localsubjectaccessreviews"
                    | "selfsubjectrulesreviews"
            )
    )
}

/// Answers a review; `namespace` is that of a LocalSubjectAccessReview.
pub(crate) fn answer(
    inner: &Inner,
    user: &Identity,
    resource: &str,
    namespace: &str,
    review: &mut Value,
) -> Result<()> {
    match resource {
        "selfsubjectreviews" => {
            review["metadata"] = json!({"creationTimestamp": crate::clock::rfc3339(inner.now())});
            review["status"] = json!({"userInfo": user.to_value()});
        }
        "tokenreviews" => {
            let token = review["spec"]["token"].as_str().unwrap_or_default().to_owned();
            let audiences = strings(&review["spec"]["audiences"]);
            review["status"] = match tokens::review(inner, &token, &audiences) {
                Some(found) => {
                    let audiences = if audiences.is_empty() {
                        vec![tokens::ISSUER.to_owned()]
                    } else {
                        audiences
                    };
                    json!({"authenticated": true, "user": found.to_value(), "audiences": audiences})
                }
                None => json!({"authenticated": false, "user": {}, "error": "token lookup failed"}),
            };
        }
        "selfsubjectaccessreviews" => access(inner, user, review)?,
        "selfsubjectrulesreviews" => rules(inner, user, review),
        _ => {
            let spec = &review["spec"];
            if resource == "localsubjectaccessreviews" && spec["resourceAttributes"]["namespace"] != namespace
            {
                let message = format!(
                    "spec.resourceAttributes.namespace must match namespace: {} vs {namespace:?}",
                    spec["resourceAttributes"]["namespace"]
                );
                return Err(ApiError::bad_request(message));
            }
            let name = spec["user"].as_str().unwrap_or_default().to_owned();
            let subject = Identity {
                user: name,
                groups: strings(&spec["groups"]),
                ..Identity::default()
            };
            access(inner, &subject, review)?;
        }
    }
    Ok(())
}

fn access(inner: &Inner, user: &Identity, review: &mut Value) -> Result<()> {
    let spec = &review["spec"];
    let (resource, path) = (
        spec.get("resourceAttributes").is_some(),
        spec.get("nonResourceAttributes").is_some(),
    );
    if resource == path {
        let kind = review["kind"].as_str().unwrap_or_default().to_owned();
        let cause = crate::status::Cause::invalid(
            "spec.resourceAttributes",
            &spec["nonResourceAttributes"],
            "exactly one of nonResourceAttributes or resourceAttributes must be specified",
        );
        return Err(ApiError::invalid(&kind, "authorization.k8s.io", "", vec![cause]));
    }
    let verdict = authorize(inner, user, &Attributes::of_review(spec));
    let mut status = json!({"allowed": verdict.allowed});
    if !verdict.reason.is_empty() {
        status["reason"] = verdict.reason.into();
    }
    review["status"] = status;
    Ok(())
}

fn rules(inner: &Inner, user: &Identity, review: &mut Value) {
    let namespace = review["spec"]["namespace"].as_str().unwrap_or_default();
    let all = rbac::rules_for(inner, user, namespace);
    let pick = |non_resource: bool| -> Vec<Value> {
        all.iter()
            .filter(|rule| rule.is_non_resource() == non_resource)
            .map(rbac::Rule::to_value)
            .collect()
    };
    review["status"] =
        json!({"incomplete": false, "resourceRules": pick(false), "nonResourceRules": pick(true)});
}
