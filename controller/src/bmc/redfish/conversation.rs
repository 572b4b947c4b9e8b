//! Talking with one BMC: session or basic authentication, and what becomes of each answer.
//!
//! Rules: the service root is asked without credentials; a session is preferred; basic authentication is used where
//! sessions don't exist or are used up. A 401 to the password ends it for this client: not one more request goes
//! out. A 401 to a session's token means that the session is over: one new session, one repetition.

use super::document::{Document, error_text, has_message};
use crate::{
    bmc::{BmcAddress, BmcError, Credentials},
    http_client::HttpClient,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use serde_json::{Value, json};

const ROOT: &str = "/redfish/v1/";
const TOKEN: &str = "X-Auth-Token";

#[derive(Clone)]
enum Auth {
    Session {
        token: HeaderValue,
        path: Option<String>,
    },
    Basic(HeaderValue),
}

pub(super) struct Conversation {
    http: HttpClient,
    base: String,
    peer: String,
    credentials: Credentials,
    root: Option<Document>,
    auth: Option<Auth>,
    /// The password was refused, and why: the end of this client.
    refused: Option<String>,
}

impl Conversation {
    pub(super) fn new(http: HttpClient, address: &BmcAddress, credentials: Credentials) -> Conversation {
        Conversation {
            http,
            base: address.base_url(),
            peer: format!("{}:{}", address.host, address.port),
            credentials,
            root: None,
            auth: None,
            refused: None,
        }
    }

    pub(super) fn version(&self) -> &str {
        &self.credentials.version
    }

    /// The service root, read once.
    pub(super) async fn root(&mut self) -> Result<Document, BmcError> {
        if let Some(root) = &self.root {
            return Ok(root.clone());
        }
        let response = self.send(Method::GET, ROOT, None, None, None).await?;
        let root = self.document(ROOT, response)?;
        self.root = Some(root.clone());
        Ok(root)
    }

    pub(super) async fn get(&mut self, path: &str) -> Result<Document, BmcError> {
        let response = self.request(Method::GET, path, None, None).await?;
        self.document(path, response)
    }

    /// An action. `Err` holds the answer's status, so that the caller may look what became of it.
    pub(super) async fn post(&mut self, path: &str, body: &Value) -> Result<(), BmcError> {
        let response = self.request(Method::POST, path, Some(body), None).await?;
        self.accepted(&format!("POST {path}"), response)
    }

    /// A PATCH of the resource as it was read. A BMC that does not accept its own tag (some compare weak ones as
    /// strong, some have changed the resource meanwhile) gets it as a strong one, then none.
    pub(super) async fn patch(&mut self, read: &Document, body: &Value) -> Result<(), BmcError> {
        let mut tags: Vec<Option<String>> = Vec::new();
        if let Some(etag) = &read.etag {
            tags.push(Some(etag.clone()));
            tags.extend(etag.strip_prefix("W/").map(|strong| Some(strong.to_owned())));
        }
        tags.push(None);
        let what = format!("PATCH {}", read.path);
        for tag in &tags {
            let response = self
                .request(Method::PATCH, &read.path, Some(body), tag.as_deref())
                .await?;
            if response.status() != StatusCode::PRECONDITION_FAILED {
                return self.accepted(&what, response);
            }
        }
        let why = "no form of the resource's own ETag is accepted".to_owned();
        Err(BmcError::Answer {
            peer: self.peer.clone(),
            what,
            status: StatusCode::PRECONDITION_FAILED,
            why,
        })
    }

    pub(super) async fn close(&mut self) {
        if let Some(Auth::Session { path: Some(path), .. }) = self.auth.clone() {
            // Whatever the BMC answers, we are done; the session would time out anyway.
            let _ = self
                .send(Method::DELETE, &path, self.auth.clone().as_ref(), None, None)
                .await;
        }
        self.auth = None;
    }

    pub(super) fn unreadable(&self, path: &str, why: impl Into<String>) -> BmcError {
        BmcError::Unreadable {
            peer: self.peer.clone(),
            path: path.to_owned(),
            why: why.into(),
        }
    }

    pub(super) fn ambiguous(&self, found: Vec<String>) -> BmcError {
        BmcError::Ambiguous {
            peer: self.peer.clone(),
            found,
        }
    }

    /// An authenticated request. One that a finished session spoilt is repeated once in a new one.
    async fn request(
        &mut self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        if_match: Option<&str>,
    ) -> Result<Response<Bytes>, BmcError> {
        let auth = self.authenticated().await?;
        let response = self
            .send(method.clone(), path, Some(&auth), body, if_match)
            .await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        self.auth = None;
        if matches!(auth, Auth::Basic(_)) {
            return Err(self.refuse(response.body()));
        }
        let auth = self.authenticated().await?;
        let response = self.send(method, path, Some(&auth), body, if_match).await?;
        if response.status() == StatusCode::UNAUTHORIZED {
            // A session that was made a moment ago: its password is right, so this is not about the password.
            self.auth = None;
            return Err(self.denied(&format!("use {path}"), response.body()));
        }
        Ok(response)
    }

    async fn authenticated(&mut self) -> Result<Auth, BmcError> {
        if let Some(why) = &self.refused {
            return Err(self.refusal(why.clone()));
        }
        if let Some(auth) = &self.auth {
            return Ok(auth.clone());
        }
        let auth = self.log_in().await?;
        self.auth = Some(auth.clone());
        Ok(auth)
    }

    async fn log_in(&mut self) -> Result<Auth, BmcError> {
        let root = self.root().await?;
        let sessions = root
            .link("/Links/Sessions")
            .unwrap_or_else(|| format!("{ROOT}SessionService/Sessions"));
        let body =
            json!({ "UserName": self.credentials.username, "Password": self.credentials.password.reveal() });
        let response = self
            .send(Method::POST, &sessions, None, Some(&body), None)
            .await?;
        let status = response.status();
        match response.headers().get(TOKEN) {
            Some(token) if status.is_success() => {
                let location = response
                    .headers()
                    .get(header::LOCATION)
                    .and_then(|l| l.to_str().ok());
                let path = location
                    .map(|l| l.strip_prefix(&self.base).unwrap_or(l))
                    .filter(|l| l.starts_with('/'));
                let mut token = token.clone();
                token.set_sensitive(true);
                return Ok(Auth::Session {
                    token,
                    path: path.map(str::to_owned),
                });
            }
            _ => {}
        }
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            return Err(self.refuse(response.body()));
        }
        let used_up = has_message(response.body(), "SessionLimitExceeded");
        if status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED && !used_up {
            let why = error_text(response.body());
            return Err(BmcError::Answer {
                peer: self.peer.clone(),
                what: "a login".into(),
                status,
                why,
            });
        }
        self.basic()
    }

    fn basic(&self) -> Result<Auth, BmcError> {
        let pair = format!(
            "{}:{}",
            self.credentials.username,
            self.credentials.password.reveal()
        );
        let value = HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(pair)));
        let mut value =
            value.map_err(|_| self.unreadable("the credentials", "they don't fit in a header"))?;
        value.set_sensitive(true);
        Ok(Auth::Basic(value))
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        auth: Option<&Auth>,
        body: Option<&Value>,
        if_match: Option<&str>,
    ) -> Result<Response<Bytes>, BmcError> {
        let mut request = Request::builder()
            .method(method)
            .uri(self.url(path))
            .header(header::ACCEPT, "application/json")
            .header("OData-Version", "4.0");
        request = match auth {
            Some(Auth::Session { token, .. }) => request.header(TOKEN, token.clone()),
            Some(Auth::Basic(value)) => request.header(header::AUTHORIZATION, value.clone()),
            None => request,
        };
        if let Some(tag) = if_match {
            request = request.header(header::IF_MATCH, tag);
        }
        let bytes = match body {
            Some(body) => {
                request = request.header(header::CONTENT_TYPE, "application/json");
                Bytes::from(body.to_string())
            }
            None => Bytes::new(),
        };
        let request = request
            .body(bytes)
            .map_err(|e| self.unreadable(path, e.to_string()))?;
        Ok(self.http.send(request).await?)
    }

    /// References are paths; some products write whole URLs. Only our own peer is asked.
    fn url(&self, path: &str) -> String {
        let path = path.strip_prefix(&self.base).unwrap_or(path);
        format!(
            "{}{}{path}",
            self.base,
            if path.starts_with('/') { "" } else { "/" }
        )
    }

    fn document(&self, path: &str, response: Response<Bytes>) -> Result<Document, BmcError> {
        let what = format!("GET {path}");
        if !response.status().is_success() {
            return Err(self.failure(&what, response));
        }
        let body =
            serde_json::from_slice(response.body()).map_err(|e| self.unreadable(path, e.to_string()))?;
        Ok(Document::new(path, response.headers(), body))
    }

    fn accepted(&self, what: &str, response: Response<Bytes>) -> Result<(), BmcError> {
        if response.status().is_success() {
            Ok(())
        } else {
            Err(self.failure(what, response))
        }
    }

    fn failure(&self, what: &str, response: Response<Bytes>) -> BmcError {
        let status = response.status();
        if status == StatusCode::FORBIDDEN {
            return self.denied(what, response.body());
        }
        BmcError::Answer {
            peer: self.peer.clone(),
            what: what.to_owned(),
            status,
            why: error_text(response.body()),
        }
    }

    fn denied(&self, what: &str, body: &[u8]) -> BmcError {
        let why = if has_message(body, "PasswordChangeRequired") {
            "its password must be changed first".to_owned()
        } else {
            error_text(body)
        };
        let username = self.credentials.username.clone();
        BmcError::Denied {
            peer: self.peer.clone(),
            username,
            what: what.to_owned(),
            why,
        }
    }

    fn refuse(&mut self, body: &[u8]) -> BmcError {
        let why = error_text(body);
        self.refused = Some(why.clone());
        self.refusal(why)
    }

    fn refusal(&self, why: String) -> BmcError {
        BmcError::Refused {
            peer: self.peer.clone(),
            username: self.credentials.username.clone(),
            why,
            credentials: self.credentials.version.clone(),
        }
    }
}
