//! Redfish over the engine: one pipeline for every request, one table of routes, one renderer.
//!
//! ```text
//!   headers -> path -> route -> authentication -> method -> privilege -> query -> preconditions -> body -> resource
//! ```
//! The order is DSP0266's: credentials are judged before existence, existence before preconditions, those before the
//! body. Everything from preconditions to the write happens in one call of the engine, so that of several writers with
//! the same ETag one wins.

mod auth;
mod document;
mod failure;
mod fields;
mod message;
mod metadata;
mod query;
mod route;
mod tree;

use http::{HeaderValue, Method, StatusCode, header};
use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::bmc::{Bmc, Reply, Request};
use auth::Principal;
use document::Document;
use failure::Failure;
use message::Message;
use query::Query;
use route::{Call, Done, Found, Scene};

pub(crate) use failure::{body_too_large, refused_credentials, unavailable, unreadable_body};

/// Largest request body. The largest real one, a BIOS settings PATCH, is below 64 KiB.
pub(crate) const MAX_BODY: usize = 1 << 20;

/// Resources that DSP0266 opens to everybody.
pub(crate) fn is_public(method: &Method, path: &str) -> bool {
    let path = path.strip_suffix('/').unwrap_or(path);
    let open = matches!(
        path,
        "/redfish" | "/redfish/v1" | "/redfish/v1/odata" | "/redfish/v1/$metadata"
    );
    open && (method == Method::GET || method == Method::HEAD)
}

