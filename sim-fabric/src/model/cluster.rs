//! Server clusters: a template's V-Nets, and the servers whose NICs are in them. A dedicated member's NICs are
//! untagged and in this cluster alone; a shared member's are tagged, in any number of clusters.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::Ipv4Net;
use serde_json::Value;

use super::{
    Intended, Life, Ref, Refusal, conflict, invalid,
    template::{AutoGateway, Ipv4Gateway, Template, WantVlan},
    vnet::Plan,
};
use crate::names::PortId;

#[derive(Debug, Clone)]
pub(crate) struct Cluster {
    pub(crate) id: u32,
    pub(crate) name: String,
    pub(crate) admin: Ref,
    pub(crate) site: Ref,
    pub(crate) vpc: Ref,
    /// A VPC that was made for this cluster and goes with it.
    pub(crate) own_vpc: Option<u32>,
    pub(crate) template: Ref,
    pub(crate) vnets: Vec<Attachment>,
    pub(crate) servers: Vec<Member>,
    pub(crate) tags: Vec<String>,
    pub(crate) life: Life,
}

/// Which NICs of each member are in which V-Net.
#[derive(Debug, Clone)]
pub(crate) struct Attachment {
    pub(crate) vnet: u32,
    pub(crate) nics: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Member {
    pub(crate) server: u32,
    pub(crate) shared: bool,
}

/// A member as a request names it.
#[derive(Debug, Clone)]
pub(crate) struct WantMember {
    pub(crate) server: Ref,
    pub(crate) shared: bool,
}

#[derive(Debug, Clone)]
pub(crate) enum WantVpc {
    /// `{id: 0, name: "Create New"}`.
    Create,
    Existing(Ref),
}

/// `POST /server-cluster`.
#[derive(Debug, Clone)]
pub(crate) struct NewCluster {
    pub(crate) name: String,
    pub(crate) admin: Ref,
    pub(crate) site: Ref,
    /// Of all V-Nets, unless `vpc_of` has an entry for the postfix.
    pub(crate) vpc: WantVpc,
    pub(crate) vpc_of: BTreeMap<String, Ref>,
    pub(crate) template: Ref,
    pub(crate) vlans: BTreeMap<String, u16>,
    pub(crate) gateways: BTreeMap<String, Ipv4Net>,
    pub(crate) tags: Vec<String>,
    pub(crate) servers: Vec<WantMember>,
}

impl Intended {
    pub(crate) fn live_cluster(&self, id: u32) -> Result<&Cluster, Refusal> {
        let found = self.clusters.get(&id).filter(|cluster| !cluster.life.deleting);
        found.ok_or_else(|| Refusal::NotFound(format!("server cluster {id} does not exist")))
    }

    pub(crate) fn create_cluster(&mut self, new: NewCluster, now: jiff::Timestamp) -> Result<u32, Refusal> {
        let name = new.name.trim();
        if name.is_empty() {
            return invalid("name: is empty");
        }
        if self.clusters.values().any(|cluster| cluster.name == name) {
            return conflict(format!("name: server cluster {name:?} exists"));
        }
        let (admin, site) = (self.tenant(&new.admin)?, self.site(&new.site)?);
        let (template_ref, template) = self.template(&new.template)?;
        let template = template.clone();
        let nics: BTreeSet<&str> = template
            .vnets
            .iter()
            .flat_map(|v| &v.server_nics)
            .map(String::as_str)
            .collect();
        let members = self.check_members(None, &nics, &new.servers)?;
        let plans = self.plan_vnets(name, &template, &new)?;
        let mut vpc_of = BTreeMap::new();
        for (postfix, vpc) in &new.vpc_of {
            vpc_of.insert(postfix.as_str(), self.vpc(vpc)?);
        }
        let (vpc, own_vpc) = match &new.vpc {
            WantVpc::Existing(vpc) => (self.vpc(vpc)?, None),
            WantVpc::Create => {
                let id = self.create_vpc(name, &admin, Vec::new(), now)?;
                (Ref::new(id, name), Some(id))
            }
        };
        let id = self.next_id("cluster");
        let mut vnets = Vec::new();
        for (plan, from) in plans.into_iter().zip(&template.vnets) {
            let vpc = vpc_of.get(from.postfix.as_str()).unwrap_or(&vpc).clone();
            let vnet = self.make_vnet(plan, admin.clone(), vpc, Some(id), false, now)?;
            vnets.push(Attachment {
                vnet,
                nics: from.server_nics.clone(),
            });
        }
        let (name, tags, life) = (name.to_owned(), new.tags, self.born(now));
        let servers = Vec::new();
        let cluster = Cluster {
            id,
            name,
            admin,
            site,
            vpc,
            own_vpc,
            template: template_ref,
            vnets,
            servers,
            tags,
            life,
        };
        self.clusters.insert(id, cluster);
        self.put_members(id, members);
        Ok(id)
    }

