//! Netris: server clusters hold servers, their V-Nets hold the servers' ports.
//!
//! There is no "move server": each change PUTs the whole list of a cluster. Whoever writes in between is
//! lost, so this driver reads the list immediately before it writes, writes one cluster at a time, and the
//! next reading tells whether it became true. (reference: Netris API v2, `/api/v2/server-cluster`)

mod client;
mod wire;

pub use client::NetrisAccess;

use super::{FabricError, FabricSnapshot};
use crate::net::Net;
use client::Client;
use ipnet::Ipv4Net;
use rustls::ClientConfig;
use serde_json::json;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use steelyard_core::{
    host::view::FabricFacts,
    intent::{Attachment, NetworkName},
};
use tokio::{sync::Mutex, time::Instant};
use wire::{Cluster, Hardware, Member, Template, Vnet};

/// Marks the clusters that we made, so that we never delete another's.
const TAG: &str = "steelyard";
/// How old the list of misplaced MACs may be.
const STRAYS_EVERY: Duration = Duration::from_secs(2);

pub struct Netris {
    client: Client,
    /// The template that tenant clusters are made from.
    template: String,
    /// Cables that end where they should not, and when that was read.
    strays: Mutex<Option<(Instant, BTreeMap<String, String>)>>,
}

impl Netris {
    pub fn new(
        net: Arc<dyn Net>,
        tls: Arc<ClientConfig>,
        access: NetrisAccess,
        template: String,
        timeout: Duration,
    ) -> Self {
        Netris {
            client: Client::new(net, tls, access, timeout),
            template,
            strays: Mutex::default(),
        }
    }

    pub fn url(&self) -> &str {
        self.client.url()
    }

    /// One reading of all clusters, V-Nets and servers.
    pub async fn observe(&self) -> Result<FabricSnapshot, FabricError> {
        let clusters: Vec<Cluster> = self.client.get("server-cluster").await?;
        let vnets: Vec<Vnet> = self.client.get("vnet").await?;
        let hardware: Vec<Hardware> = self.client.get("hw").await?;
        let mut snapshot = snapshot(&clusters, &vnets, &hardware);
        for (server, trouble) in self.strays().await? {
            if let Some(facts) = snapshot.servers.get_mut(&server) {
                // In place of the port's own words, which count frames and so are never twice the same.
                facts.mismatch = Some(trouble);
            }
        }
        Ok(snapshot)
    }

    /// Cables that end where they should not. The list of all ports is long, so it is read now and then only.
    async fn strays(&self) -> Result<BTreeMap<String, String>, FabricError> {
        let mut known = self.strays.lock().await;
        if known
            .as_ref()
            .is_none_or(|(read, _)| read.elapsed() >= STRAYS_EVERY)
        {
            let ports: Vec<wire::Port> = self.client.get("ports").await?;
            *known = Some((Instant::now(), wire::strays(&ports)));
        }
        Ok(known
            .as_ref()
            .map(|(_, strays)| strays.clone())
            .unwrap_or_default())
    }

    /// Brings each server into the network that its attachment names, and out of all others. Returns when
    /// the management has accepted; [`Netris::observe`] tells when the switches carry it. Failures are per server.
    pub async fn ensure(&self, wanted: &[Attachment]) -> BTreeMap<String, FabricError> {
        match self.try_ensure(wanted).await {
            Ok(failed) => failed,
            Err(error) => {
                let text = Arc::new(error);
                wanted
                    .iter()
                    .map(|w| {
                        let refused = FabricError::Refused {
                            url: self.url().into(),
                            what: format!("to move {}", w.server),
                            message: text.to_string(),
                        };
                        (w.server.clone(), refused)
                    })
                    .collect()
            }
        }
    }

