//! V-Nets, with their ports as the switches have them: a port that is still leaving is listed until it left,
//! one that was moved by hand says so.

use std::collections::BTreeMap;

use axum::{Router, extract::State, routing::get};
use bytes::Bytes;
use ipnet::Ipv4Net;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Id, Netris,
    envelope::{Answer, Failure, Reply, body},
    list,
    ports::info,
    wire::{Thing, Truth, named, number, prefix, status},
};
use crate::{
    fabric::Fabric,
    model::{
        Intended, Ref, State as Progress,
        vnet::{NamedPort, NewVnet, Vnet},
    },
    names::{NetworkId, PortId, PortName},
};

pub(super) fn routes() -> Router<Netris> {
    Router::new()
        .route("/api/v2/vnet", list(vnets).post(create))
        .route("/api/v2/vnet/{id}", get(read).put(update).delete(delete))
}

fn vnets(fabric: &Fabric) -> Value {
    fabric
        .intended
        .vnets
        .values()
        .map(|vnet| view(fabric, vnet))
        .collect()
}

impl Fabric {
    /// As the model knows it, unless a switch shows otherwise.
    pub(super) fn vnet_state(&self, vnet: &Vnet) -> Progress {
        let own = self.intended.vnet_state(vnet);
        let members = || {
            self.plane
                .network(NetworkId(vnet.id))
                .map(|network| &network.members)
        };
        let changing = || {
            let wanted = self.intended.vnet_ports(vnet.id);
            members().is_none_or(|members| {
                let strangers = members
                    .keys()
                    .filter(|id| self.plane.port(**id).is_some_and(|p| p.leaf.is_some()));
                wanted.keys().any(|port| !members.contains_key(port))
                    || strangers.into_iter().any(|p| !wanted.contains_key(p))
            })
        };
        match own {
            Progress::Active if !changing() => Progress::Active,
            // Something differs: because a commit is on its way, or because of somebody's hand?
            Progress::Active if self.intended.revision > self.intended.committed => Progress::Pending,
            Progress::Active => Progress::Degraded,
            other => other,
        }
    }

    /// Ports that should be in the V-Net or are, with the tag they see.
    fn vnet_ports(&self, vnet: &Vnet) -> BTreeMap<PortId, (Option<u16>, Progress)> {
        let id = NetworkId(vnet.id);
        let wanted = self.intended.vnet_ports(vnet.id);
        let actual = self.plane.network(id).map(|network| &network.members);
        let mut ports = BTreeMap::new();
        for (port, tag) in &wanted {
            let there = actual.is_some_and(|members| members.get(port) == Some(tag));
            let committed = self
                .plane
                .port(*port)
                .is_some_and(|p| p.committed.networks().any(|n| n == id));
            let state = match (there, committed) {
                (true, _) => Progress::Active,
                (false, true) => Progress::Degraded,
                (false, false) => Progress::Pending,
            };
            ports.insert(*port, (*tag, state));
        }
        for (port, tag) in actual
            .into_iter()
            .flatten()
            .filter(|(port, _)| !wanted.contains_key(port))
        {
            let Some(state) = self.plane.port(*port).filter(|p| p.leaf.is_some()) else {
                continue;
            };
            let leaving = state.committed.networks().any(|n| n == id);
            ports.insert(
                *port,
                (
                    *tag,
                    if leaving {
                        Progress::Deleting
                    } else {
                        Progress::Degraded
                    },
                ),
            );
        }
        ports
    }
}

fn view(fabric: &Fabric, vnet: &Vnet) -> Value {
    let state = fabric.vnet_state(vnet);
    let gateways = vnet.gateway.iter().map(|gateway| {
        json!({
            "prefix": gateway,
            "dhcpEnabled": vnet.dhcp,
            "dhcp": null,
            "dhcpLeaseCount": 0,
            "vlan": vnet.vlan,
        })
    });
    json!({
        "id": vnet.id,
        "name": vnet.name,
        "state": state.value(),
        "status": status(state),
        "vlan": vnet.vlan,
        "vxlanID": vnet.vxlan(),
        "gateways": gateways.collect::<Value>(),
        "ports": fabric.vnet_ports(vnet).into_iter().filter_map(|(port, how)| port_view(fabric, vnet, port, how)).collect::<Value>(),
        "portTags": [],
        "tenant": named(&vnet.tenant),
        "vpc": named(&vnet.vpc),
        "sites": [named(&fabric.intended.site)],
        "serverClusterID": vnet.cluster,
        "tags": vnet.tags,
        "nativeVlan": true,
        "vlanAware": false,
        "dhcpRelay": null,
        "provisioning": u8::from(matches!(state, Progress::Pending | Progress::Deleting)),
        "createdDate": vnet.life.created,
        "modifiedDate": vnet.life.modified,
    })
}

fn port_view(
    fabric: &Fabric,
    vnet: &Vnet,
    port: PortId,
    (tag, state): (Option<u16>, Progress),
) -> Option<Value> {
    let switch = fabric.intended.inventory.switch_of(port)?;
    Some(json!({
        "id": port.0 + 1,
        "name": fabric.plane.port(port)?.name.at_switch(),
        "access": tag.is_none(),
        "accessMode": tag.is_none(),
        "untagged": tag.is_none(),
        "vlan": tag.unwrap_or(vnet.vlan),
        "lacp": "off",
        "state": state.value(),
        "status": status(state),
        "switch": { "id": switch.id, "name": switch.name },
        "info": info(fabric, port),
    }))
}

