//! Session, envelope and verbs of the Netris API.

use super::super::FabricError;
use crate::{http_client::HttpClient, net::Net, secret::Secret};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header};
use rustls::ClientConfig;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetrisAccess {
    pub url: String,
    pub user: String,
    pub password: Secret,
}

pub(super) struct Client {
    http: HttpClient,
    access: NetrisAccess,
    /// The cookies of the session, as they are sent back.
    session: Mutex<Option<HeaderValue>>,
    /// When user and password were last refused.
    refused: Mutex<Option<Instant>>,
}

/// A password that was refused is not tried again sooner: accounts get locked.
const LOGIN_AGAIN: Duration = Duration::from_secs(60);

/// What every answer is wrapped in. Success is 200 **and** `isSuccess`.
#[derive(Deserialize)]
struct Envelope {
    #[serde(default)]
    data: Value,
    #[serde(default)]
    message: Value,
    #[serde(default, rename = "isSuccess")]
    success: bool,
}

impl Client {
    pub(super) fn new(
        net: Arc<dyn Net>,
        tls: Arc<ClientConfig>,
        mut access: NetrisAccess,
        timeout: Duration,
    ) -> Self {
        access.url = access.url.trim_end_matches('/').to_owned();
        Client {
            http: HttpClient::new(net, tls, timeout),
            access,
            session: Mutex::new(None),
            refused: Mutex::new(None),
        }
    }

    pub(super) fn url(&self) -> &str {
        &self.access.url
    }

    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, FabricError> {
        let data = self.call(Method::GET, &format!("/api/v2/{path}"), None).await?;
        serde_json::from_value(data).map_err(|e| self.unreadable(path, &e))
    }

    pub(super) async fn put(&self, path: &str, body: &Value) -> Result<(), FabricError> {
        self.call(Method::PUT, &format!("/api/v2/{path}"), Some(body))
            .await
            .map(drop)
    }

    /// The id of what was made.
    pub(super) async fn post(&self, path: &str, body: &Value) -> Result<i64, FabricError> {
        let data = self
            .call(Method::POST, &format!("/api/v2/{path}"), Some(body))
            .await?;
        let id = data["id"].as_i64().or_else(|| data["id"].as_str()?.parse().ok());
        id.ok_or_else(|| self.unreadable(path, &"the answer has no data.id"))
    }

    pub(super) async fn delete(&self, path: &str) -> Result<(), FabricError> {
        self.call(Method::DELETE, &format!("/api/v2/{path}"), None)
            .await
            .map(drop)
    }

    /// Id and name of the first tenant or site: what a request names when the fabric has only one.
    pub(super) async fn first(&self, what: &str, old_api: bool) -> Result<Value, FabricError> {
        let path = if old_api {
            format!("/api/{what}")
        } else {
            format!("/api/v2/{what}")
        };
        let data = self.call(Method::GET, &path, None).await?;
        let first = data
            .get(0)
            .ok_or_else(|| self.unreadable(what, &"the list is empty"))?;
        Ok(json!({"id": first["id"], "name": first["name"]}))
    }

    async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, FabricError> {
        if self.session().is_none() {
            self.login().await?;
        }
        match self.try_call(&method, path, body).await? {
            Some(data) => Ok(data),
            // The session has run out: log in once, and ask once more.
            None => {
                self.login().await?;
                self.try_call(&method, path, body)
                    .await?
                    .ok_or_else(|| self.unauthorized())
            }
        }
    }

    /// `None`: the session is not known (any more).
    async fn try_call(
        &self,
        method: &Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Option<Value>, FabricError> {
        let mut request = Request::builder()
            .method(method.clone())
            .uri(format!("{}{path}", self.access.url));
        if let Some(session) = self.session() {
            request = request.header(header::COOKIE, session);
        }
        let request = self.finish(request, body)?;
        let response = self.send(request).await?;
        if response.status() == StatusCode::UNAUTHORIZED {
            return Ok(None);
        }
        let envelope = serde_json::from_slice::<Envelope>(response.body());
        match envelope {
            Ok(envelope) if response.status() == StatusCode::OK && envelope.success => {
                Ok(Some(envelope.data))
            }
            Err(error) if response.status() == StatusCode::OK => Err(self.unreadable(path, &error)),
            // What stands before the API (a proxy, say) answers without an envelope.
            other => {
                let text = other
                    .ok()
                    .and_then(|e| e.message.as_str().map(str::to_owned))
                    .unwrap_or_default();
                Err(self.refused(
                    format!("{method} {path}"),
                    format!("{} {text}", response.status().as_u16()).trim().to_owned(),
                ))
            }
        }
    }

    async fn login(&self) -> Result<(), FabricError> {
        let refused = *self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if refused.is_some_and(|at| at.elapsed() < LOGIN_AGAIN) {
            return Err(self.unauthorized());
        }
        let body =
            json!({"user": self.access.user, "password": self.access.password.reveal(), "auth_scheme_id": 1});
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("{}/api/auth", self.access.url));
        let response = self.send(self.finish(request, Some(&body))?).await?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
                return Err(self.unauthorized());
            }
            other => return Err(self.refused("to log in".into(), other.as_u16().to_string())),
        }
        let cookies: Vec<&str> = response
            .headers()
            .get_all(header::SET_COOKIE)
            .iter()
            .filter_map(|c| c.to_str().ok()?.split(';').next())
            .collect();
        let cookie = HeaderValue::from_str(&cookies.join("; ")).map_err(|e| self.unreadable("auth", &e))?;
        *self.session.lock().unwrap_or_else(PoisonError::into_inner) = Some(cookie);
        Ok(())
    }

    fn session(&self) -> Option<HeaderValue> {
        self.session
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn finish(
        &self,
        request: http::request::Builder,
        body: Option<&Value>,
    ) -> Result<Request<Bytes>, FabricError> {
        let request = request.header(header::CONTENT_TYPE, "application/json");
        let bytes = body.map(|b| Bytes::from(b.to_string())).unwrap_or_default();
        request
            .body(bytes)
            .map_err(|e| self.refused("to be a URL".into(), e.to_string()))
    }

    async fn send(&self, request: Request<Bytes>) -> Result<http::Response<Bytes>, FabricError> {
        self.http.send(request).await.map_err(|source| FabricError::Http {
            url: self.access.url.clone(),
            source,
        })
    }

    fn refused(&self, what: String, message: String) -> FabricError {
        FabricError::Refused {
            url: self.access.url.clone(),
            what,
            message,
        }
    }

    fn unauthorized(&self) -> FabricError {
        FabricError::Unauthorized {
            url: self.access.url.clone(),
            user: self.access.user.clone(),
        }
    }

    fn unreadable(&self, what: &str, why: &dyn std::fmt::Display) -> FabricError {
        FabricError::Unreadable {
            url: self.access.url.clone(),
            what: what.into(),
            why: why.to_string(),
        }
    }
}
