//! The Secret of each host: what must survive us and may not be seen. One per host, owned by it.

use super::save::FIELD_MANAGER;
use crate::{
    boot::{AgentRecord, AgentVault, VaultError},
    key::Key,
    store::Cache,
};
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client, Resource,
    api::{Patch, PatchParams},
};
use serde_json::json;
use std::sync::Arc;
use steelyard_api::{metal3::BareMetalHost, names};

pub struct SecretVault {
    client: Client,
    hosts: Arc<Cache<BareMetalHost>>,
}

impl SecretVault {
    pub fn new(client: Client, hosts: Arc<Cache<BareMetalHost>>) -> Self {
        SecretVault { client, hosts }
    }

    fn api(&self, host: &Key) -> Api<Secret> {
        Api::namespaced(self.client.clone(), &host.namespace)
    }
}

fn secret_name(host: &Key) -> String {
    names::secret::agent_of(&host.name)
}

impl AgentVault for SecretVault {
    fn load<'a>(&'a self, host: &'a Key) -> BoxFuture<'a, Result<Option<AgentRecord>, VaultError>> {
        Box::pin(async move {
            let found = self
                .api(host)
                .get_opt(&secret_name(host))
                .await
                .map_err(|e| VaultError(e.to_string()))?;
            let data = found.and_then(|s| s.data).unwrap_or_default();
            let text = data
                .into_iter()
                .filter_map(|(k, v)| Some((k, String::from_utf8(v.0).ok()?)))
                .collect();
            Ok(AgentRecord::from_data(&text))
        })
    }

    fn save<'a>(&'a self, host: &'a Key, record: AgentRecord) -> BoxFuture<'a, Result<(), VaultError>> {
        Box::pin(async move {
            let name = secret_name(host);
            let owner = self.hosts.get(host).and_then(|h| h.controller_owner_ref(&()));
            let secret = json!({
                "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
                "metadata": {
                    "name": name, "namespace": host.namespace,
                    "labels": {names::label::OWNED_BY_HOST: host.name},
                    "ownerReferences": owner.into_iter().collect::<Vec<_>>(),
                },
                "stringData": record.to_data(),
            });
            let params = PatchParams::apply(FIELD_MANAGER).force();
            self.api(host)
                .patch(&name, &params, &Patch::Apply(secret))
                .await
                .map_err(|e| VaultError(e.to_string()))?;
            Ok(())
        })
    }
}
