//! The inventory: switches, servers, their NICs and the links between them (Netris `hw` and `link`).

use std::{collections::BTreeMap, net::Ipv4Addr};

use super::{Intended, Refusal, conflict, invalid};
use crate::{
    dataplane::Change,
    names::{Mac, PortId, PortName},
    topology::port_number,
};

/// NIC ids start here, far above switch ports, since `/ports` lists both in one id space.
const NIC_IDS: u32 = 1_000_000;
/// NICs per server that the API may create (the largest servers of today have a dozen).
const NICS_MAX: u32 = 64;

#[derive(Debug, Clone)]
pub(crate) struct SwitchEntry {
    pub(crate) id: u32,
    pub(crate) name: String,
    pub(crate) ports: u16,
    /// `swp1`; the others follow.
    pub(crate) first: PortId,
    pub(crate) mgmt_address: Option<Ipv4Addr>,
}

#[derive(Debug, Clone)]
pub(crate) struct NicEntry {
    pub(crate) id: u32,
    pub(crate) name: String,
    pub(crate) mac: Option<Mac>,
    pub(crate) port: Option<PortId>,
}

#[derive(Debug, Clone)]
pub(crate) struct ServerEntry {
    pub(crate) id: u32,
    pub(crate) name: String,
    pub(crate) role: String,
    pub(crate) tags: Vec<String>,
    pub(crate) nics: Vec<NicEntry>,
}

#[derive(Debug, Default)]
pub(crate) struct Inventory {
    pub(crate) switches: Vec<SwitchEntry>,
    pub(crate) servers: BTreeMap<u32, ServerEntry>,
    server_ids: BTreeMap<String, u32>,
    /// Switch port -> server and index of its NIC.
    linked: BTreeMap<PortId, (u32, usize)>,
    /// NIC id -> server and index.
    nics: BTreeMap<u32, (u32, usize)>,
    /// NICs ever made: ids are never used again.
    nics_made: u32,
}

impl Inventory {
    pub(crate) fn server_by_name(&self, name: &str) -> Option<&ServerEntry> {
        self.server_ids.get(name).and_then(|id| self.servers.get(id))
    }

    /// The server and the name of its NIC whose cable ends here.
    pub(crate) fn nic_at(&self, port: PortId) -> Option<(u32, &str)> {
        let (server, index) = self.linked.get(&port)?;
        let nic = self.servers.get(server)?.nics.get(*index)?;
        Some((*server, &nic.name))
    }

    pub(crate) fn nic_by_id(&self, id: u32) -> Option<(&ServerEntry, &NicEntry)> {
        let (server, index) = self.nics.get(&id)?;
        let server = self.servers.get(server)?;
        Some((server, server.nics.get(*index)?))
    }

    /// The dataplane's port of a name.
    pub(crate) fn port(&self, name: &PortName) -> Option<PortId> {
        let switch = self.switches.iter().find(|switch| switch.name == name.switch())?;
        let number = port_number(name.port()).filter(|n| (1..=switch.ports).contains(n))?;
        Some(PortId(switch.first.0 + u32::from(number) - 1))
    }

    pub(crate) fn switch_of(&self, port: PortId) -> Option<&SwitchEntry> {
        self.switches
            .iter()
            .find(|s| (s.first.0..s.first.0 + u32::from(s.ports)).contains(&port.0))
    }

    /// Where every cable with a known address should end.
    pub(crate) fn cables(&self) -> impl Iterator<Item = (Mac, PortId)> {
        let nics = self.servers.values().flat_map(|server| &server.nics);
        nics.filter_map(|nic| Some((nic.mac?, nic.port?)))
    }

    pub(super) fn add_server(
        &mut self,
        id: u32,
        name: &str,
        role: &str,
        tags: Vec<String>,
        nics: Vec<(String, Option<Mac>, Option<PortId>)>,
    ) {
        let mut entries = Vec::new();
        for (index, (name, mac, port)) in nics.into_iter().enumerate() {
            let nic = NIC_IDS + self.nics_made;
            self.nics_made += 1;
            self.nics.insert(nic, (id, index));
            if let Some(port) = port {
                self.linked.insert(port, (id, index));
            }
            entries.push(NicEntry {
                id: nic,
                name,
                mac,
                port,
            });
        }
        self.server_ids.insert(name.to_owned(), id);
        self.servers.insert(
            id,
            ServerEntry {
                id,
                name: name.to_owned(),
                role: role.to_owned(),
                tags,
                nics: entries,
            },
        );
    }
}

