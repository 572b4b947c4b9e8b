//! Ports of switches and servers, with what the switches see at them: link, membership, addresses, drops. The
//! MAC table has a path of its own ([U]: Netris shows it in its looking glass, whose API is not public).

use axum::{Router, extract::State, routing::get};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Id, Netris,
    envelope::{Answer, Failure, Reply, body},
    list,
    wire::Truth,
};
use crate::{
    dataplane::{PortState, StrayKind},
    fabric::Fabric,
    model::inventory::{NicEntry, ServerEntry},
    names::{NetworkId, PortId, nanos, timestamp},
};

pub(super) fn routes() -> Router<Netris> {
    Router::new()
        .route("/api/v2/ports", list(ports))
        .route("/api/v2/ports/{id}", get(read).put(update))
        .route("/api/v2/looking-glass/mac-table", get(mac_table))
}

fn ports(fabric: &Fabric) -> Value {
    let model = &fabric.intended;
    let switches = model
        .inventory
        .switches
        .iter()
        .flat_map(|s| (0..u32::from(s.ports)).map(|n| PortId(s.first.0 + n)));
    let nics = model
        .inventory
        .servers
        .values()
        .flat_map(|server| server.nics.iter().map(move |nic| (server, nic)));
    switches
        .filter_map(|port| switch_port(fabric, port))
        .chain(nics.map(|(server, nic)| server_port(fabric, server, nic)))
        .collect()
}

fn link_status(state: &PortState) -> (&'static str, &'static str) {
    match (state.admin_up, state.link_up) {
        (false, _) => ("Admin down", "admin-down"),
        (true, true) => ("Up", "up"),
        (true, false) => ("Down", "down"),
    }
}

fn switch_port(fabric: &Fabric, port: PortId) -> Option<Value> {
    let model = &fabric.intended;
    let switch = model.inventory.switch_of(port)?;
    let state = fabric.plane.port(port)?;
    let (label, value) = link_status(state);
    let server = model.inventory.nic_at(port).and_then(|(id, nic)| {
        let server = model.inventory.servers.get(&id)?;
        Some(json!({ "id": server.id, "name": server.name, "nic": nic }))
    });
    Some(json!({
        "id": port.0 + 1,
        "name": state.name.at_switch(),
        "status": { "label": label, "value": value },
        "switch": { "id": switch.id, "name": switch.name },
        "tenant": { "id": 1, "name": "Admin" },
        "used": server.is_some(),
        "adminDown": !state.admin_up,
        "breakout": "off",
        "mtu": 9216,
        "server": server,
        "vnets": memberships(fabric, state),
        "macs": macs(fabric, port),
        "info": info(fabric, port),
        "counters": state.counters,
    }))
}

fn server_port(fabric: &Fabric, server: &ServerEntry, nic: &NicEntry) -> Value {
    let state = nic.port.and_then(|port| fabric.plane.port(port));
    let (label, value) = state.map_or(("Not linked", "down"), link_status);
    json!({
        "id": nic.id,
        "name": format!("{}@{}", nic.name, server.name),
        "status": { "label": label, "value": value },
        "switch": { "id": server.id, "name": server.name },
        "tenant": { "id": 1, "name": "Admin" },
        "used": nic.port.is_some(),
        "adminDown": false,
        "breakout": "off",
        "mtu": 9216,
        "macAddress": nic.mac,
        "remote": nic.port.zip(state).map(|(port, state)| json!({ "id": port.0 + 1, "name": state.name.at_switch() })),
    })
}

/// What the switch does (`active`), what it should do but does not yet (`pending`), what it does but should
/// not (`deleting`).
fn memberships(fabric: &Fabric, port: &PortState) -> Value {
    let row = |id: NetworkId, vlan: Option<u16>, state: &str| {
        // A network that is only wanted so far is not in the dataplane yet.
        let name = fabric
            .intended
            .vnets
            .get(&id.0)
            .map(|vnet| vnet.name.as_str())
            .or_else(|| fabric.plane.name(id));
        json!({ "id": id.0, "name": name, "untagged": vlan.is_none(), "vlan": vlan, "state": state })
    };
    let tags = |m: &crate::dataplane::Membership| {
        let native = m.native.map(|id| (id, None));
        native
            .into_iter()
            .chain(m.tagged.iter().map(|(vlan, id)| (*id, Some(*vlan))))
            .collect::<Vec<_>>()
    };
    let (actual, wanted) = (tags(&port.membership), tags(&port.intended));
    let here = actual.iter().map(|(id, vlan)| {
        let state = if wanted.contains(&(*id, *vlan)) {
            "active"
        } else {
            "deleting"
        };
        row(*id, *vlan, state)
    });
    let coming = wanted
        .iter()
        .filter(|pair| !actual.contains(pair))
        .map(|(id, vlan)| row(*id, *vlan, "pending"));
    here.chain(coming).collect()
}

