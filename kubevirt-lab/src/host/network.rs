//! `network_data.json` of a config drive (OpenStack's schema) to what each NIC is to be configured with.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::Deserialize;

use crate::net::{Address, Mac, Route};

#[derive(Debug, Deserialize)]
struct Data {
    #[serde(default)]
    links: Vec<Link>,
    #[serde(default)]
    networks: Vec<Network>,
    #[serde(default)]
    services: Vec<Service>,
}

#[derive(Debug, Deserialize)]
struct Link {
    id: String,
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    ethernet_mac_address: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Network {
    #[serde(default)]
    id: String,
    #[serde(rename = "type")]
    kind: String,
    link: String,
    #[serde(default)]
    ip_address: Option<String>,
    #[serde(default)]
    netmask: Option<String>,
    #[serde(default)]
    gateway: Option<Ipv4Addr>,
    #[serde(default)]
    routes: Vec<RouteEntry>,
    #[serde(default)]
    services: Vec<Service>,
    #[serde(default)]
    dns_nameservers: Vec<Ipv4Addr>,
}

#[derive(Debug, Deserialize)]
struct RouteEntry {
    network: String,
    #[serde(default)]
    netmask: Option<String>,
    gateway: Ipv4Addr,
}

#[derive(Debug, Deserialize)]
struct Service {
    #[serde(rename = "type")]
    kind: String,
    address: String,
}

/// What one NIC gets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Interface {
    pub nic: usize,
    pub dhcp: bool,
    pub addresses: Vec<Address>,
    pub routes: Vec<Route>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    pub interfaces: Vec<Interface>,
    pub dns: Vec<Ipv4Addr>,
    /// What was not understood or does not fit this machine; each goes to the console.
    pub warnings: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
#[error("network_data.json: {0}")]
pub(crate) struct NetworkDataError(String);

/// Reads the file for a machine with these NICs.
pub(crate) fn plan(json: &[u8], nics: &[Mac]) -> Result<Plan, NetworkDataError> {
    let data: Data = serde_json::from_slice(json).map_err(|error| NetworkDataError(error.to_string()))?;
    let mut plan = Plan {
        dns: dns(&data.services),
        ..Plan::default()
    };
    for network in &data.networks {
        let name = if network.id.is_empty() {
            &network.link
        } else {
            &network.id
        };
        match nic_of(&data.links, network, nics) {
            Ok(nic) => {
                if let Err(reason) = add(&mut plan, nic, network) {
                    plan.warnings.push(format!("network {name}: {reason}"));
                }
            }
            Err(reason) => plan.warnings.push(format!("network {name}: {reason}")),
        }
    }
    plan.dns.dedup();
    Ok(plan)
}

fn nic_of(links: &[Link], network: &Network, nics: &[Mac]) -> Result<usize, String> {
    let link = links
        .iter()
        .find(|link| link.id == network.link)
        .ok_or_else(|| format!("no link {:?}", network.link))?;
    // OpenStack's virtual kinds are plain NICs to the guest.
    if ![
        "phy",
        "",
        "vif",
        "ovs",
        "bridge",
        "tap",
        "hw_veb",
        "hyperv",
        "vhostuser",
        "dvs",
    ]
    .contains(&&*link.kind)
    {
        return Err(format!(
            "links of type {:?} are not supported by this OS",
            link.kind
        ));
    }
    let text = link
        .ethernet_mac_address
        .as_deref()
        .ok_or_else(|| format!("link {:?} has no MAC", link.id))?;
    let mac: Mac = text
        .parse()
        .map_err(|error| format!("link {:?}: {error}", link.id))?;
    nics.iter().position(|nic| *nic == mac).ok_or_else(|| {
        format!(
            "link {:?} has MAC {mac}, which no NIC of this machine has",
            link.id
        )
    })
}

fn add(plan: &mut Plan, nic: usize, network: &Network) -> Result<(), String> {
    let mut fresh = Interface {
        nic,
        ..Interface::default()
    };
    match network.kind.as_str() {
        "ipv4_dhcp" => fresh.dhcp = true,
        "ipv4" => {
            let text = network.ip_address.as_deref().ok_or("no ip_address")?;
            let (ip, prefix) = text
                .split_once('/')
                .map_or((text, None), |(ip, prefix)| (ip, Some(prefix)));
            let ip: Ipv4Addr = ip
                .parse()
                .map_err(|_| format!("ip_address {text:?} is not an IPv4 address"))?;
            let prefix = match (prefix, network.netmask.as_deref()) {
                (Some(prefix), _) | (None, Some(prefix)) => prefix_of(prefix)?,
                (None, None) => return Err("neither netmask nor prefix".to_owned()),
            };
            fresh.addresses.push(Address { ip, prefix });
        }
        other => return Err(format!("networks of type {other:?} are not supported by this OS")),
    }
    for route in &network.routes {
        let prefix = match (route.network.split_once('/'), route.netmask.as_deref()) {
            (Some((_, prefix)), _) | (None, Some(prefix)) => prefix_of(prefix)?,
            (None, None) => return Err(format!("route to {:?} has no netmask", route.network)),
        };
        let network = route.network.split('/').next().unwrap_or_default();
        let ip: Ipv4Addr = network
            .parse()
            .map_err(|_| format!("route to {network:?} is not IPv4"))?;
        fresh.routes.push(Route {
            to: Ipv4Net::new_assert(ip, prefix).trunc(),
            via: route.gateway,
        });
    }
    if let Some(via) = network.gateway {
        fresh.routes.push(Route {
            to: Ipv4Net::default(),
            via,
        });
    }
    plan.dns.extend(dns(&network.services));
    plan.dns.extend(&network.dns_nameservers);
    match plan.interfaces.iter_mut().find(|interface| interface.nic == nic) {
        Some(known) => {
            known.dhcp |= fresh.dhcp;
            known.addresses.extend(fresh.addresses);
            known.routes.extend(fresh.routes);
        }
        None => plan.interfaces.push(fresh),
    }
    Ok(())
}

fn prefix_of(text: &str) -> Result<u8, String> {
    let bad = || format!("netmask {text:?} is neither a mask nor a prefix length");
    match text.parse::<u8>() {
        Ok(prefix) if prefix <= 32 => Ok(prefix),
        Ok(_) => Err(bad()),
        Err(_) => {
            let mask: Ipv4Addr = text.parse().map_err(|_| bad())?;
            ipnet::ipv4_mask_to_prefix(mask).map_err(|_| bad())
        }
    }
}

fn dns(services: &[Service]) -> Vec<Ipv4Addr> {
    services
        .iter()
        .filter(|service| service.kind == "dns")
        .filter_map(|service| service.address.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NICS: [Mac; 2] = [Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2])];

