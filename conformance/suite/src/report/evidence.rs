//! A digest of the history: enough to follow the story and to argue about a verdict, small enough to read.

use super::seconds;
use crate::history::{History, What, holder};
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Evidence {
    /// What the workload did.
    pub steps: Vec<Step>,
    /// What it waited for in vain.
    pub missed: Vec<Missed>,
    /// Each host's states, by its key.
    pub hosts: BTreeMap<String, Vec<HostChange>>,
    /// Each server's power and networks as taps had them.
    pub taps: BTreeMap<String, Vec<TapChange>>,
    pub disks: Vec<DiskSearch>,
    /// How many versions of how many objects were seen, by kind.
    pub seen: BTreeMap<&'static str, Seen>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Step {
    pub at: f64,
    pub step: &'static str,
    pub about: String,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Missed {
    pub at: f64,
    pub step: &'static str,
    pub message: String,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HostChange {
    pub at: f64,
    /// `gone` once the object is.
    pub state: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_by: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TapChange {
    pub at: f64,
    pub powered_on: bool,
    pub networks: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DiskSearch {
    pub at: f64,
    pub server: String,
    pub when: &'static str,
    pub found: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Seen {
    pub objects: usize,
    pub versions: usize,
}

impl Evidence {
    pub(super) fn of(history: &History) -> Self {
        let mut evidence = Evidence::default();
        for entry in &history.entries {
            let at = seconds(entry.at);
            match &entry.what {
                What::Step { step, about } => {
                    evidence.steps.push(Step {
                        at,
                        step,
                        about: history.secrets.redact(about),
                    });
                }
                What::Missed { step, message } => {
                    evidence.missed.push(Missed {
                        at,
                        step,
                        message: history.secrets.redact(message),
                    });
                }
                What::Object { kind, key, object } => {
                    evidence.seen.entry(kind).or_default().versions += 1;
                    if *kind == "BareMetalHost" {
                        evidence.host(at, key, object.as_ref());
                    }
                }
                What::Tap { server, sample } => {
                    evidence.taps.entry(server.clone()).or_default().push(TapChange {
                        at,
                        powered_on: sample.powered_on,
                        networks: sample.networks.clone(),
                    })
                }
                What::Disks { server, when, found } => {
                    evidence.disks.push(DiskSearch {
                        at,
                        server: server.clone(),
                        when,
                        found: *found,
                    });
                }
            }
        }
        for (kind, seen) in &mut evidence.seen {
            seen.objects = history.keys(kind).len();
        }
        evidence
    }

    fn host(&mut self, at: f64, key: &str, object: Option<&Value>) {
        let text = |v: &Value| v.as_str().filter(|t| !t.is_empty()).map(str::to_owned);
        let change = match object {
            None => HostChange {
                at,
                state: "gone".into(),
                error_type: None,
                held_by: None,
            },
            Some(host) => HostChange {
                at,
                state: text(&host["status"]["provisioning"]["state"]).unwrap_or_else(|| "new".into()),
                error_type: text(&host["status"]["errorType"]),
                held_by: holder(host).map(str::to_owned),
            },
        };
        let changes = self.hosts.entry(key.to_owned()).or_default();
        let same = |last: &HostChange| HostChange { at, ..last.clone() } == change;
        if !changes.last().is_some_and(same) {
            changes.push(change);
        }
    }
}
