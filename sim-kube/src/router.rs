//! From an HTTP request to a verb: authentication, impersonation, authorization, then dispatch.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, USER_AGENT};
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode};

use crate::auth::{ANONYMOUS, Attributes, Identity, authorize, reviews, tokens};
use crate::body::{self, Reply};
use crate::path::{Query, Target};
use crate::selector::Fields;
use crate::server::{AnonymousAuth, Inner};
use crate::status::{ApiError, Result};
use crate::verbs::{self, Accept, Ctx};
use crate::{discovery, openapi};

/// Paths that nobody needs a name for.
fn is_public(path: &str) -> bool {
    matches!(
        path,
        "/version"
            | "/version/"
            | "/healthz"
            | "/livez"
            | "/readyz"
            | "/api/v1/namespaces/kube-public/configmaps/cluster-info"
    ) || path.starts_with("/livez/")
        || path.starts_with("/readyz/")
        || path.starts_with("/healthz/")
}

pub(crate) async fn handle(
    inner: &Arc<Inner>,
    parts: &Parts,
    body: Bytes,
    identity: Option<Identity>,
) -> Reply {
    let result = serve(inner, parts, body, identity);
    match result {
        Ok(reply) => reply,
        Err(error) => {
            tracing::debug!(method = %parts.method, path = parts.uri.path(), code = error.code, error = %error.message, "refused");
            let mut reply = body::error(&error);
            if error.code == 401 {
                reply
                    .headers_mut()
                    .insert(http::header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            reply
        }
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &http::HeaderName) -> &'a str {
    headers
        .get(name)
        .and_then(|v| v.to_str().ok())
        .unwrap_or_default()
}

fn authenticate(inner: &Inner, parts: &Parts, identity: Option<Identity>) -> Result<Identity> {
    let authorization = header(&parts.headers, &AUTHORIZATION);
    let bearer = authorization
        .split_once(' ')
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, t)| t.trim());
    match (identity, bearer) {
        (Some(identity), _) => Ok(identity),
        (None, Some(token)) => tokens::authenticate(inner, token).ok_or_else(ApiError::unauthorized),
        (None, None) => {
            let allowed = inner.options.anonymous == AnonymousAuth::Everywhere || is_public(parts.uri.path());
            if allowed {
                Ok(Identity::anonymous())
            } else {
                Err(ApiError::unauthorized())
            }
        }
    }
}

/// `Impersonate-*` headers, each of which must be allowed.
fn impersonate(inner: &Inner, parts: &Parts, user: Identity) -> Result<Identity> {
    let text = |v: &HeaderValue| v.to_str().unwrap_or_default().to_owned();
    let name = parts
        .headers
        .get("impersonate-user")
        .map(text)
        .unwrap_or_default();
    let groups: Vec<String> = parts
        .headers
        .get_all("impersonate-group")
        .iter()
        .map(text)
        .collect();
    let uid = parts.headers.get("impersonate-uid").map(text).unwrap_or_default();
    if name.is_empty() {
        if groups.is_empty() && uid.is_empty() {
            return Ok(user);
        }
        return Err(ApiError::bad_request(
            "requested impersonation without impersonating a user",
        ));
    }
    let account = name
        .strip_prefix("system:serviceaccount:")
        .and_then(|rest| rest.split_once(':'));
    let mut asks = vec![match account {
        Some((namespace, account)) => ("serviceaccounts", namespace.to_owned(), account.to_owned()),
        None => ("users", String::new(), name.clone()),
    }];
    asks.extend(
        groups
            .iter()
            .map(|group| ("groups", String::new(), group.clone())),
    );
    if !uid.is_empty() {
        asks.push(("uids", String::new(), uid.clone()));
    }
    for (resource, namespace, target) in asks {
        let group = if resource == "uids" {
            "authentication.k8s.io"
        } else {
            ""
        };
        let ask = Attributes {
            verb: "impersonate".into(),
            group: group.into(),
            resource: resource.into(),
            namespace,
            name: target,
            is_resource: true,
            ..Attributes::default()
        };
        let verdict = authorize(inner, &user, &ask);
        if !verdict.allowed {
            return Err(ask.refusal(&user, &verdict));
        }
    }
    let mut groups = groups;
    if groups.is_empty()
        && let Some((namespace, _)) = account
    {
        groups = vec![
            "system:serviceaccounts".to_owned(),
            format!("system:serviceaccounts:{namespace}"),
        ];
    }
    let mut out = Identity {
        user: name,
        uid,
        groups,
        ..Identity::default()
    }
    .authenticated();
    for (key, value) in &parts.headers {
        if let Some(extra) = key.as_str().strip_prefix("impersonate-extra-") {
            out = out.with_extra(&crate::path::decode(extra, false), text(value));
        }
    }
    Ok(out)
}

