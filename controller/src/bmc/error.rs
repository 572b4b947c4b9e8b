//! Why a BMC did not do or tell what it was asked, and what to do about that.

use crate::http_client::HttpError;
use http::StatusCode;
use steelyard_core::Ignorance;

/// What helps against an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// The same again in a moment.
    Soon,
    /// The same again, less and less often.
    Backoff,
    /// Nothing, until a user changes something.
    NeedsUser,
}

#[derive(Debug, thiserror::Error)]
pub enum BmcError {
    #[error("{0}")]
    Unreachable(#[source] HttpError),
    #[error("{0}; start the controller with --bmc-ca for its issuer, or set disableCertificateVerification")]
    Untrusted(#[source] HttpError),
    #[error("{peer} refuses user {username:?}: {why}")]
    Refused {
        peer: String,
        username: String,
        why: String,
        credentials: String,
    },
    #[error(
        "user {username:?} may not {what} on {peer}: {why}; give the account the role Operator or Administrator"
    )]
    Denied {
        peer: String,
        username: String,
        what: String,
        why: String,
    },
    #[error("{what}")]
    Unsupported { what: String },
    #[error("{peer} answers {status} to {what}: {why}")]
    Answer {
        peer: String,
        what: String,
        status: StatusCode,
        why: String,
    },
    #[error("{peer} sends {path} in a form that we can't use: {why}")]
    Unreadable { peer: String, path: String, why: String },
    #[error("{peer} has {} systems ({}): name one in spec.bmc.address", .found.len(), .found.join(", "))]
    Ambiguous { peer: String, found: Vec<String> },
}

impl BmcError {
    pub fn category(&self) -> &'static str {
        match self {
            BmcError::Unreachable(_) => "unreachable",
            BmcError::Untrusted(_) => "untrusted",
            BmcError::Refused { .. } => "refused",
            BmcError::Denied { .. } => "denied",
            BmcError::Unsupported { .. } => "unsupported",
            BmcError::Answer { status, .. } if busy(*status) => "busy",
            BmcError::Answer { .. } => "answer",
            BmcError::Unreadable { .. } => "unreadable",
            BmcError::Ambiguous { .. } => "ambiguous",
        }
    }

    pub fn retry(&self) -> Retry {
        match self {
            BmcError::Answer { status, .. } if busy(*status) => Retry::Soon,
            BmcError::Unreachable(_) | BmcError::Answer { .. } | BmcError::Unreadable { .. } => {
                Retry::Backoff
            }
            BmcError::Untrusted(_)
            | BmcError::Refused { .. }
            | BmcError::Denied { .. }
            | BmcError::Unsupported { .. }
            | BmcError::Ambiguous { .. } => Retry::NeedsUser,
        }
    }

    /// What a decision learns from it.
    pub fn ignorance(&self) -> Ignorance {
        match self {
            BmcError::Refused { credentials, why, .. } => Ignorance::Refused {
                why: why.clone(),
                credentials: credentials.clone(),
            },
            BmcError::Unreachable(_) | BmcError::Untrusted(_) => Ignorance::Unreachable(self.to_string()),
            _ => Ignorance::Unreadable(self.to_string()),
        }
    }
}

impl From<HttpError> for BmcError {
    fn from(error: HttpError) -> Self {
        match error {
            HttpError::Untrusted { .. } => BmcError::Untrusted(error),
            _ => BmcError::Unreachable(error),
        }
    }
}

/// The BMC is there and has no time.
fn busy(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS
    )
}
