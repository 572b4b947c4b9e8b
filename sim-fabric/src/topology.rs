//! The topology: what is racked, cabled and pre-made before the management API sees its first request.
//! Plain serde data (a YAML file of the lab), checked once; after [`Topology::validate`] nothing downstream
//! has to doubt a reference.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use crate::{
    model::template::{self, Template},
    names::{Mac, PortName},
};

/// VLAN ids that `auto` draws from; 1 is every switch's default and 4095 is reserved (802.1Q 9.6).
pub(crate) const VLANS: std::ops::RangeInclusive<u16> = 2..=4094;
/// A route end that stands for every V-Net that the management API made.
pub const TENANTS: &str = "tenants";
/// The pseudo switch of ports that sit straight in a network; no real switch may have its name.
pub(crate) const INFRA: &str = "infra";

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Topology {
    #[serde(default = "default_site")]
    pub site: String,
    pub switches: Vec<Switch>,
    #[serde(default)]
    pub servers: Vec<Server>,
    #[serde(default)]
    pub networks: Vec<Network>,
    #[serde(default)]
    pub allocations: Vec<Allocation>,
    #[serde(default)]
    pub templates: Vec<Template>,
    #[serde(default)]
    pub clusters: Vec<Cluster>,
    #[serde(default)]
    pub routes: Vec<Route>,
    /// What a gateway answers to traffic that no route allows.
    #[serde(default)]
    pub denied: Denied,
}

/// A leaf with ports `swp1` to `swpN`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Switch {
    pub name: String,
    pub ports: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mgmt_address: Option<Ipv4Addr>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Server {
    pub name: String,
    pub nics: Vec<Nic>,
}

/// A server's NIC and the cable that leaves it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Nic {
    pub name: String,
    /// Where the cable should end: the inventory's claim. A NIC that shows up elsewhere is reported.
    pub port: PortName,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
}

/// A V-Net that exists from the start.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Network {
    pub name: String,
    /// Address and prefix of the gateway, e.g. `192.168.100.1/24`; none means pure layer 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<Ipv4Net>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<u16>,
}

/// A range that automatic gateways are carved from.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Allocation {
    pub name: String,
    pub prefix: Ipv4Net,
}

/// A server cluster that exists from the start (a site's home cluster) and the pre-made V-Nets that it puts
/// its servers' NICs in.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Cluster {
    pub name: String,
    pub vnets: Vec<ClusterVnet>,
    #[serde(default)]
    pub servers: Vec<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClusterVnet {
    pub network: String,
    pub server_nics: Vec<String>,
}

/// Traffic between two networks that gateways forward, both ways (a router keeps no connection state). An
/// end is a network's name, or `tenants`: each V-Net made through the management API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Route {
    pub from: String,
    pub to: String,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Denied {
    /// ICMP destination unreachable, code 13 or 0 (RFC 1812 5.2.7.1): a host learns at once.
    #[default]
    Prohibit,
    /// Nothing comes back.
    Drop,
}

fn default_site() -> String {
    "lab".to_owned()
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("topology: {field}: {problem}")]
pub struct TopologyError {
    /// Path of the offending field, e.g. `servers[3].nics[0].port`.
    pub field: String,
    pub problem: String,
}

fn bad<T>(field: String, problem: impl Into<String>) -> Result<T, TopologyError> {
    Err(TopologyError {
        field,
        problem: problem.into(),
    })
}

impl Topology {
    /// Leaves of `ports` ports each, enough for `servers` times `nics`; NIC `ethK` of server `i` is cabled to
    /// the next free port. No networks yet: the caller adds its own. Names of servers come from `name`.
    pub fn leaf_spine(ports: u16, servers: usize, nics: u16, name: impl Fn(usize) -> String) -> Topology {
        let per_leaf = usize::from(ports.max(1));
        let total = servers * usize::from(nics);
        let port = |i: usize| {
            PortName::new(
                &format!("leaf-{}", i / per_leaf + 1),
                &format!("swp{}", i % per_leaf + 1),
            )
        };
        let leaf = |i: usize| Switch {
            name: format!("leaf-{}", i + 1),
            ports,
            mgmt_address: None,
        };
        let server = |s: usize| Server {
            name: name(s),
            nics: (0..usize::from(nics))
                .map(|k| Nic {
                    name: format!("eth{k}"),
                    port: port(s * usize::from(nics) + k),
                    mac: None,
                })
                .collect(),
        };
        Topology {
            site: default_site(),
            switches: (0..total.div_ceil(per_leaf).max(1)).map(leaf).collect(),
            servers: (0..servers).map(server).collect(),
            networks: Vec::new(),
            allocations: Vec::new(),
            templates: Vec::new(),
            clusters: Vec::new(),
            routes: Vec::new(),
            denied: Denied::default(),
        }
    }

