//! What can be seen of a lab without asking its controller: power, networks and disks of the servers themselves, and
//! the tenants' API servers. For tests and for the conformance suite's taps.

use super::{Lab, RackedServer, fabric};
use sim_bmc::Power;
use std::collections::BTreeSet;

impl Lab {
    fn server(&self, name: &str) -> Option<(usize, &RackedServer)> {
        self.rack
            .servers
            .iter()
            .enumerate()
            .find(|(_, s)| s.planned.name == name)
    }

    /// Whether a server draws power: on, or on its way up or down.
    pub fn is_powered(&self, server: &str) -> Option<bool> {
        let (_, server) = self.server(server)?;
        Some(server.host.status().borrow().state.power != Power::Off)
    }

    /// The networks that the switch ports of a server's NICs are in now.
    pub fn networks_of(&self, server: &str) -> Option<Vec<String>> {
        let (index, server) = self.server(server)?;
        let nics = 0..server.planned.identity.macs.len();
        let ports: Vec<_> = nics
            .map(|nic| fabric::cable(&self.config.plan, index, nic))
            .collect();
        let snapshot = self.fabric.snapshot();
        let of_ports = snapshot
            .ports
            .into_iter()
            .filter(|p| ports.contains(&p.name))
            .flat_map(|p| p.networks);
        Some(of_ports.collect::<BTreeSet<_>>().into_iter().collect())
    }

    /// Whether a raw block of any disk of a server holds these bytes.
    pub fn disks_hold(&self, server: &str, needle: &[u8]) -> Option<bool> {
        let (_, server) = self.server(server)?;
        Some(server.host.disks().iter().any(|disk| disk.find(needle).is_some()))
    }

    /// A client that may do everything in the cluster of a tenant (`NAMESPACE/NAME`) while it runs.
    pub fn tenant(&self, tenant: &str) -> Option<kube::Client> {
        let server = self.tenants.get(tenant)?;
        Some(kube::Client::new(
            server.as_user("kubernetes-admin", &["system:masters"]),
            "default",
        ))
    }
}
