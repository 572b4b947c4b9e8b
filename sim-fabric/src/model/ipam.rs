//! Address management: allocations, subnets in them, hosts in those. Prefixes of subnets never overlap, which
//! is what lets one router serve all networks.

use std::{collections::BTreeMap, net::Ipv4Addr};

use ipnet::Ipv4Net;

use super::{Refusal, conflict, invalid};
use crate::topology::overlap;

#[derive(Debug, Clone)]
pub(crate) struct Allocation {
    pub(crate) id: u32,
    pub(crate) name: String,
    pub(crate) prefix: Ipv4Net,
}

#[derive(Debug, Clone)]
pub(crate) struct Subnet {
    pub(crate) id: u32,
    pub(crate) name: String,
    pub(crate) prefix: Ipv4Net,
    pub(crate) allocation: u32,
    pub(crate) purpose: String,
    pub(crate) gateway: Option<Ipv4Addr>,
    /// The V-Net that made it; such a subnet goes with it.
    pub(crate) vnet: Option<u32>,
}

#[derive(Debug, Clone)]
pub(crate) struct Host {
    pub(crate) id: u32,
    pub(crate) address: Ipv4Addr,
    pub(crate) subnet: u32,
    pub(crate) name: String,
}

#[derive(Debug, Default)]
pub(crate) struct Ipam {
    pub(crate) allocations: BTreeMap<u32, Allocation>,
    /// By first address, since they do not overlap.
    by_start: BTreeMap<Ipv4Addr, u32>,
    pub(crate) subnets: BTreeMap<u32, Subnet>,
    pub(crate) hosts: BTreeMap<Ipv4Addr, Host>,
    last: u32,
}

/// Reserved hosts in all (one per server and V-Net of a large site).
const HOSTS_MAX: usize = 65_536;

impl Ipam {
    fn next(&mut self) -> u32 {
        self.last += 1;
        self.last
    }

    pub(crate) fn add_allocation(&mut self, name: &str, prefix: Ipv4Net) -> Result<u32, Refusal> {
        if name.trim().is_empty() {
            return invalid("name: is empty");
        }
        if prefix != prefix.trunc() {
            return invalid(format!(
                "prefix: {prefix} has host bits; write {}",
                prefix.trunc()
            ));
        }
        if let Some(other) = self
            .allocations
            .values()
            .find(|a| a.name == name || overlap(a.prefix, prefix))
        {
            return conflict(format!(
                "prefix: {name} {prefix} collides with allocation {} {}",
                other.name, other.prefix
            ));
        }
        let id = self.next();
        self.allocations.insert(
            id,
            Allocation {
                id,
                name: name.to_owned(),
                prefix,
            },
        );
        Ok(id)
    }

    /// The allocation that covers `prefix`, if the subnet could be added.
    pub(crate) fn check_subnet(&self, prefix: Ipv4Net) -> Result<u32, Refusal> {
        if prefix != prefix.trunc() {
            return invalid(format!(
                "prefix: {prefix} has host bits; write {}",
                prefix.trunc()
            ));
        }
        if let Some(other) = self.overlapping(prefix) {
            return conflict(format!(
                "prefix: {prefix} overlaps subnet {} {}",
                other.name, other.prefix
            ));
        }
        match self.allocations.values().find(|a| a.prefix.contains(&prefix)) {
            Some(allocation) => Ok(allocation.id),
            None => invalid(format!("prefix: {prefix} is in no allocation; add one first")),
        }
    }

    fn overlapping(&self, prefix: Ipv4Net) -> Option<&Subnet> {
        let last_at_or_below = self.by_start.range(..=prefix.broadcast()).next_back();
        last_at_or_below
            .and_then(|(_, id)| self.subnets.get(id))
            .filter(|subnet| overlap(subnet.prefix, prefix))
    }

    pub(crate) fn add_subnet(
        &mut self,
        name: &str,
        prefix: Ipv4Net,
        purpose: &str,
        gateway: Option<Ipv4Addr>,
        vnet: Option<u32>,
    ) -> Result<u32, Refusal> {
        if name.trim().is_empty() {
            return invalid("name: is empty");
        }
        let allocation = self.check_subnet(prefix)?;
        let id = self.next();
        let purpose = purpose.to_owned();
        self.by_start.insert(prefix.network(), id);
        self.subnets.insert(
            id,
            Subnet {
                id,
                name: name.to_owned(),
                prefix,
                allocation,
                purpose,
                gateway,
                vnet,
            },
        );
        Ok(id)
    }

    /// The first free child of that length; `also_taken` are those that the same request has found before.
    pub(crate) fn carve(
        &self,
        allocation: u32,
        length: u8,
        also_taken: &[Ipv4Net],
    ) -> Result<Ipv4Net, Refusal> {
        let Some(allocation) = self.allocations.get(&allocation) else {
            return invalid(format!("allocation: {allocation} does not exist"));
        };
        let Ok(mut children) = allocation.prefix.subnets(length) else {
            return invalid(format!(
                "childSubnetPrefixLength: /{length} is larger than {}",
                allocation.prefix
            ));
        };
        let free = |child: &Ipv4Net| {
            self.overlapping(*child).is_none() && !also_taken.iter().any(|t| overlap(*t, *child))
        };
        children.find(free).map_or_else(
            || {
                conflict(format!(
                    "allocation: {} {} has no /{length} left",
                    allocation.name, allocation.prefix
                ))
            },
            Ok,
        )
    }

    /// The V-Net is gone.
    pub(crate) fn release(&mut self, vnet: u32) {
        let gone: Vec<u32> = self
            .subnets
            .values()
            .filter(|s| s.vnet == Some(vnet))
            .map(|s| s.id)
            .collect();
        for id in gone {
            self.drop_subnet(id);
        }
    }

