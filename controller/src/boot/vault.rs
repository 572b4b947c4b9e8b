//! What must be known of an agent after we were killed: its token, where it listens, its certificate, its job.
//! Kept by somebody else (the host's own Secret), written before it is needed.

use crate::{key::Key, secret::Secret};
use futures::future::BoxFuture;
use std::{collections::BTreeMap, fmt};

/// An agent that runs on a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentRecord {
    /// The operation whose boot plan brought it up. Another operation is another boot, and another agent.
    pub operation: String,
    pub token: Secret,
    /// `https://ADDRESS:9999`, from the first heartbeat.
    pub callback_url: Option<String>,
    /// PEM, from the first heartbeat; the only certificate that we accept from it.
    pub certificate: Option<String>,
    /// The job that it was, or was about to be, given.
    pub job: Option<JobRecord>,
}

/// A job as recorded before it was sent: the agent itself names running and failed commands only by ids of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobRecord {
    pub operation: String,
    pub kind: JobKind,
    /// How many commands the agent had before: ours is a later one.
    pub after: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobKind {
    Write,
    Erase,
    PowerOff,
}

impl JobKind {
    pub const ALL: [JobKind; 3] = [JobKind::Write, JobKind::Erase, JobKind::PowerOff];

    /// As in `JobFacts::kind`.
    pub fn as_str(self) -> &'static str {
        match self {
            JobKind::Write => "write",
            JobKind::Erase => "erase",
            JobKind::PowerOff => "power-off",
        }
    }
}

impl fmt::Display for JobKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where records are kept.
pub trait AgentVault: Send + Sync + 'static {
    fn load<'a>(&'a self, host: &'a Key) -> BoxFuture<'a, Result<Option<AgentRecord>, VaultError>>;
    /// Returns once it can't be lost any more.
    fn save<'a>(&'a self, host: &'a Key, record: AgentRecord) -> BoxFuture<'a, Result<(), VaultError>>;
}

#[derive(Clone, Debug, thiserror::Error)]
#[error("can't keep what is known of the agent: {0}")]
pub struct VaultError(pub String);

impl AgentRecord {
    /// As the values of a Secret's keys.
    pub fn to_data(&self) -> BTreeMap<String, String> {
        let mut data = BTreeMap::from([
            ("agent-operation".to_owned(), self.operation.clone()),
            ("agent-token".to_owned(), self.token.reveal().to_owned()),
        ]);
        data.extend(self.callback_url.clone().map(|url| ("agent-url".to_owned(), url)));
        data.extend(
            self.certificate
                .clone()
                .map(|pem| ("agent-certificate".to_owned(), pem)),
        );
        if let Some(job) = &self.job {
            data.insert(
                "agent-job".to_owned(),
                format!("{} {} {}", job.kind, job.after, job.operation),
            );
        }
        data
    }

    /// From a Secret's values; `None` if it holds no agent. Other keys are left alone.
    pub fn from_data(data: &BTreeMap<String, String>) -> Option<Self> {
        let get = |name: &str| data.get(name).filter(|text| !text.is_empty()).cloned();
        Some(AgentRecord {
            operation: get("agent-operation")?,
            token: Secret::new(get("agent-token")?),
            callback_url: get("agent-url"),
            certificate: get("agent-certificate"),
            job: get("agent-job").and_then(|text| {
                let mut words = text.splitn(3, ' ');
                let kind = words.next()?;
                Some(JobRecord {
                    kind: JobKind::ALL.into_iter().find(|k| k.as_str() == kind)?,
                    after: words.next()?.parse().ok()?,
                    operation: words.next()?.to_owned(),
                })
            }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn survives_a_secret() {
        let record = AgentRecord {
            operation: "op-1".into(),
            token: Secret::new("t".repeat(43)),
            callback_url: Some("https://192.168.100.10:9999".into()),
            certificate: Some("PEM".into()),
            job: Some(JobRecord {
                operation: "op 2".into(),
                kind: JobKind::PowerOff,
                after: 3,
            }),
        };
        let mut data = record.to_data();
        data.insert("password".into(), "somebody else's".into());
        assert_eq!(AgentRecord::from_data(&data), Some(record.clone()));
        assert!(!format!("{record:?}").contains("ttt"));
        assert_eq!(AgentRecord::from_data(&BTreeMap::new()), None);
    }
}
