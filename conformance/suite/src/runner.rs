//! Runs the story once, with observers beside it, and lets every check judge the history.

use crate::{
    check::{Check, Level, Objection},
    history::{History, Recorder, What},
    limits::Limits,
    outcome::Outcome,
    profile::Profile,
    report::{CheckResult, Report},
    secrets::Secrets,
    suites,
    target::{Capability, Server, Target, TargetError, TargetInfo},
    workload::{SERVERS, Workload, resource, wrong_password},
};
use futures::StreamExt;
use jiff::Timestamp;
use kube::{
    Api, ResourceExt,
    api::DynamicObject,
    runtime::watcher::{self, Event},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// How a run is done.
#[derive(Clone, Debug)]
pub struct RunOptions {
    pub profile: Profile,
    pub limits: Limits,
    /// Ids that the user excludes, each with the reason.
    pub excluded: BTreeMap<String, String>,
    /// Said in the report: what makes the run repeatable.
    pub seed: Option<u64>,
    /// Said in the report: the commit that the suite was built from.
    pub commit: Option<String>,
    pub began: Timestamp,
}

impl RunOptions {
    /// Ids that are excluded and of no check: most likely a typo.
    pub fn unknown_exclusions(&self) -> Vec<&str> {
        let known: BTreeSet<&str> = suites::all().map(|c| c.id).collect();
        self.excluded
            .keys()
            .map(String::as_str)
            .filter(|id| !known.contains(id))
            .collect()
    }
}

const WATCHED: &[(&str, &str)] = &[
    ("metal3.io/v1alpha1", "BareMetalHost"),
    ("metal3.io/v1alpha1", "HardwareData"),
    ("storage.loft.sh/v1", "NodeClaim"),
    ("storage.loft.sh/v1", "VirtualClusterInstance"),
];
/// How often a tenant's cluster is looked for until it is there, and a broken watch opened again.
const TENANT_LOOK: Duration = Duration::from_millis(200);
/// Reasons that a failed check repeats from the workload.
const MISSED_MAX: usize = 3;

/// Runs the suite. A breakdown of the suite or of the target is in the report too.
pub async fn run(target: &dyn Target, options: &RunOptions) -> Report {
    let history = record(target, options.limits).await;
    judge(suites::all(), target.info(), options, &history)
}

/// Tells the story and keeps what was seen.
pub async fn record(target: &dyn Target, limits: Limits) -> History {
    let servers = match servers(target).await {
        Ok(servers) => servers,
        Err(error) => {
            return History {
                broke: Some(error.to_string()),
                ..History::default()
            };
        }
    };
    let wrong: Vec<_> = servers.iter().map(wrong_password).collect();
    let recorder = Recorder::new(Secrets::of(servers.iter().map(|s| &s.secret).chain(&wrong)));
    let observer = Observer {
        target,
        recorder: &recorder,
    };
    let workload = Workload::new(target, limits, recorder.clone());
    let told = tokio::select! {
        biased;
        () = observer.watch_all() => Ok(()),
        () = observer.sample(&servers, limits.sample) => Ok(()),
        told = workload.run(&servers) => told,
    };
    recorder.finish(told.err().map(|e| e.to_string()))
}

async fn servers(target: &dyn Target) -> Result<Vec<Server>, TargetError> {
    let mut servers = target.servers().await?;
    let wanted = if target.info().capabilities.contains(&Capability::Spares) {
        SERVERS
    } else {
        1
    };
    if servers.len() < wanted {
        let found = servers.len();
        return Err(TargetError::Broken(format!(
            "the suite needs {wanted} servers, and the target offers {found}"
        )));
    }
    servers.truncate(SERVERS);
    Ok(servers)
}

/// What `checks` say of a history.
pub fn judge(
    checks: impl IntoIterator<Item = &'static Check>,
    target: TargetInfo,
    options: &RunOptions,
    history: &History,
) -> Report {
    let results = checks
        .into_iter()
        .map(|check| result(check, &target, options, history))
        .collect();
    Report::new(target, options, history, results)
}

fn result(check: &Check, target: &TargetInfo, options: &RunOptions, history: &History) -> CheckResult {
    let (outcome, details) = outcome(check, target, options, history);
    CheckResult::new(check, options.profile.weight(check), outcome, details)
}

fn outcome(
    check: &Check,
    target: &TargetInfo,
    options: &RunOptions,
    history: &History,
) -> (Outcome, Vec<String>) {
    if let Some(reason) = options.excluded.get(check.id) {
        return (Outcome::NotRun, vec![format!("excluded: {reason}")]);
    }
    if let Some(feature) = check.features.iter().find(|f| !target.features.contains(f)) {
        return (
            Outcome::NotApplicable,
            vec![format!("the target does not claim {}", feature.as_str())],
        );
    }
    if let Some(need) = check.needs.iter().find(|n| !target.capabilities.contains(n)) {
        return (
            Outcome::NotRun,
            vec![format!("the target does not offer {}", need.as_str())],
        );
    }
    match (check.judge)(history) {
        Ok(()) => (Outcome::Pass, Vec::new()),
        Err(Objection::Broken(findings)) => {
            let outcome = match check.level {
                Level::Must => Outcome::Fail,
                Level::Should => Outcome::Warn,
            };
            (outcome, findings.into_iter().map(|f| f.0).collect())
        }
        Err(Objection::NoEvidence(what)) => without_evidence(what, history),
    }
}

/// The story did not get there: the target's failure if the workload waited for it in vain, else ours.
fn without_evidence(what: String, history: &History) -> (Outcome, Vec<String>) {
    let mut details = vec![what];
    if let Some(why) = &history.broke {
        details.push(format!("the run ended before its time: {why}"));
        return (Outcome::Error, details);
    }
    details.extend(
        history
            .missed()
            .take(MISSED_MAX)
            .map(|(step, m)| format!("waited in vain ({step}): {m}")),
    );
    (
        if details.len() > 1 {
            Outcome::Fail
        } else {
            Outcome::Error
        },
        details,
    )
}

struct Observer<'a> {
    target: &'a dyn Target,
    recorder: &'a Recorder,
}

