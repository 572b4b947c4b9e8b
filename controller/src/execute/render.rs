//! Makes the Secrets of a claim's machine: user data with the join command, network data with its address.
//! They hold the token that lets a node into its tenant, which is why no decision ever sees them.

use crate::{
    key::Key,
    secret::Secret,
    store::Store,
    tenant::{
        TENANT_PATIENCE, Tenants, TicketOffice,
        user_data::{self, NetworkFacts, TemplateValues},
        within,
    },
    world::{Clock, Dice},
};
use ipnet::Ipv4Net;
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Secret as KubeSecret;
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::json;
use std::{collections::BTreeMap, net::Ipv4Addr, sync::Arc};
use steelyard_api::{
    loft::{MachineConfigTemplate, NodeClaim},
    metal3::BareMetalHost,
    names::{annotation, label, property, secret},
};
use steelyard_core::claim::{RenderFacts, RenderPlan};

/// Renders for all claims.
pub struct Renderer {
    pub store: Arc<Store>,
    pub tenants: Tenants,
    pub clock: Clock,
    pub dice: Dice,
    /// `HOST[:PORT]` of the join service.
    pub join_endpoint: String,
    pub ticket_validity: SignedDuration,
}

/// The merged text of a machine's two Secrets.
struct Rendered {
    user_data: Secret,
    network_data: Option<String>,
}

impl Renderer {
    /// What the Secret of a claim says for whom it was made; `None`: there is none.
    pub async fn made_for(&self, namespace: &str, name: &str) -> Result<RenderFacts, kube::Error> {
        let api: Api<KubeSecret> = Api::namespaced(self.store.client.clone(), namespace);
        let found = api.get_opt(name).await?;
        let key = found.and_then(|s| s.annotations().get(annotation::RENDERED_FOR).cloned());
        Ok(key.map_or(RenderFacts::Absent, |key| RenderFacts::Ready { key }))
    }

    /// Makes the Secrets of `plan`; a failure is told as a fact, with what to do about it.
    pub async fn render(&self, claim: &NodeClaim, plan: &RenderPlan) -> RenderFacts {
        let key = plan.key.clone();
        match self.try_render(claim, plan).await {
            Ok(()) => RenderFacts::Ready { key },
            Err(message) => RenderFacts::Failed { key, message },
        }
    }

    async fn try_render(&self, claim: &NodeClaim, plan: &RenderPlan) -> Result<(), String> {
        let host = self
            .store
            .hosts
            .get(&Key::new(plan.host.namespace.clone(), plan.host.name.clone()));
        let host = host.ok_or_else(|| format!("host {} is gone", plan.host.name))?;
        let join = self.join_command(claim, plan).await?;
        let rendered = self.texts(claim, plan, &host, join)?;
        if let (Some(name), Some(text)) = (&plan.network_data_secret, &rendered.network_data) {
            self.apply(claim, plan, name, secret::NETWORK_DATA, text).await?;
        }
        // Last: after a crash it is the one that `made_for` looks at, so it says that both are there.
        let user = rendered.user_data.reveal();
        self.apply(claim, plan, &plan.user_data_secret, secret::USER_DATA, user)
            .await
    }

    /// The command with a fresh or still good token; a machine without a tenant has none.
    async fn join_command(&self, claim: &NodeClaim, plan: &RenderPlan) -> Result<Vec<Secret>, String> {
        let Some(tenant) = &plan.tenant else {
            return Ok(Vec::new());
        };
        let namespace = claim.namespace().unwrap_or_default();
        let cluster = self.tenants.get(&Key::new(namespace, tenant.clone()));
        let cluster = cluster.ok_or_else(|| format!("tenant {tenant} can't be reached yet"))?;
        let office = TicketOffice::new(&cluster);
        let claim = Key::of(claim);
        let issue = office.issue(&claim, self.clock.now(), self.ticket_validity, &self.dice);
        let ticket = within(TENANT_PATIENCE, issue).await;
        let ticket = ticket.map_err(|e| format!("tenant {tenant} gives no join token: {e}"))?;
        Ok(vec![user_data::join_command(
            &self.join_endpoint,
            &ticket.token(),
        )])
    }

    fn texts(
        &self,
        claim: &NodeClaim,
        plan: &RenderPlan,
        host: &BareMetalHost,
        join: Vec<Secret>,
    ) -> Result<Rendered, String> {
        let keys = self.ssh_keys(plan)?;
        let values = values(claim, plan, host, &keys);
        let own = plan.properties.get(property::USER_DATA);
        let template = self.template(plan, property::USER_DATA_TEMPLATE)?;
        let (from, base) = match (own, &template) {
            (Some(text), _) => (format!("property {}", property::USER_DATA), Some(text.to_owned())),
            (None, Some(template)) => {
                let (from, text) = field(template, "cloudInitTemplate", &template.spec.cloud_init_template)?;
                let text = user_data::render(&from, text, &values).map_err(|e| e.to_string())?;
                (from, Some(text))
            }
            (None, None) => ("user data".to_owned(), None),
        };
        let user_data =
            user_data::cloud_config(&from, base.as_deref(), &keys, &join).map_err(|e| e.to_string())?;
        Ok(Rendered {
            user_data,
            network_data: self.network_data(plan, host, &values)?,
        })
    }