    #[test]
    fn a_static_address_with_routes_and_name_servers() {
        let json = br#"{
            "links": [{"id": "eth0", "type": "phy", "ethernet_mac_address": "02:00:00:00:00:02", "mtu": 1500}],
            "networks": [{"id": "n0", "type": "ipv4", "link": "eth0", "ip_address": "10.100.0.5",
                "netmask": "255.255.255.0",
                "routes": [{"network": "0.0.0.0", "netmask": "0.0.0.0", "gateway": "10.100.0.1"},
                           {"network": "10.9.0.0/16", "gateway": "10.100.0.2"}]}],
            "services": [{"type": "dns", "address": "10.0.0.53"}, {"type": "ntp", "address": "10.0.0.1"}]}"#;
        let plan = plan(json, &NICS).unwrap();
        assert_eq!(plan.warnings, Vec::<String>::new());
        assert_eq!(plan.dns, [Ipv4Addr::new(10, 0, 0, 53)]);
        let [interface] = &plan.interfaces[..] else {
            panic!("{plan:?}")
        };
        assert_eq!((interface.nic, interface.dhcp), (1, false));
        assert_eq!(
            interface.addresses,
            [Address {
                ip: [10, 100, 0, 5].into(),
                prefix: 24
            }]
        );
        let routes: Vec<String> = interface
            .routes
            .iter()
            .map(|r| format!("{} {}", r.to, r.via))
            .collect();
        assert_eq!(routes, ["0.0.0.0/0 10.100.0.1", "10.9.0.0/16 10.100.0.2"]);
    }

    #[test]
    fn what_does_not_fit_is_named_and_the_rest_holds() {
        let json = br#"{
            "links": [{"id": "a", "type": "phy", "ethernet_mac_address": "02:00:00:00:00:01"},
                      {"id": "b", "type": "phy", "ethernet_mac_address": "02:00:00:00:00:99"},
                      {"id": "c", "type": "bond", "ethernet_mac_address": "02:00:00:00:00:01"}],
            "networks": [{"id": "n0", "type": "ipv4_dhcp", "link": "a"},
                         {"id": "n1", "type": "ipv4", "link": "b", "ip_address": "10.0.0.1/24"},
                         {"id": "n2", "type": "ipv4", "link": "c", "ip_address": "10.0.0.1/24"},
                         {"id": "n3", "type": "ipv6", "link": "a"},
                         {"id": "n4", "type": "ipv4", "link": "a", "ip_address": "10.0.0.1", "netmask": "255.0.255.0"},
                         {"id": "n5", "type": "ipv4", "link": "z", "ip_address": "10.0.0.1/24"}]}"#;
        let plan = plan(json, &NICS).unwrap();
        assert_eq!(
            plan.interfaces,
            [Interface {
                nic: 0,
                dhcp: true,
                ..Interface::default()
            }]
        );
        let expected = [
            "network n1: link \"b\" has MAC 02:00:00:00:00:99, which no NIC of this machine has",
            "network n2: links of type \"bond\" are not supported by this OS",
            "network n3: networks of type \"ipv6\" are not supported by this OS",
            "network n4: netmask \"255.0.255.0\" is neither a mask nor a prefix length",
            "network n5: no link \"z\"",
        ];
        assert_eq!(plan.warnings, expected);
    }
}
