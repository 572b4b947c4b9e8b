//! The story that every run tells: mistakes and their mending, registration, a tenant, its node, the way back, the end
//! of a host. It acts and waits; it judges nothing. What it waited for in vain is noted, and the story goes on as far
//! as it makes sense.

use crate::{
    history::{History, Recorder, What, holder},
    limits::Limits,
    target::{Capability, Feature, Server, Target, TargetError},
};
use kube::{
    Api, Client,
    api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams},
    core::GroupVersionKind,
};
use serde_json::{Value, json};
use std::time::Duration;

/// The tenant that the platform files make.
pub(crate) const TENANT: &str = "one";
pub(crate) const PROJECT: &str = "p-default";
/// Two that are registered well, and two that begin with a mistake.
pub(crate) const SERVERS: usize = 4;
/// The condition of a host that may be taken.
pub(crate) const OFFERED: &str = "AvailableForProvisioning";
/// Who the suite says to be when it holds a host itself.
const HOLDER: &str = "steelyard-suite";
/// Between two looks at what is awaited.
const LOOK: Duration = Duration::from_millis(50);
const FOREIGN_MAC: &str = "02:00:5e:00:53:01";
const WRONG_PASSWORD: &str = "not-the-password";
/// Long enough for a controller that tries again to be seen doing it.
const WATCHED: Duration = Duration::from_secs(12);

pub(crate) struct Workload<'a> {
    target: &'a dyn Target,
    kube: Client,
    limits: Limits,
    recorder: Recorder,
}

impl<'a> Workload<'a> {
    pub(crate) fn new(target: &'a dyn Target, limits: Limits, recorder: Recorder) -> Self {
        Workload {
            kube: target.kube(),
            target,
            limits,
            recorder,
        }
    }

    /// Tells the story with these servers: two that are registered well, and up to two that begin with a mistake.
    pub(crate) async fn run(&self, servers: &[Server]) -> Result<(), TargetError> {
        let platform = self.platform()?;
        self.refuse_taken(servers, &platform).await?;
        let (good, spare) = servers.split_at(servers.len().min(SERVERS / 2));
        let (story, wrong) = tokio::join!(self.story(good, &platform), self.mistakes(spare));
        story.and(wrong)?;
        self.clean_up(servers, &platform).await
    }

    fn offers(&self, capability: Capability) -> bool {
        self.target.info().capabilities.contains(&capability)
    }

    async fn mistakes(&self, spare: &[Server]) -> Result<(), TargetError> {
        match spare {
            [locked, mislabelled, ..] if self.offers(Capability::Spares) => {
                let (a, b) = tokio::join!(self.wrong_password(locked), self.foreign_mac(mislabelled));
                a.and(b)
            }
            _ => Ok(()),
        }
    }

    async fn story(&self, servers: &[Server], platform: &[Value]) -> Result<(), TargetError> {
        for server in servers {
            self.register(server, &server.secret, &server.host).await?;
        }
        let mut all = true;
        for server in servers {
            all &= self
                .until_available(server, "available", self.limits.available)
                .await;
        }
        if !self.offers(Capability::Destructive) || !all {
            return Ok(());
        }
        if let [.., last] = servers {
            self.hold(last).await?;
        }
        if self.target.info().features.contains(&Feature::Platform) {
            self.tenant(servers, platform).await?;
        }
        match servers {
            [.., last] => self.end_of_a_host(last).await,
            [] => Ok(()),
        }
    }

    /// An available host gets a consumer that no controller knows, and loses it again.
    async fn hold(&self, server: &Server) -> Result<(), TargetError> {
        let offered = |wanted: bool| {
            let server = server.clone();
            move |h: &History| {
                let host = h.last("BareMetalHost", &key(&server));
                let is = host.is_some_and(|h| condition(h, OFFERED) == Some("True"));
                let not = if wanted { "not " } else { "" };
                if is == wanted {
                    Ok(())
                } else {
                    Err(format!("host {} is {not}offered", server.name))
                }
            }
        };
        self.recorder.step("held", &server.name);
        let consumer =
            json!({"kind": "ConfigMap", "apiVersion": "v1", "name": HOLDER, "namespace": server.namespace});
        self.patch_host(server, &json!({"spec": {"consumerRef": consumer}}))
            .await?;
        self.until("held", self.limits.error, offered(false)).await;
        self.recorder.step("let-go", &server.name);
        self.patch_host(server, &json!({"spec": {"consumerRef": null}}))
            .await?;
        self.until("let-go", self.limits.error, offered(true)).await;
        Ok(())
    }