    fn network_data(
        &self,
        plan: &RenderPlan,
        host: &BareMetalHost,
        values: &TemplateValues,
    ) -> Result<Option<String>, String> {
        if let Some(text) = plan.properties.get(property::NETWORK_DATA) {
            let from = format!("property {}", property::NETWORK_DATA);
            return user_data::check_network_data(&from, text)
                .map(Some)
                .map_err(|e| e.to_string());
        }
        if let Some(template) = self.template(plan, property::NETWORK_DATA_TEMPLATE)? {
            let (from, text) = field(
                &template,
                "networkDataTemplate",
                &template.spec.network_data_template,
            )?;
            let text = user_data::render(&from, text, values).map_err(|e| e.to_string())?;
            return user_data::check_network_data(&from, &text)
                .map(Some)
                .map_err(|e| e.to_string());
        }
        let Some(address) = &plan.address else {
            return Ok(None);
        };
        let net: Ipv4Net = address
            .address
            .parse()
            .map_err(|_| format!("address {:?} is no CIDR", address.address))?;
        let mac = host
            .spec
            .boot_mac_address
            .clone()
            .ok_or("the host has no spec.bootMACAddress")?;
        let gateway = address.gateway.as_deref().and_then(|g| g.parse().ok());
        let dns = plan.properties.get(property::DNS_SERVERS).unwrap_or_default();
        let dns = dns
            .split(',')
            .filter_map(|d| d.trim().parse::<Ipv4Addr>().ok())
            .collect();
        Ok(Some(user_data::network_data(&NetworkFacts {
            mac,
            address: net,
            gateway,
            dns,
        })))
    }

    fn ssh_keys(&self, plan: &RenderPlan) -> Result<Vec<String>, String> {
        let names = plan.properties.get(property::SSH_KEYS).unwrap_or_default();
        names
            .split(',')
            .map(str::trim)
            .filter(|n| !n.is_empty())
            .map(|name| {
                let key = self.store.ssh_keys.get(&Key::new("", name));
                let key = key.ok_or_else(|| {
                    format!(
                        "property {} names SSHKey {name}, which does not exist: create it",
                        property::SSH_KEYS
                    )
                })?;
                Ok(key.spec.public_key.trim().to_owned())
            })
            .collect()
    }

    fn template(&self, plan: &RenderPlan, which: &str) -> Result<Option<Arc<MachineConfigTemplate>>, String> {
        let Some(name) = plan.properties.get(which) else {
            return Ok(None);
        };
        let found = self.store.templates.get(&Key::new("", name));
        let missing = || {
            format!("property {which} names MachineConfigTemplate {name}, which does not exist: create it")
        };
        found.ok_or_else(missing).map(Some)
    }

    async fn apply(
        &self,
        claim: &NodeClaim,
        plan: &RenderPlan,
        name: &str,
        key: &str,
        text: &str,
    ) -> Result<(), String> {
        let namespace = &plan.host.namespace;
        let object = json!({
            "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
            "metadata": {
                "name": name, "namespace": namespace,
                "labels": {
                    label::OWNED_BY_CLAIM: claim.name_any(),
                    label::ENVIRONMENT: label::ENVIRONMENT_BAREMETAL,
                },
                "annotations": {annotation::RENDERED_FOR: plan.key},
            },
            "stringData": BTreeMap::from([(key, text)]),
        });
        let api: Api<KubeSecret> = Api::namespaced(self.store.client.clone(), namespace);
        let params = PatchParams::apply(crate::store::FIELD_MANAGER).force();
        api.patch(name, &params, &Patch::Apply(object))
            .await
            .map_err(|e| format!("Secret {name} can't be written: {e}"))?;
        Ok(())
    }
}

/// The text of a template's field, and what to call it in errors.
fn field<'a>(
    template: &MachineConfigTemplate,
    name: &str,
    text: &'a str,
) -> Result<(String, &'a str), String> {
    let from = format!("MachineConfigTemplate {}, {name}", template.name_any());
    if text.is_empty() {
        return Err(format!("{from} is not set"));
    }
    Ok((from, text))
}

fn values(claim: &NodeClaim, plan: &RenderPlan, host: &BareMetalHost, keys: &[String]) -> TemplateValues {
    let net: Option<Ipv4Net> = plan.address.as_ref().and_then(|a| a.address.parse().ok());
    let namespace = claim.namespace().unwrap_or_default();
    let project = namespace.strip_prefix("p-").unwrap_or(&namespace).to_owned();
    TemplateValues {
        node_claim: serde_json::to_value(claim).unwrap_or_default(),
        project: json!({"metadata": {"name": project}}),
        bare_metal_host: serde_json::to_value(host).unwrap_or_default(),
        properties: plan.properties.0.clone(),
        ssh_keys: keys.to_vec(),
        allocated_ip: net.map(|n| n.addr()),
        prefix_length: net.map(|n| n.prefix_len()),
        netmask: net.map(|n| n.netmask()),
        gateway: plan
            .address
            .as_ref()
            .and_then(|a| a.gateway.as_deref()?.parse().ok()),
    }
}
