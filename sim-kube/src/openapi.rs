//! OpenAPI v3, one document per group version, made when asked for; and v2, derived from the same schemas.
//!
//! kubectl reads from them: schemas (explain, validation, patch keys), the group-version-kind of each path, and
//! whether an operation knows `dryRun` and `fieldValidation`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::body::{self, Reply};
use crate::registry::{Resource, Table};
use crate::schema::builtin;
use crate::server::Inner;
use crate::status::{ApiError, Result};

/// Group versions kept; a cluster has some dozens.
const DOCUMENTS_MAX: usize = 64;

/// Documents by fingerprint.
pub(crate) type Cache = Mutex<BTreeMap<String, Bytes>>;

pub(crate) fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02X}"))
        .collect()
}

fn root(group: &str, version: &str) -> String {
    if group.is_empty() {
        format!("api/{version}")
    } else {
        format!("apis/{group}/{version}")
    }
}

/// A fingerprint of a group version, without building its document.
fn fingerprint(table: &Table, group: &str, version: &str) -> String {
    let mut text = format!("{} {group}/{version}", crate::seed::KUBERNETES_VERSION);
    for resource in table.of_group(group).filter(|r| r.version == version) {
        text.push_str(&resource.plural);
        if let Some(custom) = &resource.custom {
            text.push_str(&custom.raw.to_string());
        }
    }
    hash(text.as_bytes())
}

pub(crate) fn index(inner: &Arc<Inner>) -> Reply {
    let table = inner.registry.table();
    let mut paths = Map::new();
    for group in table.groups() {
        for version in table.versions(group) {
            let root = root(group, &version);
            let url = format!("/openapi/v3/{root}?hash={}", fingerprint(&table, group, &version));
            paths.insert(root, json!({"serverRelativeURL": url}));
        }
    }
    body::json(StatusCode::OK, &json!({"paths": paths}))
}

pub(crate) fn document(inner: &Arc<Inner>, path: &str) -> Result<Reply> {
    let table = inner.registry.table();
    let (group, version) = match path.split('/').collect::<Vec<_>>().as_slice() {
        ["api", version] => (String::new(), (*version).to_owned()),
        ["apis", group, version] => ((*group).to_owned(), (*version).to_owned()),
        _ => return Err(ApiError::page_not_found()),
    };
    let resources: Vec<&Arc<Resource>> = table.of_group(&group).filter(|r| r.version == version).collect();
    if resources.is_empty() {
        return Err(ApiError::page_not_found());
    }
    // A document costs tens of milliseconds and a megabyte to build: keep it until its group version changes.
    let print = fingerprint(&table, &group, &version);
    if let Some(made) = inner
        .openapi
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .get(&print)
    {
        return Ok(body::bytes(StatusCode::OK, "application/json", made.clone()));
    }
    let (paths, schemas) = describe(&resources);
    let document = json!({
        "openapi": "3.0.0", "info": {"title": "Kubernetes", "version": crate::seed::KUBERNETES_VERSION},
        "paths": paths, "components": {"schemas": schemas},
    });
    let bytes = Bytes::from(document.to_string());
    let mut cache = inner.openapi.lock().unwrap_or_else(PoisonError::into_inner);
    if cache.len() >= DOCUMENTS_MAX {
        cache.clear();
    }
    cache.insert(print, bytes.clone());
    Ok(body::bytes(StatusCode::OK, "application/json", bytes))
}

fn describe(resources: &[&Arc<Resource>]) -> (Map<String, Value>, Map<String, Value>) {
    let (mut paths, mut schemas) = (Map::new(), Map::new());
    for resource in resources {
        let name = add_schema(resource, &mut schemas);
        add_paths(resource, &name, &mut paths);
    }
    for (_, schema) in &mut schemas {
        wrap_references(schema);
    }
    (paths, schemas)
}

/// `$ref` allows no siblings in OpenAPI 3.0: those that have some go into `allOf`.
fn wrap_references(value: &mut Value) {
    match value {
        Value::Object(map) => {
            if map.len() > 1
                && map.get("$ref").is_some_and(Value::is_string)
                && let Some(reference) = map.shift_remove("$ref")
            {
                map.insert("allOf".into(), json!([{"$ref": reference}]));
            }
            map.values_mut().for_each(wrap_references);
        }
        Value::Array(items) => items.iter_mut().for_each(wrap_references),
        _ => {}
    }
}

fn custom_name(resource: &Resource) -> String {
    let mut group: Vec<&str> = resource.group.split('.').collect();
    group.reverse();
    format!("{}.{}.{}", group.join("."), resource.version, resource.kind)
}

fn gvk(resource: &Resource) -> Value {
    json!({"group": resource.group, "version": resource.version, "kind": resource.kind})
}

const API_VERSION: &str = "APIVersion defines the versioned schema of this representation of an object. Servers should convert recognized schemas to the latest internal value, and may reject unrecognized values. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#resources";
const KIND: &str = "Kind is a string value representing the REST resource this object represents. Servers may infer this from the endpoint the client submits requests to. Cannot be updated. In CamelCase. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds";
const METADATA: &str = "Standard object's metadata. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata";

