//! A server with its loops running, and clients of it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use serde_json::Value;
use sim_kube::{AnonymousAuth, ApiServer, Options};
use tokio::task::JoinSet;
use tower::ServiceExt;

/// Safety net: nothing here takes a second.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Cluster {
    pub(crate) server: ApiServer,
    /// Dropping it ends the loops.
    _loops: JoinSet<()>,
}

pub(crate) fn cluster() -> Cluster {
    cluster_with(|_| {})
}

pub(crate) fn cluster_with(change: impl FnOnce(&mut Options)) -> Cluster {
    let mut options = Options::new(Arc::new(jiff::Timestamp::now));
    change(&mut options);
    let server = ApiServer::new(options);
    let mut loops = JoinSet::new();
    loops.spawn(server.run());
    Cluster {
        server,
        _loops: loops,
    }
}

impl Cluster {
    pub(crate) fn admin(&self) -> kube::Client {
        self.client("admin", &["system:masters"])
    }

    pub(crate) fn client(&self, user: &str, groups: &[&str]) -> kube::Client {
        kube::Client::new(self.server.as_user(user, groups), "default")
    }

    /// Anonymous requests are a user, as on the recorded server, and time stands still.
    pub(crate) fn everywhere_at(time: &str) -> Cluster {
        let at: jiff::Timestamp = time.parse().expect("a time");
        cluster_with(|options| {
            options.anonymous = AnonymousAuth::Everywhere;
            options.now = Arc::new(move || at);
        })
    }
}

/// One raw request; `None` is a request without identity.
pub(crate) async fn send(
    server: &ApiServer,
    user: Option<(&str, &[&str])>,
    request: http::Request<Full<Bytes>>,
) -> (u16, Value) {
    let response = match user {
        Some((user, groups)) => server.as_user(user, groups).oneshot(request).await,
        None => server.clone().oneshot(request).await,
    };
    let response = response.expect("the service never fails");
    let code = response.status().as_u16();
    let body = response
        .into_body()
        .collect()
        .await
        .expect("bodies never fail")
        .to_bytes();
    let value = serde_json::from_slice(&body)
        .unwrap_or_else(|_| Value::from(String::from_utf8_lossy(&body).into_owned()));
    (code, value)
}

pub(crate) fn request(method: &str, path: &str, body: &str) -> http::Request<Full<Bytes>> {
    http::Request::builder()
        .method(method)
        .uri(path)
        .body(Full::new(Bytes::from(body.to_owned())))
        .expect("a good request")
}

/// Polls until `check` gives something.
pub(crate) async fn until<T, F>(what: &str, mut check: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let wait = async {
        loop {
            if let Some(found) = check().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait)
        .await
        .unwrap_or_else(|_| panic!("timed out waiting until {what}"))
}
