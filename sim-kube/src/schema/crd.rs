//! One served version of a custom resource, compiled: schema, rules, columns, subresources.

use std::sync::{Arc, OnceLock};

use serde_json::Value;

use super::cel::Cel;
use super::columns::JsonPath;
use super::{Child, Schema, Type, builtin, parse};

#[derive(Debug)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) format: String,
    pub(crate) description: String,
    pub(crate) priority: i64,
    pub(crate) path: JsonPath,
}

#[derive(Debug)]
pub(crate) struct Scale {
    pub(crate) spec_replicas: Vec<String>,
    pub(crate) status_replicas: Vec<String>,
    pub(crate) selector: Option<Vec<String>>,
}

pub(crate) struct CrdVersion {
    pub(crate) schema: Arc<Schema>,
    /// As given, for OpenAPI.
    pub(crate) raw: Value,
    pub(crate) columns: Vec<Column>,
    pub(crate) has_status: bool,
    pub(crate) scale: Option<Scale>,
    /// `spec.colour` to its path.
    pub(crate) selectable: Vec<(String, JsonPath)>,
    pub(crate) deprecated: Option<String>,
    cel: OnceLock<Option<Cel>>,
}

impl std::fmt::Debug for CrdVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CrdVersion")
            .field("has_status", &self.has_status)
            .finish_non_exhaustive()
    }
}

fn dotted(path: &str) -> Vec<String> {
    path.split('.')
        .filter(|s| !s.is_empty())
        .map(str::to_owned)
        .collect()
}

fn columns(version: &Value) -> Vec<Column> {
    let given = version.get("additionalPrinterColumns").and_then(Value::as_array);
    let text = |column: &Value, key: &str| column[key].as_str().unwrap_or_default().to_owned();
    given
        .into_iter()
        .flatten()
        .filter_map(|column| {
            let path = text(column, "jsonPath");
            let described = text(column, "description");
            Some(Column {
                name: text(column, "name"),
                kind: text(column, "type"),
                format: text(column, "format"),
                description: if described.is_empty() {
                    format!("Custom resource definition column (in JSONPath format): {path}")
                } else {
                    described
                },
                priority: column["priority"].as_i64().unwrap_or(0),
                path: JsonPath::parse(&path).ok()?,
            })
        })
        .collect()
}

/// The root knows apiVersion, kind and metadata whatever the CRD's author wrote.
fn root(raw: &Value) -> Schema {
    let mut schema = parse(raw);
    schema.kind = Some(Type::Object);
    let string = || {
        Child::Inline(Arc::new(Schema {
            kind: Some(Type::String),
            ..Schema::default()
        }))
    };
    schema.properties.insert("apiVersion".into(), string());
    schema.properties.insert("kind".into(), string());
    schema
        .properties
        .insert("metadata".into(), Child::named(builtin::OBJECT_META));
    schema
}

impl CrdVersion {
    pub(crate) fn new(version: &Value) -> CrdVersion {
        let raw = version["schema"]["openAPIV3Schema"].clone();
        let subresources = &version["subresources"];
        let scale = subresources.get("scale").map(|scale| Scale {
            spec_replicas: dotted(scale["specReplicasPath"].as_str().unwrap_or_default()),
            status_replicas: dotted(scale["statusReplicasPath"].as_str().unwrap_or_default()),
            selector: scale["labelSelectorPath"].as_str().map(dotted),
        });
        let selectable = version.get("selectableFields").and_then(Value::as_array);
        let selectable = selectable.into_iter().flatten().filter_map(|field| {
            let path = field["jsonPath"].as_str()?;
            Some((
                path.trim_start_matches('.').to_owned(),
                JsonPath::parse(path).ok()?,
            ))
        });
        let deprecated = version["deprecated"].as_bool().unwrap_or(false);
        CrdVersion {
            schema: Arc::new(root(&raw)),
            columns: columns(version),
            has_status: subresources.get("status").is_some(),
            scale,
            selectable: selectable.collect(),
            deprecated: deprecated.then(|| {
                version["deprecationWarning"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned()
            }),
            raw,
            cel: OnceLock::new(),
        }
    }

    /// Compiling CEL is slow (an ANTLR parser), so it waits for the first object.
    pub(crate) fn cel(&self) -> Option<&Cel> {
        self.cel.get_or_init(|| Cel::new(&self.raw)).as_ref()
    }
}
