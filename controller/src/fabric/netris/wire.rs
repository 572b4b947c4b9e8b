//! The few fields of Netris' objects that we read. Unknown fields are ignored, as its own clients do.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Cluster {
    pub id: i64,
    pub name: String,
    #[serde(default)]
    pub admin: Option<Value>,
    #[serde(default)]
    pub site: Option<Value>,
    #[serde(default, deserialize_with = "list")]
    pub tags: Vec<String>,
    #[serde(default, deserialize_with = "list")]
    pub servers: Vec<Member>,
    #[serde(default, deserialize_with = "list")]
    pub resources: Resources,
}

/// A server of a cluster. What we don't know of it is written back as it was read.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Member {
    pub name: String,
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

impl Member {
    pub(super) fn new(id: i64, name: &str) -> Self {
        let rest = Map::from_iter([("id".to_owned(), id.into()), ("shared".to_owned(), false.into())]);
        Member {
            name: name.to_owned(),
            rest,
        }
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Resources {
    #[serde(default, deserialize_with = "list")]
    pub vnets: Vec<ClusterVnet>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ClusterVnet {
    pub id: i64,
    #[serde(default, deserialize_with = "list")]
    pub ipv4_gateways: Vec<Gateway>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Gateway {
    pub prefix: String,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Template {
    pub id: i64,
    pub name: String,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Vnet {
    pub id: i64,
    pub name: String,
    #[serde(default, deserialize_with = "list")]
    pub ports: Vec<VnetPort>,
}

/// A port as a member of a V-Net.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct VnetPort {
    pub name: String,
    #[serde(default)]
    pub state: Value,
    #[serde(default)]
    pub status: Value,
    #[serde(default)]
    pub info: Value,
}

impl VnetPort {
    /// The switches do not carry what the management says yet.
    pub(super) fn is_pending(&self) -> bool {
        [label(&self.state), label(&self.status)].iter().any(|l| {
            l.is_some_and(|l| {
                ["pending", "provisioning", "removing", "deleting"].contains(&l.to_ascii_lowercase().as_str())
            })
        })
    }

    /// The switches carry the V-Net on this port now.
    pub(super) fn is_carried(&self) -> bool {
        !self.is_pending()
    }

    /// What the fabric says is wrong with the port, if anything.
    pub(super) fn trouble(&self) -> Option<&str> {
        label(&self.info).filter(|i| !i.is_empty())
    }
}

/// An empty list may be told as `null`.
fn list<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// Text, or the label of a `{label, value}` pair.
fn label(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value["label"].as_str())
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Hardware {
    pub id: i64,
    pub name: String,
    #[serde(default, rename = "type")]
    pub kind: Value,
    #[serde(default, deserialize_with = "list")]
    pub links: Vec<Link>,
}

impl Hardware {
    pub(super) fn is_server(&self) -> bool {
        label(&self.kind) == Some("server")
    }
}

/// A cable: `local` and `remote` are port names such as `eth0@bare-metal-1` and `swp5@leaf-1`.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Link {
    #[serde(deserialize_with = "port_name")]
    pub remote: String,
}

fn port_name<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let value = Value::deserialize(from)?;
    value
        .as_str()
        .or_else(|| value["name"].as_str())
        .map(str::to_owned)
        .ok_or_else(|| serde::de::Error::custom("a port is a name or has one"))
}

/// A port as the inventory lists it: a switch's, or a server's with its MAC.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Port {
    pub name: String,
    #[serde(default)]
    pub mac_address: Option<String>,
    /// Addresses whose frames the port dropped, or carried where they should not be.
    #[serde(default, deserialize_with = "list")]
    pub macs: Vec<Stray>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Stray {
    pub address: String,
    #[serde(default)]
    pub vnet: Option<String>,
    #[serde(default)]
    pub last_frame: Option<String>,
}

/// What is wrong with servers' cables, by server: a MAC of theirs that shows up where it should not be.
pub(super) fn strays(ports: &[Port]) -> BTreeMap<String, String> {
    // `eth0@bare-metal-1` with its MAC: whose a stray MAC is.
    let owners: BTreeMap<String, &str> = ports
        .iter()
        .filter_map(|p| {
            Some((
                p.mac_address.as_ref()?.to_ascii_lowercase(),
                p.name.rsplit('@').next()?,
            ))
        })
        .collect();
    let mut out = BTreeMap::new();
    for port in ports {
        for stray in &port.macs {
            let mac = stray.address.to_ascii_lowercase();
            let Some(server) = owners.get(&mac) else { continue };
            let network = stray
                .vnet
                .as_ref()
                .map_or("in no network".to_owned(), |v| format!("in network {v}"));
            let frame = stray
                .last_frame
                .as_ref()
                .map_or(String::new(), |f| format!(" (last frame: {f})"));
            let text = format!("{mac} is seen at port {}, which is {network}{frame}", port.name);
            out.entry((*server).to_owned()).or_insert(text);
        }
    }
    out
}