    /// `PUT /server-cluster/{id}`: the whole list of servers, and tags; nothing else can change.
    pub(crate) fn update_cluster(
        &mut self,
        id: u32,
        servers: Option<&[WantMember]>,
        tags: Option<Vec<String>>,
        now: jiff::Timestamp,
    ) -> Result<(), Refusal> {
        let cluster = self.live_cluster(id)?;
        let members = match servers {
            None => None,
            Some(servers) => {
                let nics: BTreeSet<&str> = cluster
                    .vnets
                    .iter()
                    .flat_map(|a| &a.nics)
                    .map(String::as_str)
                    .collect();
                Some(self.check_members(Some(id), &nics, servers)?)
            }
        };
        let changed = members
            .as_ref()
            .is_some_and(|members| *members != cluster.servers);
        if !changed && tags.as_ref().is_none_or(|tags| *tags == cluster.tags) {
            return Ok(()); // asked for what is: nothing to converge
        }
        let revision = self.stamp();
        if let Some(cluster) = self.clusters.get_mut(&id) {
            (cluster.life.revision, cluster.life.modified) = (revision, now);
            cluster.tags = tags.unwrap_or(std::mem::take(&mut cluster.tags));
        }
        if let Some(members) = members.filter(|_| changed) {
            self.put_members(id, members);
        }
        Ok(())
    }

    /// Frees the servers at once; the cluster and its V-Nets go when the switches have let go.
    pub(crate) fn delete_cluster(&mut self, id: u32, now: jiff::Timestamp) -> Result<(), Refusal> {
        self.live_cluster(id)?;
        self.put_members(id, Vec::new());
        let revision = self.stamp();
        let Some(cluster) = self.clusters.get_mut(&id) else {
            return Ok(());
        };
        cluster.life = Life {
            revision,
            deleting: true,
            modified: now,
            created: cluster.life.created,
        };
        let own_vpc = cluster.own_vpc;
        let vnets: Vec<u32> = cluster.vnets.iter().map(|a| a.vnet).collect();
        for vnet in vnets {
            if self.vnets.get(&vnet).is_some_and(|v| v.cluster == Some(id)) {
                self.retire_vnet(vnet, now);
            }
        }
        if let Some(vpc) = own_vpc
            && !self
                .vnets
                .values()
                .any(|v| v.vpc.id == vpc && v.cluster != Some(id))
        {
            self.vpcs.remove(&vpc);
        }
        Ok(())
    }

    pub(crate) fn create_template(&mut self, template: Template) -> Result<u32, Refusal> {
        self.check_template(None, &template)?;
        let id = self.next_id("template");
        self.templates.insert(id, template);
        Ok(id)
    }

    pub(crate) fn update_template(&mut self, id: u32, template: Template) -> Result<(), Refusal> {
        if !self.templates.contains_key(&id) {
            return Err(Refusal::NotFound(format!("template {id} does not exist")));
        }
        self.check_template(Some(id), &template)?;
        if let Some(cluster) = self.clusters.values().find(|c| c.template.id == id) {
            return conflict(format!(
                "template {id} is in use by server cluster {:?}",
                cluster.name
            ));
        }
        self.templates.insert(id, template);
        Ok(())
    }