/// Addresses whose frames the port dropped, or carried where they should not be; learned ones are in the MAC
/// table.
fn macs(fabric: &Fabric, port: PortId) -> Value {
    let name = |id: Option<NetworkId>| id.and_then(|id| fabric.plane.name(id));
    let strays = fabric.plane.strays.sightings().filter(|(at, _, _)| *at == port).map(|(_, mac, seen)| {
        json!({
            "address": mac,
            "vnet": name(seen.stray.network),
            "intendedVnet": seen.stray.intended.and_then(|id| fabric.intended.vnets.get(&id.0)).map(|v| &v.name),
            "dropped": seen.kind == StrayKind::NoNetwork,
            "vlan": seen.stray.vlan,
            "frames": seen.frames,
            "lastFrame": seen.what,
            "firstSeen": timestamp(seen.first),
            "lastSeen": timestamp(seen.last),
        })
    });
    strays.collect()
}

/// One line for people, empty when all is as it should be.
pub(super) fn info(fabric: &Fabric, port: PortId) -> String {
    let Some(state) = fabric.plane.port(port) else {
        return String::new();
    };
    let mut lines = Vec::new();
    let names = |m: &crate::dataplane::Membership| {
        let names: Vec<&str> = m.networks().filter_map(|id| fabric.plane.name(id)).collect();
        if names.is_empty() {
            "no V-Net".to_owned()
        } else {
            names.join(", ")
        }
    };
    if state.forced.is_some() && state.membership != state.committed {
        lines.push(format!(
            "switch has {}, intended {}",
            names(&state.membership),
            names(&state.committed)
        ));
    }
    for (_, mac, seen) in fabric.plane.strays.sightings().filter(|(at, _, _)| *at == port) {
        lines.push(match seen.stray.network.and_then(|id| fabric.plane.name(id)) {
            None => format!(
                "{} frames from {mac} dropped, port is in no V-Net (last: {})",
                seen.frames, seen.what
            ),
            Some(network) => format!(
                "{} frames from {mac} entered {network} (last: {})",
                seen.frames, seen.what
            ),
        });
    }
    for (mac, _, right) in fabric.plane.strays.miscabled().filter(|(_, at, _)| *at == port) {
        let right = fabric
            .plane
            .port(right)
            .map(|p| p.name.at_switch())
            .unwrap_or_default();
        lines.push(format!("{mac} is cabled here, inventory says {right}"));
    }
    lines.join("; ")
}

async fn read(State(netris): State<Netris>, Id(id): Id) -> Reply {
    let found = netris.read(|fabric| match fabric.intended.inventory.nic_by_id(id) {
        Some((server, nic)) => Some(server_port(fabric, server, nic)),
        None => switch_port(fabric, PortId(id.wrapping_sub(1))),
    });
    found.map(Answer::new).ok_or_else(|| Failure::missing("port", id))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PortBody {
    admin_down: Option<Truth>,
}

async fn update(State(netris): State<Netris>, Id(id): Id, bytes: Bytes) -> Reply {
    let update: PortBody = body(&bytes)?;
    let Some(down) = update.admin_down else {
        return Err(Failure::invalid(
            "adminDown: is all that can be changed of a port here",
        ));
    };
    netris.edit(|model, _| model.set_admin(PortId(id.wrapping_sub(1)), !down.0))?;
    Ok(Answer::done("Updated"))
}

async fn mac_table(State(netris): State<Netris>) -> Answer {
    let now = nanos(netris.fabric.now());
    Answer::new(netris.read(|fabric| {
        let entries = fabric.plane.networks().flat_map(|network| {
            let entries = network.macs.list(now, fabric.plane.mac_age_max);
            entries.into_iter().map(move |(mac, entry)| (network, mac, entry))
        });
        let rows = entries.filter_map(|(network, mac, entry)| {
            let switch = fabric.intended.inventory.switch_of(entry.port);
            let name = &fabric.plane.port(entry.port)?.name;
            Some(json!({
                "mac": mac,
                "vlan": network.config.vlan,
                "vnet": { "id": network.config.id.0, "name": network.config.name },
                "port": { "id": switch.map(|_| entry.port.0 + 1), "name": name.at_switch() },
                "switch": switch.map(|s| json!({ "id": s.id, "name": s.name })),
                "type": "dynamic",
                "lastSeen": timestamp(entry.seen),
            }))
        });
        rows.collect()
    }))
}
