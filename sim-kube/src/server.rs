//! The shared server behind every connection and in-process client, as a `tower::Service`.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use jiff::Timestamp;

use crate::auth::Identity;
use crate::auth::tokens::{ServiceAccountKey, Token};
use crate::clock::Now;
use crate::kubeconfig::{self, Credential};
use crate::pki::{MAX_CERTIFICATE_GROUPS, Pki, PkiError};
use crate::random::Random;
use crate::registry::Registry;
use crate::store::Store;
use crate::{auth, body, loops, openapi, router, seed};

pub use crate::body::ResponseBody;

/// What a request without any credential may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AnonymousAuth {
    /// Health, version and cluster-info; everything else is 401, as an `AuthenticationConfiguration` with
    /// conditions makes the real server behave.
    #[default]
    Paths,
    /// The user `system:anonymous` everywhere, so that RBAC answers 403: kube-apiserver's default.
    Everywhere,
}

/// How a server is set up. Start from [`Options::new`] and change fields.
#[derive(Clone)]
pub struct Options {
    /// Seeds uids, name suffixes and serial numbers. Keys are never derived from it.
    pub seed: u64,
    pub now: Now,
    /// IP addresses and DNS names of the serving certificate.
    pub sans: Vec<String>,
    /// The URL that cluster-info and kubeadm-config tell joining nodes.
    pub advertise_url: String,
    pub anonymous: AnonymousAuth,
    /// Watch events kept per resource; a watch that starts before them gets 410 Gone.
    pub watch_history: usize,
}

impl Options {
    /// Loopback names, the usual port, 100,000 events of history.
    pub fn new(now: Now) -> Options {
        Options {
            seed: 1,
            now,
            sans: ["127.0.0.1", "::1", "localhost"].map(str::to_owned).to_vec(),
            advertise_url: "https://127.0.0.1:6443".into(),
            anonymous: AnonymousAuth::default(),
            watch_history: 100_000,
        }
    }
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("seed", &self.seed)
            .field("sans", &self.sans)
            .field("advertise_url", &self.advertise_url)
            .field("anonymous", &self.anonymous)
            .field("watch_history", &self.watch_history)
            .finish_non_exhaustive()
    }
}

pub(crate) struct Inner {
    pub(crate) options: Options,
    pub(crate) store: Store,
    pub(crate) registry: Registry,
    pub(crate) random: Random,
    pub(crate) pki: Pki,
    pub(crate) service_account_key: ServiceAccountKey,
    /// Static tokens, by their text.
    pub(crate) rbac: auth::rbac::Cache,
    pub(crate) openapi: openapi::Cache,
    pub(crate) tokens: RwLock<BTreeMap<Token, Identity>>,
    tls: OnceLock<Arc<rustls::ServerConfig>>,
}

impl Inner {
    pub(crate) fn now(&self) -> Timestamp {
        (self.options.now)()
    }
}

/// An embedded Kubernetes API server; clones share one cluster.
#[derive(Clone)]
pub struct ApiServer {
    pub(crate) inner: Arc<Inner>,
}

impl std::fmt::Debug for ApiServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiServer")
            .field("options", &self.inner.options)
            .finish_non_exhaustive()
    }
}

/// A future of the one response type; boxed, since `kube::Client` wants to name it.
type Answer = Pin<Box<dyn Future<Output = Result<Response<ResponseBody>, Infallible>> + Send>>;

impl ApiServer {
    /// A fresh cluster with its default namespaces, roles and configuration objects.
    ///
    /// # Panics
    /// If the system has no randomness for keys; nothing could be served without them.
    pub fn new(options: Options) -> ApiServer {
        let random = Random::new(options.seed);
        let pki = Pki::new(&random).expect("P-256 keys can be made and a constant certificate signed");
        let inner = Inner {
            store: Store::new(options.watch_history),
            registry: Registry::new(),
            service_account_key: ServiceAccountKey::generate().expect("a P-256 key can be made"),
            rbac: auth::rbac::Cache::default(),
            openapi: openapi::Cache::default(),
            tokens: RwLock::default(),
            tls: OnceLock::new(),
            pki,
            random,
            options,
        };
        seed::cluster(&inner);
        ApiServer {
            inner: Arc::new(inner),
        }
    }

