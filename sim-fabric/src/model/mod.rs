//! What the fabric should be: the management API's objects, one revision per accepted change. Nothing here
//! forwards a frame; each change adds [`Change`]s to a batch, which the dataplane gets when its commit is due.
//!
//! A mutator validates everything first and changes only then, so an error leaves no trace.

mod build;
pub(crate) mod cluster;
pub(crate) mod inventory;
pub(crate) mod ipam;
pub(crate) mod template;
pub(crate) mod vnet;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use self::{cluster::Cluster, inventory::Inventory, ipam::Ipam, template::Template, vnet::Vnet};
use crate::{
    dataplane::{Change, Membership},
    names::{NetworkId, PortId},
};

/// Why the management API refuses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// The request contradicts itself or names what does not exist.
    #[error("{0}")]
    Invalid(String),
    /// The request contradicts another object.
    #[error("{0}")]
    Conflict(String),
    #[error("{0}")]
    NotFound(String),
    #[error("{0}")]
    Forbidden(String),
}

pub(crate) fn invalid<T>(message: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::Invalid(message.into()))
}

pub(crate) fn conflict<T>(message: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::Conflict(message.into()))
}

/// An object by id, by name, or by both (the id counts), as this API refers to things.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ref {
    pub(crate) id: u32,
    pub(crate) name: String,
}

impl fmt::Display for Ref {
    /// As the request named it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.id {
            0 => write!(f, "called {:?}", self.name),
            id => write!(f, "number {id}"),
        }
    }
}

impl Ref {
    pub(crate) fn new(id: u32, name: &str) -> Ref {
        Ref {
            id,
            name: name.to_owned(),
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Vpc {
    pub(crate) id: u32,
    pub(crate) name: String,
    pub(crate) admin: Ref,
    pub(crate) tags: Vec<String>,
    pub(crate) is_default: bool,
    pub(crate) created: jiff::Timestamp,
}

/// When an object changed last, and whether it is on its way out.
#[derive(Debug, Clone)]
pub(crate) struct Life {
    pub(crate) revision: u64,
    pub(crate) deleting: bool,
    pub(crate) created: jiff::Timestamp,
    pub(crate) modified: jiff::Timestamp,
}

/// How far an object is: the API answers at once, switches follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Active,
    Pending,
    Deleting,
    /// Committed, but a switch has something else: somebody edited it by hand.
    Degraded,
}

impl State {
    pub(crate) fn value(self) -> &'static str {
        match self {
            State::Active => "active",
            State::Pending => "pending",
            State::Deleting => "deleting",
            State::Degraded => "degraded",
        }
    }

    pub(crate) fn label(self) -> &'static str {
        match self {
            State::Active => "Active",
            State::Pending => "Pending",
            State::Deleting => "Deleting",
            State::Degraded => "Degraded",
        }
    }
}

/// Everything that the management API can say.
#[derive(Debug)]
pub(crate) struct Intended {
    pub(crate) site: Ref,
    pub(crate) tenants: BTreeMap<u32, String>,
    pub(crate) vpcs: BTreeMap<u32, Vpc>,
    pub(crate) inventory: Inventory,
    pub(crate) templates: BTreeMap<u32, Template>,
    pub(crate) clusters: BTreeMap<u32, Cluster>,
    pub(crate) vnets: BTreeMap<u32, Vnet>,
    pub(crate) ipam: Ipam,
    /// Which clusters a server is in.
    member_of: BTreeMap<u32, BTreeSet<u32>>,
    /// V-Net ports that were named one by one: port -> V-Net -> tag.
    named_ports: BTreeMap<PortId, BTreeMap<u32, Option<u16>>>,
    last_id: BTreeMap<&'static str, u32>,
    /// Accepted changes; what the switches have.
    pub(crate) revision: u64,
    pub(crate) committed: u64,
    dirty: bool,
    changes: Vec<Change>,
}

impl Intended {
    /// Ids count up per kind and are never used again.
    fn next_id(&mut self, kind: &'static str) -> u32 {
        let id = self.last_id.entry(kind).or_insert(0);
        *id += 1;
        *id
    }

    /// Marks the running change; its revision.
    fn stamp(&mut self) -> u64 {
        self.dirty = true;
        self.revision + 1
    }

    fn born(&mut self, now: jiff::Timestamp) -> Life {
        Life {
            revision: self.stamp(),
            deleting: false,
            created: now,
            modified: now,
        }
    }

    /// Ends the running change: its revision and what the dataplane has to do, if anything changed.
    pub(crate) fn seal(&mut self) -> Option<(u64, Vec<Change>)> {
        if !std::mem::take(&mut self.dirty) {
            return None;
        }
        self.revision += 1;
        Some((self.revision, std::mem::take(&mut self.changes)))
    }

