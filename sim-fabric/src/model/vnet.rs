//! V-Nets: one bridge domain over all leaves each, with a VLAN id at the ports, a VXLAN id between leaves and
//! perhaps a gateway. Made by server clusters (`cluster.rs`), by the topology, or one by one through the API.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::Ipv4Net;

use super::{Intended, Life, Ref, Refusal, State, conflict, invalid};
use crate::{
    dataplane::{Change, NetworkConfig},
    names::{NetworkId, PortId},
    topology::{TENANTS, VLANS, is_host},
};

/// Automatic VLAN ids start here; sites like to keep the low ones for themselves.
const VLAN_AUTO_MIN: u16 = 100;
/// VXLAN ids are V-Net ids above this.
const VXLAN_BASE: u32 = 10_000;

#[derive(Debug, Clone)]
pub(crate) struct Vnet {
    pub(crate) id: u32,
    pub(crate) name: String,
    pub(crate) vlan: u16,
    pub(crate) gateway: Option<Ipv4Net>,
    pub(crate) dhcp: bool,
    pub(crate) tenant: Ref,
    pub(crate) vpc: Ref,
    /// The server cluster that made it and takes it along.
    pub(crate) cluster: Option<u32>,
    /// Part of the topology: never deleted, no tenant's.
    pub(crate) premade: bool,
    pub(crate) tags: Vec<String>,
    pub(crate) life: Life,
}

impl Vnet {
    pub(crate) fn vxlan(&self) -> u32 {
        VXLAN_BASE + self.id
    }
}

/// A port named one by one, and the tag it sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NamedPort {
    pub(crate) port: PortId,
    pub(crate) untagged: bool,
}

/// A V-Net that passed every check but does not exist yet.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) name: String,
    pub(super) vlan: u16,
    pub(super) gateway: Option<Ipv4Net>,
    pub(super) dhcp: bool,
}

/// `POST /vnet`.
#[derive(Debug, Clone)]
pub(crate) struct NewVnet {
    pub(crate) name: String,
    pub(crate) tenant: Ref,
    pub(crate) vpc: Ref,
    pub(crate) vlan: Option<u16>,
    pub(crate) gateway: Option<(Ipv4Net, bool)>,
    pub(crate) ports: Vec<NamedPort>,
    pub(crate) tags: Vec<String>,
}

impl Intended {
    pub(crate) fn live_vnet(&self, id: u32) -> Result<&Vnet, Refusal> {
        let found = self.vnets.get(&id).filter(|vnet| !vnet.life.deleting);
        found.ok_or_else(|| Refusal::NotFound(format!("V-Net {id} does not exist")))
    }

    /// A V-Net's ports and the tags they see, by the objects.
    pub(crate) fn vnet_ports(&self, id: u32) -> BTreeMap<PortId, Option<u16>> {
        let mut ports = BTreeMap::new();
        let Some(vnet) = self.vnets.get(&id) else {
            return ports;
        };
        // A tenant's V-Net is in the cluster that made it; a pre-made one may be in several.
        let owner = vnet.cluster.and_then(|id| self.clusters.get(&id));
        let all = self.clusters.values().filter(|_| vnet.premade);
        for cluster in owner.into_iter().chain(all) {
            for attachment in cluster.vnets.iter().filter(|a| a.vnet == id) {
                for member in &cluster.servers {
                    let Some(server) = self.inventory.servers.get(&member.server) else {
                        continue;
                    };
                    let nics = server
                        .nics
                        .iter()
                        .filter(|nic| attachment.nics.contains(&nic.name));
                    ports
                        .extend(nics.filter_map(|nic| Some((nic.port?, member.shared.then_some(vnet.vlan)))));
                }
            }
        }
        for (port, named) in &self.named_ports {
            if let Some(vlan) = named.get(&id) {
                ports.insert(*port, *vlan);
            }
        }
        ports
    }

