//! What is served, told: `/api`, `/apis`, group and version lists, and the aggregated form.

use std::sync::Arc;

use http::StatusCode;
use http::header::{ETAG, HeaderValue, VARY};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::body::{self, Reply};
use crate::registry::{Resource, Table, api_version};
use crate::seed::KUBERNETES_VERSION;
use crate::server::Inner;
use crate::status::{ApiError, Result};

pub(crate) fn version() -> Value {
    let minor = KUBERNETES_VERSION.split('.').nth(1).unwrap_or_default();
    json!({
        "major": "1", "minor": minor, "emulationMajor": "1", "emulationMinor": minor, "minCompatibilityMajor": "1",
        "minCompatibilityMinor": "35", "gitVersion": format!("{KUBERNETES_VERSION}+sim-kube"), "gitCommit": "",
        "gitTreeState": "clean", "buildDate": "1970-01-01T00:00:00Z", "goVersion": "none", "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, go_arch()),
    })
}

fn go_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

pub(crate) fn openid() -> Value {
    let issuer = crate::auth::tokens::ISSUER;
    json!({
        "issuer": issuer, "jwks_uri": format!("{issuer}/openid/v1/jwks"), "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"], "id_token_signing_alg_values_supported": ["ES256"],
    })
}

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// Whether the client asks for the aggregated form before the plain one.
fn wants_aggregated(accept: &str) -> bool {
    accept
        .split(',')
        .map(|range| range.replace(' ', ""))
        .any(|range| {
            let has = |part: &str| range.split(';').any(|p| p == part);
            has("g=apidiscovery.k8s.io")
                && has("v=v2")
                && has("as=APIGroupDiscoveryList")
                && has("application/json")
        })
}

pub(crate) fn serve(inner: &Arc<Inner>, path: &str, accept: &str, known_etag: &str) -> Result<Reply> {
    let table = inner.registry.table();
    let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
    match segments.as_slice() {
        ["api" | "apis"] if wants_aggregated(accept) => {
            Ok(aggregated(&table, segments[0] == "api", known_etag))
        }
        ["api"] => {
            let address = json!([{"clientCIDR": "0.0.0.0/0", "serverAddress": inner.options.advertise_url.trim_start_matches("https://")}]);
            Ok(body::json(
                StatusCode::OK,
                &json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": address}),
            ))
        }
        ["apis"] => {
            let groups: Vec<Value> = table
                .groups()
                .iter()
                .filter(|g| !g.is_empty())
                .map(|g| group(&table, g, false))
                .collect();
            Ok(body::json(
                StatusCode::OK,
                &json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}),
            ))
        }
        ["apis", name] if table.of_group(name).next().is_some() => {
            Ok(body::json(StatusCode::OK, &group(&table, name, true)))
        }
        ["api", version] => resources(&table, "", version),
        ["apis", name, version] => resources(&table, name, version),
        [""] => Ok(body::json(StatusCode::OK, &paths(&table))),
        _ => Err(ApiError::page_not_found()),
    }
}

fn paths(table: &Table) -> Value {
    let mut paths = vec![
        "/api".to_owned(),
        "/api/v1".to_owned(),
        "/apis".to_owned(),
        "/apis/".to_owned(),
    ];
    for group in table.groups().iter().filter(|g| !g.is_empty()) {
        paths.push(format!("/apis/{group}"));
        paths.extend(
            table
                .versions(group)
                .iter()
                .map(|version| format!("/apis/{group}/{version}")),
        );
    }
    paths.extend(
        [
            "/healthz",
            "/livez",
            "/metrics",
            "/openapi/v2",
            "/openapi/v3",
            "/readyz",
            "/version",
        ]
        .map(str::to_owned),
    );
    paths.sort();
    json!({"paths": paths})
}

fn group(table: &Table, name: &str, alone: bool) -> Value {
    let versions: Vec<Value> = table
        .versions(name)
        .iter()
        .map(|version| json!({"groupVersion": api_version(name, version), "version": version}))
        .collect();
    let preferred = versions.first().cloned().unwrap_or_default();
    let mut group = Map::new();
    if alone {
        group.insert("kind".into(), "APIGroup".into());
        group.insert("apiVersion".into(), "v1".into());
    }
    group.insert("name".into(), name.into());
    group.insert("versions".into(), versions.into());
    group.insert("preferredVersion".into(), preferred);
    group.into()
}

