//! A pass over one host.

use super::{Engine, reference};
use crate::{
    bmc::{BmcAddress, Credentials},
    execute::BmcAccess,
    key::Key,
    secret::Secret,
    store::{SaveError, index},
};
use ipnet::Ipv4Net;
use k8s_openapi::api::core::v1::Secret as KubeSecret;
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::json;
use std::net::Ipv4Addr;
use steelyard_api::{
    loft::NodeClaim,
    metal3::{BareMetalHost, BareMetalHostStatus},
    names,
};
use steelyard_core::{
    Decision, Ignorance, Look, ObjectRef, Observed, Question, claim,
    host::{
        self,
        view::{AgentFacts, BmcFacts, ClaimFacts, CredentialFacts, HostView, Slots},
    },
    intent::{BootIntent, HostIntent},
};
use tokio::time::Instant;

/// Addresses below this one of the provisioning range are the site's own: gateway, services.
const FIRST_HOST: u32 = 10;

type HostDecision = Decision<BareMetalHostStatus, HostIntent>;

impl Engine {
    pub(super) async fn host(&self, key: &Key) -> Result<Option<Instant>, SaveError> {
        let Some(host) = self.store.hosts.get(key) else {
            self.forget_host(key);
            return Ok(None);
        };
        if let Some(again) = self.free_orphan(&host).await? {
            return Ok(Some(again));
        }
        let (credentials, login) = self.credentials(&host).await;
        let access = access(&host, login);
        let holder = index::claim_of(&host).and_then(|k| self.store.claims.get(&k));
        let hardware = self.store.hardware.get(key);
        let view = HostView {
            host: &host,
            claim: holder.as_deref().map(|c| self.claim_facts(c)),
            credentials,
            bmc: self.bmc_facts(key, &host),
            boot: self.boot.facts(key),
            agent: self.agent_facts(key, &host),
            fabric: self.fabric.as_ref().map(|_| self.facts.fabric(&key.name)),
            node: holder
                .as_deref()
                .map_or(Observed::not_asked(self.clock.now()), |c| self.node_facts(c)),
            image: match &host.spec.image {
                Some(image) => self.images.facts(image),
                None => Observed::not_asked(self.clock.now()),
            },
            hardware_data: hardware.as_deref(),
            boot_address: self.boot_address(key, &host),
            slots: Slots {
                free: self.store.busy_others(key) < self.site.max_busy,
            },
        };
        let decision = host::decide(&view, &self.policy, self.moment());
        tracing::debug!(rule = %decision.rule, intents = decision.intents.len(), "decided");
        self.save_host(&host, &decision).await?;
        self.hand_over(key, &view, access, &decision);
        Ok(self.wake_instant(decision.wake))
    }

    /// A host whose claim is gone without having given it back is asked back in its stead. Asked of the API
    /// server: a cache that lags must not take a machine from somebody.
    async fn free_orphan(&self, host: &BareMetalHost) -> Result<Option<Instant>, SaveError> {
        let Some(consumer) = index::claim_of(host) else {
            return Ok(None);
        };
        if self.store.claims.get(&consumer).is_some() {
            return Ok(None);
        }
        let claims: Api<NodeClaim> = Api::namespaced(self.store.client.clone(), &consumer.namespace);
        let uid = host.spec.consumer_ref.as_ref().and_then(|c| c.uid.clone());
        match claims.get_opt(&consumer.name).await {
            Ok(Some(claim)) if uid.is_none() || claim.uid() == uid => return Ok(None),
            Ok(_) => {}
            Err(error) => {
                tracing::debug!(error = %error, "the claim can't be asked for");
                return Ok(None);
            }
        }
        let Some(write) = claim::free_orphan(host) else {
            return Ok(None);
        };
        tracing::warn!(claim = %consumer, "the claim is gone; the host is asked back");
        let own = own_ref(host);
        let written = self.saver.write(&[write], &own).await?;
        let current = super::claim::parsed(written, host, &own)?;
        if self.store.hosts.put(current.clone()) {
            self.store
                .host_changed(&Key::of(host), Some(host), Some(&current));
        }
        Ok(Some(Instant::now()))
    }

    fn forget_host(&self, key: &Key) {
        self.bmc.forget(key);
        self.agent.forget(key);
        self.boot.retract(key);
    }

    /// What the BMC says; an address that is none says so itself.
    fn bmc_facts(&self, key: &Key, host: &BareMetalHost) -> Observed<BmcFacts> {
        let address = host.spec.bmc.as_ref().map(|bmc| BmcAddress::parse(&bmc.address));
        match address {
            Some(Err(error)) => Observed::Unknown {
                since: self.clock.now(),
                why: Ignorance::Unreadable(error.to_string()),
            },
            _ => self.facts.bmc(key),
        }
    }