    /// Objects of the platform files, if the target is to be asked for a tenant.
    fn platform(&self) -> Result<Vec<Value>, TargetError> {
        if !self.target.info().features.contains(&Feature::Platform) || !self.offers(Capability::Destructive)
        {
            return Ok(Vec::new());
        }
        let mut objects = Vec::new();
        for file in self.target.platform_files() {
            let broken = |why: String| TargetError::Broken(format!("{}: {why}", file.display()));
            let text = std::fs::read_to_string(&file).map_err(|e| broken(e.to_string()))?;
            let documents: Vec<Value> =
                serde_saphyr::from_multiple(&text).map_err(|e| broken(e.to_string()))?;
            objects.extend(documents.into_iter().filter(Value::is_object));
        }
        // Servers are the target's to give.
        let credentials: Vec<Value> = objects
            .iter()
            .filter(|o| o["kind"] == "BareMetalHost")
            .map(|o| o["spec"]["bmc"]["credentialsName"].clone())
            .collect();
        objects.retain(|o| match o["kind"].as_str() {
            Some("BareMetalHost") => false,
            Some("Secret") => !credentials.contains(&o["metadata"]["name"]),
            _ => true,
        });
        Ok(objects)
    }

    /// The suite wipes servers and deletes what it made: it touches nothing that was there before it.
    async fn refuse_taken(&self, servers: &[Server], platform: &[Value]) -> Result<(), TargetError> {
        for object in servers.iter().map(|s| &s.host).chain(platform) {
            let (kind, name) = (
                &object["kind"],
                object["metadata"]["name"].as_str().unwrap_or_default(),
            );
            if self
                .api(object, object["metadata"]["namespace"].as_str())
                .get_opt(name)
                .await?
                .is_some()
            {
                let kind = kind.as_str().unwrap_or_default();
                return Err(TargetError::Broken(format!(
                    "{kind} {name} exists already; the suite tests with servers and objects of its own and deletes \
                     them: remove it, or give the suite others (a lab: make lab-up REGISTER=false)"
                )));
            }
        }
        Ok(())
    }

    /// Leaves the target as it was found. Nothing here is judged.
    async fn clean_up(&self, servers: &[Server], platform: &[Value]) -> Result<(), TargetError> {
        self.recorder.step("clean-up", "");
        for object in platform.iter().rev() {
            self.delete(object).await?;
        }
        for server in servers {
            self.delete(&server.host).await?;
        }
        self.until("cleaned-up", self.limits.released, |h| {
            match servers
                .iter()
                .find(|s| h.last("BareMetalHost", &key(s)).is_some())
            {
                Some(server) => Err(format!("host {} is still there", server.name)),
                None => Ok(()),
            }
        })
        .await;
        for server in servers {
            self.delete(&server.secret).await?;
        }
        Ok(())
    }

    async fn delete(&self, object: &Value) -> Result<(), TargetError> {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let api = self.api(object, object["metadata"]["namespace"].as_str());
        gone_is_fine(api.delete(name, &DeleteParams::default()).await)
    }

    /// A Secret with a wrong password; later the right one.
    async fn wrong_password(&self, server: &Server) -> Result<(), TargetError> {
        self.register(server, &wrong_password(server), &server.host)
            .await?;
        self.recorder.step("refused", &server.name);
        self.until_error(server, "wrong-password", "registration error")
            .await;
        tokio::time::sleep(WATCHED).await;
        self.recorder.step("mended", &server.name);
        self.apply(&server.secret).await?;
        self.until_available(server, "recovered", self.limits.available)
            .await;
        Ok(())
    }

    /// A boot MAC that the server does not have; then the host as it should be.
    async fn foreign_mac(&self, server: &Server) -> Result<(), TargetError> {
        let mut host = server.host.clone();
        host["spec"]["bootMACAddress"] = json!(FOREIGN_MAC);
        self.register(server, &server.secret, &host).await?;
        self.recorder.step("foreign-mac", &server.name);
        self.until_error(server, "foreign-mac", "registration error")
            .await;
        self.recorder.step("foreign-mac-done", &server.name);
        // A boot MAC can't be changed (Metal3); the host is deleted.
        self.delete_host(server).await
    }

    async fn tenant(&self, servers: &[Server], platform: &[Value]) -> Result<(), TargetError> {
        self.recorder.step("tenant-wanted", TENANT);
        for object in platform {
            self.apply(object).await?;
        }
        let ready = self
            .until("tenant-ready", self.limits.ready, |h| {
                let tenant = h.last("VirtualClusterInstance", &format!("{PROJECT}/{TENANT}"));
                if tenant.is_some_and(|t| condition(t, "Ready") == Some("True")) {
                    return Ok(());
                }
                let message = tenant
                    .and_then(|t| t["status"]["message"].as_str())
                    .unwrap_or("it is not there");
                Err(format!("tenant {TENANT} is not Ready: {message}"))
            })
            .await;
        if ready {
            self.recorder.step("tenant-ready", TENANT);
            self.use_the_node(servers).await?;
        }
        self.release(servers).await
    }