fn storage_hash(resource: &Resource) -> String {
    use base64::prelude::{BASE64_STANDARD, Engine};
    let text = format!(
        "{}/{}/{}",
        resource.group, resource.storage_version, resource.kind
    );
    BASE64_STANDARD.encode(&Sha256::digest(text.as_bytes())[..8])
}

fn resources(table: &Table, group: &str, version: &str) -> Result<Reply> {
    let mut list: Vec<Value> = Vec::new();
    for resource in table.of_group(group).filter(|r| r.version == version) {
        let mut entry = json!({
            "name": resource.plural, "singularName": resource.singular, "namespaced": resource.namespaced,
            "kind": resource.kind, "verbs": resource.verbs,
        });
        for (key, words) in [
            ("shortNames", &resource.short_names),
            ("categories", &resource.categories),
        ] {
            if !words.is_empty() {
                entry[key] = words.clone().into();
            }
        }
        entry["storageVersionHash"] = storage_hash(resource).into();
        list.push(entry);
        for sub in &resource.subresources {
            let (sub_group, sub_version, kind) = &sub.kind;
            let mut entry = json!({
                "name": format!("{}/{}", resource.plural, sub.name), "singularName": "", "namespaced": resource.namespaced,
            });
            if *sub_group != resource.group || *sub_version != resource.version {
                entry["group"] = sub_group.clone().into();
                entry["version"] = sub_version.clone().into();
            }
            entry["kind"] = kind.clone().into();
            entry["verbs"] = sub.verbs.clone().into();
            list.push(entry);
        }
    }
    if list.is_empty() {
        return Err(ApiError::page_not_found());
    }
    let group_version = api_version(group, version);
    let mut out = json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": list});
    if group.is_empty() {
        // The core list was there before lists had versions.
        out =
            json!({"kind": "APIResourceList", "groupVersion": group_version, "resources": out["resources"]});
    }
    Ok(body::json(StatusCode::OK, &out))
}

fn aggregated_resource(resource: &Resource) -> Value {
    let kind = |(group, version, kind): (&str, &str, &str)| json!({"group": group, "version": version, "kind": kind});
    let mut entry = json!({
        "resource": resource.plural,
        "responseKind": kind((&resource.group, &resource.version, &resource.kind)),
        "scope": if resource.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": resource.singular, "verbs": resource.verbs,
    });
    for (key, words) in [
        ("shortNames", &resource.short_names),
        ("categories", &resource.categories),
    ] {
        if !words.is_empty() {
            entry[key] = words.clone().into();
        }
    }
    if !resource.subresources.is_empty() {
        let subs = resource.subresources.iter().map(|sub| {
            let (group, version, name) = &sub.kind;
            json!({"subresource": sub.name, "responseKind": kind((group, version, name)), "verbs": sub.verbs})
        });
        entry["subresources"] = subs.collect::<Vec<_>>().into();
    }
    entry
}

fn aggregated(table: &Table, core: bool, known_etag: &str) -> Reply {
    let groups = table.groups().iter().filter(|g| g.is_empty() == core);
    let items: Vec<Value> = groups
        .map(|group| {
            let versions = table.versions(group);
            let versions: Vec<Value> = versions
                .iter()
                .map(|version| {
                    let resources: Vec<Value> = table
                        .of_group(group)
                        .filter(|r| r.version == *version)
                        .map(|r| aggregated_resource(r))
                        .collect();
                    json!({"version": version, "resources": resources, "freshness": "Current"})
                })
                .collect();
            let metadata = if group.is_empty() {
                json!({})
            } else {
                json!({"name": group})
            };
            json!({"metadata": metadata, "versions": versions})
        })
        .collect();
    let list = json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items});
    let text = list.to_string();
    let etag = format!("\"{}\"", crate::openapi::hash(text.as_bytes()));
    let mut reply = if known_etag == etag {
        body::bytes(StatusCode::NOT_MODIFIED, AGGREGATED, "")
    } else {
        body::bytes(StatusCode::OK, AGGREGATED, text)
    };
    let headers = reply.headers_mut();
    headers.insert(http::header::CACHE_CONTROL, HeaderValue::from_static("public"));
    headers.insert(VARY, HeaderValue::from_static("Accept"));
    if let Ok(value) = HeaderValue::from_str(&etag) {
        headers.insert(ETAG, value);
    }
    reply
}