    async fn try_ensure(&self, wanted: &[Attachment]) -> Result<BTreeMap<String, FabricError>, FabricError> {
        let hardware: Vec<Hardware> = self.client.get("hw").await?;
        let servers: BTreeMap<&str, i64> = hardware
            .iter()
            .filter(|h| h.is_server())
            .map(|h| (h.name.as_str(), h.id))
            .collect();
        let mut clusters: Vec<Cluster> = self.client.get("server-cluster").await?;
        let mut failed = BTreeMap::new();

        let known: Vec<&Attachment> = wanted
            .iter()
            .filter(|w| {
                let there = servers.contains_key(w.server.as_str());
                if !there {
                    failed.insert(w.server.clone(), FabricError::NoServer(w.server.clone()));
                }
                there
            })
            .collect();

        // Out first: a dedicated server may be in one cluster only.
        for cluster in &mut clusters {
            let stays = |w: &Attachment| w.network.as_ref().is_some_and(|n| n.name == cluster.name);
            let leaving: BTreeSet<&str> = known
                .iter()
                .filter(|w| !stays(w) && cluster.servers.iter().any(|s| s.name == w.server))
                .map(|w| w.server.as_str())
                .collect();
            if leaving.is_empty() {
                continue;
            }
            if let Err(error) = self
                .rewrite(cluster, |members| {
                    members.retain(|m| !leaving.contains(m.name.as_str()))
                })
                .await
            {
                for server in leaving {
                    failed.insert(server.to_owned(), self.echo(server, &error));
                }
            }
        }

        let mut by_network: BTreeMap<&NetworkName, Vec<&str>> = BTreeMap::new();
        for w in known.iter().filter(|w| !failed.contains_key(&w.server)) {
            if let Some(network) = &w.network {
                by_network.entry(network).or_default().push(&w.server);
            }
        }
        for (network, joining) in by_network {
            if let Err(error) = self.join(network, &joining, &mut clusters, &servers).await {
                for server in joining {
                    failed.insert(server.to_owned(), self.echo(server, &error));
                }
            }
        }
        Ok(failed)
    }

    async fn join(
        &self,
        network: &NetworkName,
        joining: &[&str],
        clusters: &mut Vec<Cluster>,
        servers: &BTreeMap<&str, i64>,
    ) -> Result<(), FabricError> {
        let at = match clusters.iter().position(|c| c.name == network.name) {
            Some(at) => at,
            None if network.create => {
                clusters.push(self.create(&network.name).await?);
                clusters.len() - 1
            }
            None => return Err(FabricError::NoNetwork(network.name.clone())),
        };
        let cluster = &mut clusters[at];
        if joining
            .iter()
            .all(|s| cluster.servers.iter().any(|m| m.name == *s))
        {
            return Ok(());
        }
        self.rewrite(cluster, |members| {
            for server in joining {
                if let Some(id) = servers.get(server)
                    && !members.iter().any(|m| m.name == *server)
                {
                    members.push(Member::new(*id, server));
                }
            }
        })
        .await
    }

    /// Reads the cluster's list again, changes it and writes it back whole. Members that we were not asked
    /// about stay as they are, also those that our list of servers does not have.
    async fn rewrite(
        &self,
        cluster: &mut Cluster,
        change: impl FnOnce(&mut Vec<Member>),
    ) -> Result<(), FabricError> {
        let path = format!("server-cluster/{}", cluster.id);
        let mut now: Cluster = self.client.get(&path).await?;
        change(&mut now.servers);
        self.client
            .put(&path, &json!({"tags": now.tags, "servers": now.servers}))
            .await?;
        cluster.servers = now.servers;
        Ok(())
    }

    /// A tenant's cluster, made from the site's template, with a VPC of its own.
    async fn create(&self, name: &str) -> Result<Cluster, FabricError> {
        let templates: Vec<Template> = self.client.get("server-cluster-template").await?;
        let template = templates
            .into_iter()
            .find(|t| t.name == self.template)
            .ok_or_else(|| FabricError::NoTemplate(self.template.clone()))?;
        let clusters: Vec<Cluster> = self.client.get("server-cluster").await?;
        let site = clusters.iter().find_map(|c| c.site.clone());
        let admin = clusters.iter().find_map(|c| c.admin.clone());
        let body = json!({
            "name": name,
            "admin": match admin { Some(a) => a, None => self.client.first("tenants", true).await? },
            "site": match site { Some(s) => s, None => self.client.first("sites", false).await? },
            "vpc": {"id": 0, "name": "Create New"},
            "srvClusterTemplate": {"id": template.id, "name": template.name},
            "tags": [TAG],
            "servers": [],
        });
        let id = self.client.post("server-cluster", &body).await?;
        tracing::info!(network = name, "server cluster made");
        self.client.get(&format!("server-cluster/{id}")).await
    }