    /// While a tenant's node runs: what it wrote is on the disk, and the machine can be rebooted.
    async fn use_the_node(&self, servers: &[Server]) -> Result<(), TargetError> {
        let Some((server, claim)) = self.held(servers) else {
            return Ok(());
        };
        self.search_disks(server, "provisioned", &claim);
        self.recorder.step("reboot", &server.name);
        let reboot = json!({"metadata": {"annotations": {"reboot.metal3.io": ""}}});
        self.patch_host(server, &reboot).await?;
        self.until("reboot-done", self.limits.ready, |h| {
            let host = h.last("BareMetalHost", &key(server));
            match host.map(|h| &h["metadata"]["annotations"]["reboot.metal3.io"]) {
                Some(Value::Null) => Ok(()),
                _ => Err(format!(
                    "host {} still has annotation reboot.metal3.io",
                    server.name
                )),
            }
        })
        .await;
        self.recorder.step("reboot-over", &server.name);
        self.until("node-back", self.limits.ready, |h| {
            let host = h.last("BareMetalHost", &key(server));
            let on = host.is_some_and(|h| h["status"]["poweredOn"] == true);
            let ready = h
                .last("Node", &claim)
                .is_some_and(|n| condition(n, "Ready") == Some("True"));
            if on && ready {
                Ok(())
            } else {
                Err(format!("host {} is not up again after its reboot", server.name))
            }
        })
        .await;
        Ok(())
    }

    async fn release(&self, servers: &[Server]) -> Result<(), TargetError> {
        let held = self.held(servers);
        self.recorder.step("released", TENANT);
        let api = self.api(
            &json!({"apiVersion": "storage.loft.sh/v1", "kind": "VirtualClusterInstance"}),
            Some(PROJECT),
        );
        gone_is_fine(api.delete(TENANT, &DeleteParams::default()).await)?;
        let back = self
            .until("returned", self.limits.released, |h| {
                if let Some(claim) = h
                    .keys("NodeClaim")
                    .iter()
                    .find(|k| h.last("NodeClaim", k).is_some())
                {
                    return Err(format!("claim {claim} is still there"));
                }
                for server in servers {
                    let host = h.last("BareMetalHost", &key(server));
                    let state = host
                        .and_then(|h| h["status"]["provisioning"]["state"].as_str())
                        .unwrap_or("gone");
                    if state != "available" {
                        return Err(format!("host {} is {state}", server.name));
                    }
                }
                Ok(())
            })
            .await;
        if back {
            self.recorder.step("returned", TENANT);
            if let Some((server, claim)) = held {
                self.search_disks(server, "returned", &claim);
            }
        }
        Ok(())
    }

    /// An available host is switched on, then deleted: it must not be forgotten while it runs.
    async fn end_of_a_host(&self, server: &Server) -> Result<(), TargetError> {
        self.patch_host(server, &json!({"spec": {"online": true}}))
            .await?;
        let on = self
            .until("switched-on", self.limits.error, |h| {
                let host = h.last("BareMetalHost", &key(server));
                if host.is_some_and(|h| h["status"]["poweredOn"] == true) {
                    return Ok(());
                }
                Err(format!(
                    "host {} is not on although spec.online is true",
                    server.name
                ))
            })
            .await;
        if on {
            self.recorder.step("deleted-while-on", &server.name);
        }
        self.delete_host(server).await
    }

    async fn delete_host(&self, server: &Server) -> Result<(), TargetError> {
        self.delete(&server.host).await?;
        self.until("forgotten", self.limits.released, |h| {
            match h.last("BareMetalHost", &key(server)) {
                None => Ok(()),
                Some(_) => Err(format!("host {} is still there", server.name)),
            }
        })
        .await;
        Ok(())
    }

    fn search_disks(&self, server: &Server, when: &'static str, text: &str) {
        if let Some(found) = self.target.disks_hold(&server.name, text.as_bytes()) {
            self.recorder.note(What::Disks {
                server: server.name.clone(),
                when,
                found,
            });
        }
    }

