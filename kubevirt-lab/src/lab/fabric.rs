//! The lab's switches: who is cabled where, which networks there are.

use super::LabError;
use crate::{
    net::{Address, Mac, Stack, StackConfig, Wire},
    plan::Plan,
};
use ipnet::Ipv4Net;
use serde_json::json;
use sha2::{Digest, Sha256};
use sim_fabric::{
    Allocation, AutoGateway, Cluster, ClusterVnet, Denied, FabricHandle, Ipv4Gateway, Network, Nic, PortName,
    Route, Server, Switch, TENANTS, Template, Topology,
};
use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};
use steelyard_controller::{Clock, tasks::Tasks};

/// The server cluster that servers stand in while nobody uses them.
pub const HOME: &str = "provisioning";
pub const TENANT_TEMPLATE: &str = "tenant";
pub(super) const USER: &str = "netris";
/// Ports of a leaf: 64, as on current 800G and 400G leaves.
const LEAF_PORTS: u16 = 64;
/// The NIC of each server that networks are about; others are cabled and in none.
const NIC: &str = "eth0";

/// Addresses of the lab's own networks.
#[derive(Clone, Debug)]
pub struct Networks {
    /// Gateway and prefix.
    pub provisioning: Ipv4Net,
    pub vip: Ipv4Addr,
    pub services: Ipv4Net,
    pub join: SocketAddr,
}

/// Above so many hosts a /24 has no room.
const SMALL: usize = 200;

impl Networks {
    pub fn for_hosts(hosts: usize) -> Self {
        let net = |a, b, c, prefix| Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, 1), prefix);
        let (provisioning, vip) = if hosts <= SMALL {
            (net(192, 168, 100, 24), Ipv4Addr::new(192, 168, 100, 4))
        } else {
            (net(172, 22, 0, 16), Ipv4Addr::new(172, 22, 0, 4))
        };
        let join = SocketAddr::from((Ipv4Addr::new(192, 168, 101, 254), 443));
        Networks {
            provisioning,
            vip,
            services: net(192, 168, 101, 24),
            join,
        }
    }

    /// The controller's stacks in the provisioning and in the services network.
    pub(crate) fn controller_stacks(
        &self,
        provisioning: impl Wire + 'static,
        services: impl Wire + 'static,
        tasks: &Tasks,
    ) -> Result<(Stack, Stack), LabError> {
        let join = match self.join {
            SocketAddr::V4(v4) => *v4.ip(),
            SocketAddr::V6(_) => self.services.addr(),
        };
        let booting = infra_stack(
            provisioning,
            self.vip,
            self.provisioning.prefix_len(),
            None,
            4,
            tasks,
        )?;
        let gateway = Some(self.services.addr());
        let serving = infra_stack(services, join, self.services.prefix_len(), gateway, 254, tasks)?;
        Ok((booting, serving))
    }
}

pub(super) fn password(seed: u64) -> String {
    let digest = Sha256::digest(format!("steelyard lab {seed} fabric"));
    digest.iter().take(10).map(|b| format!("{b:02x}")).collect()
}

pub(super) fn start(
    plan: &Plan,
    networks: &Networks,
    clock: Clock,
    tasks: &Tasks,
) -> Result<FabricHandle, LabError> {
    let fabric = FabricHandle::new(topology(plan, networks), Arc::new(move || clock.now()))?;
    tasks.spawn("fabric", fabric.run());
    Ok(fabric)
}

/// The switch port that the `nic`-th NIC of the `host`-th server is cabled to.
pub(super) fn cable(plan: &Plan, host: usize, nic: usize) -> PortName {
    let before: usize = plan.hosts[..host].iter().map(|h| h.identity.macs.len()).sum();
    let port = before + nic;
    let per_leaf = usize::from(LEAF_PORTS);
    PortName::new(
        &format!("leaf-{}", port / per_leaf + 1),
        &format!("swp{}", port % per_leaf + 1),
    )
}