    fn drop_subnet(&mut self, id: u32) {
        if let Some(subnet) = self.subnets.remove(&id) {
            self.by_start.remove(&subnet.prefix.network());
            self.hosts.retain(|_, host| host.subnet != id);
        }
    }

    pub(crate) fn delete_subnet(&mut self, id: u32) -> Result<(), Refusal> {
        match self.subnets.get(&id) {
            None => Err(Refusal::NotFound(format!("subnet {id} does not exist"))),
            Some(Subnet {
                vnet: Some(vnet),
                name,
                ..
            }) => conflict(format!("subnet {name} is in use by V-Net {vnet}")),
            Some(_) => {
                self.drop_subnet(id);
                Ok(())
            }
        }
    }

    pub(crate) fn delete_allocation(&mut self, id: u32) -> Result<(), Refusal> {
        if !self.allocations.contains_key(&id) {
            return Err(Refusal::NotFound(format!("allocation {id} does not exist")));
        }
        if let Some(subnet) = self.subnets.values().find(|s| s.allocation == id) {
            return conflict(format!("allocation {id} still has subnet {}", subnet.name));
        }
        self.allocations.remove(&id);
        Ok(())
    }

    pub(crate) fn add_host(&mut self, name: &str, address: Ipv4Addr) -> Result<u32, Refusal> {
        let below = self
            .by_start
            .range(..=address)
            .next_back()
            .and_then(|(_, id)| self.subnets.get(id));
        let Some(subnet) = below.filter(|s| s.prefix.contains(&address)) else {
            return invalid(format!("address: {address} is in no subnet"));
        };
        let reserved = address == subnet.prefix.network() || address == subnet.prefix.broadcast();
        if reserved || subnet.gateway == Some(address) {
            return conflict(format!(
                "address: {address} is the network's, the broadcast's or the gateway's"
            ));
        }
        if let Some(host) = self.hosts.get(&address) {
            return conflict(format!("address: {address} belongs to {}", host.name));
        }
        if self.hosts.len() >= HOSTS_MAX {
            return conflict(format!("this fabric keeps at most {HOSTS_MAX} hosts"));
        }
        let subnet = subnet.id;
        let id = self.next();
        self.hosts.insert(
            address,
            Host {
                id,
                address,
                subnet,
                name: name.to_owned(),
            },
        );
        Ok(id)
    }

    pub(crate) fn delete_host(&mut self, id: u32) -> Result<(), Refusal> {
        let Some(address) = self.hosts.values().find(|h| h.id == id).map(|h| h.address) else {
            return Err(Refusal::NotFound(format!("host {id} does not exist")));
        };
        self.hosts.remove(&address);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> Ipv4Net {
        text.parse().unwrap()
    }

    #[test]
    fn carving_takes_the_first_gap_and_runs_out() {
        let mut ipam = Ipam::default();
        let all = ipam.add_allocation("t", net("10.0.0.0/22")).unwrap();
        let carve = |ipam: &Ipam, len| ipam.carve(all, len, &[]).map(|n| n.to_string());
        assert_eq!(carve(&ipam, 24).unwrap(), "10.0.0.0/24");
        let mut make = |prefix: &str, vnet| {
            ipam.add_subnet(prefix, net(prefix), "common", None, vnet)
                .unwrap()
        };
        make("10.0.0.0/24", Some(1));
        make("10.0.1.128/25", Some(2));
        assert_eq!(carve(&ipam, 24).unwrap(), "10.0.2.0/24");
        assert_eq!(carve(&ipam, 25).unwrap(), "10.0.1.0/25");
        assert_eq!(
            ipam.carve(all, 24, &[net("10.0.2.0/24")]).unwrap(),
            net("10.0.3.0/24")
        );
        assert!(matches!(carve(&ipam, 22), Err(Refusal::Conflict(_))));
        assert!(matches!(carve(&ipam, 8), Err(Refusal::Invalid(_))));
        ipam.release(1);
        assert_eq!(carve(&ipam, 24).unwrap(), "10.0.0.0/24");
    }

    #[test]
    fn subnets_never_overlap() {
        let mut ipam = Ipam::default();
        ipam.add_allocation("t", net("10.0.0.0/16")).unwrap();
        ipam.add_subnet("a", net("10.0.4.0/22"), "common", None, None)
            .unwrap();
        for (prefix, ok) in [
            ("10.0.4.0/22", false),
            ("10.0.0.0/16", false),
            ("10.0.5.0/24", false),
            ("10.0.7.255/32", false),
            ("10.0.0.0/21", false),
            ("10.0.8.0/24", true),
            ("10.0.0.0/22", true),
            ("10.1.0.0/24", false),
            ("10.0.8.1/24", false),
        ] {
            assert_eq!(ipam.check_subnet(net(prefix)).is_ok(), ok, "{prefix}");
        }
    }

    #[test]
    fn a_host_address_is_given_once() {
        let mut ipam = Ipam::default();
        ipam.add_allocation("t", net("10.0.0.0/16")).unwrap();
        ipam.add_subnet(
            "a",
            net("10.0.1.0/24"),
            "common",
            Some([10, 0, 1, 1].into()),
            None,
        )
        .unwrap();
        let id = ipam.add_host("n1", [10, 0, 1, 9].into()).unwrap();
        for taken in [
            [10, 0, 1, 9],
            [10, 0, 1, 1],
            [10, 0, 1, 0],
            [10, 0, 1, 255],
            [10, 0, 2, 9],
        ] {
            assert!(ipam.add_host("n2", taken.into()).is_err(), "{taken:?}");
        }
        ipam.delete_host(id).unwrap();
        ipam.add_host("n2", [10, 0, 1, 9].into()).unwrap();
    }
}