    pub(super) fn plan_vnet(
        &self,
        name: String,
        vlan: Option<u16>,
        gateway: Option<Ipv4Net>,
        dhcp: bool,
        planned: &[Plan],
    ) -> Result<Plan, Refusal> {
        if name.trim().is_empty() || name == TENANTS {
            return invalid(format!("name: {name:?} is empty or reserved"));
        }
        if self.vnets.values().any(|v| v.name == name) || planned.iter().any(|p| p.name == name) {
            return conflict(format!("name: V-Net {name:?} exists"));
        }
        let taken: BTreeSet<u16> = self
            .vnets
            .values()
            .map(|v| v.vlan)
            .chain(planned.iter().map(|p| p.vlan))
            .collect();
        let vlan = match vlan {
            Some(vlan) if !VLANS.contains(&vlan) => {
                return invalid(format!("vlan: {vlan} is not in 2..=4094"));
            }
            Some(vlan) if taken.contains(&vlan) => {
                return conflict(format!("vlan: {vlan} is taken by another V-Net"));
            }
            Some(vlan) => vlan,
            None => match (VLAN_AUTO_MIN..=*VLANS.end()).find(|vlan| !taken.contains(vlan)) {
                Some(vlan) => vlan,
                None => return conflict("vlan: none is left; delete V-Nets that nobody uses"),
            },
        };
        if let Some(gateway) = gateway {
            if !is_host(gateway) {
                return invalid(format!(
                    "gateways: {gateway} is not a host's address in its prefix"
                ));
            }
            self.ipam.check_subnet(gateway.trunc())?;
            if let Some(other) = planned
                .iter()
                .find(|p| p.gateway.is_some_and(|g| crate::topology::overlap(g, gateway)))
            {
                return conflict(format!("gateways: {gateway} overlaps the one of {}", other.name));
            }
        }
        Ok(Plan {
            name,
            vlan,
            gateway,
            dhcp,
        })
    }

    /// Makes a planned V-Net. Addresses were checked by the plan, so a refusal here cannot come; it is passed
    /// on all the same.
    pub(super) fn make_vnet(
        &mut self,
        plan: Plan,
        tenant: Ref,
        vpc: Ref,
        cluster: Option<u32>,
        premade: bool,
        now: jiff::Timestamp,
    ) -> Result<u32, Refusal> {
        let id = self.next_id("vnet");
        if let Some(gateway) = plan.gateway {
            self.ipam.add_subnet(
                &plan.name,
                gateway.trunc(),
                "common",
                Some(gateway.addr()),
                Some(id),
            )?;
        }
        self.changes.push(Change::AddNetwork(NetworkConfig {
            id: NetworkId(id),
            name: plan.name.clone(),
            vlan: plan.vlan,
            gateway: plan.gateway,
            tenant: !premade,
        }));
        let life = self.born(now);
        let Plan {
            name,
            vlan,
            gateway,
            dhcp,
        } = plan;
        let tags = Vec::new();
        self.vnets.insert(
            id,
            Vnet {
                id,
                name,
                vlan,
                gateway,
                dhcp,
                tenant,
                vpc,
                cluster,
                premade,
                tags,
                life,
            },
        );
        Ok(id)
    }

    pub(crate) fn create_vnet(&mut self, new: NewVnet, now: jiff::Timestamp) -> Result<u32, Refusal> {
        let tenant = self.tenant(&new.tenant)?;
        let vpc = self.vpc(&new.vpc)?;
        let (gateway, dhcp) = new
            .gateway
            .map_or((None, false), |(gateway, dhcp)| (Some(gateway), dhcp));
        let plan = self.plan_vnet(new.name, new.vlan, gateway, dhcp, &[])?;
        self.check_named_ports(None, &new.ports)?;
        let id = self.make_vnet(plan, tenant, vpc, None, false, now)?;
        self.put_named_ports(id, &new.ports);
        if let Some(vnet) = self.vnets.get_mut(&id) {
            vnet.tags = new.tags;
        }
        Ok(id)
    }