/// A port that no server's inventory names: where a miscabled NIC really ends.
pub(super) fn spare(plan: &Plan, host: usize) -> PortName {
    PortName::new(
        "leaf-spare",
        &format!(
            "swp{}",
            plan.hosts[..host].iter().filter(|h| h.miscabled).count() + 1
        ),
    )
}

fn topology(plan: &Plan, networks: &Networks) -> Topology {
    let total: usize = plan.hosts.iter().map(|h| h.identity.macs.len()).sum();
    let leaves = total.div_ceil(usize::from(LEAF_PORTS)).max(1);
    let mut switches: Vec<Switch> = (1..=leaves)
        .map(|n| Switch {
            name: format!("leaf-{n}"),
            ports: LEAF_PORTS,
            mgmt_address: None,
        })
        .collect();
    let miscabled = plan.hosts.iter().filter(|h| h.miscabled).count();
    if miscabled > 0 {
        let ports = u16::try_from(miscabled).unwrap_or(u16::MAX);
        switches.push(Switch {
            name: "leaf-spare".into(),
            ports,
            mgmt_address: None,
        });
    }
    let servers = plan.hosts.iter().enumerate().map(|(i, host)| Server {
        name: host.name.clone(),
        nics: host
            .identity
            .macs
            .iter()
            .enumerate()
            .map(|(n, mac)| Nic {
                name: format!("eth{n}"),
                port: cable(plan, i, n),
                mac: Some(sim_fabric::Mac(mac.0)),
            })
            .collect(),
    });
    let network = |name: &str, gateway| Network {
        name: name.into(),
        gateway: Some(gateway),
        vlan: None,
    };
    Topology {
        site: "lab".into(),
        switches,
        servers: servers.collect(),
        networks: vec![
            network("provisioning", networks.provisioning),
            network("services", networks.services),
        ],
        allocations: vec![Allocation {
            name: "tenants".into(),
            prefix: Ipv4Net::new_assert(Ipv4Addr::new(10, 100, 0, 0), 16),
        }],
        templates: vec![template()],
        clusters: vec![Cluster {
            name: HOME.into(),
            vnets: vec![ClusterVnet {
                network: "provisioning".into(),
                server_nics: vec![NIC.into()],
            }],
            servers: plan.hosts.iter().map(|h| h.name.clone()).collect(),
        }],
        routes: vec![Route {
            from: TENANTS.into(),
            to: "services".into(),
        }],
        denied: Denied::Prohibit,
    }
}

fn template() -> Template {
    let gateway = Ipv4Gateway::Auto(AutoGateway {
        assign_type: "auto".into(),
        allocation: json!("tenants"),
        child_subnet_prefix_length: 24,
        hostnum: 1,
    });
    Template {
        name: TENANT_TEMPLATE.into(),
        vnets: vec![sim_fabric::TemplateVnet {
            postfix: "net".into(),
            kind: "l2vpn".into(),
            vlan: "untagged".into(),
            vlan_id: json!("auto"),
            ip_family: None,
            server_nics: vec![NIC.into()],
            ipv4_gateway: Some(gateway),
            ipv4_dhcp_enabled: false,
        }],
    }
}

/// A stack of the lab's own infrastructure, in one of its networks.
pub(crate) fn infra_stack(
    wire: impl Wire + 'static,
    address: Ipv4Addr,
    prefix: u8,
    gateway: Option<Ipv4Addr>,
    mac: u8,
    tasks: &Tasks,
) -> Result<Stack, LabError> {
    let [_, _, third, last] = address.octets();
    let mut config = StackConfig::new(
        Mac([0x52, 0x54, 0xff, mac, third, last]),
        u64::from(u32::from(address)),
    );
    // One end talks to every host at once.
    config.tcp_window = 64 * 1024;
    let stack = Stack::new(config);
    let bad = |e: std::io::Error| LabError::Host {
        host: address.to_string(),
        why: e.to_string(),
    };
    stack
        .set_addresses(vec![Address { ip: address, prefix }])
        .map_err(bad)?;
    stack.set_default_route(gateway);
    let driven = stack.clone();
    tasks.spawn("stack", async move { driven.run(wire).await });
    Ok(stack)
}
