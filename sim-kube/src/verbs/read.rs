//! get and list: consistent, paged, at old versions as far as history reaches.

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use bytes::{BufMut, BytesMut};
use http::StatusCode;
use serde_json::{Value, json};

use super::options::{self, Freshness};
use super::{Ctx, Form, respond};
use crate::body::Reply;
use crate::selector::{Fields, Labels};
use crate::status::{ApiError, Result};
use crate::store::{Key, Obj, Object};

pub(super) fn get(ctx: &Ctx) -> Result<Reply> {
    fresh_enough(ctx, options::freshness(&ctx.query)?)?;
    let object = ctx
        .inner
        .store
        .get(&ctx.resource.storage, ctx.namespace(), &ctx.target.name)
        .ok_or_else(|| ctx.not_found(&ctx.target.name))?;
    Ok(respond::object(ctx, StatusCode::OK, &object))
}

fn fresh_enough(ctx: &Ctx, freshness: Freshness) -> Result<()> {
    let (Freshness::NotOlderThan(version) | Freshness::Exact(version)) = freshness else {
        return Ok(());
    };
    let current = ctx.inner.store.version();
    if version > current {
        Err(ApiError::rv_too_large(version, current))
    } else {
        Ok(())
    }
}

/// What a list or watch selects.
pub(super) struct Selection {
    pub(super) labels: Labels,
    pub(super) fields: Fields,
}

impl Selection {
    pub(super) fn parse(ctx: &Ctx) -> Result<Selection> {
        let fields = Fields::parse(ctx.query.get("fieldSelector").unwrap_or_default(), &ctx.resource)?;
        Ok(Selection {
            labels: Labels::parse(ctx.query.get("labelSelector").unwrap_or_default())?,
            fields,
        })
    }

