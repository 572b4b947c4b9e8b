//! Answers the join service: whose ticket is this, and what does its node need to know?

use super::{Engine, tenant_key};
use crate::{
    tenant::{
        TicketOffice,
        join_service::{JoinTicket, Tickets, TicketsError},
    },
};
use futures::future::BoxFuture;
use kube::ResourceExt;
use std::{collections::BTreeMap, sync::Arc};
use steelyard_api::{loft::NodeClaim, names::label};
use steelyard_core::claim;

/// Looks tickets up in the tenants' own clusters.
pub struct TicketDesk(pub(crate) Arc<Engine>);

impl Tickets for TicketDesk {
    fn find<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<JoinTicket>, TicketsError>> {
        Box::pin(async move {
            let engine = &self.0;
            let mut silent = None;
            for (tenant, cluster) in engine.tenants.all() {
                let ticket = match TicketOffice::new(&cluster).find(id, engine.clock.now()).await {
                    Ok(Some(ticket)) => ticket,
                    Ok(None) => continue,
                    // One tenant that does not answer must not keep others' nodes out.
                    Err(error) => {
                        silent = Some(TicketsError(format!("tenant {tenant}: {error}")));
                        continue;
                    }
                };
                let Some(claim) = engine.store.claims.get(&ticket.claim) else { return Ok(None) };
                return Ok(Some(JoinTicket {
                    secret: ticket.secret,
                    endpoint: cluster.endpoint.clone(),
                    ca_hash: format!("sha256:{}", cluster.ca_hash),
                    node_name: claim.name_any(),
                    labels: engine.node_labels(&claim),
                    taints: claim.spec.taints.iter().chain(&claim.spec.startup_taints).cloned().collect(),
                    provider_id: engine.store.host_of_claim(&ticket.claim).map(|h| format!("metal3://{}/{}", h.namespace, h.name)),
                    kubernetes_version: None,
                }));
            }
            silent.map_or(Ok(None), Err)
        })
    }
}

impl Engine {
    /// What the node is told to say of itself: the built-in properties of its type.
    fn node_labels(&self, claim: &NodeClaim) -> BTreeMap<String, String> {
        let mut labels = BTreeMap::new();
        let chosen = claim.spec.type_ref.as_ref().and_then(|name| self.store.types.get(&crate::key::Key::new("", name.clone())));
        if let Some(node_type) = chosen {
            let provider = node_type.spec.provider_ref.as_ref();
            let provider = provider.and_then(|p| self.store.providers.get(&crate::key::Key::new("", p.clone())));
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
