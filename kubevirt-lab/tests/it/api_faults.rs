//! The controller's way to the Kubernetes API, with somebody in between who may refuse a write, or let the
//! controller die before or after it.

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use kube::client::Body;
use serde_json::{Value, json};
use sim_kube::{IdentifiedService, ResponseBody};
use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};
use tower::Service;

/// A write as it is on the wire.
#[derive(Debug)]
pub(crate) struct Write {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) body: Value,
}

impl Write {
    /// `baremetalhosts`, `nodeclaims/status` ..: what is written to.
    pub(crate) fn resource(&self) -> String {
        let parts: Vec<&str> = self.path.trim_matches('/').split('/').collect();
        // api/v1/.. or apis/GROUP/VERSION/.., then perhaps namespaces/NAME/.
        let after_version = if parts.first() == Some(&"api") { 2 } else { 3 };
        let rest = parts.get(after_version..).unwrap_or_default();
        let rest = match rest {
            ["namespaces", _, inner @ ..] if !inner.is_empty() => inner,
            other => other,
        };
        match rest {
            [resource, _name, subresource, ..] => format!("{resource}/{subresource}"),
            [resource, ..] => (*resource).to_owned(),
            [] => String::new(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Pass,
    /// 500, and nothing is done.
    Refuse,
    /// The controller never hears of it again: it dies here.
    Die,
}

/// Asked before a write reaches the server, and after it was taken.
pub(crate) trait Between: Send + Sync {
    fn before(&self, _write: &Write) -> Verdict {
        Verdict::Pass
    }
    fn after(&self, _write: &Write) -> Verdict {
        Verdict::Pass
    }
}

/// Nobody is in between.
pub(crate) struct Nobody;
impl Between for Nobody {}

#[derive(Clone)]
pub(crate) struct Watched {
    pub(crate) server: IdentifiedService,
    pub(crate) between: Arc<dyn Between>,
}

impl Service<Request<Body>> for Watched {
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (mut server, between) = (self.server.clone(), self.between.clone());
        Box::pin(async move {
            if request.method() == Method::GET {
                return server.call(request).await;
            }
            let (head, body) = request.into_parts();
            let bytes = body.collect().await.map(|b| b.to_bytes()).unwrap_or_default();
            let write = Write {
                method: head.method.clone(),
                path: head.uri.path().to_owned(),
                body: serde_json::from_slice(&bytes).unwrap_or_default(),
            };
            match between.before(&write) {
                Verdict::Pass => {}
                Verdict::Refuse => return Ok(refused()),
                Verdict::Die => return std::future::pending().await,
            }
            let answer = server.call(Request::from_parts(head, Full::new(bytes))).await?;
            if answer.status().is_success() && between.after(&write) == Verdict::Die {
                return std::future::pending().await;
            }
            Ok(answer)
        })
    }
}

fn refused() -> Response<ResponseBody> {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "InternalError", "code": 500,
        "message": "etcdserver: request timed out",
    });
    let body: ResponseBody = Full::new(Bytes::from(status.to_string())).boxed_unsync();
    let mut answer = Response::new(body);
    *answer.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR;
    answer
}