    pub(crate) fn delete_template(&mut self, id: u32) -> Result<(), Refusal> {
        if let Some(cluster) = self.clusters.values().find(|c| c.template.id == id) {
            return conflict(format!(
                "template {id} is in use by server cluster {:?}",
                cluster.name
            ));
        }
        match self.templates.remove(&id) {
            Some(_) => Ok(()),
            None => Err(Refusal::NotFound(format!("template {id} does not exist"))),
        }
    }

    fn check_template(&self, this: Option<u32>, template: &Template) -> Result<(), Refusal> {
        super::template::check(template).or_else(|e| invalid(format!("{}: {}", e.field, e.problem)))?;
        match self
            .templates
            .iter()
            .any(|(id, other)| Some(*id) != this && other.name == template.name)
        {
            true => conflict(format!("name: template {:?} exists", template.name)),
            false => Ok(()),
        }
    }

    fn template(&self, wanted: &Ref) -> Result<(Ref, &Template), Refusal> {
        let found = self.templates.iter().find(|(id, template)| match wanted.id {
            0 => template.name == wanted.name,
            wanted => **id == wanted,
        });
        match found {
            Some((id, template)) => Ok((Ref::new(*id, &template.name), template)),
            None => invalid(format!("srvClusterTemplate: no template is {wanted}")),
        }
    }

    fn plan_vnets(&self, name: &str, template: &Template, new: &NewCluster) -> Result<Vec<Plan>, Refusal> {
        let mut plans: Vec<Plan> = Vec::new();
        let known = |postfix: &String| template.vnets.iter().any(|v| v.postfix == *postfix);
        if let Some(postfix) = new
            .gateways
            .keys()
            .chain(new.vlans.keys())
            .chain(new.vpc_of.keys())
            .find(|p| !known(p))
        {
            return invalid(format!(
                "srvClusterTemplate: template {:?} has no V-Net {postfix:?}",
                template.name
            ));
        }
        for vnet in &template.vnets {
            let postfix = &vnet.postfix;
            let vlan = match (vnet.want_vlan(), new.vlans.get(postfix)) {
                (Some(WantVlan::Is(vlan)), _) => Some(vlan),
                (Some(WantVlan::Specify), Some(vlan)) => Some(*vlan),
                (Some(WantVlan::Specify), None) => {
                    return invalid(format!(
                        "srvClusterTemplate.vlans: V-Net {postfix:?} wants its VLAN id specified"
                    ));
                }
                _ => None,
            };
            let gateway = match (&vnet.ipv4_gateway, new.gateways.get(postfix)) {
                (None, _) => None,
                (Some(Ipv4Gateway::Text(text)), given) if text == "specify" => match given {
                    Some(gateway) => Some(*gateway),
                    None => {
                        return invalid(format!(
                            "srvClusterTemplate.ipv4Gateways: V-Net {postfix:?} wants its gateway specified"
                        ));
                    }
                },
                (Some(Ipv4Gateway::Text(text)), _) => text.parse().ok(),
                (Some(Ipv4Gateway::Auto(auto)), _) => Some(self.carve(auto, &plans)?),
            };
            plans.push(self.plan_vnet(
                format!("{name}-{postfix}"),
                vlan,
                gateway,
                vnet.ipv4_dhcp_enabled,
                &plans,
            )?);
        }
        Ok(plans)
    }

