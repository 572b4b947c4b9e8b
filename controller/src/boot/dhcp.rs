//! The DHCP server as a function: (packet, plans) to a reply or a drop with its reason.
//!
//! Authoritative and static: an address is promised only to the boot MAC of a host with a published plan
//! (RFC 2131; options RFC 2132, PXE RFC 4578, relay RFC 3046). There are no lease files: the plan is the lease.
//!
//! ```text
//! firmware PXE   --60 PXEClient, 93-->   address + next-server + boot file name (TFTP)
//! firmware HTTP  --60 HTTPClient, 93-->  address + URL of the boot file, 60 echoed
//! iPXE           --77 iPXE or 175-->     address + URL of the host's script
//! ramdisk, OS    --nothing of these-->   address only
//! ```

mod packet;

use super::mac::Mac;
use ipnet::Ipv4Net;
use packet::{Kind, Request, Response, option};
use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddrV4},
};
use steelyard_core::intent::BootPlan;

pub(crate) use packet::Kind as MessageKind;

#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Our address in the provisioning network: server identifier, next-server.
    pub(crate) server: Ipv4Addr,
    /// `http://VIP:8080`.
    pub(crate) http_url: String,
    pub(crate) lease_seconds: u32,
    /// Names of boot files that we hold.
    pub(crate) boot_files: BTreeSet<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Reply(Reply),
    Dropped(Dropped),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) mac: Mac,
    pub(crate) kind: Kind,
    pub(crate) to: SocketAddrV4,
    pub(crate) bytes: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dropped {
    /// Who asked, if that much could be read.
    pub(crate) mac: Option<Mac>,
    /// The relay that it came through.
    pub(crate) relay: Option<Ipv4Addr>,
    pub(crate) why: Why,
}

/// Why a packet gets no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Why {
    #[error("it is not a DHCP message: {0}")]
    Unreadable(String),
    #[error("it is not a request of a DHCP client")]
    NotForServers,
    #[error("no boot plan is published for this MAC address")]
    NoPlan,
    #[error("it took the offer of another DHCP server, {0}: only one may serve the provisioning network")]
    OtherServer(Ipv4Addr),
    #[error(
        "it came through the relay {relay}, which is outside {network}: the port is in another network than the host's address"
    )]
    WrongRelay { relay: Ipv4Addr, network: Ipv4Net },
    #[error(
        "its firmware (client architecture {arch}) needs the boot file {file}, which --boot-assets does not hold"
    )]
    NoBootFile { arch: u16, file: String },
    #[error("client architecture {0} is not one that we have a boot file for")]
    UnknownArch(u16),
    #[error("the host declined {0}: another machine uses this address")]
    Declined(Ipv4Addr),
    #[error("the host gave its address back")]
    Released,
}

/// Who asks, as far as the answer depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Client {
    Ipxe,
    Pxe(u16),
    HttpBoot(u16),
    Plain,
}

/// Answers one packet. `plan_of` finds the published plan of a boot MAC.
pub(crate) fn answer(
    settings: &Settings,
    packet: &[u8],
    plan_of: impl FnOnce(Mac) -> Option<BootPlan>,
) -> Outcome {
    let request = match Request::parse(packet) {
        Ok(request) => request,
        Err(why) => {
            return Outcome::Dropped(Dropped {
                mac: None,
                relay: None,
                why,
            });
        }
    };
    let (mac, relay) = (
        request.mac,
        Some(request.giaddr).filter(|relay| !relay.is_unspecified()),
    );
    match plan_of(mac).ok_or(Why::NoPlan).and_then(|plan| {
        Server {
            settings,
            request,
            plan,
        }
        .answer()
    }) {
        Ok(reply) => Outcome::Reply(reply),
        Err(why) => Outcome::Dropped(Dropped {
            mac: Some(mac),
            relay,
            why,
        }),
    }
}

struct Server<'a> {
    settings: &'a Settings,
    request: Request,
    plan: BootPlan,
}

