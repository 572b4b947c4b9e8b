//! `spec.bmc.address`, as Metal3 reads it: the scheme picks the protocol, the way of booting and the transport.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    #[error(
        "BMC address {address:?}: scheme {scheme:?} is not known: use redfish://, redfish+http:// or redfish-uefihttp://"
    )]
    Scheme { address: String, scheme: String },
    #[error(
        "BMC address {address:?}: scheme {scheme:?} was removed from Metal3: the machine's Redfish is reached with redfish://"
    )]
    Removed { address: String, scheme: String },
    #[error("BMC address {address:?}: {host:?} is neither an IP address nor a host name")]
    Host { address: String, host: String },
    #[error("BMC address {address:?}: {port:?} is not a port")]
    Port { address: String, port: String },
}

/// How the firmware is told to boot from the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetworkBoot {
    Pxe,
    UefiHttp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Redfish(NetworkBoot),
    /// Known, and not driven by this version.
    RedfishVirtualMedia,
    Ipmi,
}

/// A parsed address. Queries, fragments and user names in it are left out.
#[derive(Clone, PartialEq, Eq)]
pub struct BmcAddress {
    pub protocol: Protocol,
    pub tls: bool,
    /// Without brackets.
    pub host: String,
    pub port: u16,
    /// The path of the ComputerSystem, if the address names one.
    pub system: Option<String>,
}

const REMOVED: &[&str] = &["ilo4", "ilo4-virtualmedia", "ilo5", "irmc", "idrac", "ibmc"];

impl BmcAddress {
    pub fn parse(address: &str) -> Result<BmcAddress, AddressError> {
        let given = address.trim();
        let shown = without_user(given);
        let text = shown.as_str();
        let (scheme, rest) = split_scheme(given);
        let (kind, tls) = match scheme.rsplit_once('+') {
            Some((kind, "http")) => (kind, false),
            Some((kind, "https")) => (kind, true),
            _ => (scheme.as_str(), true),
        };
        let suffixed = kind.len() != scheme.len();
        let protocol = match kind {
            "redfish" | "ilo5-redfish" | "idrac-redfish" => Protocol::Redfish(NetworkBoot::Pxe),
            "redfish-uefihttp" => Protocol::Redfish(NetworkBoot::UefiHttp),
            "redfish-virtualmedia" | "ilo5-virtualmedia" | "idrac-virtualmedia" => {
                Protocol::RedfishVirtualMedia
            }
            "ipmi" | "libvirt" if !suffixed => Protocol::Ipmi,
            _ if REMOVED.contains(&kind) => {
                return Err(AddressError::Removed {
                    address: text.into(),
                    scheme,
                });
            }
            _ => {
                return Err(AddressError::Scheme {
                    address: text.into(),
                    scheme,
                });
            }
        };
        let rest = rest.split(['?', '#']).next().unwrap_or_default();
        let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        let (host, port) = split_port(text, authority)?;
        let default = match (protocol, tls) {
            (Protocol::Ipmi, _) => 623,
            (_, true) => 443,
            (_, false) => 80,
        };
        let system = path.trim_end_matches('/');
        let system = (!matches!(system, "" | "/redfish/v1")).then(|| system.to_owned());
        Ok(BmcAddress {
            protocol,
            tls,
            host,
            port: port.unwrap_or(default),
            system,
        })
    }

    /// `https://host:port`, the beginning of every URL of this BMC.
    pub fn base_url(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        let host = if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        };
        format!("{scheme}://{host}:{}", self.port)
    }
}

impl fmt::Display for BmcAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the text as given: it may hold a password before the host.
        write!(
            f,
            "{}{}",
            self.base_url(),
            self.system.as_deref().unwrap_or_default()
        )
    }
}

impl fmt::Debug for BmcAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BmcAddress({:?} {self})", self.protocol)
    }
}

/// The address as errors may show it: some people write a password before the host.
fn without_user(address: &str) -> String {
    let start = address.find("://").map_or(0, |at| at + 3);
    let end = address[start..].find('/').map_or(address.len(), |at| start + at);
    match address[start..end].rfind('@') {
        Some(at) => format!("{}{}", &address[..start], &address[start + at + 1..]),
        None => address.to_owned(),
    }
}

/// No scheme means ipmi; `scheme:host` means `scheme://host`.
fn split_scheme(text: &str) -> (String, &str) {
    if let Some((scheme, rest)) = text.split_once("://") {
        return (scheme.to_ascii_lowercase(), rest);
    }
    match text.split_once(':') {
        Some((scheme, rest)) if is_scheme(scheme) && !is_port(rest) => (scheme.to_ascii_lowercase(), rest),
        _ => ("ipmi".to_owned(), text),
    }
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-'))
}

