//! The inventory: switches, servers, links.

use axum::{
    Router,
    extract::State,
    routing::{get, post},
};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Id, Netris,
    envelope::{Answer, Failure, Reply, body},
    list,
    wire::{Number, Thing, named},
};
use crate::{
    fabric::Fabric,
    model::inventory::{NicEntry, ServerEntry, SwitchEntry},
    names::PortId,
};

pub(super) fn routes() -> Router<Netris> {
    let empty = || list(|_| json!([]));
    Router::new()
        .route("/api/v2/hw", list(all))
        .route("/api/v2/hw/switch", list(switches))
        .route("/api/v2/hw/server", list(servers).post(create))
        .route("/api/v2/hw/softgate", empty())
        .route("/api/v2/hw/controller", empty())
        .route("/api/v2/hw/{id}", get(read).delete(delete))
        .route("/api/v2/link", list(links).merge(post(create_link)))
}

fn all(fabric: &Fabric) -> Value {
    let inventory = &fabric.intended.inventory;
    let switches = inventory
        .switches
        .iter()
        .map(|switch| switch_view(fabric, switch));
    switches
        .chain(
            inventory
                .servers
                .values()
                .map(|server| server_view(fabric, server)),
        )
        .collect()
}

fn switches(fabric: &Fabric) -> Value {
    fabric
        .intended
        .inventory
        .switches
        .iter()
        .map(|switch| switch_view(fabric, switch))
        .collect()
}

fn servers(fabric: &Fabric) -> Value {
    fabric
        .intended
        .inventory
        .servers
        .values()
        .map(|server| server_view(fabric, server))
        .collect()
}

fn switch_view(fabric: &Fabric, switch: &SwitchEntry) -> Value {
    let inventory = &fabric.intended.inventory;
    let ports = (0..u32::from(switch.ports)).map(|n| PortId(switch.first.0 + n));
    let links = ports.filter_map(|port| {
        let (server, nic) = inventory.nic_at(port)?;
        let server = inventory.servers.get(&server)?;
        let (at_nic, at_switch) = ends(fabric, server, server.nic(nic)?)?;
        Some(json!({ "local": at_switch, "remote": at_nic }))
    });
    json!({
        "id": switch.id,
        "type": "switch",
        "name": switch.name,
        "portCount": switch.ports,
        "links": links.collect::<Value>(),
        "mainAddress": null,
        "mgmtAddress": switch.mgmt_address,
        "tags": [],
        "site": named(&fabric.intended.site),
        "tenant": { "id": 1, "name": "Admin" },
    })
}

fn server_view(fabric: &Fabric, server: &ServerEntry) -> Value {
    let links = server.nics.iter().filter_map(|nic| {
        let (at_nic, at_switch) = ends(fabric, server, nic)?;
        Some(json!({ "local": at_nic, "remote": at_switch }))
    });
    json!({
        "id": server.id,
        "type": "server",
        "name": server.name,
        "portCount": server.nics.len(),
        "srvRole": server.role,
        "links": links.collect::<Value>(),
        "mainAddress": null,
        "mgmtAddress": null,
        "customData": "",
        "tags": server.tags,
        "site": named(&fabric.intended.site),
        "tenant": { "id": 1, "name": "Admin" },
    })
}

/// A cable's end at the server, and at the switch.
fn ends(fabric: &Fabric, server: &ServerEntry, nic: &NicEntry) -> Option<(Value, Value)> {
    let port = nic.port?;
    let at_nic = json!({ "id": nic.id, "name": format!("{}@{}", nic.name, server.name) });
    Some((
        at_nic,
        json!({ "id": port.0 + 1, "name": fabric.plane.port(port)?.name.at_switch() }),
    ))
}

fn links(fabric: &Fabric) -> Value {
    let servers = fabric.intended.inventory.servers.values();
    let nics = servers.flat_map(|server| server.nics.iter().map(move |nic| (server, nic)));
    let links = nics.filter_map(|(server, nic)| {
        let (local, remote) = ends(fabric, server, nic)?;
        Some(json!({ "local": local, "remote": remote }))
    });
    links.collect()
}

async fn read(State(netris): State<Netris>, Id(id): Id) -> Reply {
    let found = netris.read(|fabric| {
        let inventory = &fabric.intended.inventory;
        let switch = inventory.switches.iter().find(|switch| switch.id == id);
        let switch = switch.map(|switch| switch_view(fabric, switch));
        switch.or_else(|| {
            inventory
                .servers
                .get(&id)
                .map(|server| server_view(fabric, server))
        })
    });
    found
        .map(Answer::new)
        .ok_or_else(|| Failure::missing("hardware", id))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NewServer {
    name: String,
    port_count: Number,
    #[serde(alias = "srvRole", default)]
    role: Option<String>,
    #[serde(default)]
    tags: Vec<String>,
}

async fn create(State(netris): State<Netris>, bytes: Bytes) -> Reply {
    let NewServer {
        name,
        port_count,
        role,
        tags,
    } = body(&bytes)?;
    let role = role.unwrap_or_else(|| "generic".to_owned());
    let id = netris.edit(|model, _| model.create_server(&name, port_count.0, &role, tags))?;
    Ok(Answer::created(id))
}

async fn delete(State(netris): State<Netris>, Id(id): Id) -> Reply {
    netris.edit(|model, _| model.delete_server(id))?;
    Ok(Answer::done("Deleted"))
}

#[derive(Deserialize)]
struct NewLink {
    local: Thing,
    remote: Thing,
}

async fn create_link(State(netris): State<Netris>, bytes: Bytes) -> Reply {
    let link: NewLink = body(&bytes)?;
    netris.edit(|model, _| model.create_link(link.local.0.id, link.remote.0.id))?;
    Ok(Answer::done("Created"))
}
