//! The first revision: the model that a topology describes.

use std::collections::BTreeMap;

use super::{
    Intended, Life, Ref, Vpc,
    cluster::{Attachment, Cluster, Member},
    inventory::{Inventory, SwitchEntry},
    ipam::Ipam,
    template::{Ipv4Gateway, Template, TemplateVnet},
};
use crate::{
    names::PortId,
    topology::{self, Topology, TopologyError},
};

const ADMIN: u32 = 1;

impl Intended {
    /// Takes a validated topology. What is left to refuse (a VLAN id or a V-Net name that collides with a
    /// generated one) is named like any other error of a topology.
    pub(crate) fn new(topology: &Topology, now: jiff::Timestamp) -> Result<Intended, TopologyError> {
        topology.validate()?;
        let mut model = Intended {
            site: Ref::new(1, &topology.site),
            tenants: BTreeMap::from([(ADMIN, "Admin".to_owned())]),
            vpcs: BTreeMap::new(),
            inventory: Inventory::default(),
            templates: BTreeMap::new(),
            clusters: BTreeMap::new(),
            vnets: BTreeMap::new(),
            ipam: Ipam::default(),
            member_of: BTreeMap::new(),
            named_ports: BTreeMap::new(),
            last_id: BTreeMap::new(),
            revision: 0,
            committed: 0,
            dirty: false,
            changes: Vec::new(),
        };
        let admin = Ref::new(ADMIN, "Admin");
        let id = model.next_id("vpc");
        let name = "Default".to_owned();
        model.vpcs.insert(
            id,
            Vpc {
                id,
                name,
                admin,
                tags: Vec::new(),
                is_default: true,
                created: now,
            },
        );
        model.rack(topology);
        model.address(topology, now)?;
        for template in &topology.templates {
            let id = model.next_id("template");
            model.templates.insert(id, template.clone());
        }
        for cluster in &topology.clusters {
            model.home(cluster, now);
        }
        Ok(model)
    }

    fn rack(&mut self, topology: &Topology) {
        let mut first = 0;
        for switch in &topology.switches {
            let id = self.next_id("hw");
            let (name, ports, mgmt_address) = (switch.name.clone(), switch.ports, switch.mgmt_address);
            self.inventory.switches.push(SwitchEntry {
                id,
                name,
                ports,
                first: PortId(first),
                mgmt_address,
            });
            first += u32::from(ports);
        }
        for server in &topology.servers {
            let id = self.next_id("hw");
            let nics = server
                .nics
                .iter()
                .map(|nic| (nic.name.clone(), nic.mac, self.inventory.port(&nic.port)));
            let nics = nics.collect();
            self.inventory
                .add_server(id, &server.name, "generic", Vec::new(), nics);
        }
    }

    /// Allocations, and the pre-made V-Nets with one each.
    fn address(&mut self, topology: &Topology, now: jiff::Timestamp) -> Result<(), TopologyError> {
        let refuse = |field: String| {
            move |refusal: super::Refusal| TopologyError {
                field,
                problem: refusal.to_string(),
            }
        };
        for (i, allocation) in topology.allocations.iter().enumerate() {
            let added = self.ipam.add_allocation(&allocation.name, allocation.prefix);
            added.map_err(refuse(format!("allocations[{i}]")))?;
        }
        // Networks with a VLAN id of their own first, so that no automatic one takes it.
        let mut order: Vec<(usize, &topology::Network)> = topology.networks.iter().enumerate().collect();
        order.sort_by_key(|(i, network)| (network.vlan.is_none(), *i));
        for (i, network) in order {
            let field = || format!("networks[{i}]");
            if let Some(gateway) = network.gateway {
                self.ipam
                    .add_allocation(&network.name, gateway.trunc())
                    .map_err(refuse(field()))?;
            }
            let plan = self.plan_vnet(network.name.clone(), network.vlan, network.gateway, false, &[]);
            let plan = plan.map_err(refuse(field()))?;
            let (tenant, vpc) = (Ref::new(ADMIN, "Admin"), Ref::new(1, "Default"));
            self.make_vnet(plan, tenant, vpc, None, true, now)
                .map_err(refuse(field()))?;
        }
        Ok(())
    }

    fn home(&mut self, cluster: &topology::Cluster, now: jiff::Timestamp) {
        let id = self.next_id("cluster");
        let vnets: Vec<Attachment> = cluster
            .vnets
            .iter()
            .filter_map(|wanted| {
                let vnet = self.vnets.values().find(|v| v.name == wanted.network)?;
                Some(Attachment {
                    vnet: vnet.id,
                    nics: wanted.server_nics.clone(),
                })
            })
            .collect();
        let template = self.template_of(cluster);
        let life = Life {
            revision: self.stamp(),
            deleting: false,
            created: now,
            modified: now,
        };
        let members = cluster
            .servers
            .iter()
            .filter_map(|name| self.inventory.server_by_name(name));
        let members: Vec<Member> = members
            .map(|server| Member {
                server: server.id,
                shared: false,
            })
            .collect();
        let home = Cluster {
            id,
            name: cluster.name.clone(),
            admin: Ref::new(ADMIN, "Admin"),
            site: self.site.clone(),
            vpc: Ref::new(1, "Default"),
            own_vpc: None,
            template,
            vnets,
            servers: Vec::new(),
            tags: Vec::new(),
            life,
        };
        self.clusters.insert(id, home);
        self.put_members(id, members);
    }

    /// A template that describes a pre-made cluster, so that readers find what every cluster has.
    fn template_of(&mut self, cluster: &topology::Cluster) -> Ref {
        if let Some((id, template)) = self.templates.iter().find(|(_, t)| t.name == cluster.name) {
            return Ref::new(*id, &template.name);
        }
        let vnets = cluster.vnets.iter().map(|wanted| {
            let gateway = self
                .vnets
                .values()
                .find(|v| v.name == wanted.network)
                .and_then(|v| v.gateway);
            TemplateVnet {
                postfix: wanted.network.clone(),
                kind: "l2vpn".to_owned(),
                vlan: "untagged".to_owned(),
                vlan_id: "auto".into(),
                ip_family: None,
                server_nics: wanted.server_nics.clone(),
                ipv4_gateway: gateway.map(|gateway| Ipv4Gateway::Text(gateway.to_string())),
                ipv4_dhcp_enabled: false,
            }
        });
        let template = Template {
            name: cluster.name.clone(),
            vnets: vnets.collect(),
        };
        let id = self.next_id("template");
        self.templates.insert(id, template);
        Ref::new(id, &cluster.name)
    }
}