impl ServerEntry {
    pub(crate) fn nic(&self, name: &str) -> Option<&NicEntry> {
        self.nics.iter().find(|nic| nic.name == name)
    }
}

impl Intended {
    /// `POST /hw/server`: NICs `eth1` to `ethN`, not cabled yet.
    pub(crate) fn create_server(
        &mut self,
        name: &str,
        ports: u32,
        role: &str,
        tags: Vec<String>,
    ) -> Result<u32, Refusal> {
        if name.trim().is_empty() || name.contains(['@', '/']) {
            return invalid(format!("name: {name:?} is empty or has @ or / in it"));
        }
        if !["generic", "hyperv_cs"].contains(&role) {
            return invalid(format!("role: {role:?} is neither generic nor hyperv_cs"));
        }
        if !(1..=NICS_MAX).contains(&ports) {
            return invalid(format!("portCount: {ports} is not in 1..={NICS_MAX}"));
        }
        let taken = self.inventory.switches.iter().any(|s| s.name == name);
        if taken || self.inventory.server_by_name(name).is_some() {
            return conflict(format!("name: {name:?} is taken"));
        }
        let id = self.next_id("hw");
        let nics = (1..=ports).map(|n| (format!("eth{n}"), None, None)).collect();
        self.inventory.add_server(id, name, role, tags, nics);
        self.stamp();
        Ok(id)
    }

    pub(crate) fn delete_server(&mut self, id: u32) -> Result<(), Refusal> {
        let Some(server) = self.inventory.servers.get(&id) else {
            return Err(Refusal::NotFound(format!("server {id} does not exist")));
        };
        if let Some(cluster) = self
            .member_of
            .get(&id)
            .and_then(|c| c.first())
            .and_then(|c| self.clusters.get(c))
        {
            return conflict(format!(
                "server {:?} is a member of server cluster {:?}",
                server.name, cluster.name
            ));
        }
        let (name, nics) = (server.name.clone(), server.nics.clone());
        for nic in &nics {
            self.inventory.nics.remove(&nic.id);
            if let Some(port) = nic.port {
                self.inventory.linked.remove(&port);
            }
        }
        self.inventory.servers.remove(&id);
        self.inventory.server_ids.remove(&name);
        self.stamp();
        Ok(())
    }

    /// `POST /link`: the cable between a server's NIC and a switch port, given in either order.
    pub(crate) fn create_link(&mut self, local: u32, remote: u32) -> Result<(), Refusal> {
        let (nic, port) = if local >= NIC_IDS {
            (local, remote)
        } else {
            (remote, local)
        };
        let Some((server, index)) = self.inventory.nics.get(&nic).copied() else {
            return invalid(format!(
                "local: {nic} is no server's port; one end of a link is a server"
            ));
        };
        let port_id = PortId(port.wrapping_sub(1));
        if self.inventory.switch_of(port_id).is_none() {
            return invalid(format!(
                "remote: {port} is no switch's port; one end of a link is a switch"
            ));
        }
        if self.inventory.linked.contains_key(&port_id) {
            return conflict(format!("remote: port {port} is linked already"));
        }
        let Some(entry) = self
            .inventory
            .servers
            .get_mut(&server)
            .and_then(|s| s.nics.get_mut(index))
        else {
            return invalid(format!("local: {nic} is no server's port"));
        };
        if entry.port.is_some() {
            return conflict(format!("local: port {nic} is linked already"));
        }
        entry.port = Some(port_id);
        self.inventory.linked.insert(port_id, (server, index));
        self.stamp();
        self.touch_ports([port_id]);
        Ok(())
    }

    /// The port goes administratively up or down, once switches have it.
    pub(crate) fn set_admin(&mut self, port: PortId, up: bool) -> Result<(), Refusal> {
        if self.inventory.switch_of(port).is_none() {
            return Err(Refusal::NotFound(format!("port {} does not exist", port.0 + 1)));
        }
        self.stamp();
        self.changes.push(Change::Admin(port, up));
        Ok(())
    }
}
