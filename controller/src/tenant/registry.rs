//! The tenants that we are connected to.

use super::{TenantCluster, TenantError, cluster, node};
use crate::{key::Key, net::Net, queue::Work, store::Store, tasks::Tasks};
use k8s_openapi::api::core::v1::{Node, Secret};
use kube::{Api, runtime::watcher};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};
use tokio_util::sync::CancellationToken;

#[derive(Clone)]
pub struct Tenants {
    store: Arc<Store>,
    net: Arc<dyn Net>,
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
    pub fn new(store: Arc<Store>, net: Arc<dyn Net>, tasks: Tasks) -> Self {
        Tenants {
            store,
            net,
            tasks,
            open: Arc::default(),
        }
    }

    /// The cluster of a tenant, if we are connected to it and know its nodes. A node that is missing from a
    /// list that we don't have yet may well exist.
    pub fn get(&self, tenant: &Key) -> Option<Arc<TenantCluster>> {
        self.opened(tenant).filter(|cluster| cluster.nodes.is_synced())
    }

    /// All tenants that we are connected to.
    pub fn all(&self) -> Vec<(Key, Arc<TenantCluster>)> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.iter()
            .filter(|(_, o)| o.cluster.nodes.is_synced())
            .map(|(k, o)| (k.clone(), o.cluster.clone()))
            .collect()
    }

    fn opened(&self, tenant: &Key) -> Option<Arc<TenantCluster>> {
        self.open
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(tenant)
            .map(|o| o.cluster.clone())
    }

    /// Reads the tenant's kubeconfig and connects, or connects anew if it has changed. `None`: there is none yet,
    /// or its nodes are not known yet; the tenant is woken when they are.
    pub async fn ensure(
        &self,
        tenant: &Key,
        secret: &Key,
    ) -> Result<Option<Arc<TenantCluster>>, TenantError> {
        let api: Api<Secret> = Api::namespaced(self.store.client.clone(), &secret.namespace);
        let Some(found) = api.get_opt(&secret.name).await? else {
            self.close(tenant);
            return Ok(None);
        };
        let Some(bytes) = found.data.as_ref().and_then(|d| d.get(KUBECONFIG)) else {
            return Err(TenantError::Kubeconfig(format!(
                "Secret {secret} has no key {KUBECONFIG:?}"
            )));
        };
        let text = std::str::from_utf8(&bytes.0).map_err(|e| TenantError::Kubeconfig(e.to_string()))?;
        if self
            .opened(tenant)
            .is_none_or(|cluster| cluster.made_from != cluster::digest(text))
        {
            let cluster = TenantCluster::connect(text, self.net.clone()).await?;
            self.watch(tenant, Arc::new(cluster));
        }
        Ok(self.get(tenant))
    }

    /// Forgets a tenant that is gone.
    pub fn close(&self, tenant: &Key) {
        if let Some(open) = self
            .open
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(tenant)
        {
            open.stop.cancel();
        }
    }

    fn watch(&self, tenant: &Key, cluster: Arc<TenantCluster>) {
        self.close(tenant);
        let stop = CancellationToken::new();
        let (until, store, key, nodes) = (
            stop.clone(),
            self.store.clone(),
            tenant.clone(),
            cluster.nodes.clone(),
        );
        let api: Api<Node> = Api::all(cluster.client.clone());
        self.open
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(tenant.clone(), Open { cluster, stop });
        self.tasks.spawn("tenant nodes", async move {
            // A node has the name of the claim that it came from, which is in the tenant's namespace. Only what
            // we read of it counts: a kubelet writes its node's status every few minutes, and so do others.
            let changed = |name: &Key, before: Option<&Node>, now: Option<&Node>| {
                if before.map(node::facts) != now.map(node::facts) {
                    let claim = Key::new(key.namespace.clone(), name.name.clone());
                    if let Some(host) = store.host_of_claim(&claim) {
                        store.queue.wake(Work::Host(host));
                    }
                    store.queue.wake(Work::Claim(claim));
                    store.queue.wake(Work::Tenant(key.clone()));
                }
            };
            let ready = async {
                nodes.wait_synced().await;
                store.tenant_changed(&key);
            };
            let watching = nodes.clone().run(api, watcher::Config::default(), changed);
            until
                .run_until_cancelled(async { tokio::join!(ready, watching) })
                .await;
        });
    }
}
