//! The verbs on stored resources. Each takes a [`Ctx`] and gives a response; nothing here waits, save watches.

mod apply;
pub(crate) mod create;
mod decode;
pub(crate) mod delete;
mod options;
mod read;
mod respond;
mod scale;
mod subresource;
mod update;
mod watch;

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use jiff::Timestamp;

use crate::auth::Identity;
use crate::body::Reply;
use crate::fields::{Operation, Who};
use crate::path::{Query, Target};
use crate::registry::Resource;
use crate::server::Inner;
use crate::status::{ApiError, Result};

pub(crate) use respond::{Accept, Form};

/// One request on one resource, authenticated and authorized.
pub(crate) struct Ctx {
    pub(crate) inner: Arc<Inner>,
    pub(crate) user: Identity,
    pub(crate) target: Target,
    pub(crate) query: Query,
    pub(crate) resource: Arc<Resource>,
    pub(crate) accept: Accept,
    pub(crate) content_type: String,
    pub(crate) user_agent: String,
    pub(crate) body: Bytes,
    pub(crate) now: Timestamp,
    warnings: Mutex<Vec<String>>,
}

/// What the router knows of a request.
pub(crate) struct Parts<'a> {
    pub(crate) content_type: &'a str,
    pub(crate) user_agent: &'a str,
    pub(crate) accept: Accept,
}

impl Ctx {
    pub(crate) fn new(
        inner: &Arc<Inner>,
        user: Identity,
        target: Target,
        query: Query,
        resource: Arc<Resource>,
        parts: Parts<'_>,
        body: Bytes,
    ) -> Ctx {
        Ctx {
            inner: inner.clone(),
            now: inner.now(),
            user,
            target,
            query,
            resource,
            accept: parts.accept,
            content_type: parts.content_type.to_owned(),
            user_agent: parts.user_agent.to_owned(),
            body,
            warnings: Mutex::default(),
        }
    }

    pub(crate) fn warn(&self, text: impl Into<String>) {
        let text = text.into();
        let mut warnings = self.warnings.lock().unwrap_or_else(PoisonError::into_inner);
        if !warnings.contains(&text) {
            warnings.push(text);
        }
    }

    pub(crate) fn take_warnings(&self) -> Vec<String> {
        std::mem::take(&mut *self.warnings.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A copy without the body, for an answer that outlives the request.
    fn for_stream(&self) -> Ctx {
        Ctx {
            inner: self.inner.clone(),
            user: self.user.clone(),
            target: self.target.clone(),
            query: self.query.clone(),
            resource: self.resource.clone(),
            accept: self.accept,
            content_type: String::new(),
            user_agent: String::new(),
            body: Bytes::new(),
            now: self.now,
            warnings: Mutex::default(),
        }
    }

    /// The field manager of an update: named by the client, or the start of its user agent.
    fn manager(&self) -> String {
        if let Some(manager) = self.query.get("fieldManager") {
            return manager.to_owned();
        }
        let agent = self.user_agent.split('/').next().unwrap_or_default();
        if agent.is_empty() {
            "unknown".into()
        } else {
            agent.chars().take(128).collect()
        }
    }

    /// The author of this write; `subresource` is empty for the main endpoint.
    fn who(&self, operation: Operation, subresource: &str) -> Who {
        let ignored = match (subresource, self.resource.has_status()) {
            ("", true) => vec!["status"],
            ("status", _) if self.resource.is_custom() => vec!["metadata", "spec"],
            ("status", _) => vec!["spec"],
            _ => Vec::new(),
        };
        Who {
            manager: self.manager(),
            operation,
            api_version: self.resource.api_version(),
            subresource: subresource.to_owned(),
            time: crate::clock::rfc3339(self.now),
            ignored,
        }
    }

    fn not_found(&self, name: &str) -> Box<ApiError> {
        ApiError::not_found(&self.resource.group, &self.resource.plural, name)
    }

    fn namespace(&self) -> &str {
        if self.resource.namespaced {
            &self.target.namespace
        } else {
            ""
        }
    }
}

/// Runs the verb that the router has found out and the authorizers have allowed.
pub(crate) fn dispatch(ctx: &Ctx, verb: &str) -> Result<Reply> {
    if !ctx.target.subresource.is_empty() {
        return subresource::dispatch(ctx, verb);
    }
    if !ctx.resource.allows(verb) {
        return Err(ApiError::method_not_allowed());
    }
    if let Some(custom) = &ctx.resource.custom
        && let Some(text) = &custom.deprecated
    {
        let default = format!(
            "{} {} is deprecated",
            ctx.resource.api_version(),
            ctx.resource.kind
        );
        ctx.warn(if text.is_empty() { default } else { text.clone() });
    }
    match verb {
        "get" => read::get(ctx),
        "list" => read::list(ctx),
        "watch" => watch::watch(ctx),
        "create" => create::create(ctx),
        "update" => update::put(ctx, ""),
        "patch" => update::patch(ctx, ""),
        "delete" => delete::delete(ctx),
        "deletecollection" => delete::delete_collection(ctx),
        _ => Err(ApiError::method_not_allowed()),
    }
}
