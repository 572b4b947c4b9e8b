//! RBAC's own guard: nobody grants what they do not hold, unless they may `escalate` or `bind`.

use serde_json::Value;

use crate::auth::rbac::{self, GROUP};
use crate::auth::{Attributes, authorize};
use crate::status::{ApiError, Result};
use crate::verbs::Ctx;

pub(super) fn check(ctx: &Ctx, value: &Value, old: Option<&Value>) -> Result<()> {
    if ctx.user.is_in("system:masters") {
        return Ok(());
    }
    let plural = ctx.resource.plural.as_str();
    let is_role = matches!(plural, "roles" | "clusterroles");
    if old.is_some_and(|old| old["rules"] == value["rules"] && old["subjects"] == value["subjects"]) {
        return Ok(());
    }
    let name = value["metadata"]["name"].as_str().unwrap_or_default();
    let (verb, target, target_name, rules) = if is_role {
        ("escalate", plural, name.to_owned(), rbac::rules(value))
    } else {
        let role = &value["roleRef"];
        let role_name = role["name"].as_str().unwrap_or_default().to_owned();
        let (resource, namespace) = if role["kind"] == "ClusterRole" {
            ("clusterroles", "")
        } else {
            ("roles", ctx.target.namespace.as_str())
        };
        let found = ctx
            .inner
            .store
            .get(&format!("{GROUP}/{resource}"), namespace, &role_name);
        let Some(found) = found else {
            return Err(ApiError::not_found(GROUP, resource, &role_name));
        };
        ("bind", resource, role_name, rbac::rules(&found.value))
    };
    let exempt = Attributes {
        verb: verb.into(),
        group: GROUP.into(),
        resource: target.into(),
        name: target_name,
        namespace: ctx.target.namespace.clone(),
        is_resource: true,
        ..Attributes::default()
    };
    if authorize(&ctx.inner, &ctx.user, &exempt).allowed {
        return Ok(());
    }
    let held = rbac::rules_for(&ctx.inner, &ctx.user, &ctx.target.namespace);
    let missing: Vec<String> = rules
        .iter()
        .filter(|rule| {
            !rule
                .breakdown()
                .iter()
                .all(|ask| held.iter().any(|mine| mine.covers(ask)))
        })
        .map(|rule| describe(&rule.to_value()))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let groups = ctx
        .user
        .groups
        .iter()
        .map(|g| format!("{g:?}"))
        .collect::<Vec<_>>()
        .join(" ");
    let why = format!(
        "user {:?} (groups=[{groups}]) is attempting to grant RBAC permissions not currently held:\n{}",
        ctx.user.user,
        missing.join("\n")
    );
    Err(ApiError::forbidden(&ctx.resource.group, plural, name, &why))
}

/// A rule in the compact form of the real server's message.
fn describe(rule: &Value) -> String {
    let names = [
        ("apiGroups", "APIGroups"),
        ("resources", "Resources"),
        ("nonResourceURLs", "NonResourceURLs"),
        ("resourceNames", "ResourceNames"),
        ("verbs", "Verbs"),
    ];
    let parts: Vec<String> = names
        .iter()
        .filter_map(|(key, shown)| {
            let values: Vec<String> = rule.get(*key)?.as_array()?.iter().map(Value::to_string).collect();
            Some(format!("{shown}:[{}]", values.join(" ")))
        })
        .collect();
    format!("{{{}}}", parts.join(", "))
}

/// Approving and signing need the verb on the signer as well.
pub(super) fn check_signer(ctx: &Ctx, value: &Value, verb: &str) -> Result<()> {
    let signer = value["spec"]["signerName"].as_str().unwrap_or_default();
    let domain = signer.split('/').next().unwrap_or_default();
    let allowed = [signer.to_owned(), format!("{domain}/*")]
        .into_iter()
        .any(|name| {
            let ask = Attributes {
                verb: verb.into(),
                group: "certificates.k8s.io".into(),
                resource: "signers".into(),
                name,
                is_resource: true,
                ..Attributes::default()
            };
            authorize(&ctx.inner, &ctx.user, &ask).allowed
        });
    if allowed {
        return Ok(());
    }
    let why = format!("user not permitted to {verb} requests with signerName {signer:?}");
    Err(ApiError::forbidden(
        &ctx.resource.group,
        &ctx.resource.plural,
        &ctx.target.name,
        &why,
    ))
}