impl Server<'_> {
    fn answer(self) -> Result<Reply, Why> {
        let relay = self.request.giaddr;
        let network = self.plan.address.trunc();
        // A relay's address is one of the network that the client sits in.
        if !relay.is_unspecified() && !network.contains(&relay) {
            return Err(Why::WrongRelay { relay, network });
        }
        match self.request.kind {
            Kind::Discover => self.promise(Kind::Offer),
            Kind::Request => self.request(),
            Kind::Inform => self.inform(),
            Kind::Decline => {
                let declined = self.request.address(option::REQUESTED_ADDRESS);
                Err(Why::Declined(declined.unwrap_or(self.plan.address.addr())))
            }
            Kind::Release => Err(Why::Released),
            Kind::Offer | Kind::Ack | Kind::Nak => Err(Why::NotForServers),
        }
    }

    /// RFC 2131 4.3.2: selecting names a server; init-reboot asks for an address; renewing has one.
    fn request(self) -> Result<Reply, Why> {
        if let Some(server) = self.request.address(option::SERVER)
            && server != self.settings.server
        {
            return Err(Why::OtherServer(server));
        }
        let wanted = self
            .request
            .address(option::REQUESTED_ADDRESS)
            .unwrap_or(self.request.ciaddr);
        if wanted == self.plan.address.addr() {
            self.promise(Kind::Ack)
        } else {
            Ok(self.refuse())
        }
    }

    fn promise(self, kind: Kind) -> Result<Reply, Why> {
        let mut response = self.base(kind);
        response.yiaddr = self.plan.address.addr();
        response.put(option::LEASE_TIME, self.settings.lease_seconds.to_be_bytes());
        self.network_options(&mut response);
        self.boot_options(&mut response)?;
        Ok(self.finish(response, kind))
    }

    /// The client has an address of its own making and wants the rest: no yiaddr, no lease (RFC 2131 4.3.5).
    fn inform(self) -> Result<Reply, Why> {
        let mut response = self.base(Kind::Ack);
        response.ciaddr = self.request.ciaddr;
        self.network_options(&mut response);
        self.boot_options(&mut response)?;
        Ok(self.finish(response, Kind::Ack))
    }

    fn refuse(self) -> Reply {
        let mut response = self.base(Kind::Nak);
        response.put(option::MESSAGE, "the address is not the one of this host");
        // A relay must broadcast it: the client has no usable address (RFC 2131 4.3.2).
        response.broadcast |= !self.request.giaddr.is_unspecified();
        self.finish(response, Kind::Nak)
    }

    /// What every reply carries: the transaction, who we are, and what the client identified itself with.
    fn base(&self, kind: Kind) -> Response {
        let mut response = Response::to(&self.request, kind);
        response.put(option::SERVER, self.settings.server.octets());
        // RFC 6842: the client identifier goes back as it came. RFC 4578 2.3: so does the machine's UUID.
        // RFC 3046 2.2: what a relay added goes back byte for byte.
        for code in [option::CLIENT_ID, option::MACHINE_ID, option::RELAY] {
            if let Some(data) = self.request.option(code) {
                response.put(code, data);
            }
        }
        response
    }

    fn network_options(&self, response: &mut Response) {
        response.put(option::NETMASK, self.plan.address.netmask().octets());
        let lists: [(u8, &[Ipv4Addr]); 3] = [
            (option::ROUTER, self.plan.gateway.as_slice()),
            (option::DNS, &self.plan.dns),
            (option::NTP, &self.plan.ntp),
        ];
        for (code, addresses) in lists.into_iter().filter(|(_, addresses)| !addresses.is_empty()) {
            response.put(
                code,
                addresses.iter().flat_map(Ipv4Addr::octets).collect::<Vec<_>>(),
            );
        }
    }

    fn boot_options(&self, response: &mut Response) -> Result<(), Why> {
        let file = match client(&self.request) {
            Client::Plain => return Ok(()),
            Client::Ipxe => {
                // 175.176 = 1: no need to wait for a ProxyDHCP server.
                response.put(option::IPXE, [176, 1, 1]);
                format!("{}/ipxe/{}", self.settings.http_url, self.request.mac.dashed())
            }
            Client::Pxe(arch) => {
                response.put(option::CLASS, "PXEClient");
                // PXE_DISCOVERY_CONTROL = 8: take the boot file named here, ask no boot server.
                response.put(option::VENDOR, [6, 1, 8, 255]);
                response.put(option::TFTP_SERVER, self.settings.server.to_string());
                self.boot_file(arch)?.to_owned()
            }
            Client::HttpBoot(arch) => {
                // UEFI 2.10 24.7.2: without the echo the firmware ignores the offer.
                response.put(option::CLASS, "HTTPClient");
                format!("{}/boot/{}", self.settings.http_url, self.boot_file(arch)?)
            }
        };
        response.siaddr = self.settings.server;
        response.file = file.clone();
        response.put(option::BOOT_FILE, file);
        Ok(())
    }

    fn boot_file(&self, arch: u16) -> Result<&'static str, Why> {
        // IANA "Processor Architecture Types"; 9 is what some x64 firmware sends for 7.
        let file = match arch {
            0 => "undionly.kpxe",
            7 | 9 | 16 => "snponly.efi",
            11 | 19 => "snponly-arm64.efi",
            other => return Err(Why::UnknownArch(other)),
        };
        if self.settings.boot_files.contains(file) {
            Ok(file)
        } else {
            Err(Why::NoBootFile {
                arch,
                file: file.to_owned(),
            })
        }
    }

    /// Where to (RFC 2131 4.1). A client without an address is always reached by broadcast: a plain socket
    /// can't send to an address that nobody answers ARP for yet.
    fn finish(&self, response: Response, kind: Kind) -> Reply {
        let to = match (self.request.giaddr, self.request.ciaddr) {
            (relay, _) if !relay.is_unspecified() => SocketAddrV4::new(relay, 67),
            (_, client) if !client.is_unspecified() && kind != Kind::Nak => SocketAddrV4::new(client, 68),
            _ => SocketAddrV4::new(Ipv4Addr::BROADCAST, 68),
        };
        Reply {
            mac: self.request.mac,
            kind,
            to,
            bytes: response.encode(),
        }
    }
}

fn client(request: &Request) -> Client {
    // Plain as iPXE sends it, or with RFC 3004's length before it.
    let ipxe_class = matches!(request.option(option::USER_CLASS), Some(b"iPXE" | b"\x04iPXE"));
    if ipxe_class || request.option(option::IPXE).is_some() {
        return Client::Ipxe;
    }
    let class = request.option(option::CLASS).unwrap_or_default();
    // A client may name several; the first is its own. A ROM that names none is of the time when there was only one
    // (RFC 4578 2.1 made it mandatory).
    let arch = match request.option(option::ARCHITECTURE) {
        Some([high, low, ..]) => u16::from_be_bytes([*high, *low]),
        _ => 0,
    };
    if class.starts_with(b"PXEClient") {
        Client::Pxe(arch)
    } else if class.starts_with(b"HTTPClient") {
        Client::HttpBoot(arch)
    } else {
        Client::Plain
    }
}

#[cfg(test)]
mod tests;
