//! Server clusters and their templates.

use std::collections::BTreeMap;

use axum::{Router, extract::State, routing::get};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Id, Netris,
    envelope::{Answer, Failure, Reply, body},
    list,
    wire::{Number, Thing, Truth, named, prefix, status},
};
use crate::{
    fabric::Fabric,
    model::{
        Ref, State as Progress,
        cluster::{Cluster, NewCluster, WantMember, WantVpc},
        template::Template,
    },
};

pub(super) fn routes() -> Router<Netris> {
    Router::new()
        .route("/api/v2/server-cluster", list(clusters).post(create))
        .route("/api/v2/server-cluster/servers", list(servers))
        .route(
            "/api/v2/server-cluster/{id}",
            get(read).put(update).delete(delete),
        )
        .route(
            "/api/v2/server-cluster-template",
            list(templates).post(create_template),
        )
        .route(
            "/api/v2/server-cluster-template/{id}",
            get(read_template).put(update_template).delete(delete_template),
        )
}

fn clusters(fabric: &Fabric) -> Value {
    fabric
        .intended
        .clusters
        .values()
        .map(|cluster| view(fabric, cluster))
        .collect()
}

/// A cluster is as far as its slowest V-Net; one whose switches were edited by hand is degraded.
fn state(fabric: &Fabric, cluster: &Cluster) -> Progress {
    let own = fabric.intended.state(&cluster.life);
    let vnets = || {
        cluster
            .vnets
            .iter()
            .filter_map(|a| fabric.intended.vnets.get(&a.vnet))
    };
    let degraded = || vnets().any(|vnet| fabric.vnet_state(vnet) == Progress::Degraded);
    if own == Progress::Active && degraded() {
        Progress::Degraded
    } else {
        own
    }
}

fn view(fabric: &Fabric, cluster: &Cluster) -> Value {
    let model = &fabric.intended;
    let vnets = || cluster.vnets.iter().filter_map(|a| model.vnets.get(&a.vnet));
    let subnets = || vnets().filter_map(|vnet| model.ipam.subnets.values().find(|s| s.vnet == Some(vnet.id)));
    let mut allocations: BTreeMap<u32, Value> = BTreeMap::new();
    for allocation in subnets().filter_map(|subnet| model.ipam.allocations.get(&subnet.allocation)) {
        allocations.insert(
            allocation.id,
            json!({ "id": allocation.id, "prefix": allocation.prefix }),
        );
    }
    let state = state(fabric, cluster);
    let members = cluster.servers.iter().filter_map(|member| {
        let server = model.inventory.servers.get(&member.server)?;
        Some(json!({ "id": server.id, "name": server.name, "shared": member.shared }))
    });
    json!({
        "id": cluster.id,
        "name": cluster.name,
        "state": state.value(),
        "status": status(state),
        "admin": named(&cluster.admin),
        "site": named(&cluster.site),
        "vpc": named(&cluster.vpc),
        "srvClusterTemplate": named(&cluster.template),
        "tags": cluster.tags,
        "servers": members.collect::<Value>(),
        "resources": {
            "vnets": vnets().map(|vnet| json!({
                "id": vnet.id,
                "name": vnet.name,
                "ipv4Gateways": vnet.gateway.iter().map(|g| json!({ "prefix": g })).collect::<Value>(),
                "ipv6Gateways": [],
            })).collect::<Value>(),
            "allocations": allocations.into_values().collect::<Value>(),
            "subnets": subnets().map(|s| json!({ "id": s.id, "prefix": s.prefix })).collect::<Value>(),
        },
        "createdDate": cluster.life.created,
        "modifiedDate": cluster.life.modified,
    })
}

/// Every server and where it is a dedicated member; shared ones show the first cluster.
fn servers(fabric: &Fabric) -> Value {
    let model = &fabric.intended;
    let mut home: BTreeMap<u32, (bool, u32)> = BTreeMap::new();
    for cluster in model.clusters.values() {
        for member in &cluster.servers {
            let here = (member.shared, cluster.id);
            home.entry(member.server)
                .and_modify(|old| *old = (*old).min(here))
                .or_insert(here);
        }
    }
    let servers = model.inventory.servers.values().map(|server| {
        let home = home.get(&server.id);
        json!({
            "id": server.id,
            "name": server.name,
            "serverClusterID": home.map(|(_, cluster)| cluster),
            "shared": home.is_some_and(|(shared, _)| *shared),
            "site": named(&model.site),
            "tenant": { "id": 1, "name": "Admin" },
        })
    });
    servers.collect()
}

