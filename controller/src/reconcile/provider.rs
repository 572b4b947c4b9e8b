//! A pass over one provider: its types as objects, and what each has to offer.

use super::{Engine, reference};
use crate::{key::Key, store::SaveError};
use kube::{Api, ResourceExt};
use steelyard_api::loft::{NodeProvider, NodeType};
use steelyard_core::{
    ObjectRef,
    provider::{self, ProviderView},
};
use tokio::time::Instant;

impl Engine {
    pub(super) async fn provider(&self, key: &Key) -> Result<Option<Instant>, SaveError> {
        let Some(found) = self.store.providers.get(key) else {
            return Ok(None);
        };
        let types = self.store.types.list();
        let view = ProviderView {
            provider: &found,
            types: types.iter().map(|t| &**t).collect(),
        };
        let decision = provider::decide(&view, self.moment());
        tracing::debug!(rule = %decision.rule, "decided");
        let own = ObjectRef {
            api_version: NodeProvider::API_VERSION,
            kind: NodeProvider::KIND,
            namespace: None,
            name: found.name_any(),
        };
        let written = self.saver.write(&decision.writes, &own).await?;
        let mut current = super::claim::parsed(written, &*found, &own)?;
        if found.status.as_ref() != Some(&decision.status) && !is_gone(&current) {
            current.status = Some(decision.status);
            let api: Api<NodeProvider> = Api::all(self.store.client.clone());
            let saved = self.saver.status(&api, &current).await?;
            self.store.providers.put(saved);
        }
        for notice in &decision.events {
            self.events.publish(reference(&*found), notice);
        }
        self.count_types(&found, &types).await?;
        Ok(self.wake_instant(decision.wake))
    }

    /// How many hosts of each of the provider's types there are, and how many are free.
    async fn count_types(
        &self,
        provider: &NodeProvider,
        types: &[std::sync::Arc<NodeType>],
    ) -> Result<(), SaveError> {
        let hosts = self.store.hosts.list();
        let hosts: Vec<_> = hosts.iter().map(|h| &**h).collect();
        let name = provider.name_any();
        for node_type in types
            .iter()
            .filter(|t| t.spec.provider_ref.as_deref() == Some(name.as_str()))
        {
            let status = provider::type_status(node_type, Some(provider), &hosts, self.clock.now());
            if node_type.status.as_ref() == Some(&status) {
                continue;
            }
            let mut current = NodeType::clone(node_type);
            current.status = Some(status);
            let api: Api<NodeType> = Api::all(self.store.client.clone());
            let saved = self.saver.status(&api, &current).await?;
            self.store.types.put(saved.clone());
            self.store.type_changed(Some(node_type), Some(&saved));
        }
        Ok(())
    }
}

fn is_gone(provider: &NodeProvider) -> bool {
    provider.metadata.deletion_timestamp.is_some()
        && provider.metadata.finalizers.iter().flatten().next().is_none()
}
