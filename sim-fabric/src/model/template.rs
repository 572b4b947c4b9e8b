//! Server cluster templates: which V-Nets a cluster gets and which NICs of its members they take. The same
//! shape in the topology file and in the management API.

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::topology::{VLANS, is_host};

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Template {
    pub name: String,
    pub vnets: Vec<TemplateVnet>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TemplateVnet {
    /// The V-Net is called CLUSTER-POSTFIX.
    pub postfix: String,
    #[serde(rename = "type", default = "l2vpn")]
    pub kind: String,
    #[serde(default = "untagged")]
    pub vlan: String,
    /// `auto`, `specify` (the cluster brings it) or a number.
    #[serde(rename = "vlanID", default = "auto")]
    pub vlan_id: Value,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_family: Option<String>,
    #[serde(default)]
    pub server_nics: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv4_gateway: Option<Ipv4Gateway>,
    #[serde(default)]
    pub ipv4_dhcp_enabled: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Ipv4Gateway {
    Auto(AutoGateway),
    /// A CIDR, or the word `specify`.
    Text(String),
}

/// Carve a child prefix out of an allocation and take its `hostnum`-th address.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AutoGateway {
    pub assign_type: String,
    /// The allocation: its prefix, its name, or an object with `id`, `name` or `prefix`.
    pub allocation: Value,
    pub child_subnet_prefix_length: u8,
    #[serde(default = "first_host")]
    pub hostnum: u32,
}

fn l2vpn() -> String {
    "l2vpn".to_owned()
}
fn untagged() -> String {
    "untagged".to_owned()
}
fn auto() -> Value {
    Value::from("auto")
}
fn first_host() -> u32 {
    1
}

/// What is wrong with which field of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TemplateProblem {
    pub(crate) field: String,
    pub(crate) problem: String,
}

/// The VLAN id that a template field asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WantVlan {
    Auto,
    Specify,
    Is(u16),
}

impl TemplateVnet {
    pub(crate) fn want_vlan(&self) -> Option<WantVlan> {
        match &self.vlan_id {
            Value::String(s) if s == "auto" || s.is_empty() => Some(WantVlan::Auto),
            Value::Null => Some(WantVlan::Auto),
            Value::String(s) if s == "specify" => Some(WantVlan::Specify),
            value => vlan_number(value).map(WantVlan::Is),
        }
    }
}

/// A VLAN id as a number or, since clients of this API are weakly typed, as text.
pub(crate) fn vlan_number(value: &Value) -> Option<u16> {
    let number = match value {
        Value::Number(n) => n.as_u64().and_then(|n| u16::try_from(n).ok()),
        Value::String(s) => s.parse().ok(),
        _ => None,
    };
    number.filter(|n| VLANS.contains(n))
}

pub(crate) fn check(template: &Template) -> Result<(), TemplateProblem> {
    let fail = |field: String, problem: String| Err(TemplateProblem { field, problem });
    if template.name.trim().is_empty() {
        return fail("name".into(), "is empty".into());
    }
    if template.vnets.is_empty() {
        return fail(
            "vnets".into(),
            "is empty; a template makes at least one V-Net".into(),
        );
    }
    for (i, vnet) in template.vnets.iter().enumerate() {
        let at = |field: &str| format!("vnets[{i}].{field}");
        if vnet.postfix.trim().is_empty() || template.vnets[..i].iter().any(|v| v.postfix == vnet.postfix) {
            return fail(
                at("postfix"),
                format!("{:?} is empty or used twice", vnet.postfix),
            );
        }
        match vnet.kind.as_str() {
            "l2vpn" => {}
            "l3vpn" => {
                return fail(
                    at("type"),
                    "l3vpn needs pre-built /31 links, which this fabric has none of; use l2vpn".into(),
                );
            }
            "netris-ufm" | "netris-nvlink" => {
                return fail(
                    at("type"),
                    format!("{:?}: this fabric has Ethernet only; use l2vpn", vnet.kind),
                );
            }
            other => {
                return fail(
                    at("type"),
                    format!("{other:?} is none of l2vpn, l3vpn, netris-ufm, netris-nvlink"),
                );
            }
        }
        if vnet.want_vlan().is_none() {
            return fail(
                at("vlanID"),
                format!("{} is neither auto, specify nor 2..=4094", vnet.vlan_id),
            );
        }
        if vnet.server_nics.is_empty() {
            return fail(
                at("serverNics"),
                "is empty; name the NICs that join this V-Net".into(),
            );
        }
        check_gateway(vnet.ipv4_gateway.as_ref()).or_else(|problem| fail(at("ipv4Gateway"), problem))?;
    }
    Ok(())
}

fn check_gateway(gateway: Option<&Ipv4Gateway>) -> Result<(), String> {
    match gateway {
        None => Ok(()),
        Some(Ipv4Gateway::Text(text)) if text == "specify" => Ok(()),
        Some(Ipv4Gateway::Text(text)) => match text.parse::<Ipv4Net>() {
            Ok(net) if is_host(net) => Ok(()),
            _ => Err(format!(
                "{text:?} is neither `specify` nor a gateway such as 10.0.0.1/24"
            )),
        },
        Some(Ipv4Gateway::Auto(auto)) if auto.assign_type != "auto" => {
            Err(format!("assignType {:?} is not auto", auto.assign_type))
        }
        Some(Ipv4Gateway::Auto(auto)) if !(1..=30).contains(&auto.child_subnet_prefix_length) => {
            Err(format!(
                "childSubnetPrefixLength {} is not in 1..=30",
                auto.child_subnet_prefix_length
            ))
        }
        Some(Ipv4Gateway::Auto(auto)) => {
            let hosts = (1u64 << (32 - auto.child_subnet_prefix_length)) - 2;
            if auto.hostnum == 0 || u64::from(auto.hostnum) > hosts {
                return Err(format!("hostnum {} is not in 1..={hosts}", auto.hostnum));
            }
            Ok(())
        }
    }
}
