//! A small Kubernetes client of the node: JSON over one kept-alive connection through the machine's own NIC.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::Full;
use rustls::ClientConfig;
use serde_json::Value;
use tokio::sync::Mutex;
use url::Url;

use super::http::{HttpError, Peer, Session};
use super::nic::Network;

/// Largest answer: a list of CSRs would be more, but nobody lists here.
const BODY_MAX: usize = 4 << 20;

/// A bearer token; never printed.
#[derive(Clone)]
pub(crate) struct Bearer(pub String);

#[derive(Debug, thiserror::Error)]
pub(crate) enum KubeError {
    #[error("{0}")]
    Http(#[from] HttpError),
    #[error("{method} {path}: {code} {message}")]
    Status {
        method: Method,
        path: String,
        code: u16,
        message: String,
    },
    #[error("{method} {path}: the answer is not JSON: {source}")]
    Json {
        method: Method,
        path: String,
        source: serde_json::Error,
    },
}

impl KubeError {
    pub(crate) fn is(&self, status: StatusCode) -> bool {
        matches!(self, Self::Status { code, .. } if *code == status.as_u16())
    }
}

pub(crate) struct Client {
    net: Network,
    peer: Peer,
    bearer: Option<Bearer>,
    agent: &'static str,
    timeout: Duration,
    session: Mutex<Option<Session>>,
}

impl Client {
    pub(crate) fn new(
        net: Network,
        server: &Url,
        tls: &Arc<ClientConfig>,
        bearer: Option<Bearer>,
        agent: &'static str,
        timeout: Duration,
    ) -> Result<Self, HttpError> {
        Ok(Self {
            net,
            peer: Peer::of(server, tls)?,
            bearer,
            agent,
            timeout,
            session: Mutex::new(None),
        })
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Value, KubeError> {
        self.call(Method::GET, path, "application/json", None).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Result<Value, KubeError> {
        self.call(Method::POST, path, "application/json", Some(body))
            .await
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> Result<Value, KubeError> {
        self.call(Method::PUT, path, "application/json", Some(body)).await
    }

    /// Strategic merge patch, as the kubelet sends it.
    pub(crate) async fn patch(&self, path: &str, body: &Value) -> Result<Value, KubeError> {
        self.call(
            Method::PATCH,
            path,
            "application/strategic-merge-patch+json",
            Some(body),
        )
        .await
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: Option<&Value>,
    ) -> Result<Value, KubeError> {
        let body = Bytes::from(body.map(Value::to_string).unwrap_or_default());
        // Held over the request: one at a time on one connection. Whoever stops waiting drops the connection with it.
        let mut kept = self.session.lock().await;
        let mut reused = kept.is_some();
        let answer = loop {
            let mut session = match kept.take() {
                Some(session) => session,
                None => self.bounded(Session::open(&self.net, &self.peer)).await?,
            };
            let request = self.request(&method, path, content_type, body.clone())?;
            match self.bounded(session.send(request, BODY_MAX)).await {
                Ok(answer) => {
                    *kept = Some(session);
                    break answer;
                }
                // The server closed it while it was idle; every call here may be repeated.
                Err(error) if reused && error.stale() => reused = false,
                Err(error) => return Err(error.into()),
            }
        };
        if answer
            .headers()
            .get(header::CONNECTION)
            .is_some_and(|value| value == "close")
        {
            *kept = None;
        }
        let (status, body) = (answer.status(), answer.into_body());
        let path = path.to_owned();
        if !status.is_success() {
            let message = serde_json::from_slice::<Value>(&body)
                .ok()
                .and_then(|v| v["message"].as_str().map(str::to_owned));
            let message =
                message.unwrap_or_else(|| String::from_utf8_lossy(&body).chars().take(200).collect());
            return Err(KubeError::Status {
                method,
                path,
                code: status.as_u16(),
                message,
            });
        }
        serde_json::from_slice(&body).map_err(|source| KubeError::Json { method, path, source })
    }

    async fn bounded<T>(&self, work: impl Future<Output = Result<T, HttpError>>) -> Result<T, HttpError> {
        let timeout = || HttpError::Timeout {
            peer: self.peer.authority(),
            waited: self.timeout,
        };
        tokio::time::timeout(self.timeout, work)
            .await
            .map_err(|_| timeout())?
    }

    fn request(
        &self,
        method: &Method,
        path: &str,
        content_type: &str,
        body: Bytes,
    ) -> Result<Request<Full<Bytes>>, HttpError> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, self.peer.authority())
            .header(header::USER_AGENT, self.agent)
            .header(header::ACCEPT, "application/json");
        if let Some(Bearer(token)) = &self.bearer {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        if !body.is_empty() {
            request = request.header(header::CONTENT_TYPE, content_type);
        }
        Ok(request.body(Full::new(body))?)
    }
}