    pub(super) fn is_everything(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    pub(super) fn matches(&self, ctx: &Ctx, object: &Object) -> bool {
        self.is_everything()
            || (self.labels.matches(&object.value) && self.fields.matches(&object.value, &ctx.resource))
    }
}

/// One page of a list, and where the next one starts.
struct Page {
    objects: Vec<Obj>,
    version: u64,
    next: Option<Key>,
    remaining: usize,
}

/// The continue token: etcd's form, so that its errors and its looks are the same.
fn encode_continue(version: u64, key: &Key) -> String {
    let start = if key.namespace.is_empty() {
        format!("/{}\0", key.name)
    } else {
        format!("{}/{}\0", key.namespace, key.name)
    };
    let token = json!({"v": "meta.k8s.io/v1", "rv": version, "start": start});
    BASE64_URL_SAFE_NO_PAD.encode(token.to_string())
}

fn decode_continue(text: &str, namespace: &str) -> Result<(u64, Key)> {
    let broken = |why: &str| {
        ApiError::bad_request(format!(
            "invalid continue token: continue key is not valid: {why}"
        ))
    };
    let bytes = BASE64_URL_SAFE_NO_PAD
        .decode(text.trim_end_matches('='))
        .map_err(|_| broken("illegal base64 data at input byte 0"))?;
    let token: Value = serde_json::from_slice(&bytes).map_err(|_| {
        let first = bytes.first().copied().unwrap_or(b' ') as char;
        broken(&format!(
            "invalid character {first:?} looking for beginning of value"
        ))
    })?;
    if token["v"] != "meta.k8s.io/v1" {
        return Err(broken("server does not recognize this encoded version"));
    }
    let (Some(version), Some(start)) = (token["rv"].as_u64(), token["start"].as_str()) else {
        return Err(broken("incorrect encoded start resourceVersion"));
    };
    let start = start.trim_end_matches('\0');
    let (ns, name) = start.split_once('/').unwrap_or((namespace, start));
    Ok((version, Key::new(ns, name)))
}

fn page(ctx: &Ctx, selection: &Selection) -> Result<Page> {
    let limit = options::limit(&ctx.query)?;
    let freshness = options::freshness(&ctx.query)?;
    fresh_enough(ctx, freshness)?;
    let storage = &ctx.resource.storage;
    let store = &ctx.inner.store;
    let keep = |object: &Object| selection.matches(ctx, object);
    let (at, after) = match (ctx.query.get("continue"), freshness) {
        (Some(token), _) => {
            let (version, key) = decode_continue(token, ctx.namespace())?;
            (Some(version), Some(key))
        }
        (None, Freshness::Exact(version)) => (Some(version), None),
        (None, _) => (None, None),
    };
    // Nothing of this resource changed since: the present is the past, and needs no rebuilding.
    let changed = at.filter(|version| store.log(storage).last() > *version);
    let Some(version) = changed else {
        let mut found = store.page(storage, ctx.namespace(), after.as_ref(), limit, &keep);
        let next = (found.remaining > 0)
            .then(|| found.objects.last().map(|o| o.key()))
            .flatten();
        found.version = at.unwrap_or(found.version);
        return Ok(Page {
            objects: found.objects,
            version: found.version,
            next,
            remaining: found.remaining,
        });
    };
    let Some(past) = store.list_at(storage, ctx.namespace(), version) else {
        let message = if after.is_some() {
            "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter.".to_owned()
        } else {
            format!("too old resource version: {version} ({})", store.version())
        };
        return Err(ApiError::expired(message));
    };
    let from = past
        .into_iter()
        .filter(|(key, object)| after.as_ref().is_none_or(|after| key > after) && keep(object));
    let mut objects: Vec<Obj> = from.map(|(_, object)| object).collect();
    let remaining = objects.len().saturating_sub(limit);
    objects.truncate(limit);
    let next = (remaining > 0).then(|| objects.last().map(|o| o.key())).flatten();
    Ok(Page {
        objects,
        version,
        next,
        remaining,
    })
}

pub(super) fn list(ctx: &Ctx) -> Result<Reply> {
    let selection = Selection::parse(ctx)?;
    let page = page(ctx, &selection)?;
    let mut metadata = json!({"resourceVersion": page.version.to_string()});
    if let Some(next) = &page.next {
        metadata["continue"] = encode_continue(page.version, next).into();
        // With a selector the rest is unknown until it is read.
        if selection.is_everything() {
            metadata["remainingItemCount"] = page.remaining.into();
        }
    }
    if ctx.accept.form == Form::Table {
        let values: Vec<_> = page
            .objects
            .iter()
            .map(|o| respond::external(&ctx.resource, &o.value))
            .collect();
        let values: Vec<&Value> = values.iter().map(AsRef::as_ref).collect();
        let mut table = respond::table_of(ctx, &values, true);
        table["metadata"] = metadata;
        return Ok(respond::finish(ctx, StatusCode::OK, table.to_string().into()));
    }
    Ok(respond::finish(
        ctx,
        StatusCode::OK,
        encode(ctx, &page.objects, &metadata),
    ))
}

/// Joins the objects' own bytes: a list of a thousand serialises nothing anew.
fn encode(ctx: &Ctx, objects: &[Obj], metadata: &Value) -> bytes::Bytes {
    let (version, kind) = match ctx.accept.form {
        Form::Metadata => ("meta.k8s.io/v1".to_owned(), "PartialObjectMetadataList"),
        _ => respond::list_kind(&ctx.resource),
    };
    let parts: Vec<bytes::Bytes> = objects
        .iter()
        .map(|object| respond::encode(ctx, object))
        .collect();
    let size = parts.iter().map(|part| part.len() + 1).sum::<usize>();
    let mut out = BytesMut::with_capacity(size + 256);
    out.put_slice(
        format!("{{\"kind\":{kind:?},\"apiVersion\":{version:?},\"metadata\":{metadata},\"items\":[")
            .as_bytes(),
    );
    for (at, part) in parts.iter().enumerate() {
        if at > 0 {
            out.put_u8(b',');
        }
        out.put_slice(part);
    }
    out.put_slice(b"]}\n");
    out.freeze()
}