    /// Every reference resolves, every name is unique, no port is cabled twice, no prefixes overlap.
    pub fn validate(&self) -> Result<(), TopologyError> {
        self.validate_switches()?;
        self.validate_servers()?;
        self.validate_networks()?;
        for (i, template) in self.templates.iter().enumerate() {
            template::check(template).map_err(|e| TopologyError {
                field: format!("templates[{i}].{}", e.field),
                problem: e.problem,
            })?;
        }
        unique("templates", self.templates.iter().map(|t| t.name.as_str()))?;
        self.validate_clusters()?;
        self.validate_routes()
    }

    fn validate_switches(&self) -> Result<(), TopologyError> {
        if self.switches.is_empty() {
            return bad("switches".into(), "is empty; a fabric needs at least one leaf");
        }
        unique("switches", self.switches.iter().map(|s| s.name.as_str()))?;
        for (i, switch) in self.switches.iter().enumerate() {
            if switch.name == INFRA || switch.name.contains(['/', '@']) {
                return bad(
                    format!("switches[{i}].name"),
                    format!("{:?} is reserved or has / or @ in it", switch.name),
                );
            }
            if switch.ports == 0 {
                return bad(format!("switches[{i}].ports"), "is 0; give it at least one port");
            }
        }
        Ok(())
    }

    fn validate_servers(&self) -> Result<(), TopologyError> {
        unique("servers", self.servers.iter().map(|s| s.name.as_str()))?;
        let switches: BTreeMap<&str, u16> =
            self.switches.iter().map(|s| (s.name.as_str(), s.ports)).collect();
        let mut cabled: BTreeMap<&PortName, String> = BTreeMap::new();
        let mut macs: BTreeMap<Mac, String> = BTreeMap::new();
        for (i, server) in self.servers.iter().enumerate() {
            unique(
                &format!("servers[{i}].nics"),
                server.nics.iter().map(|n| n.name.as_str()),
            )?;
            for (k, nic) in server.nics.iter().enumerate() {
                let field = format!("servers[{i}].nics[{k}]");
                let Some(ports) = switches.get(nic.port.switch()) else {
                    return bad(
                        format!("{field}.port"),
                        format!("no switch is called {:?}", nic.port.switch()),
                    );
                };
                if port_number(nic.port.port()).is_none_or(|n| n == 0 || n > *ports) {
                    return bad(
                        format!("{field}.port"),
                        format!(
                            "{} has swp1 to swp{ports}, not {:?}",
                            nic.port.switch(),
                            nic.port.port()
                        ),
                    );
                }
                if let Some(other) = cabled.insert(&nic.port, field.clone()) {
                    return bad(
                        format!("{field}.port"),
                        format!("{} is already cabled to {other}", nic.port),
                    );
                }
                let Some(mac) = nic.mac else { continue };
                if mac.is_group() {
                    return bad(
                        format!("{field}.mac"),
                        format!("{mac} is a group address; no NIC may have one"),
                    );
                }
                if let Some(other) = macs.insert(mac, field.clone()) {
                    return bad(
                        format!("{field}.mac"),
                        format!("{mac} already belongs to {other}"),
                    );
                }
            }
        }
        Ok(())
    }

