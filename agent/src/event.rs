//! What goes into the agent and what comes out of it. The shell carries actions out and reports with events; it decides
//! nothing.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;

/// A request that the agent asked for; answers name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct HttpId(pub(crate) u64);

/// A request to the agent's API; the shell numbers them, and replies name the number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RequestId(pub u64);

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// The machine is up; comes first, once.
    Started,
    /// The time of [`crate::Agent::poll_at`] has come.
    Tick,
    Http(HttpId, HttpEvent),
    /// Answer to [`Action::Listen`]: the API accepts connections.
    Listening {
        /// Address in the certificate and in the callback URL.
        host: std::net::IpAddr,
        port: u16,
        certificate_pem: String,
    },
    /// Answer to [`Action::Listen`]: no route to the service yet, or the port is taken.
    ListenFailed(String),
    /// Someone calls the agent's API.
    Request(RequestId, ApiRequest),
}

/// What happened to a request of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HttpEvent {
    /// The whole answer of a request with [`BodyMode::Whole`].
    Response { status: u16, body: Bytes },
    /// Begin of the answer of a request with [`BodyMode::Chunks`].
    Head { status: u16, length: Option<u64> },
    /// Some bytes of the body, in order. The shell reads on only after `on` has returned, which is the back-pressure.
    Chunk(Bytes),
    /// The body is complete (as long as its Content-Length or last chunk said).
    End,
    /// No answer, or not all of it.
    Failed { kind: HttpFailure, why: String },
}

/// How a request failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HttpFailure {
    /// No connection could be made: another URL may do better.
    Connect,
    /// The connection broke, or took longer than allowed.
    Broken,
    /// The answer is longer than allowed; asking again won't help.
    TooLong,
}

/// A request to the agent's API.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiRequest {
    pub method: String,
    pub path: String,
    /// Without the question mark. Carries the token.
    pub query: String,
    pub body: Bytes,
}

impl fmt::Debug for ApiRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiRequest")
            .field("method", &self.method)
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// The answer; its content type is always `application/json`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiReply {
    pub status: u16,
    /// For a redirect: path, without the query.
    pub location: Option<String>,
    pub body: Bytes,
}

/// What the shell has to do. Actions of one event are carried out in order.
#[derive(Debug)]
pub enum Action {
    /// Start a request; several may be under way.
    Http(HttpRequest),
    /// Forget a request; no event of it may come any more (late ones are ignored).
    CancelHttp(HttpId),
    /// Find the source address for `service` (link-local refused), make an EC P-384 key and a self-signed certificate
    /// with that address as its one SAN, and serve the API with it.
    Listen {
        service: String,
        port: u16,
    },
    Reply(RequestId, ApiReply),
    /// Send what was replied, then power the machine off.
    PowerOff,
    /// Send what was replied, then reboot.
    Reboot,
    /// Send what was replied, stop the API, take all links down, and do nothing for ever (token lost or service's wish).
    Lockdown(&'static str),
    /// End the process; a service manager starts it again.
    Exit(String),
}

/// How the body of an answer is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyMode {
    /// In one piece, at most so many bytes.
    Whole { max: usize },
    /// As it comes.
    Chunks,
}

/// A request of the agent.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpRequest {
    pub id: HttpId,
    pub method: &'static str,
    pub url: String,
    /// Besides `Content-Type` and `Accept`, which are `application/json` when there is a body.
    pub headers: Vec<(&'static str, String)>,
    pub body: Bytes,
    pub mode: BodyMode,
    /// To connect, and then for each piece of the answer.
    pub timeout: Duration,
    /// Don't verify the service's certificate (`ipa-insecure`).
    pub insecure: bool,
}

// Bodies carry the token, headers carry credentials.
impl fmt::Debug for HttpRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpRequest")
            .field("id", &self.id)
            .field("method", &self.method)
            .field("url", &self.url.split('?').next().unwrap_or_default())
            .finish_non_exhaustive()
    }
}
