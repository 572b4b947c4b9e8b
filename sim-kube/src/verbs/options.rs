//! `CreateOptions`, `ListOptions` and their kin: parsed from the query, refused in the real server's words.

use serde_json::Value;

use crate::path::Query;
use crate::status::{ApiError, Cause, Result};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Validation {
    Ignore,
    Warn,
    Strict,
}

fn refuse(kind: &str, cause: Cause) -> Box<ApiError> {
    ApiError::invalid(kind, "meta.k8s.io", "", vec![cause])
}

pub(super) fn dry_run(query: &Query, kind: &str) -> Result<bool> {
    let values: Vec<&str> = query.all("dryRun").filter(|v| !v.is_empty()).collect();
    if values.iter().all(|v| *v == "All") {
        return Ok(!values.is_empty());
    }
    Err(refuse(
        kind,
        Cause::not_supported("dryRun", &Value::from(values), &["All".into()]),
    ))
}

pub(super) fn validation(query: &Query, kind: &str) -> Result<Validation> {
    match query.get("fieldValidation") {
        None | Some("Warn") => Ok(Validation::Warn),
        Some("Ignore") => Ok(Validation::Ignore),
        Some("Strict") => Ok(Validation::Strict),
        Some(other) => {
            let allowed = ["", "Ignore", "Strict", "Warn"].map(Value::from);
            Err(refuse(
                kind,
                Cause::not_supported("fieldValidation", &other.into(), &allowed),
            ))
        }
    }
}

/// `fieldManager` of an apply, which must be there.
pub(super) fn apply_manager(query: &Query) -> Result<()> {
    if query.get("fieldManager").is_some() {
        return Ok(());
    }
    Err(refuse(
        "PatchOptions",
        Cause::required("fieldManager", "is required for apply patch"),
    ))
}

/// How fresh a read must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Freshness {
    Latest,
    NotOlderThan(u64),
    Exact(u64),
}

pub(super) fn resource_version(query: &Query) -> Result<Option<u64>> {
    let Some(text) = query.get("resourceVersion") else {
        return Ok(None);
    };
    text.parse().map(Some).map_err(|_| {
        ApiError::bad_request(format!(
            "invalid resource version: resourceVersion: Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: invalid syntax"
        ))
    })
}

pub(super) fn freshness(query: &Query) -> Result<Freshness> {
    let version = resource_version(query)?;
    let list_error = |cause| Err(refuse("ListOptions", cause));
    let rule = query.get("resourceVersionMatch");
    if rule.is_some() && version.is_none() {
        let detail = "resourceVersionMatch is forbidden unless resourceVersion is provided";
        return list_error(Cause::forbidden("resourceVersionMatch", detail));
    }
    if rule.is_some() && query.get("continue").is_some() {
        return list_error(Cause::forbidden(
            "resourceVersionMatch",
            "resourceVersionMatch is forbidden when continue is provided",
        ));
    }
    match (rule, version) {
        (_, None) => Ok(Freshness::Latest),
        (Some("Exact"), Some(0)) => {
            let detail = "resourceVersionMatch \"Exact\" is forbidden for resourceVersion \"0\"";
            list_error(Cause::forbidden("resourceVersionMatch", detail))
        }
        (Some("Exact"), Some(version)) => Ok(Freshness::Exact(version)),
        (None | Some("NotOlderThan"), Some(version)) => {
            // With a limit and no rule, the version is exact.
            let limited = query.get("limit").is_some_and(|l| l != "0");
            if rule.is_none() && limited && version > 0 {
                Ok(Freshness::Exact(version))
            } else {
                Ok(Freshness::NotOlderThan(version))
            }
        }
        (Some(other), _) => {
            let allowed = ["Exact", "NotOlderThan"].map(Value::from);
            list_error(Cause::not_supported(
                "resourceVersionMatch",
                &other.into(),
                &allowed,
            ))
        }
    }
}

/// `sendInitialEvents` of a watch: whether it is wanted, once its rules hold.
pub(super) fn initial_events(query: &Query) -> Result<Option<bool>> {
    let Some(text) = query.get("sendInitialEvents") else {
        if query.get("resourceVersionMatch").is_some() {
            let detail = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
            return Err(refuse(
                "ListOptions",
                Cause::forbidden("resourceVersionMatch", detail),
            ));
        }
        return Ok(None);
    };
    if query.get("resourceVersionMatch") != Some("NotOlderThan") {
        let detail = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
        return Err(refuse(
            "ListOptions",
            Cause::forbidden("resourceVersionMatch", detail),
        ));
    }
    Ok(Some(!matches!(text, "false" | "0")))
}

/// `limit`, where 0 means no limit.
pub(super) fn limit(query: &Query) -> Result<usize> {
    let Some(text) = query.get("limit") else {
        return Ok(usize::MAX);
    };
    match text.parse::<i64>() {
        Ok(0) => Ok(usize::MAX),
        Ok(limit) if limit > 0 => Ok(usize::try_from(limit).unwrap_or(usize::MAX)),
        Ok(_) => Err(refuse(
            "ListOptions",
            Cause::invalid("limit", &text.into(), "must be greater than or equal to 0"),
        )),
        Err(_) => Err(ApiError::bad_request(format!(
            "strconv.ParseInt: parsing {text:?}: invalid syntax"
        ))),
    }
}