impl Observer<'_> {
    /// Watches all kinds, and the tenant's nodes; never returns.
    async fn watch_all(&self) {
        let kube = self.target.kube();
        let watches = WATCHED.iter().map(|(api_version, kind)| {
            let api: Api<DynamicObject> = Api::all_with(kube.clone(), &resource(api_version, kind));
            self.watch(api, kind)
        });
        tokio::join!(futures::future::join_all(watches), self.watch_tenant());
    }

    async fn watch_tenant(&self) {
        loop {
            if let Ok(Some(client)) = self.target.tenant().await {
                let api: Api<DynamicObject> = Api::all_with(client, &resource("v1", "Node"));
                self.watch(api, "Node").await;
            }
            tokio::time::sleep(TENANT_LOOK).await;
        }
    }

    async fn watch(&self, api: Api<DynamicObject>, kind: &'static str) {
        let mut events = std::pin::pin!(kube::runtime::watcher(api, watcher::Config::default()));
        let mut there = BTreeSet::new();
        let mut listed = BTreeSet::new();
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::Init) => listed.clear(),
                Ok(Event::InitApply(object)) => {
                    listed.insert(key(&object));
                    there.insert(key(&object));
                    self.see(kind, key(&object), Some(&object));
                }
                // What went while the watch was broken.
                Ok(Event::InitDone) => {
                    for key in there.difference(&listed) {
                        self.see(kind, key.clone(), None);
                    }
                    there.retain(|key| listed.contains(key));
                }
                Ok(Event::Apply(object)) => {
                    there.insert(key(&object));
                    self.see(kind, key(&object), Some(&object));
                }
                Ok(Event::Delete(object)) => {
                    there.remove(&key(&object));
                    self.see(kind, key(&object), None);
                }
                Err(error) => {
                    tracing::debug!(kind, %error, "watch broke; opening it again");
                    tokio::time::sleep(TENANT_LOOK).await;
                }
            }
        }
    }

    fn see(&self, kind: &'static str, key: String, object: Option<&DynamicObject>) {
        // What the tap says at the moment of the word, not up to one sample before.
        if kind == "BareMetalHost"
            && let Some(server) = key.rsplit('/').next()
        {
            self.tap(server);
        }
        let object = object.and_then(|o| serde_json::to_value(o).ok());
        self.recorder.note(What::Object { kind, key, object });
    }

    fn tap(&self, server: &str) {
        if let Some(sample) = self.target.tap(server) {
            self.recorder.tap(server, sample);
        }
    }

    /// Samples taps, where there are some; never returns.
    async fn sample(&self, servers: &[Server], every: Duration) {
        if !self.target.info().capabilities.contains(&Capability::Taps) {
            return std::future::pending().await;
        }
        loop {
            for server in servers {
                self.tap(&server.name);
            }
            tokio::time::sleep(every).await;
        }
    }
}

fn key(object: &DynamicObject) -> String {
    match object.namespace() {
        Some(namespace) => format!("{namespace}/{}", object.name_any()),
        None => object.name_any(),
    }
}