fn add_schema(resource: &Resource, schemas: &mut Map<String, Value>) -> String {
    let name = match &resource.custom {
        None => {
            let Some(name) = builtin::name_of(&resource.group, &resource.version, &resource.kind) else {
                return String::new();
            };
            builtin::closure(&name, schemas);
            name
        }
        Some(custom) => {
            // The definition table gets ObjectMeta with its first user.
            builtin::definition(builtin::OBJECT_META);
            builtin::closure(builtin::OBJECT_META, schemas);
            let mut schema = custom.raw.clone();
            schema["properties"]["apiVersion"] = json!({"type": "string", "description": API_VERSION});
            schema["properties"]["kind"] = json!({"type": "string", "description": KIND});
            schema["properties"]["metadata"] = json!({"$ref": format!("#/components/schemas/{}", builtin::OBJECT_META), "description": METADATA});
            let name = custom_name(resource);
            schemas.insert(name.clone(), schema);
            name
        }
    };
    if let Some(schema) = schemas.get_mut(&name) {
        schema["x-kubernetes-group-version-kind"] = json!([gvk(resource)]);
    }
    name
}

fn parameter(name: &str) -> Value {
    json!({"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": true}})
}

fn operation(resource: &Resource, action: &str, schema: &str) -> Value {
    let reference = json!({"$ref": format!("#/components/schemas/{schema}")});
    let mut operation = json!({
        "operationId": format!("{action}{}{}", resource.version, resource.kind),
        "responses": {"200": {"description": "OK", "content": {"application/json": {"schema": reference}}}},
        "x-kubernetes-action": action, "x-kubernetes-group-version-kind": gvk(resource),
    });
    let names: &[&str] = match action {
        "post" | "put" | "patch" => &["dryRun", "fieldManager", "fieldValidation"],
        "delete" => &["dryRun", "gracePeriodSeconds", "propagationPolicy"],
        "list" => &[
            "labelSelector",
            "fieldSelector",
            "limit",
            "continue",
            "watch",
            "resourceVersion",
            "timeoutSeconds",
        ],
        _ => &[],
    };
    if !names.is_empty() {
        operation["parameters"] = names
            .iter()
            .map(|name| parameter(name))
            .collect::<Vec<_>>()
            .into();
    }
    if action == "patch" {
        let mut content = Map::new();
        let mut types = vec![
            "application/json-patch+json",
            "application/merge-patch+json",
            "application/apply-patch+yaml",
        ];
        if !resource.is_custom() {
            types.push("application/strategic-merge-patch+json");
        }
        content.extend(
            types
                .into_iter()
                .map(|media| (media.to_owned(), json!({"schema": {"type": "object"}}))),
        );
        operation["requestBody"] = json!({"content": content});
    }
    operation
}

fn add_paths(resource: &Resource, schema: &str, paths: &mut Map<String, Value>) {
    let base = root(&resource.group, &resource.version);
    let scope = if resource.namespaced {
        "namespaces/{namespace}/"
    } else {
        ""
    };
    let collection = format!("/{base}/{scope}{}", resource.plural);
    let pick = |pairs: &[(&str, &str, &str)]| -> Value {
        let known = pairs.iter().filter(|(verb, _, _)| resource.allows(verb));
        Value::Object(
            known
                .map(|(_, method, action)| ((*method).to_owned(), operation(resource, action, schema)))
                .collect(),
        )
    };
    if resource.namespaced && resource.allows("list") {
        paths.insert(
            format!("/{base}/{}", resource.plural),
            pick(&[("list", "get", "list")]),
        );
    }
    let many = [
        ("list", "get", "list"),
        ("create", "post", "post"),
        ("deletecollection", "delete", "deletecollection"),
    ];
    paths.insert(collection.clone(), pick(&many));
    let one = [
        ("get", "get", "get"),
        ("update", "put", "put"),
        ("patch", "patch", "patch"),
        ("delete", "delete", "delete"),
    ];
    let item = pick(&one);
    if item.as_object().is_some_and(|o| !o.is_empty()) {
        paths.insert(format!("{collection}/{{name}}"), item);
    }
    if resource.has_status() {
        let status = pick(&[
            ("get", "get", "get"),
            ("update", "put", "put"),
            ("patch", "patch", "patch"),
        ]);
        paths.insert(format!("{collection}/{{name}}/status"), status);
    }
}

/// v2 as JSON. Clients that want its protobuf get 406 and go without, as kubectl since 1.27 does anyway.
pub(crate) fn v2(inner: &Arc<Inner>, accept: &str) -> Result<Reply> {
    let json_wanted = accept.is_empty() || accept.contains("application/json") || accept.contains("*/*");
    if !json_wanted {
        return Err(ApiError::not_acceptable());
    }
    let table = inner.registry.table();
    let resources: Vec<&Arc<Resource>> = table.all().collect();
    let (mut paths, mut schemas) = (Map::new(), Map::new());
    for resource in &resources {
        let name = add_schema(resource, &mut schemas);
        add_paths(resource, &name, &mut paths);
    }
    let text = json!({
        "swagger": "2.0", "info": {"title": "Kubernetes", "version": crate::seed::KUBERNETES_VERSION},
        "paths": paths, "definitions": schemas,
    })
    .to_string()
    .replace("#/components/schemas/", "#/definitions/");
    Ok(body::bytes(StatusCode::OK, "application/json", text))
}