    /// The server that a claim holds, and the claim's name.
    fn held<'s>(&self, servers: &'s [Server]) -> Option<(&'s Server, String)> {
        self.recorder.read(|h| {
            servers.iter().find_map(|s| {
                let host = h.last("BareMetalHost", &key(s))?;
                Some((s, holder(host)?.to_owned()))
            })
        })
    }

    async fn register(&self, server: &Server, secret: &Value, host: &Value) -> Result<(), TargetError> {
        self.recorder.step("registered", &server.name);
        self.apply(secret).await?;
        self.apply(host).await
    }

    async fn until_available(&self, server: &Server, step: &'static str, within: Duration) -> bool {
        let there = self
            .until(step, within, |h| {
                let host = h.last("BareMetalHost", &key(server));
                let state = host
                    .and_then(|h| h["status"]["provisioning"]["state"].as_str())
                    .unwrap_or("not there");
                let message = host
                    .and_then(|h| h["status"]["errorMessage"].as_str())
                    .unwrap_or_default();
                if state == "available" {
                    Ok(())
                } else {
                    Err(format!("host {} is {state} {message}", server.name))
                }
            })
            .await;
        if there {
            self.recorder.step(step, &server.name);
        }
        there
    }

    async fn until_error(&self, server: &Server, step: &'static str, kind: &str) {
        self.until(step, self.limits.error, |h| {
            let host = h.last("BareMetalHost", &key(server));
            if host.is_some_and(|h| h["status"]["errorType"] == kind) {
                return Ok(());
            }
            Err(format!("host {} does not say {kind:?}", server.name))
        })
        .await;
    }

    /// Waits until the history shows it; notes what was missing when the time is up.
    async fn until(
        &self,
        step: &'static str,
        within: Duration,
        seen: impl Fn(&History) -> Result<(), String>,
    ) -> bool {
        let deadline = tokio::time::Instant::now() + within;
        loop {
            let Err(message) = self.recorder.read(&seen) else {
                return true;
            };
            if tokio::time::Instant::now() >= deadline {
                self.recorder.note(What::Missed { step, message });
                return false;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn patch_host(&self, server: &Server, patch: &Value) -> Result<(), TargetError> {
        let api = self.api(&server.host, Some(&server.namespace));
        let patched = match api
            .patch(&server.name, &PatchParams::default(), &Patch::Merge(patch))
            .await
        {
            Ok(patched) => patched,
            Err(error) => return gone_is_fine::<()>(Err(error)),
        };
        // What is awaited next must not be read from a version before the patch.
        self.until("patched", self.limits.error, |h| {
            let host = h.last("BareMetalHost", &key(server));
            let seen = host
                .and_then(|h| h["metadata"]["resourceVersion"].as_str())
                .and_then(version);
            match (
                patched.metadata.resource_version.as_deref().and_then(version),
                seen,
            ) {
                (Some(wanted), Some(seen)) if seen < wanted => Err(format!(
                    "the watch does not show the change of host {}",
                    server.name
                )),
                _ => Ok(()),
            }
        })
        .await;
        Ok(())
    }

    async fn apply(&self, object: &Value) -> Result<(), TargetError> {
        let namespace = object["metadata"]["namespace"].as_str();
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let params = PatchParams::apply("steelyard-suite").force();
        self.api(object, namespace)
            .patch(name, &params, &Patch::Apply(object))
            .await?;
        Ok(())
    }

    fn api(&self, object: &Value, namespace: Option<&str>) -> Api<DynamicObject> {
        let resource = resource(
            object["apiVersion"].as_str().unwrap_or_default(),
            object["kind"].as_str().unwrap_or_default(),
        );
        match namespace {
            Some(namespace) => Api::namespaced_with(self.kube.clone(), namespace, &resource),
            None => Api::all_with(self.kube.clone(), &resource),
        }
    }
}

/// A server's Secret with a password that its BMC refuses.
pub(crate) fn wrong_password(server: &Server) -> Value {
    let mut secret = server.secret.clone();
    secret["stringData"]["password"] = json!(WRONG_PASSWORD);
    secret
}

pub(crate) fn resource(api_version: &str, kind: &str) -> ApiResource {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let gvk = GroupVersionKind::gvk(group, version, kind);
    match kind {
        // The one plural that English would not guess.
        "HardwareData" => ApiResource::from_gvk_with_plural(&gvk, "hardwaredata"),
        _ => ApiResource::from_gvk(&gvk),
    }
}

pub(crate) fn key(server: &Server) -> String {
    format!("{}/{}", server.namespace, server.name)
}

/// Versions are integers of any length that may be compared (Kubernetes API concepts, "Resource versions", 1.35).
fn version(text: &str) -> Option<u128> {
    text.parse().ok()
}

/// The status of a condition.
pub(crate) fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a str> {
    let conditions = object["status"]["conditions"].as_array()?;
    conditions.iter().find(|c| c["type"] == kind)?["status"].as_str()
}

fn gone_is_fine<T>(result: Result<T, kube::Error>) -> Result<(), TargetError> {
    match result {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(error.into()),
    }
}