async fn read(State(netris): State<Netris>, Id(id): Id) -> Reply {
    let found = netris.read(|fabric| fabric.intended.vnets.get(&id).map(|vnet| view(fabric, vnet)));
    found
        .map(Answer::new)
        .ok_or_else(|| Failure::missing("V-Net", id))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct VnetBody {
    name: Option<String>,
    tenant: Option<Thing>,
    vpc: Option<Thing>,
    vlan: Option<Value>,
    gateways: Option<Vec<GatewayBody>>,
    ports: Option<Vec<PortBody>>,
    tags: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct GatewayBody {
    prefix: String,
    #[serde(default)]
    dhcp_enabled: Truth,
}

#[derive(Deserialize)]
struct PortBody {
    #[serde(flatten)]
    port: Value,
    untagged: Option<Truth>,
}

/// Ports by id, or by name in either spelling: `swp5@leaf-1`, `leaf-1/swp5`.
fn named_ports(model: &Intended, ports: Vec<PortBody>) -> Result<Vec<NamedPort>, crate::model::Refusal> {
    let mut found = Vec::new();
    for (i, body) in ports.into_iter().enumerate() {
        let Ok(Thing(port)) = serde_json::from_value::<Thing>(body.port) else {
            return crate::model::invalid(format!("ports[{i}]: is no reference"));
        };
        let id = match port.id {
            0 => {
                let name = port
                    .name
                    .split_once('@')
                    .map(|(port, switch)| PortName::new(switch, port));
                let name = name.or_else(|| port.name.parse().ok());
                name.and_then(|name| model.inventory.port(&name))
            }
            id => Some(PortId(id - 1)),
        };
        let Some(port) = id else {
            return crate::model::invalid(format!("ports[{i}]: no port is {port}"));
        };
        found.push(NamedPort {
            port,
            untagged: body.untagged.is_none_or(|untagged| untagged.0),
        });
    }
    Ok(found)
}

fn gateway(gateways: Option<&Vec<GatewayBody>>) -> Result<Option<(Ipv4Net, bool)>, Failure> {
    match gateways.map_or(&[][..], Vec::as_slice) {
        [] => Ok(None),
        [one] => Ok(Some((
            prefix("gateways[0].prefix", &one.prefix)?,
            one.dhcp_enabled.0,
        ))),
        _ => Err(Failure::invalid(
            "gateways: this fabric gives a V-Net one IPv4 gateway at most",
        )),
    }
}

async fn create(State(netris): State<Netris>, bytes: Bytes) -> Reply {
    let new: VnetBody = body(&bytes)?;
    let gateway = gateway(new.gateways.as_ref())?;
    let vlan = match &new.vlan {
        None | Some(Value::Null) => None,
        Some(Value::String(auto)) if auto.is_empty() || auto == "auto" => None,
        Some(value) => {
            let vlan = number(value).and_then(|vlan| u16::try_from(vlan).ok());
            Some(
                vlan.ok_or_else(|| Failure::invalid(format!("vlan: {value} is neither auto nor a VLAN id")))?,
            )
        }
    };
    let id = netris.edit(|model, now| {
        let ports = named_ports(model, new.ports.unwrap_or_default())?;
        model.create_vnet(
            NewVnet {
                name: new.name.unwrap_or_default(),
                tenant: new.tenant.unwrap_or_default().0,
                vpc: new.vpc.map_or(
                    Ref {
                        id: 1,
                        name: String::new(),
                    },
                    |vpc| vpc.0,
                ),
                vlan,
                gateway,
                ports,
                tags: new.tags.unwrap_or_default(),
            },
            now,
        )
    })?;
    Ok(Answer::created(id))
}

/// Name, gateways and VLAN stay as they were made in this fabric; ports are the whole list.
async fn update(State(netris): State<Netris>, Id(id): Id, bytes: Bytes) -> Reply {
    let update: VnetBody = body(&bytes)?;
    let gateway = gateway(update.gateways.as_ref())?;
    netris.edit(|model, now| {
        let vnet = model.live_vnet(id)?;
        if update.name.as_ref().is_some_and(|name| *name != vnet.name) {
            return crate::model::invalid("name: cannot change after creation");
        }
        if update.gateways.is_some() && gateway.map(|(prefix, _)| prefix) != vnet.gateway {
            return crate::model::invalid("gateways: cannot change after creation in this fabric");
        }
        let ports = update.ports.map(|ports| named_ports(model, ports)).transpose()?;
        // The list of a cluster's V-Net may come back unchanged.
        let wanted = model.vnet_ports(id);
        let ports = ports.filter(|ports| !ports.iter().map(|p| p.port).eq(wanted.keys().copied()));
        model.update_vnet(id, ports, update.tags, now)
    })?;
    Ok(Answer::done("Updated"))
}

async fn delete(State(netris): State<Netris>, Id(id): Id) -> Reply {
    netris.edit(|model, now| model.delete_vnet(id, now))?;
    Ok(Answer::done("Deleted"))
}