    /// The switches have everything up to `revision`: what was being deleted is gone, its addresses are free.
    pub(crate) fn converged(&mut self, revision: u64) {
        self.committed = self.committed.max(revision);
        let committed = self.committed;
        let gone = |life: &Life| life.deleting && life.revision <= committed;
        self.clusters.retain(|_, cluster| !gone(&cluster.life));
        let vnets: Vec<u32> = self
            .vnets
            .values()
            .filter(|v| gone(&v.life))
            .map(|v| v.id)
            .collect();
        for id in vnets {
            self.vnets.remove(&id);
            self.ipam.release(id);
        }
    }

    pub(crate) fn state(&self, life: &Life) -> State {
        match life.deleting {
            true => State::Deleting,
            false if life.revision > self.committed => State::Pending,
            false => State::Active,
        }
    }

    pub(crate) fn tenant(&self, wanted: &Ref) -> Result<Ref, Refusal> {
        if wanted.id == 0 && wanted.name.is_empty() {
            return invalid("admin: names no tenant; give its id or name");
        }
        let found = self.tenants.iter().find(|(id, name)| match wanted.id {
            0 => **name == wanted.name,
            wanted => **id == wanted,
        });
        match found {
            Some((id, name)) => Ok(Ref::new(*id, name)),
            None => Err(Refusal::Forbidden(format!(
                "admin: no tenant {wanted} is yours to use"
            ))),
        }
    }

    pub(crate) fn site(&self, wanted: &Ref) -> Result<Ref, Refusal> {
        let same = if wanted.id == 0 {
            wanted.name == self.site.name
        } else {
            wanted.id == self.site.id
        };
        if same {
            Ok(self.site.clone())
        } else {
            invalid(format!("site: no site is {wanted}"))
        }
    }

    pub(crate) fn vpc(&self, wanted: &Ref) -> Result<Ref, Refusal> {
        let found = self.vpcs.values().find(|vpc| match wanted.id {
            0 => vpc.name == wanted.name,
            id => vpc.id == id,
        });
        found.map_or_else(
            || invalid(format!("vpc: no VPC is {wanted}")),
            |vpc| Ok(Ref::new(vpc.id, &vpc.name)),
        )
    }

    pub(crate) fn create_vpc(
        &mut self,
        name: &str,
        admin: &Ref,
        tags: Vec<String>,
        now: jiff::Timestamp,
    ) -> Result<u32, Refusal> {
        let admin = self.tenant(admin)?;
        if name.trim().is_empty() {
            return invalid("name: is empty");
        }
        if self.vpcs.values().any(|vpc| vpc.name == name) {
            return conflict(format!("name: VPC {name:?} exists"));
        }
        let id = self.next_id("vpc");
        self.vpcs.insert(
            id,
            Vpc {
                id,
                name: name.to_owned(),
                admin,
                tags,
                is_default: false,
                created: now,
            },
        );
        Ok(id)
    }

    pub(crate) fn delete_vpc(&mut self, id: u32) -> Result<(), Refusal> {
        let Some(vpc) = self.vpcs.get(&id) else {
            return Err(Refusal::NotFound(format!("VPC {id} does not exist")));
        };
        if vpc.is_default {
            return conflict("the default VPC cannot be deleted");
        }
        if let Some(vnet) = self.vnets.values().find(|vnet| vnet.vpc.id == id) {
            return conflict(format!("VPC {:?} is in use by V-Net {:?}", vpc.name, vnet.name));
        }
        self.vpcs.remove(&id);
        Ok(())
    }

    /// What the objects say about a port.
    pub(crate) fn membership(&self, port: PortId) -> Membership {
        let mut membership = Membership::default();
        if let Some((server, nic)) = self.inventory.nic_at(port) {
            let clusters = self
                .member_of
                .get(&server)
                .into_iter()
                .flatten()
                .filter_map(|id| self.clusters.get(id));
            for cluster in clusters {
                let shared = cluster.servers.iter().any(|m| m.server == server && m.shared);
                for attachment in cluster.vnets.iter().filter(|a| a.nics.iter().any(|n| n == nic)) {
                    let Some(vnet) = self.vnets.get(&attachment.vnet) else {
                        continue;
                    };
                    place(&mut membership, vnet.id, shared.then_some(vnet.vlan));
                }
            }
        }
        for (vnet, vlan) in self.named_ports.get(&port).into_iter().flatten() {
            place(&mut membership, *vnet, *vlan);
        }
        membership
    }

    /// Notes that these ports have to be looked at again by the switches.
    fn touch_ports(&mut self, ports: impl IntoIterator<Item = PortId>) {
        for port in ports {
            let membership = self.membership(port);
            self.changes.push(Change::Member(port, membership));
        }
    }
}

fn place(membership: &mut Membership, vnet: u32, vlan: Option<u16>) {
    match vlan {
        None => membership.native = Some(NetworkId(vnet)),
        Some(vlan) => {
            membership.tagged.insert(vlan, NetworkId(vnet));
        }
    }
}