/// Answers one request.
pub(crate) fn respond(bmc: &mut Bmc, request: Request, now: Timestamp) -> Reply {
    if let Some(seconds) = bmc.down_for(now) {
        return unavailable(seconds);
    }
    let head = request.method() == Method::HEAD;
    let mut reply = answer(bmc, &request, now).unwrap_or_else(Failure::into_reply);
    let headers = reply.headers_mut();
    headers.insert("odata-version", HeaderValue::from_static("4.0"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if head {
        reply.body_mut().clear();
    }
    tracing::trace!(method = %request.method(), path = request.uri().path(), status = %reply.status(), "answered");
    reply
}

fn answer(bmc: &mut Bmc, request: &Request, now: Timestamp) -> Result<Reply, Failure> {
    check_odata_version(request)?;
    let path = normal_path(request.uri().path())?;
    let found = route::find(&path);
    let opens_session = request.method() == Method::POST && found.as_ref().is_some_and(Found::opens_session);
    let public = is_public(request.method(), &path) || opens_session;
    // On a public resource a login matters only for what `$expand` may show.
    let who = match auth::authenticate(bmc, request, &path, now) {
        Ok(who) => Some(who),
        Err(_) if public => None,
        Err(refused) => return Err(refused),
    };
    let found = found.ok_or_else(|| Failure::not_found(&path))?;
    let scene = Scene { bmc, now };
    let current = found.read(&scene);
    if current.is_none() && !found.is_action() {
        return Err(Failure::not_found(&path));
    }
    let allow = found.allow();
    if !allow.contains(&request.method().as_str()) {
        return Err(Failure::method_not_allowed(&allow));
    }
    if let Some(who) = &who
        && !public
    {
        auth::authorise(&scene, who, request.method(), &found)?;
    }
    let query = Query::parse(request.uri().query().unwrap_or(""))?;
    if request.method() == Method::GET || request.method() == Method::HEAD {
        let document = current.ok_or_else(|| Failure::not_found(&path))?;
        return read(&scene, request, &found, document, &query, who.as_ref());
    }
    query.reject_on_write()?;
    write(bmc, request, &found, current, who.as_ref(), now)
}

fn check_odata_version(request: &Request) -> Result<(), Failure> {
    match request.headers().get("odata-version") {
        Some(version) if version != "4.0" => Err(Failure::new(
            StatusCode::PRECONDITION_FAILED,
            Message::header_invalid("OData-Version"),
        )),
        _ => Ok(()),
    }
}

/// One spelling for each resource: no trailing slash, no percent-encoding.
fn normal_path(path: &str) -> Result<String, Failure> {
    let decoded = query::percent_decode(path).ok_or_else(|| Failure::not_found(path))?;
    let trimmed = decoded.strip_suffix('/').unwrap_or(&decoded);
    Ok(if trimmed.is_empty() {
        "/".to_owned()
    } else {
        trimmed.to_owned()
    })
}

fn read(
    scene: &Scene<'_>,
    request: &Request,
    found: &Found<'_>,
    document: Document,
    query: &Query,
    who: Option<&Principal>,
) -> Result<Reply, Failure> {
    check_accept(request, document.media_type())?;
    let etag = document.etag(scene.bmc);
    let mut reply = if etag.as_ref().is_some_and(|etag| none_match(request, etag)) {
        let mut reply = Reply::default();
        *reply.status_mut() = StatusCode::NOT_MODIFIED;
        reply
    } else {
        let body = query::apply(scene, &document, query, who)?;
        let mut reply = Reply::new(body.into());
        reply.headers_mut().insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static(document.media_type()),
        );
        reply
    };
    describe(&mut reply, found, &document, etag);
    Ok(reply)
}

/// The headers that go with every representation of a resource.
fn describe(reply: &mut Reply, found: &Found<'_>, document: &Document, etag: Option<String>) {
    let headers = reply.headers_mut();
    if let Some(etag) = etag.and_then(|etag| HeaderValue::try_from(etag).ok()) {
        headers.insert(header::ETAG, etag);
    }
    if let Some(link) = document
        .described_by()
        .and_then(|link| HeaderValue::try_from(link).ok())
    {
        headers.insert(header::LINK, link);
    }
    if let Ok(allow) = HeaderValue::try_from(found.allow().join(", ")) {
        headers.insert(header::ALLOW, allow);
    }
}

fn check_accept(request: &Request, offered: &str) -> Result<(), Failure> {
    let offered_top = offered.split('/').next().unwrap_or_default();
    let accepts = |accept: &str| {
        accept.split(',').any(|range| {
            let range = range.split(';').next().unwrap_or_default().trim();
            range == "*/*"
                || range == offered
                || range.strip_suffix("/*").is_some_and(|top| top == offered_top)
        })
    };
    let mut given = request.headers().get_all(header::ACCEPT).iter().peekable();
    if given.peek().is_none() || given.any(|value| value.to_str().is_ok_and(accepts)) {
        return Ok(());
    }
    Err(Failure::new(
        StatusCode::NOT_ACCEPTABLE,
        Message::header_invalid("Accept"),
    ))
}

/// Whether a tag list matches (RFC 9110 13.1). Comparison is weak, since clients differ in what they make of `W/`.
fn matches(list: &str, etag: &str) -> bool {
    let weak = |tag: &str| tag.trim().strip_prefix("W/").unwrap_or(tag.trim()).to_owned();
    list.trim() == "*" || list.split(',').any(|tag| weak(tag) == weak(etag))
}

fn none_match(request: &Request, etag: &str) -> bool {
    let mut given = request.headers().get_all(header::IF_NONE_MATCH).iter();
    given.any(|list| list.to_str().is_ok_and(|list| matches(list, etag)))
}

/// 412 unless every If-Match holds. A tag that is not well-formed matches nothing.
fn check_if_match(request: &Request, etag: Option<&str>) -> Result<(), Failure> {
    let holds = |list: &HeaderValue| {
        list.to_str()
            .is_ok_and(|list| etag.is_some_and(|etag| matches(list, etag)))
    };
    if request.headers().get_all(header::IF_MATCH).iter().all(holds) {
        return Ok(());
    }
    Err(Failure::new(
        StatusCode::PRECONDITION_FAILED,
        Message::precondition_failed(),
    ))
}

fn write(
    bmc: &mut Bmc,
    request: &Request,
    found: &Found<'_>,
    current: Option<Document>,
    who: Option<&Principal>,
    now: Timestamp,
) -> Result<Reply, Failure> {
    let etag = current.as_ref().and_then(|document| document.etag(bmc));
    if bmc.personality.quirks.require_if_match
        && request.method() == Method::PATCH
        && !request.headers().contains_key(header::IF_MATCH)
    {
        return Err(Failure::new(
            StatusCode::PRECONDITION_REQUIRED,
            Message::precondition_required(),
        ));
    }
    check_if_match(request, etag.as_deref())?;
    let body = if request.method() == Method::DELETE {
        Map::new()
    } else {
        parse_body(request, found)?
    };
    let call = Call {
        params: &found.params,
        uri: &found.uri,
        body,
        current: current.as_ref().map(|document| &document.body),
        who,
        now,
    };
    let done = found.handler(request.method())(bmc, call)?;
    written(bmc, found, done, now)
}

/// The answer to a write that was carried out.
fn written(bmc: &mut Bmc, found: &Found<'_>, done: Done, now: Timestamp) -> Result<Reply, Failure> {
    match done {
        Done::NoContent => {
            let mut reply = Reply::default();
            *reply.status_mut() = StatusCode::NO_CONTENT;
            Ok(reply)
        }
        Done::Updated => {
            bmc.written(&found.uri);
            let document = found
                .read(&Scene { bmc, now })
                .ok_or_else(|| Failure::not_found(&found.uri))?;
            let etag = document.etag(bmc);
            let mut reply = represent(bmc, document.clone(), Vec::new());
            describe(&mut reply, found, &document, etag);
            Ok(reply)
        }
        Done::Created {
            uri,
            headers,
            messages,
        } => {
            let created = route::find(&uri).and_then(|found| found.read(&Scene { bmc, now }));
            let document = created.ok_or_else(|| Failure::not_found(&uri))?;
            let mut reply = represent(bmc, document, messages);
            *reply.status_mut() = StatusCode::CREATED;
            if let Ok(location) = HeaderValue::try_from(uri) {
                reply.headers_mut().insert(header::LOCATION, location);
            }
            reply.headers_mut().extend(headers);
            Ok(reply)
        }
    }
}

fn represent(bmc: &Bmc, document: Document, messages: Vec<Message>) -> Reply {
    let etag = document.etag(bmc);
    let mut body = document.render(bmc);
    if !messages.is_empty() {
        let messages: Vec<Value> = messages.iter().map(Message::to_json).collect();
        body.insert("@Message.ExtendedInfo".to_owned(), messages.into());
    }
    let mut reply = Reply::new(Value::Object(body).to_string().into());
    reply
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(etag) = etag.and_then(|etag| HeaderValue::try_from(etag).ok()) {
        reply.headers_mut().insert(header::ETAG, etag);
    }
    reply
}

/// The body of a PATCH or POST as a JSON object. An action may be called without any.
fn parse_body(request: &Request, found: &Found<'_>) -> Result<Map<String, Value>, Failure> {
    let bytes = request.body();
    if bytes.len() > MAX_BODY {
        return Err(Failure::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            Message::payload_too_large(),
        ));
    }
    if bytes.is_empty() && found.is_action() {
        return Ok(Map::new());
    }
    // Absent is tolerated, as products do: sushy and curl send actions without one.
    if let Some(media) = request.headers().get(header::CONTENT_TYPE) {
        let media = media
            .to_str()
            .unwrap_or_default()
            .split(';')
            .next()
            .unwrap_or_default()
            .trim();
        if !media.eq_ignore_ascii_case("application/json") {
            let message = Message::header_invalid("Content-Type");
            return Err(Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
        }
    }
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(body)) => Ok(body),
        Ok(_) => Err(Failure::bad_request(Message::unrecognized_request_body())),
        Err(_) => Err(Failure::bad_request(Message::malformed_json())),
    }
}

#[cfg(test)]
mod tests;
