//! The management API as Netris shows it: a session cookie, an envelope around
//! every answer, whole-list writes that are accepted at once and reach the switches later. Paths and fields
//! marked [U] there are our guess and marked so here.

mod auth;
mod cluster;
mod envelope;
mod hw;
mod ipam;
mod org;
mod ports;
mod vnet;
mod wire;

use std::sync::Arc;

use axum::{
    Router,
    extract::{DefaultBodyLimit, FromRequestParts, Path, Request, State},
    http::{StatusCode, request::Parts},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};

pub(crate) use self::auth::Api;
use self::{
    auth::Password,
    envelope::{Answer, Failure},
};
use crate::{
    fabric::Fabric,
    handle::FabricHandle,
    model::{Intended, Refusal},
};

/// A cluster of 10 000 servers, listed whole at 100 bytes each, four times over.
const BODY_MAX: usize = 4 << 20;

/// What each handler gets.
#[derive(Clone)]
struct Netris {
    fabric: FabricHandle,
    user: Arc<str>,
    password: Password,
}

impl Netris {
    /// Reads with everything that is due done.
    fn read<T>(&self, read: impl FnOnce(&Fabric) -> T) -> T {
        self.fabric.engine(|fabric, now| {
            fabric.poll(now);
            read(fabric)
        })
    }

    fn edit<T>(
        &self,
        edit: impl FnOnce(&mut Intended, jiff::Timestamp) -> Result<T, Refusal>,
    ) -> Result<T, Failure> {
        Ok(self
            .fabric
            .engine(|fabric, now| fabric.edit(now, |model| edit(model, now)))?)
    }
}

impl FabricHandle {
    /// The management API, for one user. Serve it with [`crate::serve`] or [`crate::serve_connection`].
    pub fn netris(&self, user: &str, password: &str) -> Router {
        let state = Netris {
            fabric: self.clone(),
            user: user.into(),
            password: Password::new(password),
        };
        let guarded = org::routes()
            .merge(cluster::routes())
            .merge(hw::routes())
            .merge(ipam::routes())
            .merge(ports::routes())
            .merge(vnet::routes())
            .route_layer(middleware::from_fn_with_state(state.clone(), logged_in));
        Router::new()
            .route(
                "/api/auth",
                post(auth::log_in).get(auth::check).delete(auth::log_out),
            )
            .merge(guarded)
            .fallback(unknown)
            .method_not_allowed_fallback(not_allowed)
            .layer(DefaultBodyLimit::max(BODY_MAX))
            .layer(middleware::from_fn_with_state(state.clone(), faults))
            .with_state(state)
    }
}

async fn logged_in(State(netris): State<Netris>, request: Request, next: Next) -> Response {
    match auth::session_of(&netris, request.headers()) {
        Some(_) => next.run(request).await,
        None => Failure::unauthorized("the session is missing or over; log in with POST /api/auth")
            .into_response(),
    }
}

async fn faults(State(netris): State<Netris>, request: Request, next: Next) -> Response {
    let verdict = netris
        .fabric
        .api()
        .judge(request.method().as_str(), request.uri().path());
    match verdict.and_then(|status| StatusCode::from_u16(status).ok()) {
        None => next.run(request).await,
        Some(status) => Failure::new(status, "FaultInjected", "a fault rule answered").into_response(),
    }
}

async fn unknown(request: Request) -> Failure {
    Failure::new(
        StatusCode::NOT_FOUND,
        "NotFound",
        format!("there is no {}", request.uri().path()),
    )
}

async fn not_allowed(request: Request) -> Failure {
    let what = format!("{} is not possible on {}", request.method(), request.uri().path());
    Failure::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", what)
}

/// The id at the end of a path; a bad one is answered in the envelope like everything else.
struct Id(u32);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Id, Failure> {
        let id = Path::<u32>::from_request_parts(parts, state).await;
        id.map(|Path(id)| Id(id))
            .map_err(|_| Failure::invalid(format!("{}: the last part is no id", parts.uri.path())))
    }
}

/// `GET` of a list: a shorthand for the many that take nothing.
fn list(read: fn(&Fabric) -> serde_json::Value) -> axum::routing::MethodRouter<Netris> {
    get(move |State(netris): State<Netris>| async move { Answer::new(netris.read(read)) })
}