async fn read(State(netris): State<Netris>, Id(id): Id) -> Reply {
    let found = netris.read(|fabric| {
        fabric
            .intended
            .clusters
            .get(&id)
            .map(|cluster| view(fabric, cluster))
    });
    found
        .map(Answer::new)
        .ok_or_else(|| Failure::missing("server cluster", id))
}

#[derive(Deserialize)]
struct Server {
    #[serde(flatten)]
    server: Value,
    #[serde(default)]
    shared: Truth,
}

fn members(servers: Vec<Server>) -> Result<Vec<WantMember>, Failure> {
    let member = |(i, server): (usize, Server)| {
        let thing: Thing = serde_json::from_value(server.server)
            .map_err(|error| Failure::invalid(format!("servers[{i}]: {error}")))?;
        Ok(WantMember {
            server: thing.0,
            shared: server.shared.0,
        })
    };
    servers.into_iter().enumerate().map(member).collect()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NewClusterBody {
    name: String,
    admin: Thing,
    site: Thing,
    vpc: Option<Thing>,
    #[serde(default)]
    vpc_list: Vec<VpcOf>,
    srv_cluster_template: TemplateChoice,
    #[serde(default)]
    tags: Vec<String>,
    #[serde(default)]
    servers: Vec<Server>,
}

#[derive(Deserialize)]
struct VpcOf {
    #[serde(flatten)]
    vpc: Value,
    #[serde(default)]
    postfix: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TemplateChoice {
    #[serde(default)]
    id: Option<Number>,
    #[serde(default)]
    name: String,
    #[serde(default)]
    vlans: Vec<VlanOf>,
    #[serde(default)]
    ipv4_gateways: Vec<GatewayOf>,
}

#[derive(Deserialize)]
struct VlanOf {
    postfix: String,
    #[serde(alias = "vlanID", alias = "vlanId", alias = "id")]
    vlan: Number,
}

#[derive(Deserialize)]
struct GatewayOf {
    postfix: String,
    address: String,
}

impl NewClusterBody {
    fn parse(self) -> Result<NewCluster, Failure> {
        let want = |vpc: Ref| match (vpc.id, vpc.name.as_str()) {
            (0, "" | "Create New") => WantVpc::Create,
            _ => WantVpc::Existing(vpc),
        };
        let mut vpc = self.vpc.map(|thing| want(thing.0));
        let mut vpc_of = BTreeMap::new();
        for (i, entry) in self.vpc_list.into_iter().enumerate() {
            let thing: Thing = serde_json::from_value(entry.vpc)
                .map_err(|error| Failure::invalid(format!("vpcList[{i}]: {error}")))?;
            match want(thing.0) {
                WantVpc::Existing(of) if !entry.postfix.is_empty() => {
                    vpc_of.insert(entry.postfix, of);
                }
                other => vpc = vpc.or(Some(other)),
            }
        }
        // With a VPC for some V-Nets and none for the rest, the first listed one takes the rest.
        let vpc = vpc.or_else(|| vpc_of.values().next().cloned().map(WantVpc::Existing));
        let vpc =
            vpc.ok_or_else(|| Failure::invalid("vpc: name one, or {\"id\": 0, \"name\": \"Create New\"}"))?;
        let mut vlans = BTreeMap::new();
        for entry in self.srv_cluster_template.vlans {
            let vlan = u16::try_from(entry.vlan.0).map_err(|_| {
                Failure::invalid(format!(
                    "srvClusterTemplate.vlans: {} is no VLAN id",
                    entry.vlan.0
                ))
            })?;
            vlans.insert(entry.postfix, vlan);
        }
        let mut gateways = BTreeMap::new();
        for entry in self.srv_cluster_template.ipv4_gateways {
            let gateway = prefix("srvClusterTemplate.ipv4Gateways", &entry.address)?;
            gateways.insert(entry.postfix, gateway);
        }
        let id = self.srv_cluster_template.id.unwrap_or_default().0;
        Ok(NewCluster {
            name: self.name,
            admin: self.admin.0,
            site: self.site.0,
            vpc,
            vpc_of,
            template: Ref {
                id,
                name: self.srv_cluster_template.name,
            },
            vlans,
            gateways,
            tags: self.tags,
            servers: members(self.servers)?,
        })
    }
}

async fn create(State(netris): State<Netris>, bytes: Bytes) -> Reply {
    let new = body::<NewClusterBody>(&bytes)?.parse()?;
    Ok(Answer::created(
        netris.edit(|model, now| model.create_cluster(new, now))?,
    ))
}

/// Only tags and servers may change. Clients send the whole object back, so frozen fields may be there as
/// long as they say what is.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct UpdateBody {
    name: Option<String>,
    admin: Option<Thing>,
    site: Option<Thing>,
    vpc: Option<Thing>,
    srv_cluster_template: Option<Thing>,
    tags: Option<Vec<String>>,
    servers: Option<Vec<Server>>,
}

impl UpdateBody {
    fn frozen(&self, cluster: &Cluster) -> Option<&'static str> {
        let differs = |wanted: &Option<Thing>, is: &Ref| {
            wanted.as_ref().is_some_and(|Thing(want)| match want.id {
                0 => !want.name.is_empty() && want.name != is.name,
                id => id != is.id,
            })
        };
        let name = self.name.as_ref().is_some_and(|name| *name != cluster.name);
        [
            ("name", name),
            ("admin", differs(&self.admin, &cluster.admin)),
            ("site", differs(&self.site, &cluster.site)),
            ("vpc", differs(&self.vpc, &cluster.vpc)),
            (
                "srvClusterTemplate",
                differs(&self.srv_cluster_template, &cluster.template),
            ),
        ]
        .into_iter()
        .find_map(|(field, differs)| differs.then_some(field))
    }
}