    /// Makes a tenant's cluster if it is not there.
    pub async fn make(&self, network: &NetworkName) -> Result<(), FabricError> {
        let clusters: Vec<Cluster> = self.client.get("server-cluster").await?;
        match clusters.iter().any(|c| c.name == network.name) {
            true => Ok(()),
            false if network.create => self.create(&network.name).await.map(drop),
            false => Err(FabricError::NoNetwork(network.name.clone())),
        }
    }

    /// Deletes a cluster that we made and that holds no server any more. False: it is ours and still in use.
    pub async fn remove(&self, name: &str) -> Result<bool, FabricError> {
        let clusters: Vec<Cluster> = self.client.get("server-cluster").await?;
        match clusters
            .into_iter()
            .find(|c| c.name == name && c.tags.iter().any(|t| t == TAG))
        {
            None => Ok(true),
            Some(c) if !c.servers.is_empty() => Ok(false),
            Some(c) => {
                self.client.delete(&format!("server-cluster/{}", c.id)).await?;
                tracing::info!(network = name, "server cluster deleted");
                Ok(true)
            }
        }
    }

    fn echo(&self, server: &str, error: &FabricError) -> FabricError {
        FabricError::Refused {
            url: self.url().into(),
            what: format!("to move {server}"),
            message: error.to_string(),
        }
    }
}

fn snapshot(clusters: &[Cluster], vnets: &[Vnet], hardware: &[Hardware]) -> FabricSnapshot {
    let mut out = FabricSnapshot::default();
    let cluster_of_vnet: BTreeMap<i64, &str> = clusters
        .iter()
        .flat_map(|c| c.resources.vnets.iter().map(|v| (v.id, c.name.as_str())))
        .collect();
    for cluster in clusters {
        let gateway = cluster
            .resources
            .vnets
            .iter()
            .flat_map(|v| &v.ipv4_gateways)
            .find_map(|g| g.prefix.parse::<Ipv4Net>().ok());
        out.networks.insert(cluster.name.clone(), gateway);
    }
    for server in hardware.iter().filter(|h| h.is_server()) {
        let ports: BTreeSet<&str> = server.links.iter().map(|l| l.remote.as_str()).collect();
        let mut facts = FabricFacts {
            converged: true,
            ..FabricFacts::default()
        };
        facts.networks.extend(
            clusters
                .iter()
                .filter(|c| c.servers.iter().any(|s| s.name == server.name))
                .map(|c| c.name.clone()),
        );
        let mut carried = BTreeSet::new();
        for vnet in vnets {
            for port in vnet.ports.iter().filter(|p| ports.contains(p.name.as_str())) {
                let network = cluster_of_vnet
                    .get(&vnet.id)
                    .copied()
                    .unwrap_or(vnet.name.as_str());
                let listed = facts.networks.iter().any(|n| n == network);
                if port.is_carried() {
                    carried.insert(network);
                }
                if port.is_pending() || (!listed && port.is_carried()) {
                    facts.converged = false;
                }
                if facts.mismatch.is_none() {
                    facts.mismatch = port
                        .trouble()
                        .map(|t| format!("port {} of {} in {network}: {t}", port.name, server.name));
                }
            }
        }
        // The list alone says what is wanted; a network is entered when a port carries it.
        facts.converged &= facts.networks.iter().all(|n| carried.contains(n.as_str()));
        out.servers.insert(server.name.clone(), facts);
    }
    out
}