    /// What the agent says, and what it could not even be told.
    fn agent_facts(&self, key: &Key, host: &BareMetalHost) -> Observed<AgentFacts> {
        let mut agent = self.boot.agent(key);
        let operation = host
            .status
            .as_ref()
            .and_then(|s| s.steelyard.as_ref()?.operation.as_ref());
        if let Observed::Known { value, .. } = &mut agent
            && value.job.is_none()
            && let Some(operation) = operation
        {
            value.job = self.agent.failure(key, &operation.id);
        }
        agent
    }

    /// Which Secret lets us in, and (for the driver only) what is in it.
    async fn credentials(&self, host: &BareMetalHost) -> (Observed<CredentialFacts>, Option<Credentials>) {
        let now = self.clock.now();
        let known = |value| Observed::Known { value, at: now };
        let Some(key) = index::secret_of(host) else {
            let why = "spec.bmc.credentialsName is empty".to_owned();
            return (
                known(CredentialFacts::Unusable {
                    secret: String::new(),
                    why,
                }),
                None,
            );
        };
        let secret = match self.store.secrets.get(&key) {
            Some(secret) => secret,
            None => match self.fetch_secret(&key).await {
                Ok(Some(secret)) => secret.into(),
                Ok(None) => return (known(CredentialFacts::Missing { secret: key.name }), None),
                Err(error) => {
                    let why = Ignorance::Unreachable(format!("Secret {key} can't be read: {error}"));
                    return (Observed::Unknown { since: now, why }, None);
                }
            },
        };
        let field = |name: &str| {
            let bytes = secret
                .data
                .as_ref()
                .and_then(|d| d.get(name))
                .map(|b| b.0.clone())
                .unwrap_or_default();
            String::from_utf8(bytes)
                .map(|t| t.trim().to_owned())
                .ok()
                .filter(|t| !t.is_empty())
        };
        let missing = |name: &str| {
            let why = format!("key {name:?} is missing, empty or not text");
            (
                known(CredentialFacts::Unusable {
                    secret: key.name.clone(),
                    why,
                }),
                None,
            )
        };
        let (Some(username), Some(password)) = (field("username"), field("password")) else {
            return missing(if field("username").is_none() {
                "username"
            } else {
                "password"
            });
        };
        let version = secret.resource_version().unwrap_or_default();
        let login = Credentials {
            username,
            password: Secret::new(password),
            version: version.clone(),
        };
        (known(CredentialFacts::Version(version)), Some(login))
    }

    /// Reads a Secret that we do not watch yet, and labels it so that from now on we do.
    async fn fetch_secret(&self, key: &Key) -> Result<Option<KubeSecret>, kube::Error> {
        let api: Api<KubeSecret> = Api::namespaced(self.store.client.clone(), &key.namespace);
        let Some(found) = api.get_opt(&key.name).await? else {
            return Ok(None);
        };
        let label = json!({"metadata": {
            "resourceVersion": found.resource_version(),
            "labels": {names::label::ENVIRONMENT: names::label::ENVIRONMENT_BAREMETAL},
        }});
        let labelled = api
            .patch(&key.name, &PatchParams::default(), &Patch::Merge(label))
            .await?;
        self.store.secrets.put(labelled.clone());
        Ok(Some(labelled))
    }

    fn claim_facts(&self, claim: &NodeClaim) -> ClaimFacts {
        ClaimFacts {
            namespace: claim.namespace().unwrap_or_default(),
            name: claim.name_any(),
            uid: claim.uid().unwrap_or_default(),
            network: self.network_of(claim),
            joins: claim.spec.vcluster_ref.is_some(),
            deleting: claim.metadata.deletion_timestamp.is_some(),
        }
    }

    /// The annotation if it is an address of the provisioning range, else the recorded one, else a free one.
    fn boot_address(&self, key: &Key, host: &BareMetalHost) -> Result<Ipv4Net, String> {
        let range = self.site.provisioning_cidr;
        let fits = |net: &Ipv4Net| range.is_none_or(|range| range.contains(&net.addr()));
        if let Some(text) = host.annotations().get(names::annotation::IP_ADDRESS) {
            match text.parse::<Ipv4Net>() {
                Ok(net) if fits(&net) => return Ok(net),
                Ok(_) => {}
                Err(_) => {
                    let name = names::annotation::IP_ADDRESS;
                    return Err(format!(
                        "annotation {name}: {text:?} is not an address with a prefix such as 192.168.100.20/24"
                    ));
                }
            }
        }
        let recorded = host
            .status
            .as_ref()
            .and_then(|s| s.steelyard.as_ref()?.address.as_ref()?.parse::<Ipv4Net>().ok());
        if let Some(net) = recorded.filter(fits) {
            return Ok(net);
        }
        let Some(range) = range else {
            let name = names::annotation::IP_ADDRESS;
            return Err(format!(
                "no address: annotate the host with {name}, or give the controller --provisioning-cidr"
            ));
        };
        let first = u32::from(range.network()).saturating_add(FIRST_HOST);
        let last = u32::from(range.broadcast());
        let free = self.store.allocate(key, (first..last).map(Ipv4Addr::from));
        let free = free.ok_or_else(|| format!("no free address is left in {range}"))?;
        Ipv4Net::new(free, range.prefix_len()).map_err(|e| e.to_string())
    }