    fn carve(&self, auto: &AutoGateway, planned: &[Plan]) -> Result<Ipv4Net, Refusal> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let field = |key: &str| auto.allocation.get(key);
        let id = auto
            .allocation
            .as_u64()
            .or_else(|| field("id").and_then(Value::as_u64));
        let named = text(&auto.allocation).or_else(|| field("prefix").or(field("name")).and_then(text));
        let found = self
            .ipam
            .allocations
            .values()
            .find(|allocation| match (&named, id) {
                (Some(named), _) => allocation.name == *named || allocation.prefix.to_string() == *named,
                (None, Some(id)) => u64::from(allocation.id) == id,
                (None, None) => false,
            });
        let Some(allocation) = found else {
            return invalid(format!(
                "ipv4Gateway.allocation: no allocation is {}",
                auto.allocation
            ));
        };
        let taken: Vec<Ipv4Net> = planned
            .iter()
            .filter_map(|plan| plan.gateway)
            .map(|g| g.trunc())
            .collect();
        let child = self
            .ipam
            .carve(allocation.id, auto.child_subnet_prefix_length, &taken)?;
        let address = u32::from(child.network()) + auto.hostnum;
        Ipv4Net::new(address.into(), child.prefix_len()).or_else(|e| invalid(format!("ipv4Gateway: {e}")))
    }

    /// The members that a request names, if all may join a cluster with these NICs.
    fn check_members(
        &self,
        this: Option<u32>,
        nics: &BTreeSet<&str>,
        wanted: &[WantMember],
    ) -> Result<Vec<Member>, Refusal> {
        let mut members: Vec<Member> = Vec::new();
        // Whole lists are long and written often: no step here looks at the list again for each entry.
        let mut listed = BTreeSet::new();
        for (i, want) in wanted.iter().enumerate() {
            let found = match want.server.id {
                0 => self.inventory.server_by_name(&want.server.name),
                id => self.inventory.servers.get(&id),
            };
            let Some(server) = found else {
                return invalid(format!("servers[{i}]: no server is {}", want.server));
            };
            if !listed.insert(server.id) {
                return invalid(format!("servers[{i}]: {:?} is listed twice", server.name));
            }
            for nic in nics {
                match server.nic(nic) {
                    Some(nic) if nic.port.is_some() => {}
                    Some(_) => {
                        return invalid(format!(
                            "servers[{i}]: NIC {nic:?} of {:?} has no link to a switch",
                            server.name
                        ));
                    }
                    None => {
                        return invalid(format!(
                            "servers[{i}]: {:?} has no NIC {nic:?}, which the template needs",
                            server.name
                        ));
                    }
                }
            }
            let others = self
                .member_of
                .get(&server.id)
                .into_iter()
                .flatten()
                .filter(|id| Some(**id) != this);
            for other in others.filter_map(|id| self.clusters.get(id)) {
                let dedicated_there = other.servers.iter().any(|m| m.server == server.id && !m.shared);
                if dedicated_there && !want.shared {
                    return conflict(format!(
                        "servers[{i}]: {:?} is already a dedicated member of server cluster {:?}; remove it there first",
                        server.name, other.name
                    ));
                }
            }
            members.push(Member {
                server: server.id,
                shared: want.shared,
            });
        }
        Ok(members)
    }

    pub(super) fn put_members(&mut self, id: u32, members: Vec<Member>) {
        let Some(cluster) = self.clusters.get_mut(&id) else {
            return;
        };
        let nics: Vec<String> = cluster.vnets.iter().flat_map(|a| a.nics.clone()).collect();
        let before = std::mem::replace(&mut cluster.servers, members.clone());
        let (old, new): (BTreeSet<Member>, BTreeSet<Member>) = (
            before.iter().copied().collect(),
            members.iter().copied().collect(),
        );
        let mut ports: BTreeSet<PortId> = BTreeSet::new();
        for server in old
            .symmetric_difference(&new)
            .filter_map(|m| self.inventory.servers.get(&m.server))
        {
            ports.extend(
                server
                    .nics
                    .iter()
                    .filter(|nic| nics.contains(&nic.name))
                    .filter_map(|nic| nic.port),
            );
        }
        for member in &before {
            if let Some(of) = self.member_of.get_mut(&member.server) {
                of.remove(&id);
            }
        }
        for member in &members {
            self.member_of.entry(member.server).or_default().insert(id);
        }
        self.touch_ports(ports);
    }
}
