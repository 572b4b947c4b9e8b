//! A pass over one claim.

use super::{Engine, reference, tenant_key};
use crate::{
    key::Key,
    store::SaveError,
    tenant::{TENANT_PATIENCE, TenantError, TicketOffice, within},
};
use kube::{Api, ResourceExt};
use steelyard_api::{
    loft::{NodeClaim, NodeClaimStatus},
    metal3::BareMetalHost,
    names::secret,
};
use steelyard_core::{
    Decision, Ignorance, ObjectRef, Observed,
    claim::{self, ClaimIntent, ClaimView, NetworkFacts, NodeRemoval, RenderFacts, TenantFacts},
    host::view::NodeFacts,
    intent::NetworkName,
};
use tokio::time::Instant;

impl Engine {
    pub(super) async fn claim(&self, key: &Key) -> Result<Option<Instant>, SaveError> {
        let Some(claim) = self.store.claims.get(key) else {
            self.rendered.forget(key);
            return Ok(None);
        };
        let decision = self.decide_claim(key, &claim).await;
        tracing::debug!(rule = %decision.rule, intents = decision.intents.len(), "decided");
        self.save_claim(&claim, &decision).await?;
        for intent in &decision.intents {
            self.carry_out(key, &claim, intent).await;
        }
        Ok(self.wake_instant(decision.wake))
    }

    async fn decide_claim(&self, key: &Key, claim: &NodeClaim) -> Decision<NodeClaimStatus, ClaimIntent> {
        let hosts = self.hosts_for(key, claim);
        let (providers, types) = (self.store.providers.list(), self.store.types.list());
        let environments = self.store.environments.in_namespace(&key.namespace);
        let images = self.store.images.list();
        let claims = self.store.claims.list();
        let view = ClaimView {
            claim,
            providers: providers.iter().map(|p| &**p).collect(),
            types: types.iter().map(|t| &**t).collect(),
            environments: environments.iter().map(|e| &**e).collect(),
            images: images.iter().map(|i| &**i).collect(),
            hosts: hosts.iter().map(|h| &**h).collect(),
            addresses: claim::addresses_in_use(
                claims.iter().map(|c| &**c),
                hosts.iter().map(|h| &**h),
                claim,
            ),
            tenant: self.tenant_facts(claim),
            fabric: self.fabric.is_some(),
            network: self.network_facts(claim),
            rendered: self.render_facts(key, claim).await,
            node: self.node_facts(claim),
        };
        claim::decide(&view, self.moment())
    }

    /// Its own host, if it has one; a claim without looks at all.
    fn hosts_for(&self, key: &Key, claim: &NodeClaim) -> Vec<std::sync::Arc<BareMetalHost>> {
        let own = self
            .store
            .host_of_claim(key)
            .and_then(|host| self.store.hosts.get(&host));
        match own {
            // Addresses of others are checked until its own is written for good.
            Some(host) if host.spec.user_data.is_some() || claim.metadata.deletion_timestamp.is_some() => {
                vec![host]
            }
            _ => self.store.hosts.list(),
        }
    }

    fn tenant_facts(&self, claim: &NodeClaim) -> Option<TenantFacts> {
        let key = tenant_key(claim)?;
        self.store.tenants.get(&key)?;
        Some(TenantFacts {
            reachable: self.tenants.get(&key).is_some(),
        })
    }

    fn network_facts(&self, claim: &NodeClaim) -> Observed<NetworkFacts> {
        match claim.status.as_ref().and_then(|s| s.network.as_ref()) {
            Some(network) => self.facts.network(&network.name),
            None => Observed::not_asked(self.clock.now()),
        }
    }

    /// The network that a claim's machine belongs in.
    pub(super) fn network_of(&self, claim: &NodeClaim) -> Option<NetworkName> {
        let network = claim.status.as_ref()?.network.as_ref()?;
        Some(NetworkName {
            name: network.name.clone(),
            create: network.create,
        })
    }

    pub(super) fn node_facts(&self, claim: &NodeClaim) -> Observed<NodeFacts> {
        let now = self.clock.now();
        match tenant_key(claim).and_then(|t| self.tenants.get(&t)) {
            Some(cluster) => Observed::Known {
                value: cluster.node(&claim.name_any()),
                at: now,
            },
            None => Observed::not_asked(now),
        }
    }