async fn update(State(netris): State<Netris>, Id(id): Id, bytes: Bytes) -> Reply {
    let mut update: UpdateBody = body(&bytes)?;
    let servers = update.servers.take().map(members).transpose()?;
    netris.edit(|model, now| {
        if let Some(field) = update.frozen(model.live_cluster(id)?) {
            return crate::model::invalid(format!(
                "{field}: cannot change after creation; only tags and servers can"
            ));
        }
        model.update_cluster(id, servers.as_deref(), update.tags.take(), now)
    })?;
    Ok(Answer::done("Updated"))
}

async fn delete(State(netris): State<Netris>, Id(id): Id) -> Reply {
    netris.edit(|model, now| model.delete_cluster(id, now))?;
    Ok(Answer::done("Deleted"))
}

fn template_view(id: u32, template: &Template) -> Value {
    json!({ "id": id, "name": template.name, "vnets": template.vnets })
}

fn templates(fabric: &Fabric) -> Value {
    fabric
        .intended
        .templates
        .iter()
        .map(|(id, template)| template_view(*id, template))
        .collect()
}

async fn read_template(State(netris): State<Netris>, Id(id): Id) -> Reply {
    let found = netris.read(|fabric| fabric.intended.templates.get(&id).map(|t| template_view(id, t)));
    found
        .map(Answer::new)
        .ok_or_else(|| Failure::missing("template", id))
}

async fn create_template(State(netris): State<Netris>, bytes: Bytes) -> Reply {
    let template = body(&bytes)?;
    Ok(Answer::created(
        netris.edit(|model, _| model.create_template(template))?,
    ))
}

async fn update_template(State(netris): State<Netris>, Id(id): Id, bytes: Bytes) -> Reply {
    let template = body(&bytes)?;
    netris.edit(|model, _| model.update_template(id, template))?;
    Ok(Answer::done("Updated"))
}

async fn delete_template(State(netris): State<Netris>, Id(id): Id) -> Reply {
    netris.edit(|model, _| model.delete_template(id))?;
    Ok(Answer::done("Deleted"))
}
