//! A CustomResourceDefinition's served versions as resources.

use std::sync::Arc;

use serde_json::Value;

use super::{Resource, Subresource, storage_id, strings};
use crate::schema::crd::CrdVersion;

const VERBS: &[&str] = &[
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "create",
    "update",
    "watch",
];

/// Kubernetes version order as a sortable key: `v2` > `v1` > `v2beta1` > `v1alpha1` > anything else.
pub(super) fn version_rank(version: &str) -> (u8, u32, u32, std::cmp::Reverse<String>) {
    let parsed = (|| {
        let rest = version.strip_prefix('v')?;
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let major: u32 = rest[..digits].parse().ok()?;
        let tail = &rest[digits..];
        if tail.is_empty() {
            return Some((3, major, 0));
        }
        for (stage, rank) in [("beta", 2), ("alpha", 1)] {
            if let Some(minor) = tail.strip_prefix(stage) {
                return Some((rank, major, minor.parse().ok()?));
            }
        }
        None
    })();
    let (rank, major, minor) = parsed.unwrap_or((0, 0, 0));
    (rank, major, minor, std::cmp::Reverse(version.to_owned()))
}

fn subresources(group: &str, version: &str, kind: &str, compiled: &CrdVersion) -> Vec<Subresource> {
    let verbs: Vec<String> = ["get", "patch", "update"].map(str::to_owned).to_vec();
    let mut out = Vec::new();
    if compiled.has_status {
        let kind = (group.to_owned(), version.to_owned(), kind.to_owned());
        out.push(Subresource {
            name: "status".into(),
            kind,
            verbs: verbs.clone(),
        });
    }
    if compiled.scale.is_some() {
        out.push(Subresource {
            name: "scale".into(),
            kind: ("autoscaling".into(), "v1".into(), "Scale".into()),
            verbs,
        });
    }
    out
}

pub(crate) fn resources_of(crd: &Value) -> Vec<Resource> {
    let spec = &crd["spec"];
    let names = &crd["status"]["acceptedNames"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (group, plural, kind) = (text(&spec["group"]), text(&names["plural"]), text(&names["kind"]));
    let versions = spec["versions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let stored = versions
        .iter()
        .find(|v| v["storage"] == true)
        .map(|v| text(&v["name"]))
        .unwrap_or_default();
    let served = versions.iter().filter(|v| v["served"] == true);
    served
        .map(|version| {
            let name = text(&version["name"]);
            let compiled = CrdVersion::new(version);
            Resource {
                subresources: subresources(&group, &name, &kind, &compiled),
                group: group.clone(),
                version: name,
                plural: plural.clone(),
                singular: text(&names["singular"]),
                kind: kind.clone(),
                list_kind: text(&names["listKind"]),
                namespaced: spec["scope"] == "Namespaced",
                short_names: strings(&names["shortNames"]),
                categories: strings(&names["categories"]),
                verbs: VERBS.iter().map(|v| (*v).to_owned()).collect(),
                storage: storage_id(&group, &plural),
                storage_version: stored.clone(),
                custom: Some(Arc::new(compiled)),
                schema: std::sync::OnceLock::new(),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::version_rank;

    #[test]
    fn versions_sort_as_in_the_documentation() {
        let mut versions = vec![
            "foo1",
            "v1",
            "v11alpha2",
            "v10",
            "v2",
            "v12alpha1",
            "v10beta3",
            "v3beta1",
            "foo10",
        ];
        versions.sort_by_key(|v| std::cmp::Reverse(version_rank(v)));
        assert_eq!(
            versions,
            [
                "v10",
                "v2",
                "v1",
                "v10beta3",
                "v3beta1",
                "v12alpha1",
                "v11alpha2",
                "foo1",
                "foo10"
            ]
        );
    }
}