/// The verb that authorization and dispatch see.
fn verb(method: &Method, target: &Target, query: &Query) -> Option<&'static str> {
    let single = !target.name.is_empty();
    Some(match *method {
        Method::GET | Method::HEAD if single && !query.flag("watch") => "get",
        Method::GET | Method::HEAD if query.flag("watch") => "watch",
        Method::GET | Method::HEAD => "list",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE if single => "delete",
        Method::DELETE => "deletecollection",
        _ => return None,
    })
}

fn plain_verb(method: &Method) -> String {
    method.as_str().to_lowercase()
}

fn serve(inner: &Arc<Inner>, parts: &Parts, body: Bytes, identity: Option<Identity>) -> Result<Reply> {
    let path = parts.uri.path();
    let user = impersonate(inner, parts, authenticate(inner, parts, identity)?)?;
    let target = Target::parse(path);
    let query = Query::parse(parts.uri.query().unwrap_or_default());
    if !target.is_resource {
        return serve_plain(inner, parts, &user, &target, &query);
    }
    let verb = verb(&parts.method, &target, &query).ok_or_else(ApiError::method_not_allowed)?;
    let mut target = target;
    // The real server tells "pods/x of namespace" from the namespace itself only by the resource.
    if target.resource == "namespaces" && target.group.is_empty() && verb != "list" && verb != "create" {
        target.namespace = target.name.clone();
    }
    let mut ask = Attributes::of(&target, verb);
    let resource = inner
        .registry
        .find(&target.group, &target.version, &target.resource);
    if let (Some(resource), "list" | "watch") = (&resource, verb)
        && target.name.is_empty()
        && let Some(selector) = query.get("fieldSelector")
        && let Ok(fields) = Fields::parse(selector, resource)
        && let Some(name) = fields.pinned("metadata.name")
    {
        ask.name = name.to_owned();
    }
    let verdict = authorize(inner, &user, &ask);
    if !verdict.allowed {
        if user.user == ANONYMOUS && inner.options.anonymous == AnonymousAuth::Paths {
            return Err(ApiError::unauthorized());
        }
        return Err(ask.refusal(&user, &verdict));
    }
    let Some(resource) = resource else {
        return Err(ApiError::page_not_found());
    };
    if resource.namespaced && target.namespace.is_empty() && !target.name.is_empty() {
        return Err(ApiError::page_not_found());
    }
    if !resource.namespaced && !target.namespace.is_empty() && !resource.is("", "namespaces") {
        return Err(ApiError::page_not_found());
    }
    let accept = Accept::parse(header(&parts.headers, &ACCEPT))?;
    if reviews::is_review(&target.group, &target.resource) {
        let protobuf = header(&parts.headers, &CONTENT_TYPE).starts_with(crate::protobuf::MEDIA);
        return review(inner, &user, &resource, &target, &body, protobuf, verb);
    }
    let known = verbs::Parts {
        content_type: header(&parts.headers, &CONTENT_TYPE),
        user_agent: header(&parts.headers, &USER_AGENT),
        accept,
    };
    if !resource.namespaced {
        target.namespace.clear();
    }
    let verb = if verb == "watch" && !target.name.is_empty() {
        "get"
    } else {
        verb
    };
    let ctx = Ctx::new(inner, user, target, query, resource, known, body);
    let mut reply = verbs::dispatch(&ctx, verb)?;
    for text in ctx.take_warnings() {
        let quoted = format!("299 - {}", serde_json::Value::from(text));
        if let Ok(value) = HeaderValue::from_str(&quoted) {
            reply.headers_mut().append(http::header::WARNING, value);
        }
    }
    Ok(reply)
}

