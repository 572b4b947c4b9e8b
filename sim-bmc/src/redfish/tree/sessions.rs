//! SessionService: logging in with a token, and out.

use http::{HeaderMap, HeaderValue, StatusCode};
use jiff::Timestamp;
use serde::Serialize;

use super::{SESSION_MEMBERS_URI, SESSIONS_URI, account_uri, schemas};
use crate::bmc::{Bmc, Session, SessionId, TIMEOUT_SECONDS};
use crate::redfish::document::{Collection, Document, ENABLED, Link, Status, link};
use crate::redfish::failure::Failure;
use crate::redfish::fields::Fields;
use crate::redfish::message::Message;
use crate::redfish::route::{Call, Done, MANAGER, Owner, Route, SESSION, SESSIONS, Scene};

pub(super) const ROUTES: &[Route] = &[
    Route::get("/redfish/v1/SessionService", MANAGER, service).patch(patch_service),
    Route::get(SESSIONS_URI, SESSIONS, collection).post(open),
    Route::action(SESSION_MEMBERS_URI, SESSIONS, open),
    Route::get("/redfish/v1/SessionService/Sessions/{}", SESSION, session)
        .delete(close)
        .owned(owner),
];

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct SessionService {
    id: &'static str,
    name: &'static str,
    service_enabled: bool,
    session_timeout: i64,
    status: Status,
    sessions: Link,
}

fn service(scene: &Scene<'_>, _: &[String]) -> Option<Document> {
    let service = SessionService {
        id: "SessionService",
        name: "Session Service",
        service_enabled: true,
        session_timeout: scene.bmc.sessions.timeout_seconds(),
        status: ENABLED,
        sessions: link(SESSIONS_URI),
    };
    Some(Document::new(
        schemas::SESSION_SERVICE,
        "/redfish/v1/SessionService",
        &service,
    ))
}

fn patch_service(bmc: &mut Bmc, call: Call<'_>) -> Result<Done, Failure> {
    let mut fields = Fields::patch(call.body, call.current);
    let timeout = fields.integer("SessionTimeout", TIMEOUT_SECONDS);
    fields.finish()?;
    if let Some(timeout) = timeout {
        bmc.sessions.set_timeout_seconds(timeout);
    }
    Ok(Done::Updated)
}

fn collection(scene: &Scene<'_>, _: &[String]) -> Option<Document> {
    let ids = scene.bmc.sessions.iter().map(|(id, _)| id.to_string());
    Some(Collection::of(schemas::SESSIONS, SESSIONS_URI, "Sessions", ids))
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct SessionResource<'a> {
    id: String,
    name: &'static str,
    user_name: &'a str,
    /// Write-only by schema, so always null.
    password: (),
    session_type: &'static str,
    created_time: Timestamp,
    roles: Vec<&'static str>,
}

fn parse_id(params: &[String]) -> Option<SessionId> {
    params.first()?.parse().ok()
}

fn owner(params: &[String]) -> Option<Owner> {
    parse_id(params).map(Owner::Session)
}

fn uri(id: SessionId) -> String {
    format!("{SESSIONS_URI}/{id}")
}

fn session(scene: &Scene<'_>, params: &[String]) -> Option<Document> {
    let id = parse_id(params)?;
    let session: &Session = scene.bmc.sessions.get(id)?;
    let account = scene.bmc.accounts.get(session.account);
    let resource = SessionResource {
        id: id.to_string(),
        name: "User Session",
        user_name: &session.user_name,
        password: (),
        session_type: "Redfish",
        created_time: super::manager::whole_seconds(session.created),
        roles: account.map(|account| account.role.name()).into_iter().collect(),
    };
    Some(Document::new(schemas::SESSION, uri(id), &resource))
}

fn open(bmc: &mut Bmc, call: Call<'_>) -> Result<Done, Failure> {
    let mut fields = Fields::create(call.body);
    let user = fields.string("UserName");
    let password = fields.string("Password");
    for (name, given) in [("UserName", &user), ("Password", &password)] {
        if given.is_none() {
            fields.missing(name);
        }
    }
    fields.finish()?;
    let (user, password) = (user.unwrap_or_default(), password.unwrap_or_default());
    let account = bmc.accounts.verify(&user, &password, call.now).ok_or_else(|| {
        tracing::debug!(user, "session refused");
        Failure::unauthorized()
    })?;
    let Some((id, token)) = bmc.sessions.open(account, &user, &mut bmc.dice, call.now) else {
        return Err(Failure::new(
            StatusCode::SERVICE_UNAVAILABLE,
            Message::session_limit(),
        ));
    };
    let mut headers = HeaderMap::new();
    if let Ok(mut token) = HeaderValue::try_from(token) {
        token.set_sensitive(true);
        headers.insert("x-auth-token", token);
    }
    let must_change = bmc
        .accounts
        .get(account)
        .is_some_and(|account| account.must_change);
    let messages = must_change.then(|| Message::password_change_required(&account_uri(account)));
    Ok(Done::Created {
        uri: uri(id),
        headers,
        messages: messages.into_iter().collect(),
    })
}

fn close(bmc: &mut Bmc, call: Call<'_>) -> Result<Done, Failure> {
    if let Some(id) = parse_id(call.params) {
        bmc.sessions.close(id);
    }
    Ok(Done::NoContent)
}