    async fn save_host(&self, host: &BareMetalHost, decision: &HostDecision) -> Result<(), SaveError> {
        let own = own_ref(host);
        let written = self.saver.write(&decision.writes, &own).await?;
        let mut current = super::claim::parsed(written, host, &own)?;
        // A host that is left alone (paused) may have no status yet, and gets none.
        let changed = host.status.clone().unwrap_or_default() != decision.status;
        if changed {
            let before = host.status.as_ref().map(|s| s.provisioning.state);
            if before != Some(decision.status.provisioning.state) {
                tracing::info!(
                    from = %before.unwrap_or_default(),
                    to = %decision.status.provisioning.state,
                    rule = %decision.rule,
                    "host changes its state"
                );
            }
            current.status = Some(decision.status.clone());
            let api: Api<BareMetalHost> =
                Api::namespaced(self.store.client.clone(), &host.namespace().unwrap_or_default());
            current = self.saver.status(&api, &current).await?;
        }
        if (changed || !decision.writes.is_empty()) && self.store.hosts.put(current.clone()) {
            self.store
                .host_changed(&Key::of(host), Some(host), Some(&current));
        }
        for notice in &decision.events {
            self.events.publish(reference(host), notice);
        }
        Ok(())
    }

    fn hand_over(&self, key: &Key, view: &HostView<'_>, access: Option<BmcAccess>, decision: &HostDecision) {
        self.withdraw(key, decision);
        for intent in &decision.intents {
            match intent {
                HostIntent::Bmc(intent) => match &access {
                    Some(access) => self.bmc.order(key, access.clone(), intent.clone()),
                    None => tracing::debug!("no way into the BMC yet"),
                },
                HostIntent::Boot(BootIntent::Publish(plan)) => {
                    if let Err(error) = self.boot.publish(key, plan.clone()) {
                        tracing::warn!(error = %error, "the boot services did not take the plan");
                    }
                }
                HostIntent::Boot(BootIntent::Retract) => self.boot.retract(key),
                HostIntent::Fabric(attachment) => {
                    if let Some(fabric) = &self.fabric {
                        fabric.order(key, attachment.clone());
                    }
                }
                HostIntent::Agent(task) => self.agent.order(key, task.clone()),
                HostIntent::Image(wanted) => self.images.ensure(&wanted.image),
            }
        }
        for look in &decision.look {
            self.look(key, view, access.as_ref(), *look);
        }
    }

    /// Orders of earlier decisions that have not been begun, where this one wants nothing.
    fn withdraw(&self, key: &Key, decision: &HostDecision) {
        let wants = |kind: fn(&HostIntent) -> bool| decision.intents.iter().any(kind);
        if !wants(|intent| matches!(intent, HostIntent::Bmc(_))) {
            self.bmc.withdraw(key);
        }
        if !wants(|intent| matches!(intent, HostIntent::Agent(_))) {
            self.agent.withdraw(key);
        }
        if let Some(fabric) = &self.fabric
            && !wants(|intent| matches!(intent, HostIntent::Fabric(_)))
        {
            fabric.withdraw(&key.name);
        }
    }

    fn look(&self, key: &Key, view: &HostView<'_>, access: Option<&BmcAccess>, look: Look) {
        match look.what {
            Question::Bmc => {
                if let Some(access) = access {
                    self.bmc
                        .look_at(key, access.clone(), self.due_of(&view.bmc, look));
                }
            }
            // Each look ends in another pass, so the next one must wait its time.
            Question::AgentJob => self.agent.look_at(key, self.in_a_while(look)),
            Question::Fabric => {
                if let (Some(fabric), Some(fact)) = (&self.fabric, &view.fabric) {
                    fabric.look_at(key, &key.name, self.due_of(fact, look));
                }
            }
            // Nodes are watched.
            Question::Node => {}
        }
    }

    fn due_of<T>(&self, fact: &Observed<T>, look: Look) -> Instant {
        match fact {
            Observed::Unknown {
                why: Ignorance::NotAsked,
                ..
            } => Instant::now(),
            Observed::Known { at, .. } => self.due(*at, look.within),
            // `since` may be long ago, however often we have looked.
            Observed::Unknown { .. } => self.in_a_while(look),
        }
    }

    fn in_a_while(&self, look: Look) -> Instant {
        self.due(self.clock.now(), look.within)
    }
}

fn access(host: &BareMetalHost, login: Option<Credentials>) -> Option<BmcAccess> {
    let bmc = host.spec.bmc.as_ref()?;
    let address = BmcAddress::parse(&bmc.address).ok()?;
    Some(BmcAccess {
        address,
        credentials: login?,
        verify: !bmc.disable_certificate_verification,
    })
}

fn own_ref(host: &BareMetalHost) -> ObjectRef {
    ObjectRef {
        api_version: BareMetalHost::API_VERSION,
        kind: BareMetalHost::KIND,
        namespace: host.namespace(),
        name: host.name_any(),
    }
}