/// `host:623` and `host:623/path` have a port after the colon.
fn is_port(text: &str) -> bool {
    let head = text.split('/').next().unwrap_or_default();
    !head.is_empty() && head.chars().all(|c| c.is_ascii_digit())
}

fn split_port(address: &str, authority: &str) -> Result<(String, Option<u16>), AddressError> {
    let bad_host = |host: &str| AddressError::Host {
        address: address.into(),
        host: host.into(),
    };
    let (host, port) = if let Some(rest) = authority.strip_prefix('[') {
        let (host, after) = rest.split_once(']').ok_or_else(|| bad_host(authority))?;
        if host.parse::<Ipv6Addr>().is_err() {
            return Err(bad_host(host));
        }
        (
            host,
            after
                .strip_prefix(':')
                .or(if after.is_empty() { None } else { Some(after) }),
        )
    } else {
        let (host, port) = authority
            .split_once(':')
            .map_or((authority, None), |(h, p)| (h, Some(p)));
        if !is_host(host) {
            return Err(bad_host(host));
        }
        (host, port)
    };
    let port = port.filter(|p| !p.is_empty()).map(|p| {
        p.parse::<u16>()
            .ok()
            .filter(|p| *p > 0)
            .ok_or_else(|| AddressError::Port {
                address: address.into(),
                port: p.into(),
            })
    });
    Ok((host.to_ascii_lowercase(), port.transpose()?))
}

fn is_host(host: &str) -> bool {
    let label = |l: &str| {
        !l.is_empty()
            && l.len() <= 63
            && l.chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
            && !l.starts_with('-')
            && !l.ends_with('-')
    };
    host.parse::<Ipv4Addr>().is_ok()
        || (host.len() <= 253 && host.trim_end_matches('.').split('.').all(label))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(address: &str) -> String {
        match BmcAddress::parse(address) {
            Ok(a) => format!("{:?} {} {:?}", a.protocol, a.base_url(), a.system),
            Err(error) => error.to_string(),
        }
    }

    /// The cases of the Metal3 reference, section 3.1.
    #[test]
    fn as_metal3_reads_them() {
        let addresses = [
            "redfish://127.100.1.2:8443/redfish/v1/Systems/1",
            "redfish://node-1.bmc.example.com",
            "redfish+http://[fd00::1]:8000/redfish/v1/Systems/System.Embedded.1/",
            "redfish+https://10.0.0.1/redfish/v1/",
            "REDFISH://10.0.0.1/",
            "redfish:10.0.0.1/redfish/v1/Systems/a?x=y#z",
            "redfish://root:calvin@10.0.0.1/redfish/v1/Systems/a",
            "ilo5-redfish://10.0.0.1/redfish/v1/Systems/1",
            "redfish-uefihttp+http://10.0.0.1/redfish/v1/Systems/1",
            "redfish-virtualmedia+http://10.0.0.1/redfish/v1/Systems/1",
            "idrac-virtualmedia://10.0.0.1/redfish/v1/Systems/System.Embedded.1",
            "10.0.0.1",
            "10.0.0.1:6230",
            "bmc-7:6230",
            "[fd00::1]:6230",
            "ipmi://10.0.0.1",
            "ipmi+http://10.0.0.1",
            "libvirt://192.168.122.1:6233/",
            "ilo4://10.0.0.1",
            "irmc://10.0.0.1",
            "telnet://10.0.0.1",
            "redfish://10.0.0.1:99999/",
            "redfish://under score/",
            "redfish://[10.0.0.1]/",
            "redfish:///redfish/v1/Systems/1",
            "",
        ];
        let table: Vec<_> = addresses
            .iter()
            .map(|a| format!("{a}\n    {}", parsed(a)))
            .collect();
        insta::assert_snapshot!(table.join("\n"));
    }

    #[test]
    fn no_password_in_texts() {
        let address = BmcAddress::parse("redfish://root:calvin@10.0.0.1").unwrap();
        assert!(!format!("{address} {address:?}").contains("calvin"));
        let error = BmcAddress::parse("telnet://root:calvin@10.0.0.1:9/x").unwrap_err();
        assert_eq!(
            error,
            AddressError::Scheme {
                address: "telnet://10.0.0.1:9/x".into(),
                scheme: "telnet".into()
            }
        );
        assert!(
            !BmcAddress::parse("redfish://root:calvin@10.0.0.1:x")
                .unwrap_err()
                .to_string()
                .contains("calvin")
        );
    }
}
