//! The address of a machine in the network that it will run in: never given twice, always the lowest that is free.

use super::properties::Effective;
use crate::claim::view::ClaimView;
use ipnet::Ipv4Net;
use std::{collections::BTreeMap, net::Ipv4Addr};
use steelyard_api::{
    loft::{AllocatedAddress, NodeClaim},
    metal3::BareMetalHost,
    names::{annotation, property},
};

/// Who has an address, beside the claim that is decided about.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct AddressHolder {
    /// Uid of the claim, or of the host that has it for good.
    pub uid: String,
    /// It has been written into a machine's configuration, or is about to be.
    pub installed: bool,
}

/// Every address that somebody other than `claim` has.
pub fn addresses_in_use<'a>(
    claims: impl IntoIterator<Item = &'a NodeClaim>,
    hosts: impl IntoIterator<Item = &'a BareMetalHost>,
    claim: &NodeClaim,
) -> BTreeMap<Ipv4Addr, AddressHolder> {
    let mut all: BTreeMap<Ipv4Addr, AddressHolder> = BTreeMap::new();
    let own = claim.metadata.uid.as_deref().unwrap_or_default();
    for host in hosts {
        let consumer = host
            .spec
            .consumer_ref
            .as_ref()
            .and_then(|consumer| consumer.uid.clone());
        let uid = consumer.or_else(|| host.metadata.uid.clone()).unwrap_or_default();
        let installed = host.spec.user_data.is_some() || host.spec.consumer_ref.is_none();
        if uid == own {
            continue;
        }
        if let Some(recorded) = recorded(host) {
            all.insert(
                recorded.addr(),
                AddressHolder {
                    uid: uid.clone(),
                    installed: true,
                },
            );
        }
        if let Some(network) = annotated(host) {
            all.insert(network.addr(), AddressHolder { uid, installed });
        }
    }
    for other in claims {
        let uid = other.metadata.uid.clone().unwrap_or_default();
        let address = other.status.as_ref().and_then(|status| status.address.as_ref());
        if uid != own
            && let Some(network) = address.and_then(|address| address.address.parse::<Ipv4Net>().ok())
        {
            all.entry(network.addr()).or_insert(AddressHolder {
                uid,
                installed: false,
            });
        }
    }
    all
}

/// No address can be given; the message names the property or network, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum AddressError {
    #[error("property {name} is {found:?}: expected {expected}")]
    Property {
        name: &'static str,
        found: String,
        expected: &'static str,
    },
    #[error("no address is free in {pool}: give a node back, or widen the range")]
    Full { pool: String },
}

/// The address for the claim's machine on `host`; `None`: it finds one itself.
pub(super) fn choose(
    view: &ClaimView<'_>,
    effective: &Effective,
    host: &BareMetalHost,
    network_gateway: Option<Ipv4Net>,
) -> Result<Option<AllocatedAddress>, AddressError> {
    let cidr = cidr(effective)?;
    if let Some(text) = effective.get(property::NETWORK_IP_RANGE) {
        // A range says nothing of its network: that of the CIDR or the tenant, else the usual one.
        let prefix = cidr
            .or(network_gateway)
            .map_or(24, |network| network.prefix_len());
        let gateway = gateway_of(cidr).or(network_gateway.map(|network| network.addr()));
        let free = ranges(text)?
            .into_iter()
            .flat_map(|(first, last)| first..=last)
            .map(Ipv4Addr::from);
        return lowest(view, free, prefix, gateway, &[])
            .map(Some)
            .ok_or_else(|| AddressError::Full {
                pool: text.to_owned(),
            });
    }
    if let Some(network) = cidr {
        return out_of(view, network, gateway_of(cidr)).map(Some);
    }
    let own =
        annotated(host).filter(|own| network_gateway.is_none_or(|network| network.contains(&own.addr())));
    if let Some(own) = own {
        let gateway = annotation_of(host, annotation::GATEWAY).and_then(|text| text.parse().ok());
        return Ok(Some(allocated(
            own.addr(),
            own.prefix_len(),
            gateway.or(first_of(own)),
        )));
    }
    if let Some(network) = network_gateway {
        return out_of(view, network, gateway_of(Some(network))).map(Some);
    }
    // Without a network of its own the machine stays where it was inspected, under the address it has there.
    Ok(recorded(host).map(|network| allocated(network.addr(), network.prefix_len(), first_of(network))))
}

