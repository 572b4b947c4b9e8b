//! Objects as the client wants them: its version, and whole, as a Table, as metadata only, or as YAML.

use std::borrow::Cow;

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};

use super::Ctx;
use crate::body::{self, Reply};
use crate::registry::Resource;
use crate::status::{ApiError, Result};
use crate::store::Object;
use crate::{builtin, registry, table};

/// The shape of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Whole,
    Table,
    Metadata,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Accept {
    pub(crate) form: Form,
    pub(crate) yaml: bool,
}

impl Accept {
    /// The first media range that we can serve. Protobuf is never offered: clients name JSON beside it.
    pub(crate) fn parse(header: &str) -> Result<Accept> {
        if header.trim().is_empty() {
            return Ok(Accept {
                form: Form::Whole,
                yaml: false,
            });
        }
        for range in header.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default();
            let parameter = |key: &str| {
                range
                    .split(';')
                    .skip(1)
                    .filter_map(|p| p.trim().split_once('='))
                    .find(|(k, _)| *k == key)
                    .map(|(_, v)| v)
            };
            let yaml = media == "application/yaml";
            if !(yaml || matches!(media, "application/json" | "*/*" | "application/*")) {
                continue;
            }
            let ours =
                parameter("g").is_none_or(|g| g == "meta.k8s.io") && parameter("v").is_none_or(|v| v == "v1");
            let form = match parameter("as") {
                None => Form::Whole,
                Some("Table") if ours => Form::Table,
                Some("PartialObjectMetadata" | "PartialObjectMetadataList") if ours => Form::Metadata,
                Some(_) => continue,
            };
            return Ok(Accept { form, yaml });
        }
        Err(ApiError::not_acceptable())
    }
}

/// The object in the requested version. Stored objects mostly are in it already.
pub(super) fn external<'a>(resource: &Resource, value: &'a Value) -> Cow<'a, Value> {
    let wanted = resource.api_version();
    if value["apiVersion"] == wanted.as_str() {
        return Cow::Borrowed(value);
    }
    let mut value = value.clone();
    builtin::convert(&mut value, &resource.storage, &wanted, resource.is_custom());
    Cow::Owned(value)
}

pub(super) fn is_external(resource: &Resource, value: &Value) -> bool {
    value["apiVersion"]
        .as_str()
        .is_some_and(|v| match v.split_once('/') {
            Some((group, version)) => group == resource.group && version == resource.version,
            None => resource.group.is_empty() && v == resource.version,
        })
}

pub(super) fn partial(value: &Value) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": value["metadata"]})
}

/// Serialised in the requested version and form, sharing the stored bytes where possible.
pub(super) fn encode(ctx: &Ctx, object: &Object) -> Bytes {
    match ctx.accept.form {
        Form::Whole if is_external(&ctx.resource, &object.value) => object.json(),
        Form::Whole => Bytes::from(external(&ctx.resource, &object.value).to_string()),
        Form::Metadata => Bytes::from(partial(&object.value).to_string()),
        Form::Table => {
            Bytes::from(table_of(ctx, &[&external(&ctx.resource, &object.value)], true).to_string())
        }
    }
}

pub(super) fn table_of(ctx: &Ctx, objects: &[&Value], definitions: bool) -> Value {
    let include = ctx.query.get("includeObject").unwrap_or("Metadata");
    table::render(&ctx.resource, objects, include, definitions, ctx.now)
}

pub(super) fn finish(ctx: &Ctx, code: StatusCode, json: Bytes) -> Reply {
    if ctx.accept.yaml
        && let Ok(value) = serde_json::from_slice::<Value>(&json)
    {
        let text = serde_saphyr::to_string(&value).unwrap_or_default();
        return body::bytes(code, "application/yaml", text);
    }
    body::bytes(code, "application/json", json)
}

pub(super) fn object(ctx: &Ctx, code: StatusCode, object: &Object) -> Reply {
    let mut bytes = encode(ctx, object);
    if ctx.accept.form == Form::Table {
        let mut table = table_of(ctx, &[&external(&ctx.resource, &object.value)], true);
        table["metadata"] = json!({"resourceVersion": object.version.to_string()});
        bytes = Bytes::from(table.to_string());
    }
    finish(ctx, code, bytes)
}

/// An object that was not stored: a dry run.
pub(super) fn value(ctx: &Ctx, code: StatusCode, value: &Value) -> Reply {
    let value = external(&ctx.resource, value);
    let shaped = match ctx.accept.form {
        Form::Whole => value,
        Form::Metadata => Cow::Owned(partial(&value)),
        Form::Table => Cow::Owned(table_of(ctx, &[&value], true)),
    };
    finish(ctx, code, Bytes::from(shaped.to_string()))
}

/// The group of `Status.details` and the like.
pub(super) fn status(ctx: &Ctx, code: StatusCode, status: &Value) -> Reply {
    finish(ctx, code, Bytes::from(status.to_string()))
}

pub(super) fn list_kind(resource: &Resource) -> (String, &str) {
    (
        registry::api_version(&resource.group, &resource.version),
        &resource.list_kind,
    )
}