    /// What was made for the claim: remembered, or read from its Secret after a restart.
    async fn render_facts(&self, key: &Key, claim: &NodeClaim) -> Observed<RenderFacts> {
        let now = self.clock.now();
        if let Some(facts) = self.rendered.get(key) {
            return Observed::Known {
                value: facts,
                at: now,
            };
        }
        let Some(host) = claim.status.as_ref().and_then(|s| s.bare_metal_host.as_ref()) else {
            return Observed::not_asked(now);
        };
        let name = secret::user_data_of(&key.namespace, &key.name);
        match self.renderer.made_for(&host.namespace, &name).await {
            Ok(facts) => {
                self.rendered.set(key, facts.clone());
                Observed::Known {
                    value: facts,
                    at: now,
                }
            }
            Err(error) => Observed::Unknown {
                since: now,
                why: Ignorance::Unreachable(error.to_string()),
            },
        }
    }

    async fn save_claim(
        &self,
        claim: &NodeClaim,
        decision: &Decision<NodeClaimStatus, ClaimIntent>,
    ) -> Result<(), SaveError> {
        let own = ObjectRef {
            api_version: NodeClaim::API_VERSION,
            kind: NodeClaim::KIND,
            namespace: claim.namespace(),
            name: claim.name_any(),
        };
        let written = self.saver.write(&decision.writes, &own).await?;
        let mut current = parsed(written, claim, &own)?;
        let changed = claim.status.as_ref() != Some(&decision.status);
        if changed {
            if claim.status.as_ref().and_then(|s| s.rule.as_deref()) != Some(decision.rule.0) {
                tracing::info!(rule = %decision.rule, waits_for = decision.status.message, "claim goes on");
            }
            current.status = Some(decision.status.clone());
            let api: Api<NodeClaim> =
                Api::namespaced(self.store.client.clone(), &claim.namespace().unwrap_or_default());
            current = match self.saver.status(&api, &current).await {
                // The last finalizer went with this very decision.
                Err(SaveError::Conflict { .. }) if is_last_write(&current) => return Ok(()),
                other => other?,
            };
        }
        if (changed || !decision.writes.is_empty()) && self.store.claims.put(current.clone()) {
            self.store
                .claim_changed(&Key::of(claim), Some(claim), Some(&current));
        }
        for notice in &decision.events {
            self.events.publish(reference(claim), notice);
        }
        Ok(())
    }

    async fn carry_out(&self, key: &Key, claim: &NodeClaim, intent: &ClaimIntent) {
        match intent {
            ClaimIntent::Network(network) => {
                if let Some(fabric) = &self.fabric {
                    fabric.make(network.clone());
                }
            }
            ClaimIntent::Render(plan) => {
                let facts = self.renderer.render(claim, plan).await;
                if let RenderFacts::Failed { message, .. } = &facts {
                    tracing::warn!(error = message, "user data not made");
                }
                let retry = matches!(facts, RenderFacts::Failed { .. });
                self.rendered.set(key, facts);
                // What it lacked may come without an event that we see (a tenant that was not up yet).
                let delay = if retry {
                    super::AFTER_REFUSAL
                } else {
                    std::time::Duration::ZERO
                };
                self.queue
                    .wake_after(crate::queue::Work::Claim(key.clone()), delay);
            }
            ClaimIntent::RemoveNode(removal) => {
                if let Err(error) = self.remove_node(key, removal).await {
                    tracing::warn!(error = %error, "the node is not removed yet");
                }
            }
        }
    }

    async fn remove_node(&self, claim: &Key, removal: &NodeRemoval) -> Result<(), TenantError> {
        let tenant = Key::new(claim.namespace.clone(), removal.tenant.clone());
        let Some(cluster) = self.tenants.get(&tenant) else {
            return Ok(());
        };
        let work = async {
            TicketOffice::new(&cluster).withdraw(claim).await?;
            cluster.remove_node(&removal.node, removal.force).await
        };
        within(TENANT_PATIENCE, work).await
    }
}

/// A deleted object without finalizers is gone after the write that took the last one.
fn is_last_write(claim: &NodeClaim) -> bool {
    claim.metadata.deletion_timestamp.is_some() && claim.metadata.finalizers.iter().flatten().next().is_none()
}

/// The object as the decision's writes left it.
pub(super) fn parsed<K>(
    written: Option<kube::api::DynamicObject>,
    before: &K,
    own: &ObjectRef,
) -> Result<K, SaveError>
where
    K: kube::Resource + Clone + serde::de::DeserializeOwned,
{
    match written {
        None => Ok(before.clone()),
        Some(object) => object.try_parse().map_err(|error| {
            tracing::warn!(error = %error, kind = own.kind, "the API server's answer can't be read; gathering again");
            SaveError::Conflict { kind: own.kind.into(), name: own.name.clone() }
        }),
    }
}
