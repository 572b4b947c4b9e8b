//! A data centre for one test, and what tests do with it: apply YAML, wait for a state, kill the controller.
//!
//! Time is tokio's and paused: it jumps to the next timer whenever nothing is left to do, so that waiting costs
//! nothing and every run takes the same (virtual) time.

pub(crate) use crate::objects::*;
use crate::{
    api_faults::{Between, Nobody, Watched},
    log::Log,
    net::{Late, TenantApi},
};
use clap::Parser;
use futures::StreamExt;
use kube::{
    Api, Client,
    api::{
        ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, WatchEvent, WatchParams,
    },
};
use serde_json::Value;
use sim_fabric::PortName;
use std::{fmt::Write as _, sync::Arc, time::Duration};
use steelyard_api::names::controller;
use steelyard_controller::{Args, Dice, RunError, World, tasks::Tasks};
use steelyard_lab::{
    host::disk::Disk,
    lab::{Lab, LabConfig, RackedServer},
    plan::Plan,
};
use tokio::{sync::Notify, task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::subscriber::DefaultGuard;

const GROUPS: &[&str] = &[
    "system:serviceaccounts",
    "system:serviceaccounts:steelyard-system",
    "system:authenticated",
];
/// Breaks one rule of the core, to see which tests notice: `STEELYARD_TEST_MUTANT=skip-wipe cargo nextest run ..`.
const MUTANT: &str = "STEELYARD_TEST_MUTANT";
/// Between two looks at whether all is well, in virtual time.
const LOOK: Duration = Duration::from_millis(250);
/// For tasks that were told to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// One life of a controller.
pub(crate) struct Life {
    tasks: Tasks,
    main: JoinSet<Result<(), RunError>>,
}

impl Life {
    /// Drops everything that it is, at once; nothing is told to anybody.
    pub(crate) async fn kill(mut self) {
        self.main.abort_all();
        while self.main.join_next().await.is_some() {}
        self.tasks.end(PATIENCE).await;
    }

    /// Whether it has ended by itself, and how.
    pub(crate) fn ended(&mut self) -> Option<String> {
        self.main.try_join_next().map(|end| format!("{end:?}"))
    }
}

/// Says when the controller has to die.
pub(crate) trait Restarts: Between {
    fn due(&self) -> &Notify;
    /// Until then the controller may go on.
    fn delay(&self) -> Duration;
}

pub(crate) struct Bed {
    pub(crate) lab: Lab,
    pub(crate) log: Log,
    pub(crate) life: Option<Life>,
    tasks: Tasks,
    lives: u64,
    restarts: Option<Arc<dyn Restarts>>,
    restarted: usize,
    /// Never to be seen in a status, an Event or a log.
    secrets: Vec<String>,
    _logging: DefaultGuard,
}

/// Hosts, and nothing registered.
pub(crate) async fn bed(plan: Plan) -> Bed {
    let mut config = LabConfig::in_memory(plan);
    config.register = false;
    Bed::start(config).await
}

pub(crate) fn plan(hosts: usize) -> Plan {
    Plan::standard(hosts, 1).expect("a plan")
}

impl Bed {
    pub(crate) async fn start(config: LabConfig) -> Bed {
        // A second call finds it installed.
        let _ = rustls::crypto::ring::default_provider().install_default();
        if let Ok(name) = std::env::var(MUTANT) {
            steelyard_core::mutant::select(Some(name.parse().expect("a mutant of steelyard-core")));
        }
        let (log, logging) = Log::start();
        let tasks = Tasks::new(CancellationToken::new());
        let secrets = config.plan.hosts.iter().map(|h| h.bmc_password.clone()).collect();
        let lab = Lab::start(config, tasks.clone()).await.expect("the lab starts");
        let mut bed = Bed {
            lab,
            log,
            life: None,
            tasks,
            lives: 0,
            restarts: None,
            restarted: 0,
            secrets,
            _logging: logging,
        };
        bed.secrets.push(bed.lab.fabric_password.clone());
        bed
    }

    /// Ends everything; finds fault with a task that panicked, a port of the wrong network, a secret in the open.
    pub(crate) async fn end(mut self) {
        if let Some(life) = self.life.take() {
            life.kill().await;
        }
        assert!(
            !self.tasks.stopping(),
            "a task of the lab panicked:\n{}",
            self.log.tail(40)
        );
        self.learn_secrets().await;
        self.nothing_leaked().await;
        self.tasks.end(PATIENCE).await;
    }

    // ---- the controller

    pub(crate) fn control(&mut self) {
        self.control_with(Arc::new(Nobody));
    }

    pub(crate) fn control_with(&mut self, between: Arc<dyn Between>) {
        self.life = Some(self.life("one", between, &[]));
    }

    pub(crate) fn life(&mut self, identity: &str, between: Arc<dyn Between>, flags: &[&str]) -> Life {
        let tasks = Tasks::new(CancellationToken::new());
        let world = self.world(&tasks, between);
        self.life_in(world, tasks, identity, flags)
    }

    /// A controller that is this user to the Kubernetes API.
    pub(crate) fn life_of(
        &mut self,
        user: &str,
        groups: &[&str],
        identity: &str,
        between: Arc<dyn Between>,
        flags: &[&str],
    ) -> Life {
        let tasks = Tasks::new(CancellationToken::new());
        let mut world = self.world(&tasks, Arc::new(Nobody));
        world.kube = self.client(user, groups, between);
        self.life_in(world, tasks, identity, flags)
    }

    /// A replica that takes the leader's addresses when it leads.
    pub(crate) fn standby(&mut self, identity: &str, between: Arc<dyn Between>) -> Life {
        let tasks = Tasks::new(CancellationToken::new());
        self.lives += 1;
        let world = World {
            kube: self.client(controller::USER, GROUPS, between),
            clock: self.lab.clock,
            dice: Dice::seeded(self.lives),
            oob: self.lab.oob.clone(),
            provisioning: Late::provisioning(&self.lab, &tasks),
            services: Late::services(&self.lab, &tasks),
        };
        self.life_in(world, tasks, identity, &[])
    }

    fn client(&self, user: &str, groups: &[&str], between: Arc<dyn Between>) -> Client {
        let server = self
            .lab
            .kubernetes
            .as_ref()
            .expect("an embedded API server")
            .as_user(user, groups);
        Client::new(Watched { server, between }, "default")
    }

    /// From now on the controller dies when `restarts` says so, and is built anew.
    pub(crate) fn operate(&mut self, restarts: Arc<dyn Restarts>) {
        self.restarts = Some(restarts);
    }

    pub(crate) fn restarts(&self) -> usize {
        self.restarted
    }

    /// A fresh world: new stacks on the fabric, a client that RBAC restricts.
    pub(crate) fn world(&mut self, tasks: &Tasks, between: Arc<dyn Between>) -> World {
        self.lives += 1;
        let mut world = self.lab.world(tasks, Dice::seeded(self.lives)).expect("a world");
        world.kube = self.client(controller::USER, GROUPS, between);
        world
    }

    pub(crate) fn life_in(&self, world: World, tasks: Tasks, identity: &str, flags: &[&str]) -> Life {
        let own = format!("--identity={identity}");
        let all = std::iter::once("steelyard-controller")
            .chain(self.lab.flags().iter().map(String::as_str))
            .chain([own.as_str()])
            .chain(flags.iter().copied());
        let args = Args::try_parse_from(all).expect("flags");
        let mut main = JoinSet::new();
        main.spawn(steelyard_controller::run(world, args, tasks.clone()));
        Life { tasks, main }
    }

    pub(crate) async fn kill_controller(&mut self) {
        self.life.take().expect("a controller runs").kill().await;
    }

    // ---- objects

    fn api(&self, kind: Kind) -> Api<DynamicObject> {
        let (group, version) = kind.api.split_once('/').unwrap_or(("", kind.api));
        let resource = ApiResource {
            group: group.into(),
            version: version.into(),
            api_version: kind.api.into(),
            kind: kind.kind.into(),
            plural: kind.plural.into(),
        };
        match kind.namespace {
            Some(namespace) => Api::namespaced_with(self.lab.admin.clone(), namespace, &resource),
            None => Api::all_with(self.lab.admin.clone(), &resource),
        }
    }

    /// Applies every document of a text, as `kubectl apply` would.
    pub(crate) async fn apply(&self, text: &str) {
        let documents: Vec<Value> = serde_saphyr::from_multiple(text).expect("YAML");
        for document in documents.into_iter().filter(|d| !d.is_null()) {
            self.apply_object(document).await;
        }
    }

    pub(crate) async fn apply_object(&self, object: Value) {
        let kinds = ALL
            .iter()
            .copied()
            .chain([SECRET, kind(LOFT, "SSHKey", "sshkeys", None)]);
        let kinds = kinds.chain([kind(
            LOFT,
            "MachineConfigTemplate",
            "machineconfigtemplates",
            None,
        )]);
        let name = object["kind"].as_str().expect("a kind");
        let found = kinds
            .into_iter()
            .find(|k| k.kind == name)
            .unwrap_or_else(|| panic!("unknown kind {name}"));
        let name = object["metadata"]["name"].as_str().expect("a name").to_owned();
        let params = PatchParams::apply("kubectl").force();
        let applied = self
            .api(found)
            .patch(&name, &params, &Patch::Apply(&object))
            .await;
        applied.unwrap_or_else(|e| panic!("{name} is not taken: {e}"));
    }

    /// A file of the repository's `examples/`, as it is.
    pub(crate) async fn apply_example(&self, file: &str) {
        self.apply(&example(file)).await;
    }

    pub(crate) async fn register(&self, name: &str) {
        let planned = &self.server(name).planned;
        self.apply_object(bmc_secret(planned, &planned.bmc_password))
            .await;
        self.apply_object(host_object(planned)).await;
    }

    pub(crate) async fn merge(&self, kind: Kind, name: &str, patch: Value) {
        let patched = self
            .api(kind)
            .patch(name, &PatchParams::default(), &Patch::Merge(&patch))
            .await;
        patched.unwrap_or_else(|e| panic!("{name} is not patched: {e}"));
    }

    pub(crate) async fn delete(&self, kind: Kind, name: &str) {
        let deleted = self.api(kind).delete(name, &DeleteParams::default()).await;
        deleted.unwrap_or_else(|e| panic!("{name} is not deleted: {e}"));
    }

    pub(crate) async fn get(&self, kind: Kind, name: &str) -> Option<Value> {
        let found = self.api(kind).get_opt(name).await.expect("an answer");
        found.as_ref().map(plain)
    }

    pub(crate) async fn list(&self, kind: Kind) -> Vec<Value> {
        let list = self.api(kind).list(&ListParams::default()).await.expect("a list");
        list.items.iter().map(plain).collect()
    }

    /// Reason and note of each Event about `name`, oldest first.
    pub(crate) async fn events(&self, name: &str) -> Vec<(String, String)> {
        let events = kind("events.k8s.io/v1", "Event", "events", None);
        let all = self.list(events).await;
        let about = all.iter().filter(|e| e["regarding"]["name"] == name);
        about
            .map(|e| (text(&e["reason"]).to_owned(), text(&e["note"]).to_owned()))
            .collect()
    }

    // ---- waiting

    /// The object, once `holds` is true of it. Watched, so that no state is too short to be seen.
    pub(crate) async fn until(
        &mut self,
        kind: Kind,
        name: &str,
        seconds: u64,
        what: &str,
        holds: impl Fn(&Value) -> bool,
    ) -> Value {
        let end = Instant::now() + Duration::from_secs(seconds);
        let wanted = format!("{} {name}: {what}", kind.kind);
        let api = self.api(kind);
        let only = WatchParams::default().fields(&format!("metadata.name={name}"));
        loop {
            let list = api
                .list(&ListParams::default().fields(&format!("metadata.name={name}")))
                .await
                .expect("a list");
            if let Some(found) = list.items.iter().map(plain).find(&holds) {
                return found;
            }
            let from = list.metadata.resource_version.unwrap_or_default();
            let mut events = api.watch(&only, &from).await.expect("a watch").boxed();
            loop {
                let event = tokio::select! {
                    biased;
                    event = events.next() => event,
                    () = self.look_out(end, &wanted) => continue,
                };
                match event {
                    Some(Ok(WatchEvent::Added(object) | WatchEvent::Modified(object))) => {
                        let object = plain(&object);
                        if holds(&object) {
                            return object;
                        }
                    }
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => break,
                }
            }
        }
    }

    pub(crate) async fn until_gone(&mut self, kind: Kind, name: &str, seconds: u64) {
        let end = Instant::now() + Duration::from_secs(seconds);
        while self.get(kind, name).await.is_some() {
            self.look_out(end, &format!("{} {name}: gone", kind.kind)).await;
        }
    }

    pub(crate) async fn until_state(&mut self, host: &str, seconds: u64, state: &str) -> Value {
        self.until(HOST, host, seconds, state, |h| {
            h["status"]["provisioning"]["state"] == *state && no_error(h)
        })
        .await
    }

    /// An Event about `name` with this reason whose note has all `words`.
    pub(crate) async fn until_event(
        &mut self,
        name: &str,
        seconds: u64,
        reason: &str,
        words: &[&str],
    ) -> String {
        let end = Instant::now() + Duration::from_secs(seconds);
        loop {
            let events = self.events(name).await;
            let told = |(r, note): &&(String, String)| r == reason && words.iter().all(|w| note.contains(w));
            if let Some((_, note)) = events.iter().find(told) {
                return note.clone();
            }
            self.look_out(end, &format!("an Event {reason} about {name} with {words:?}"))
                .await;
        }
    }

    /// Lets time pass until the next look. Panics with all there is to know when the deadline has passed, or when
    /// the controller has ended by itself.
    pub(crate) async fn look_out(&mut self, end: Instant, wanted: &str) {
        if let Some(how) = self.life.as_mut().and_then(Life::ended) {
            panic!("the controller has ended: {how}\n{}", self.report().await);
        }
        assert!(
            !self.tasks.stopping(),
            "a task of the lab panicked:\n{}",
            self.log.tail(40)
        );
        assert!(
            Instant::now() < end,
            "not seen in time: {wanted}\n{}",
            self.report().await
        );
        let Some(restarts) = self.restarts.clone() else {
            return tokio::time::sleep(LOOK).await;
        };
        tokio::select! {
            biased;
            () = restarts.due().notified() => {
                tokio::time::sleep(restarts.delay()).await;
                self.kill_controller().await;
                self.restarted += 1;
                self.control_with(restarts);
            }
            () = tokio::time::sleep(LOOK) => {}
        }
    }

    /// Lets virtual time pass, for what must not happen meanwhile.
    pub(crate) async fn pass(&self, seconds: u64) {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }

    // ---- machines

    pub(crate) fn server(&self, name: &str) -> &RackedServer {
        self.lab
            .rack
            .server(name)
            .unwrap_or_else(|| panic!("no server {name}"))
    }

    pub(crate) fn disks(&self, name: &str) -> &[Disk] {
        self.server(name).host.disks()
    }

    pub(crate) fn on_disk(&self, name: &str, marker: &str) -> bool {
        self.disks(name)
            .iter()
            .any(|disk| disk.find(marker.as_bytes()).is_some())
    }

    /// The switch port of a server's first NIC, as `lab/fabric.rs` cables it.
    pub(crate) fn port(&self, name: &str) -> PortName {
        let hosts = &self.lab.config.plan.hosts;
        let before = hosts
            .iter()
            .take_while(|h| h.name != name)
            .map(|h| h.identity.macs.len())
            .sum::<usize>();
        PortName::new(
            &format!("leaf-{}", before / 64 + 1),
            &format!("swp{}", before % 64 + 1),
        )
    }

    /// A tenant's API, over the services network; the Secret with its kubeconfig is awaited.
    pub(crate) async fn tenant_api(&mut self, namespace: &'static str, name: &str) -> TenantApi {
        let secrets = Kind {
            namespace: Some(namespace),
            ..SECRET
        };
        let secret = self
            .until(secrets, &format!("vc-{name}"), 30, "is there", |_| true)
            .await;
        let config = decoded(&secret["data"]["config"]);
        TenantApi::new(&self.lab, &config, &self.tasks)
    }

    // ---- what a test that fails shows

    pub(crate) async fn report(&self) -> String {
        let mut out = String::new();
        for kind in [TENANT, CLAIM, HOST] {
            for object in self.list(kind).await {
                let name = text(&object["metadata"]["name"]).to_owned();
                let status = &object["status"];
                let own = &status["steelyard"];
                let _ = writeln!(
                    out,
                    "--- {} {name} {}",
                    kind.kind, object["metadata"]["deletionTimestamp"]
                );
                for (what, value) in [
                    ("state", &status["provisioning"]["state"]),
                    ("phase", &status["phase"]),
                    (
                        "rule",
                        if own.is_null() {
                            &status["rule"]
                        } else {
                            &own["rule"]
                        },
                    ),
                    ("step", &own["step"]),
                    (
                        "message",
                        if own.is_null() {
                            &status["message"]
                        } else {
                            &own["message"]
                        },
                    ),
                    ("error", &status["errorMessage"]),
                    ("powered on", &status["poweredOn"]),
                    ("consumer", &object["spec"]["consumerRef"]["name"]),
                ] {
                    if !value.is_null() {
                        let _ = writeln!(out, "  {what}: {value}");
                    }
                }
                for c in status["conditions"].as_array().into_iter().flatten() {
                    let _ = writeln!(
                        out,
                        "  {}={} {} {}",
                        c["type"], c["status"], c["reason"], c["message"]
                    );
                }
                for (reason, note) in self.events(&name).await {
                    let _ = writeln!(out, "  event {reason}: {note}");
                }
            }
        }
        for server in &self.lab.rack.servers {
            let status = server.host.status().borrow().clone();
            let _ = writeln!(out, "--- console of {}: {status:?}", server.planned.name);
            let lines = server.host.console().lines();
            for line in &lines[lines.len().saturating_sub(20)..] {
                let _ = writeln!(out, "  {line}");
            }
        }
        let _ = writeln!(
            out,
            "--- mismatches of the fabric: {:?}",
            self.lab.fabric.mismatches()
        );
        let _ = writeln!(out, "--- log\n{}", self.log.tail(40));
        out
    }

    // ---- secrets

    /// Remembers the secrets that there are now: BMC passwords, agents' tokens, join tokens, keys.
    pub(crate) async fn learn_secrets(&mut self) {
        let secrets = Kind {
            namespace: None,
            ..SECRET
        };
        for secret in self.list(secrets).await {
            for (key, value) in secret["data"].as_object().into_iter().flatten() {
                let value = decoded(value);
                self.secrets.extend(
                    value
                        .split("token=")
                        .skip(1)
                        .map(|t| t.chars().take(23).collect::<String>()),
                );
                if matches!(key.as_str(), "password" | "agent-token" | "token-secret") && value.len() >= 8 {
                    self.secrets.push(value.trim().to_owned());
                }
            }
        }
        self.secrets.sort();
        self.secrets.dedup();
    }

    pub(crate) fn remember_secret(&mut self, secret: &str) {
        self.secrets.push(secret.to_owned());
    }

    async fn nothing_leaked(&self) {
        let mut shown = vec![("the log".to_owned(), self.log.text())];
        for kind in ALL.iter().copied().chain([kind("v1", "Event", "events", None)]) {
            for object in self.list(kind).await {
                let name = format!("{} {}", kind.kind, object["metadata"]["name"]);
                shown.push((name, object.to_string()));
            }
        }
        for secret in &self.secrets {
            for (place, text) in &shown {
                let line = text.lines().find(|line| line.contains(secret.as_str()));
                assert!(line.is_none(), "{place} shows a secret: {line:?}");
            }
        }
    }
}
