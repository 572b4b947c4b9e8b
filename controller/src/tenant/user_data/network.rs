//! network_data.json in OpenStack's form (ironic `api/controllers/v1/network-data-schema.json`).

use super::UserDataError;
use ipnet::Ipv4Net;
use serde_json::{Map, Value, json};
use std::net::Ipv4Addr;

/// A static address on one NIC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkFacts {
    /// Of the NIC that gets the address.
    pub mac: String,
    pub address: Ipv4Net,
    pub gateway: Option<Ipv4Addr>,
    pub dns: Vec<Ipv4Addr>,
}

/// Network data for a machine that was given an address.
pub fn network_data(facts: &NetworkFacts) -> String {
    let routes: Vec<_> = facts
        .gateway
        .iter()
        .map(|gateway| json!({ "network": "0.0.0.0", "netmask": "0.0.0.0", "gateway": gateway.to_string() }))
        .collect();
    let services: Vec<_> = facts
        .dns
        .iter()
        .map(|address| json!({ "type": "dns", "address": address.to_string() }))
        .collect();
    json!({
        "links": [{ "id": "nic0", "type": "phy", "ethernet_mac_address": facts.mac.to_ascii_lowercase(), "mtu": 1500 }],
        "networks": [{
            "id": "network0", "type": "ipv4", "link": "nic0",
            "ip_address": facts.address.addr().to_string(), "netmask": facts.address.netmask().to_string(),
            "routes": routes,
        }],
        "services": services,
    })
    .to_string()
}

/// Reads somebody's own network data (YAML or JSON), checks it, and gives it back as JSON.
pub fn check_network_data(from: &str, text: &str) -> Result<String, UserDataError> {
    let value: Value = steelyard_api::yaml::read(text).map_err(|why| UserDataError::Yaml {
        from: from.to_owned(),
        why: why.to_string(),
    })?;
    let check = Check { from };
    let root = check.object("", &value)?;
    let links = check.items(root, "links")?;
    let networks = check.items(root, "networks")?;
    let services = check.items(root, "services")?;
    let mut ids = Vec::new();
    for (path, link) in &links {
        ids.push(check.link(path, link)?);
    }
    for (path, network) in &networks {
        check.network(path, network, &ids)?;
    }
    for (path, service) in &services {
        check.one_of(path, service, "type", &["dns"])?;
        check.text(path, service, "address")?;
    }
    Ok(value.to_string())
}

struct Check<'a> {
    from: &'a str,
}

type Object = Map<String, Value>;

