//! Addresses: a tree of allocations, subnets and hosts.

use std::net::Ipv4Addr;

use axum::{
    Router,
    extract::State,
    routing::{delete, post},
};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Id, Netris,
    envelope::{Answer, Failure, Reply, body},
    list,
    wire::{named, prefix},
};
use crate::{
    fabric::Fabric,
    model::ipam::{Host, Subnet},
};

pub(super) fn routes() -> Router<Netris> {
    Router::new()
        .route("/api/v2/ipam", list(tree))
        .route("/api/v2/ipam/subnets", list(subnets))
        // Reading hosts is known, reserving one by POST here is [U].
        .route("/api/v2/ipam/hosts", list(hosts).post(create_host))
        .route("/api/v2/ipam/hosts/{id}", delete(delete_host))
        .route("/api/v2/ipam/allocation", post(create_allocation))
        .route("/api/v2/ipam/allocation/{id}", delete(delete_allocation))
        .route("/api/v2/ipam/subnet", post(create_subnet))
        .route("/api/v2/ipam/subnet/{id}", delete(delete_subnet))
}

fn tree(fabric: &Fabric) -> Value {
    let ipam = &fabric.intended.ipam;
    let roots = ipam.allocations.values().map(|allocation| {
        let children: Vec<&Subnet> = ipam
            .subnets
            .values()
            .filter(|s| s.allocation == allocation.id)
            .collect();
        let used: u64 = children
            .iter()
            .map(|s| 1u64 << (32 - s.prefix.prefix_len()))
            .sum();
        let percent = (used * 100) >> (32 - allocation.prefix.prefix_len());
        json!({
            "id": allocation.id,
            "name": allocation.name,
            "prefix": allocation.prefix,
            "type": "allocation",
            "parentID": 0,
            "allocationID": allocation.id,
            "utilization": { "percent": percent, "type": "allocation" },
            "hasHosts": false,
            "children": children.into_iter().map(|subnet| subnet_view(fabric, subnet)).collect::<Value>(),
        })
    });
    roots.collect()
}

fn subnets(fabric: &Fabric) -> Value {
    fabric
        .intended
        .ipam
        .subnets
        .values()
        .map(|subnet| subnet_view(fabric, subnet))
        .collect()
}

fn subnet_view(fabric: &Fabric, subnet: &Subnet) -> Value {
    let model = &fabric.intended;
    let hosts = model
        .ipam
        .hosts
        .values()
        .filter(|host| host.subnet == subnet.id)
        .count();
    let vpc = subnet
        .vnet
        .and_then(|id| model.vnets.get(&id))
        .map(|vnet| named(&vnet.vpc));
    json!({
        "id": subnet.id,
        "name": subnet.name,
        "prefix": subnet.prefix,
        "type": "subnet",
        "parentID": subnet.allocation,
        "allocationID": subnet.allocation,
        "children": [],
        "defaultGateway": subnet.gateway,
        "purpose": subnet.purpose,
        "sites": [named(&model.site)],
        "tenant": { "id": 1, "name": "Admin" },
        "vpc": vpc,
        "globalRouting": false,
        "hasHosts": hosts > 0,
    })
}

fn hosts(fabric: &Fabric) -> Value {
    fabric
        .intended
        .ipam
        .hosts
        .values()
        .map(|host| host_view(fabric, host))
        .collect()
}

/// A reserved address, and the MAC that a gateway found at it.
fn host_view(fabric: &Fabric, host: &Host) -> Value {
    let mut neighbours = fabric
        .plane
        .networks()
        .flat_map(|network| network.router.neighbours());
    let mac = neighbours
        .find(|(address, _)| *address == host.address)
        .map(|(_, mac)| mac);
    json!({
        "id": host.id,
        "address": host.address,
        "subnetID": host.subnet,
        "name": host.name,
        "type": "host",
        "mac": mac.iter().map(|mac| json!({ "id": host.id, "address": mac, "source": "arp", "deleted": false })).collect::<Value>(),
        "meta": { "anycast": false },
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NewPrefix {
    name: String,
    prefix: String,
    #[serde(default)]
    purpose: Option<String>,
    #[serde(default)]
    default_gateway: Option<String>,
}

async fn create_allocation(State(netris): State<Netris>, bytes: Bytes) -> Reply {
    let new: NewPrefix = body(&bytes)?;
    let prefix = prefix("prefix", &new.prefix)?;
    Ok(Answer::created(
        netris.edit(|model, _| model.ipam.add_allocation(&new.name, prefix))?,
    ))
}

async fn create_subnet(State(netris): State<Netris>, bytes: Bytes) -> Reply {
    let new: NewPrefix = body(&bytes)?;
    let prefix = prefix("prefix", &new.prefix)?;
    let gateway: Option<Ipv4Addr> = match new.default_gateway.as_deref() {
        None | Some("") => None,
        Some(text) => match text.parse() {
            Ok(address) if prefix.contains(&address) => Some(address),
            _ => {
                return Err(Failure::invalid(format!(
                    "defaultGateway: {text:?} is no address in {prefix}"
                )));
            }
        },
    };
    let purpose = new.purpose.unwrap_or_else(|| "common".to_owned());
    let id = netris.edit(|model, _| model.ipam.add_subnet(&new.name, prefix, &purpose, gateway, None))?;
    Ok(Answer::created(id))
}

#[derive(Deserialize)]
struct NewHost {
    #[serde(default)]
    name: String,
    address: Ipv4Addr,
}

async fn create_host(State(netris): State<Netris>, bytes: Bytes) -> Reply {
    let new: NewHost = body(&bytes)?;
    Ok(Answer::created(
        netris.edit(|model, _| model.ipam.add_host(&new.name, new.address))?,
    ))
}

async fn delete_allocation(State(netris): State<Netris>, Id(id): Id) -> Reply {
    netris.edit(|model, _| model.ipam.delete_allocation(id))?;
    Ok(Answer::done("Deleted"))
}

async fn delete_subnet(State(netris): State<Netris>, Id(id): Id) -> Reply {
    netris.edit(|model, _| model.ipam.delete_subnet(id))?;
    Ok(Answer::done("Deleted"))
}

async fn delete_host(State(netris): State<Netris>, Id(id): Id) -> Reply {
    netris.edit(|model, _| model.ipam.delete_host(id))?;
    Ok(Answer::done("Deleted"))
}