    /// `PUT /vnet/{id}`: the whole list of named ports, and tags.
    pub(crate) fn update_vnet(
        &mut self,
        id: u32,
        ports: Option<Vec<NamedPort>>,
        tags: Option<Vec<String>>,
        now: jiff::Timestamp,
    ) -> Result<(), Refusal> {
        let vnet = self.live_vnet(id)?;
        if ports.is_some() && vnet.cluster.is_some() {
            return conflict(format!(
                "ports: V-Net {:?} belongs to a server cluster; change the cluster's servers",
                vnet.name
            ));
        }
        if let Some(ports) = &ports {
            self.check_named_ports(Some(id), ports)?;
        }
        let revision = self.stamp();
        if let Some(vnet) = self.vnets.get_mut(&id) {
            (vnet.life.revision, vnet.life.modified) = (revision, now);
            vnet.tags = tags.unwrap_or(std::mem::take(&mut vnet.tags));
        }
        if let Some(ports) = ports {
            self.put_named_ports(id, &ports);
        }
        Ok(())
    }

    pub(crate) fn delete_vnet(&mut self, id: u32, now: jiff::Timestamp) -> Result<(), Refusal> {
        let vnet = self.live_vnet(id)?;
        if vnet.premade {
            return conflict(format!(
                "V-Net {:?} is part of the site and cannot be deleted",
                vnet.name
            ));
        }
        if let Some(cluster) = vnet.cluster {
            return conflict(format!(
                "V-Net {:?} belongs to server cluster {cluster}; delete that",
                vnet.name
            ));
        }
        self.retire_vnet(id, now);
        Ok(())
    }

    /// The V-Net loses its ports and goes once the switches have done so.
    pub(super) fn retire_vnet(&mut self, id: u32, now: jiff::Timestamp) {
        let revision = self.stamp();
        self.put_named_ports(id, &[]);
        if let Some(vnet) = self.vnets.get_mut(&id) {
            vnet.life = Life {
                revision,
                deleting: true,
                modified: now,
                created: vnet.life.created,
            };
        }
        self.changes.push(Change::RemoveNetwork(NetworkId(id)));
    }

    fn check_named_ports(&self, this: Option<u32>, ports: &[NamedPort]) -> Result<(), Refusal> {
        for (i, named) in ports.iter().enumerate() {
            let Some(switch) = self.inventory.switch_of(named.port) else {
                return invalid(format!("ports[{i}]: {} is no switch's port", named.port.0 + 1));
            };
            if ports[..i].iter().any(|other| other.port == named.port) {
                return invalid(format!("ports[{i}]: the port is listed twice"));
            }
            let native = self
                .membership(named.port)
                .native
                .filter(|other| Some(other.0) != this);
            if let Some(other) = native
                .filter(|_| named.untagged)
                .and_then(|id| self.vnets.get(&id.0))
            {
                return conflict(format!(
                    "ports[{i}]: swp{} of {} is untagged in V-Net {:?} already",
                    named.port.0 - switch.first.0 + 1,
                    switch.name,
                    other.name
                ));
            }
        }
        Ok(())
    }

    fn put_named_ports(&mut self, id: u32, ports: &[NamedPort]) {
        let vlan = self.vnets.get(&id).map(|vnet| vnet.vlan);
        let mut touched: BTreeSet<PortId> = ports.iter().map(|named| named.port).collect();
        self.named_ports.retain(|port, named| {
            if named.remove(&id).is_some() {
                touched.insert(*port);
            }
            !named.is_empty()
        });
        for named in ports {
            let tag = vlan.filter(|_| !named.untagged);
            self.named_ports.entry(named.port).or_default().insert(id, tag);
        }
        self.touch_ports(touched);
    }

    /// Whether a V-Net made through the API, or the cluster that owns it, is settled.
    pub(crate) fn vnet_state(&self, vnet: &Vnet) -> State {
        self.state(&vnet.life)
    }
}