impl Check<'_> {
    fn fail<T>(&self, path: &str, why: impl Into<String>) -> Result<T, UserDataError> {
        let path = if path.is_empty() {
            "it".to_owned()
        } else {
            path.to_owned()
        };
        Err(UserDataError::NetworkData {
            from: self.from.to_owned(),
            path,
            why: why.into(),
        })
    }

    fn object<'v>(&self, path: &str, value: &'v Value) -> Result<&'v Object, UserDataError> {
        value
            .as_object()
            .map_or_else(|| self.fail(path, "must be an object"), Ok)
    }

    fn items<'v>(&self, root: &'v Object, key: &str) -> Result<Vec<(String, &'v Object)>, UserDataError> {
        let Some(list) = root.get(key).and_then(Value::as_array) else {
            return self.fail(key, "is required and must be a list");
        };
        let item = |(n, value)| {
            let path = format!("{key}[{n}]");
            self.object(&path, value).map(|object| (path, object))
        };
        list.iter().enumerate().map(item).collect()
    }

    fn text<'v>(&self, path: &str, object: &'v Object, key: &str) -> Result<&'v str, UserDataError> {
        match object
            .get(key)
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
        {
            Some(text) => Ok(text),
            None => self.fail(&format!("{path}.{key}"), "is required and must be a text"),
        }
    }

    fn one_of<'v>(
        &self,
        path: &str,
        object: &'v Object,
        key: &str,
        words: &[&str],
    ) -> Result<&'v str, UserDataError> {
        let text = self.text(path, object, key)?;
        if words.contains(&text) {
            return Ok(text);
        }
        self.fail(
            &format!("{path}.{key}"),
            format!("is {text:?}, must be one of {}", words.join(", ")),
        )
    }

    fn mac(&self, path: &str, object: &Object, key: &str) -> Result<(), UserDataError> {
        let text = self.text(path, object, key)?;
        match text.parse::<crate::boot::Mac>() {
            Ok(_) => Ok(()),
            Err(error) => self.fail(&format!("{path}.{key}"), format!("is no MAC address: {error}")),
        }
    }

    /// Checks a link; returns its id.
    fn link<'v>(&self, path: &str, link: &'v Object) -> Result<&'v str, UserDataError> {
        const PHYSICAL: [&str; 9] = [
            "phy",
            "vif",
            "bridge",
            "ovs",
            "tap",
            "dvs",
            "hw_veb",
            "hyperv",
            "vhostuser",
        ];
        const BOND_MODES: [&str; 7] = [
            "802.3ad",
            "balance-rr",
            "active-backup",
            "balance-xor",
            "broadcast",
            "balance-tlb",
            "balance-alb",
        ];
        let kinds: Vec<_> = PHYSICAL.into_iter().chain(["bond", "vlan"]).collect();
        match self.one_of(path, link, "type", &kinds)? {
            "vlan" => {
                self.mac(path, link, "vlan_mac_address")?;
                self.text(path, link, "vlan_link")?;
                let id = link.get("vlan_id").and_then(Value::as_u64);
                if !id.is_some_and(|id| (1..=4094).contains(&id)) {
                    return self.fail(&format!("{path}.vlan_id"), "must be a number from 1 to 4094");
                }
            }
            kind => {
                self.mac(path, link, "ethernet_mac_address")?;
                if kind == "bond" {
                    self.one_of(path, link, "bond_mode", &BOND_MODES)?;
                    if !link.get("bond_links").is_some_and(Value::is_array) {
                        return self.fail(&format!("{path}.bond_links"), "is required and must be a list");
                    }
                }
            }
        }
        if link
            .get("mtu")
            .is_some_and(|mtu| !mtu.is_null() && mtu.as_u64().is_none())
        {
            return self.fail(&format!("{path}.mtu"), "must be a number");
        }
        self.text(path, link, "id")
    }

    fn network(&self, path: &str, network: &Object, links: &[&str]) -> Result<(), UserDataError> {
        self.text(path, network, "id")?;
        let link = self.text(path, network, "link")?;
        if !links.contains(&link) {
            return self.fail(
                &format!("{path}.link"),
                format!("names {link:?}, which is not the id of a link"),
            );
        }
        let kinds = ["ipv4", "ipv4_dhcp", "ipv6", "ipv6_dhcp", "ipv6_slaac"];
        let kind = self.one_of(path, network, "type", &kinds)?;
        if kind == "ipv4" || kind == "ipv6" {
            let text = self.text(path, network, "ip_address")?;
            let bare = text.split_once('/').map_or(text, |(ip, _)| ip);
            let parsed: Result<std::net::IpAddr, _> = bare.parse();
            if !parsed.is_ok_and(|ip| ip.is_ipv4() == (kind == "ipv4")) {
                return self.fail(
                    &format!("{path}.ip_address"),
                    format!("is {text:?}, which is no {kind} address"),
                );
            }
            self.text(path, network, "netmask")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_we_write_passes_our_own_check() {
        let facts = NetworkFacts {
            mac: "52:54:00:AA:00:01".into(),
            address: "10.100.0.5/24".parse().unwrap(),
            gateway: Some([10, 100, 0, 1].into()),
            dns: vec![[10, 100, 0, 1].into()],
        };
        let text = network_data(&facts);
        assert_eq!(check_network_data("test", &text).unwrap(), text);
        insta::assert_json_snapshot!(serde_json::from_str::<Value>(&text).unwrap());
    }

    #[test]
    fn own_data_in_yaml() {
        let text = "links:\n- {id: a, type: phy, ethernet_mac_address: '52:54:00:00:00:01', mtu: 9000}\n\
                    - {id: v, type: vlan, vlan_mac_address: '52:54:00:00:00:01', vlan_id: 5, vlan_link: a}\n\
                    networks:\n- {id: net, type: ipv4_dhcp, link: v}\nservices: []\n";
        assert!(
            check_network_data("property", text)
                .unwrap()
                .starts_with("{\"links\"")
        );
    }

    #[test]
    fn errors_name_the_place() {
        let link = "links: [{id: a, type: phy, ethernet_mac_address: '52:54:00:00:00:01'}]\nservices: []\n";
        for (text, want) in [
            ("[]".to_owned(), "it must be an object"),
            ("links: []\nnetworks: []\n".into(), "services is required"),
            (
                "links: [{id: a, type: wifi}]\nnetworks: []\nservices: []\n".into(),
                "links[0].type is \"wifi\"",
            ),
            (
                "links: [{id: a, type: phy}]\nnetworks: []\nservices: []\n".into(),
                "links[0].ethernet_mac_address",
            ),
            (
                format!("{link}networks: [{{id: net, type: ipv4, link: b}}]"),
                "networks[0].link names \"b\"",
            ),
            (
                format!(
                    "{link}networks: [{{id: net, type: ipv4, link: a, ip_address: 'fe80::1', netmask: x}}]"
                ),
                "no ipv4 address",
            ),
            (
                format!("{link}networks: [{{id: net, type: ipv4, link: a, ip_address: 10.0.0.1}}]"),
                "networks[0].netmask",
            ),
        ] {
            let error = check_network_data("property network-data", &text)
                .unwrap_err()
                .to_string();
            assert!(
                error.starts_with("property network-data: ") && error.contains(want),
                "{error}"
            );
        }
    }
}