/// `10.0.0.1/24`: the network, and in its host part the gateway.
fn cidr(effective: &Effective) -> Result<Option<Ipv4Net>, AddressError> {
    let name = property::NETWORK_CIDR;
    let Some(text) = effective.get(name) else {
        return Ok(None);
    };
    let wrong = || AddressError::Property {
        name,
        found: text.to_owned(),
        expected: "a network such as 10.0.0.1/24",
    };
    text.parse().map(Some).map_err(|_| wrong())
}

/// `A-B,C-D`, also single addresses.
fn ranges(text: &str) -> Result<Vec<(u32, u32)>, AddressError> {
    let wrong = || AddressError::Property {
        name: property::NETWORK_IP_RANGE,
        found: text.to_owned(),
        expected: "ranges such as 10.0.0.10-10.0.0.20,10.0.1.5",
    };
    text.split(',')
        .map(|part| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let parse = |text: &str| {
                text.trim()
                    .parse::<Ipv4Addr>()
                    .map(u32::from)
                    .map_err(|_| wrong())
            };
            let (first, last) = (parse(first)?, parse(last)?);
            if first <= last {
                Ok((first, last))
            } else {
                Err(wrong())
            }
        })
        .collect()
}

fn out_of(
    view: &ClaimView<'_>,
    network: Ipv4Net,
    gateway: Option<Ipv4Addr>,
) -> Result<AllocatedAddress, AddressError> {
    let (first, last) = (u32::from(network.network()), u32::from(network.broadcast()));
    let reserved = if network.prefix_len() < 31 {
        vec![network.network(), network.broadcast()]
    } else {
        Vec::new()
    };
    let free = (first..=last).map(Ipv4Addr::from);
    lowest(view, free, network.prefix_len(), gateway, &reserved).ok_or_else(|| AddressError::Full {
        pool: network.trunc().to_string(),
    })
}

fn lowest(
    view: &ClaimView<'_>,
    mut pool: impl Iterator<Item = Ipv4Addr>,
    prefix: u8,
    gateway: Option<Ipv4Addr>,
    reserved: &[Ipv4Addr],
) -> Option<AllocatedAddress> {
    let taken = |address: &Ipv4Addr| {
        Some(*address) == gateway || reserved.contains(address) || view.addresses.contains_key(address)
    };
    pool.find(|address| !taken(address))
        .map(|address| allocated(address, prefix, gateway))
}

fn allocated(address: Ipv4Addr, prefix: u8, gateway: Option<Ipv4Addr>) -> AllocatedAddress {
    AllocatedAddress {
        address: format!("{address}/{prefix}"),
        gateway: gateway
            .filter(|gateway| *gateway != address)
            .map(|gateway| gateway.to_string()),
    }
}

/// The host part of a network, unless there is none.
fn gateway_of(network: Option<Ipv4Net>) -> Option<Ipv4Addr> {
    network
        .filter(|network| network.addr() != network.network())
        .map(|network| network.addr())
}

/// The first host address: what DHCP takes for the router where nothing is said.
fn first_of(network: Ipv4Net) -> Option<Ipv4Addr> {
    network.hosts().next()
}

/// The address that the host boots with from the network.
fn recorded(host: &BareMetalHost) -> Option<Ipv4Net> {
    host.status
        .as_ref()?
        .steelyard
        .as_ref()?
        .address
        .as_ref()?
        .parse()
        .ok()
}

pub(super) fn annotated(host: &BareMetalHost) -> Option<Ipv4Net> {
    annotation_of(host, annotation::IP_ADDRESS)?.parse().ok()
}

fn annotation_of<'a>(host: &'a BareMetalHost, key: &str) -> Option<&'a str> {
    host.metadata.annotations.as_ref()?.get(key).map(String::as_str)
}