fn review(
    inner: &Inner,
    user: &Identity,
    resource: &crate::registry::Resource,
    target: &Target,
    body: &Bytes,
    protobuf: bool,
    verb: &str,
) -> Result<Reply> {
    if verb != "create" {
        return Err(ApiError::method_not_allowed());
    }
    let decoded = match protobuf {
        true => crate::protobuf::decode(body),
        false => serde_json::from_slice(body).map_err(|error| crate::patch::go_json_error(&error, body)),
    };
    let mut value: serde_json::Value = decoded.map_err(ApiError::bad_request)?;
    if !value.is_object() {
        return Err(ApiError::bad_request("the object provided is no object"));
    }
    value["kind"] = resource.kind.clone().into();
    value["apiVersion"] = resource.api_version().into();
    if !value["metadata"].is_object() {
        value["metadata"] = serde_json::json!({});
    }
    reviews::answer(inner, user, &target.resource, &target.namespace, &mut value)?;
    Ok(body::json(StatusCode::CREATED, &value))
}

fn serve_plain(
    inner: &Arc<Inner>,
    parts: &Parts,
    user: &Identity,
    target: &Target,
    query: &Query,
) -> Result<Reply> {
    let path = parts.uri.path();
    let ask = Attributes::of(target, &plain_verb(&parts.method));
    if !is_public(path) {
        let verdict = authorize(inner, user, &ask);
        if !verdict.allowed {
            return Err(ask.refusal(user, &verdict));
        }
    }
    if !matches!(parts.method, Method::GET | Method::HEAD) {
        return Err(ApiError::method_not_allowed());
    }
    let accept = header(&parts.headers, &ACCEPT);
    match path.trim_end_matches('/') {
        "/version" => {
            // Indented, as the real server's is and `kubectl get --raw` shows.
            let text = serde_json::to_string_pretty(&discovery::version()).unwrap_or_default();
            Ok(body::bytes(StatusCode::OK, "application/json", text))
        }
        "/healthz" | "/livez" | "/readyz" => Ok(health(path, query)),
        "/.well-known/openid-configuration" => Ok(body::json(StatusCode::OK, &discovery::openid())),
        "/openid/v1/jwks" => Ok(body::json(StatusCode::OK, &inner.service_account_key.jwks())),
        "/metrics" => Ok(body::text(
            StatusCode::OK,
            format!("apiserver_storage_resource_version {}\n", inner.store.version()),
        )),
        "/openapi/v2" => openapi::v2(inner, accept),
        "/openapi/v3" => Ok(openapi::index(inner)),
        other => {
            if let Some(group_version) = other.strip_prefix("/openapi/v3/") {
                return openapi::document(inner, group_version);
            }
            discovery::serve(
                inner,
                other,
                accept,
                header(&parts.headers, &http::header::IF_NONE_MATCH),
            )
        }
    }
}

const CHECKS: &[&str] = &[
    "ping",
    "log",
    "informer-sync",
    "poststarthook/start-apiextensions-controllers",
    "poststarthook/crd-informer-synced",
    "poststarthook/start-system-namespaces-controller",
    "poststarthook/rbac/bootstrap-roles",
];

fn health(path: &str, query: &Query) -> Reply {
    if !query.flag("verbose") {
        return body::text(StatusCode::OK, "ok");
    }
    let name = path.trim_matches('/');
    let mut text: String = CHECKS.iter().map(|check| format!("[+]{check} ok\n")).collect();
    text.push_str(&format!("{name} check passed\n"));
    body::text(StatusCode::OK, text)
}