    /// The controllers that even an empty cluster runs. Never returns; the caller owns the task.
    pub fn run(&self) -> impl Future<Output = ()> + Send + 'static {
        loops::run(self.inner.clone())
    }

    /// The cluster's CA, which signs serving, client and node certificates.
    pub fn ca_pem(&self) -> String {
        self.inner.pki.ca_pem().to_owned()
    }

    /// A kubeconfig with a client certificate of group `system:masters`.
    pub fn admin_kubeconfig(&self, url: &str) -> String {
        self.user_kubeconfig(url, "kubernetes-admin", &["system:masters"])
    }

    /// A kubeconfig for any user: a client certificate, or a token where the groups do not fit in one.
    ///
    /// # Panics
    /// If the user or a group holds characters that X.509 cannot carry; both are the caller's constants.
    pub fn user_kubeconfig(&self, url: &str, user: &str, groups: &[&str]) -> String {
        let ca = self.inner.pki.ca_pem();
        if groups.len() > MAX_CERTIFICATE_GROUPS {
            let token = self.inner.random.suffix(32);
            self.add_token(&token, user, groups);
            return kubeconfig::render(url, ca, user, &Credential::Token(&token));
        }
        let leaf = self
            .inner
            .pki
            .client(user, groups, &self.inner.random)
            .expect("a client certificate can be signed");
        let key = leaf.key.serialize_pem();
        kubeconfig::render(
            url,
            ca,
            user,
            &Credential::Certificate {
                chain_pem: &leaf.pem,
                key_pem: &key,
            },
        )
    }

    /// Makes a bearer token known.
    pub fn add_token(&self, token: &str, user: &str, groups: &[&str]) {
        let mut tokens = self.inner.tokens.write().unwrap_or_else(PoisonError::into_inner);
        tokens.insert(Token::new(token), Identity::new(user, groups));
    }

    /// A service whose every request comes from this user, for `kube::Client::new`.
    pub fn as_user(&self, user: &str, groups: &[&str]) -> IdentifiedService {
        self.identified(Identity::new(user, groups))
    }

    pub(crate) fn identified(&self, identity: Identity) -> IdentifiedService {
        IdentifiedService {
            server: self.clone(),
            identity: Some(Arc::new(identity)),
        }
    }

    pub(crate) fn unidentified(&self) -> IdentifiedService {
        IdentifiedService {
            server: self.clone(),
            identity: None,
        }
    }

    /// TLS 1.2 and 1.3 with a serving certificate for `Options::sans`; client certificates are optional.
    ///
    /// # Panics
    /// If a name in `Options::sans` is neither an IP address nor a DNS name.
    pub fn tls(&self) -> Arc<rustls::ServerConfig> {
        let inner = &self.inner;
        let make = || -> Result<_, PkiError> {
            inner
                .pki
                .tls(&inner.options.sans, inner.options.now.clone(), &inner.random)
        };
        inner
            .tls
            .get_or_init(|| make().expect("`Options::sans` holds IP addresses and DNS names only"))
            .clone()
    }

    fn answer<B>(&self, request: Request<B>, identity: Option<Arc<Identity>>) -> Answer
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
    {
        let inner = self.inner.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let identity = identity
                .map(|i| (*i).clone())
                .or_else(|| parts.extensions.get::<Identity>().cloned());
            let response = match body::read(body).await {
                Ok(bytes) => router::handle(&inner, &parts, bytes, identity).await,
                Err(error) => body::error(&error),
            };
            Ok(response)
        })
    }
}

impl<B> tower::Service<Request<B>> for ApiServer
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
{
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Answer {
        self.answer(request, None)
    }
}

/// [`ApiServer`] with an identity attached to each request.
#[derive(Clone, Debug)]
pub struct IdentifiedService {
    server: ApiServer,
    identity: Option<Arc<Identity>>,
}

impl<B> tower::Service<Request<B>> for IdentifiedService
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
{
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Answer {
        self.server.answer(request, self.identity.clone())
    }
}
