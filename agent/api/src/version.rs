//! API versions of the service and how an agent chooses one (ipa `ironic_api_client.py`).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Header that names the version of a request.
pub const VERSION_HEADER: &str = "X-OpenStack-Ironic-API-Version";
/// Used when the service's root document can't be read.
pub const FALLBACK: ApiVersion = ApiVersion { major: 1, minor: 31 };
/// The newest version that lookup uses: tokens came with 1.62.
pub const LOOKUP_MAX: ApiVersion = ApiVersion { major: 1, minor: 62 };
/// The newest version that heartbeats use.
pub const HEARTBEAT_MAX: ApiVersion = ApiVersion { major: 1, minor: 68 };
/// From here on a heartbeat may carry the agent's certificate.
pub const VERIFY_CA_MIN: ApiVersion = ApiVersion { major: 1, minor: 68 };
/// From here on the inspection callback answers in the form of lookup.
pub const INSPECTION_MIN: ApiVersion = ApiVersion { major: 1, minor: 84 };

/// `MAJOR.MINOR`, ordered as numbers: 1.9 is older than 1.31.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ApiVersion {
    pub major: u32,
    pub minor: u32,
}

/// A version that isn't `MAJOR.MINOR`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadVersion(String);

impl fmt::Display for BadVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "API version {:?} is not MAJOR.MINOR", self.0)
    }
}

impl std::error::Error for BadVersion {}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl FromStr for ApiVersion {
    type Err = BadVersion;

    fn from_str(text: &str) -> Result<Self, BadVersion> {
        let bad = || BadVersion(text.chars().take(32).collect());
        let (major, minor) = text.split_once('.').ok_or_else(bad)?;
        match (major.parse(), minor.parse()) {
            (Ok(major), Ok(minor)) => Ok(Self { major, minor }),
            _ => Err(bad()),
        }
    }
}

/// What `GET /` of the service answers; agents read only `default_version.version`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    pub default_version: DefaultVersion,
}

/// The part of [`Root`] that carries versions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DefaultVersion {
    #[serde(default = "v1")]
    pub id: String,
    pub version: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_version: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
}

fn v1() -> String {
    "v1".to_owned()
}

impl Root {
    /// A service that speaks up to `version`.
    pub fn new(name: &str, description: &str, version: ApiVersion) -> Self {
        Self {
            name: name.to_owned(),
            description: description.to_owned(),
            default_version: DefaultVersion {
                id: v1(),
                version: version.to_string(),
                min_version: Some("1.1".to_owned()),
                status: Some("CURRENT".to_owned()),
            },
        }
    }
}