    fn validate_networks(&self) -> Result<(), TopologyError> {
        unique("networks", self.networks.iter().map(|n| n.name.as_str()))?;
        unique("allocations", self.allocations.iter().map(|a| a.name.as_str()))?;
        let mut prefixes: Vec<(Ipv4Net, String)> = Vec::new();
        let mut vlans = BTreeSet::new();
        for (i, network) in self.networks.iter().enumerate() {
            let field = format!("networks[{i}]");
            if network.name == TENANTS || network.name.is_empty() {
                return bad(format!("{field}.name"), format!("{:?} is reserved", network.name));
            }
            if let Some(vlan) = network.vlan
                && (!VLANS.contains(&vlan) || !vlans.insert(vlan))
            {
                return bad(
                    format!("{field}.vlan"),
                    format!("{vlan} is taken or outside 2..=4094"),
                );
            }
            let Some(gateway) = network.gateway else { continue };
            if !is_host(gateway) {
                return bad(
                    format!("{field}.gateway"),
                    format!("{gateway} is not a host's address in its own prefix"),
                );
            }
            prefixes.push((gateway.trunc(), format!("{field}.gateway")));
        }
        prefixes.extend(
            self.allocations
                .iter()
                .enumerate()
                .map(|(i, a)| (a.prefix.trunc(), format!("allocations[{i}].prefix"))),
        );
        for (i, (prefix, field)) in prefixes.iter().enumerate() {
            if let Some((other, at)) = prefixes[..i].iter().find(|(p, _)| overlap(*p, *prefix)) {
                return bad(field.clone(), format!("{prefix} overlaps {other} of {at}"));
            }
        }
        Ok(())
    }

    fn validate_clusters(&self) -> Result<(), TopologyError> {
        unique("clusters", self.clusters.iter().map(|c| c.name.as_str()))?;
        let mut home: BTreeMap<&str, &str> = BTreeMap::new();
        for (i, cluster) in self.clusters.iter().enumerate() {
            for (k, vnet) in cluster.vnets.iter().enumerate() {
                if !self.networks.iter().any(|n| n.name == vnet.network) {
                    return bad(
                        format!("clusters[{i}].vnets[{k}].network"),
                        format!("no network is called {:?}", vnet.network),
                    );
                }
            }
            for (k, name) in cluster.servers.iter().enumerate() {
                let field = format!("clusters[{i}].servers[{k}]");
                let Some(server) = self.servers.iter().find(|s| s.name == *name) else {
                    return bad(field, format!("no server is called {name:?}"));
                };
                if let Some(other) = home.insert(name, &cluster.name) {
                    return bad(
                        field,
                        format!("{name:?} is already a dedicated member of {other:?}"),
                    );
                }
                let mut wanted = cluster.vnets.iter().flat_map(|v| &v.server_nics);
                if let Some(nic) = wanted.find(|nic| !server.nics.iter().any(|n| n.name == **nic)) {
                    return bad(
                        field,
                        format!("{name:?} has no NIC {nic:?}, which the cluster's V-Nets use"),
                    );
                }
            }
        }
        Ok(())
    }

    fn validate_routes(&self) -> Result<(), TopologyError> {
        for (i, route) in self.routes.iter().enumerate() {
            for (end, name) in [("from", &route.from), ("to", &route.to)] {
                if name != TENANTS && !self.networks.iter().any(|n| n.name == *name) {
                    return bad(
                        format!("routes[{i}].{end}"),
                        format!("no network is called {name:?}"),
                    );
                }
            }
            if route.from == TENANTS && route.to == TENANTS {
                return bad(
                    format!("routes[{i}]"),
                    "tenants never reach each other; name a shared network at one end",
                );
            }
        }
        Ok(())
    }
}

fn unique<'a>(field: &str, names: impl Iterator<Item = &'a str>) -> Result<(), TopologyError> {
    let mut seen = BTreeSet::new();
    for (i, name) in names.enumerate() {
        if name.is_empty() {
            return bad(format!("{field}[{i}].name"), "is empty");
        }
        if !seen.insert(name) {
            return bad(format!("{field}[{i}].name"), format!("{name:?} is used twice"));
        }
    }
    Ok(())
}

/// `swp5` -> 5.
pub(crate) fn port_number(port: &str) -> Option<u16> {
    port.strip_prefix("swp")
        .filter(|n| !n.starts_with('0'))
        .and_then(|n| n.parse().ok())
}

pub(crate) fn overlap(a: Ipv4Net, b: Ipv4Net) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}

/// Not the network's nor the broadcast address (which /31 and /32 do not have: RFC 3021).
pub(crate) fn is_host(net: Ipv4Net) -> bool {
    net.prefix_len() >= 31 || (net.addr() != net.network() && net.addr() != net.broadcast())
}
