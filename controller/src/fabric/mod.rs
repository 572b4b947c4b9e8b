//! The fabric: which network each server is in, observed and brought about.
//!
//! A fabric's management API lists servers by network; one reading serves all hosts, and one write moves
//! many. So there is one worker for the whole fabric (`execute/fabric.rs`), not one per host.

pub mod netris;

use std::collections::BTreeMap;
use steelyard_core::host::view::FabricFacts;

/// Everything that one reading of the fabric says.
#[derive(Clone, Debug, Default)]
pub struct FabricSnapshot {
    /// By the server's name in the fabric's inventory. A server that is missing here is unknown to the fabric.
    pub servers: BTreeMap<String, FabricFacts>,
    /// Each network, with its gateway and prefix if it has one, e.g. `10.100.3.1/24`.
    pub networks: BTreeMap<String, Option<ipnet::Ipv4Net>>,
}

#[derive(Debug, thiserror::Error)]
pub enum FabricError {
    #[error("the fabric's management at {url}: {source}")]
    Http {
        url: String,
        source: crate::http_client::HttpError,
    },
    #[error("the fabric's management at {url} refuses user {user:?}: check the Secret of the fabric")]
    Unauthorized { url: String, user: String },
    #[error("the fabric's management at {url} refuses {what}: {message}")]
    Refused {
        url: String,
        what: String,
        message: String,
    },
    #[error("the fabric's management at {url} answers {what} with something that is no Netris answer: {why}")]
    Unreadable { url: String, what: String, why: String },
    #[error(
        "the fabric has no server cluster template {0:?}: make it, or name another with --tenant-template"
    )]
    NoTemplate(String),
    #[error("the fabric's inventory has no server {0:?}: its name must be that of the BareMetalHost")]
    NoServer(String),
    #[error("the fabric has no server cluster {0:?}")]
    NoNetwork(String),
}

impl FabricError {
    pub fn category(&self) -> &'static str {
        match self {
            FabricError::Http { .. } => "unreachable",
            FabricError::Unauthorized { .. } => "unauthorized",
            FabricError::Refused { .. } => "refused",
            FabricError::Unreadable { .. } => "unreadable",
            FabricError::NoTemplate(_) | FabricError::NoServer(_) | FabricError::NoNetwork(_) => "missing",
        }
    }
}
