//! A pass over one tenant (VirtualClusterInstance).

use super::{Engine, reference};
use crate::{key::Key, store::SaveError};
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, ResourceExt};
use steelyard_api::{loft::VirtualClusterInstance, names::secret};
use steelyard_core::{
    ObjectRef,
    claim::vci::{self, TenantView},
};
use tokio::time::Instant;

impl Engine {
    pub(super) async fn tenant(&self, key: &Key) -> Result<Option<Instant>, SaveError> {
        let Some(tenant) = self.store.tenants.get(key) else {
            self.tenant_gone(key);
            return Ok(None);
        };
        let reachable = self.reach(key, &tenant).await;
        let namespace = vci::control_plane_namespace(&tenant);
        let claims = self.store.claims_of_tenant(key);
        let view = TenantView {
            tenant: &tenant,
            claims: claims.iter().map(|c| &**c).collect(),
            namespace_exists: reachable || self.namespace_exists(&namespace).await,
            kubeconfig: reachable,
        };
        let decision = vci::decide(&view, self.moment());
        tracing::debug!(rule = %decision.rule, "decided");
        let own = ObjectRef {
            api_version: VirtualClusterInstance::API_VERSION,
            kind: VirtualClusterInstance::KIND,
            namespace: tenant.namespace(),
            name: tenant.name_any(),
        };
        let written = self.saver.write(&decision.writes, &own).await?;
        let mut current = super::claim::parsed(written, &*tenant, &own)?;
        let gone = current.metadata.deletion_timestamp.is_some()
            && current.metadata.finalizers.iter().flatten().next().is_none();
        let changed = tenant.status.as_ref() != Some(&decision.status);
        if changed && !gone {
            current.status = Some(decision.status);
            let api: Api<VirtualClusterInstance> =
                Api::namespaced(self.store.client.clone(), &tenant.namespace().unwrap_or_default());
            current = self.saver.status(&api, &current).await?;
        }
        if (changed || !decision.writes.is_empty()) && !gone && self.store.tenants.put(current) {
            self.store.tenant_changed(key);
        }
        for notice in &decision.events {
            self.events.publish(reference(&*tenant), notice);
        }
        let wake = self.wake_instant(decision.wake);
        // A Secret in a namespace that we do not watch: asked for until it is there, then now and then.
        let again = if reachable {
            self.site.tenant_poll * 20
        } else {
            self.site.tenant_poll
        };
        let again = Instant::now() + again;
        Ok(Some(wake.map_or(again, |w| w.min(again))))
    }

    async fn reach(&self, key: &Key, tenant: &VirtualClusterInstance) -> bool {
        let namespace = vci::control_plane_namespace(tenant);
        let name = secret::kubeconfig_of(&vci::virtual_cluster_name(tenant));
        let before = self.tenants.get(key).is_some();
        let reachable = match self.tenants.ensure(key, &Key::new(namespace, name)).await {
            Ok(cluster) => cluster.is_some(),
            Err(error) => {
                tracing::warn!(error = %error, "the tenant's cluster can't be reached");
                before
            }
        };
        if reachable != before {
            self.store.tenant_changed(key);
        }
        reachable
    }

    async fn namespace_exists(&self, name: &str) -> bool {
        let api: Api<Namespace> = Api::all(self.store.client.clone());
        // Unknown counts as there: making it again would be refused anyway.
        !matches!(api.get_opt(name).await, Ok(None))
    }

    fn tenant_gone(&self, key: &Key) {
        self.tenants.close(key);
        if let Some(fabric) = &self.fabric {
            fabric.remove(format!("{}-{}", key.namespace, key.name));
        }
    }
}
