//! The tenants that we are connected to.

use super::{TenantCluster, TenantError, cluster};
use crate::{
    key::Key,
    net::Net,
    queue::{Queue, Work},
    tasks::Tasks,
};
use k8s_openapi::api::core::v1::{Node, Secret};
use kube::{Api, Client, runtime::watcher};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};
use tokio_util::sync::CancellationToken;

#[derive(Clone)]
pub struct Tenants {
    home: Client,
    net: Arc<dyn Net>,
    queue: Queue,
    tasks: Tasks,
    open: Arc<Mutex<BTreeMap<Key, Open>>>,
}

struct Open {
    cluster: Arc<TenantCluster>,
    stop: CancellationToken,
}

/// The key of a tenant's kubeconfig in its Secret.
const KUBECONFIG: &str = "config";

impl Tenants {
    pub fn new(home: Client, net: Arc<dyn Net>, queue: Queue, tasks: Tasks) -> Self {
        Tenants { home, net, queue, tasks, open: Arc::default() }
    }

    /// The cluster of a tenant, if we are connected to it.
    pub fn get(&self, tenant: &Key) -> Option<Arc<TenantCluster>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).get(tenant).map(|o| o.cluster.clone())
    }

    pub fn all(&self) -> Vec<(Key, Arc<TenantCluster>)> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.iter().map(|(k, o)| (k.clone(), o.cluster.clone())).collect()
    }

    /// Reads the tenant's kubeconfig and connects, or connects anew if it has changed. `None`: there is none yet.
    pub async fn ensure(&self, tenant: &Key, secret: &Key) -> Result<Option<Arc<TenantCluster>>, TenantError> {
        let api: Api<Secret> = Api::namespaced(self.home.clone(), &secret.namespace);
        let Some(found) = api.get_opt(&secret.name).await? else {
            self.close(tenant);
            return Ok(None);
        };
        let Some(bytes) = found.data.as_ref().and_then(|d| d.get(KUBECONFIG)) else {
            return Err(TenantError::Kubeconfig(format!("Secret {secret} has no key {KUBECONFIG:?}")));
        };
        let text = std::str::from_utf8(&bytes.0).map_err(|e| TenantError::Kubeconfig(e.to_string()))?;
        if let Some(cluster) = self.get(tenant)
            && cluster.made_from == cluster::digest(text)
        {
            return Ok(Some(cluster));
        }
        let cluster = Arc::new(TenantCluster::connect(text, self.net.clone()).await?);
        self.watch(tenant, cluster.clone());
        Ok(Some(cluster))
    }

    /// Forgets a tenant that is gone.
    pub fn close(&self, tenant: &Key) {
        if let Some(open) = self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(tenant) {
            open.stop.cancel();
        }
    }

    fn watch(&self, tenant: &Key, cluster: Arc<TenantCluster>) {
        self.close(tenant);
        let stop = CancellationToken::new();
        let (until, queue, namespace) = (stop.clone(), self.queue.clone(), tenant.namespace.clone());
        let (tenant_work, nodes) = (Work::Tenant(tenant.clone()), cluster.nodes.clone());
        let api: Api<Node> = Api::all(cluster.client.clone());
        self.tasks.spawn("tenant nodes", async move {
            // A node has the name of the claim that it came from, which is in the tenant's namespace.
            let changed = |key: &Key, _: Option<&Node>, _: Option<&Node>| {
                queue.wake(Work::Claim(Key::new(namespace.clone(), key.name.clone())));
                queue.wake(tenant_work.clone());
            };
            until.run_until_cancelled(nodes.run(api, watcher::Config::default(), changed)).await;
        });
        self.open.lock().unwrap_or_else(PoisonError::into_inner).insert(tenant.clone(), Open { cluster, stop });
    }
}
