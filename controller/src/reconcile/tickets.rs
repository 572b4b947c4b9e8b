//! Answers the join service: whose ticket is this, and what does its node need to know?

use super::{Engine, tenant_key};
use crate::{
    key::Key,
    tenant::{
        ClaimTicket, TENANT_PATIENCE, TenantCluster, TicketOffice,
        join_service::{JoinTicket, Tickets, TicketsError},
        within,
    },
};
use futures::{StreamExt, future::BoxFuture};
use kube::ResourceExt;
use std::{collections::BTreeMap, sync::Arc};
use steelyard_api::{loft::NodeClaim, names::label};
use steelyard_core::claim;

/// Tenants asked at one time.
const AT_ONCE: usize = 16;

/// Looks tickets up in the tenants' own clusters.
pub struct TicketDesk(pub(crate) Arc<Engine>);

impl Tickets for TicketDesk {
    fn find<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<JoinTicket>, TicketsError>> {
        Box::pin(async move {
            let engine = &self.0;
            let tenants = engine.tenants.all();
            let now = engine.clock.now();
            let mut answers = futures::stream::iter(tenants)
                .map(|(tenant, cluster)| async move {
                    let answer = within(TENANT_PATIENCE, TicketOffice::new(&cluster).find(id, now)).await;
                    (tenant, cluster, answer)
                })
                .buffer_unordered(AT_ONCE);
            let mut silent = None;
            while let Some((tenant, cluster, answer)) = answers.next().await {
                match answer {
                    Ok(Some(ticket)) => return Ok(engine.join_ticket(&tenant, &cluster, ticket)),
                    Ok(None) => {}
                    // One tenant that does not answer must not keep others' nodes out.
                    Err(error) => silent = Some(TicketsError(format!("tenant {tenant}: {error}"))),
                }
            }
            silent.map_or(Ok(None), Err)
        })
    }
}

impl Engine {
    /// A tenant writes the Secrets of its own cluster: one that names another's claim is good for nothing.
    fn join_ticket(&self, tenant: &Key, cluster: &TenantCluster, ticket: ClaimTicket) -> Option<JoinTicket> {
        let claim = self.store.claims.get(&ticket.claim)?;
        if tenant_key(&claim).as_ref() != Some(tenant) {
            tracing::warn!(%tenant, claim = %ticket.claim, "a join token names a claim of another tenant; refused");
            return None;
        }
        Some(JoinTicket {
            secret: ticket.secret,
            endpoint: cluster.endpoint.clone(),
            ca_hash: format!("sha256:{}", cluster.ca_hash),
            node_name: claim.name_any(),
            labels: self.node_labels(&claim),
            taints: claim
                .spec
                .taints
                .iter()
                .chain(&claim.spec.startup_taints)
                .cloned()
                .collect(),
            provider_id: self
                .store
                .host_of_claim(&ticket.claim)
                .map(|h| format!("metal3://{}/{}", h.namespace, h.name)),
            kubernetes_version: None,
        })
    }

    /// What the node is told to say of itself: the built-in properties of its type.
    fn node_labels(&self, claim: &NodeClaim) -> BTreeMap<String, String> {
        let mut labels = BTreeMap::new();
        let chosen = claim
            .spec
            .type_ref
            .as_ref()
            .and_then(|name| self.store.types.get(&Key::new("", name.clone())));
        if let Some(node_type) = chosen {
            let provider = node_type.spec.provider_ref.as_ref();
            let provider = provider.and_then(|p| self.store.providers.get(&Key::new("", p.clone())));
            for (key, values) in claim::type_properties(&node_type, provider.as_deref()) {
                // A node has one value of each; the first is the most specific.
                let value = values.split(',').next().unwrap_or_default().trim();
                if is_label_value(value) && key != label::OS {
                    labels.insert(key, value.to_owned());
                }
            }
        }
        if tenant_key(claim).is_some() {
            labels.insert(label::CAPACITY_TYPE.to_owned(), "on-demand".to_owned());
        }
        labels
    }
}

/// Kubernetes' rule for label values.
fn is_label_value(value: &str) -> bool {
    let edge = |c: char| c.is_ascii_alphanumeric();
    !value.is_empty()
        && value.len() <= 63
        && value.starts_with(edge)
        && value.ends_with(edge)
        && value.chars().all(|c| edge(c) || matches!(c, '-' | '_' | '.'))
}
