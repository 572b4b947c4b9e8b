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

use super::mac::Mac;
use dhcproto::v4::{
    Decodable, Decoder, DhcpOption, Encodable, Encoder, Flags, HType, Message, MessageType, Opcode, OptionCode,
    UnknownOption,
};
use ipnet::Ipv4Net;
use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddrV4},
};
use steelyard_core::intent::BootPlan;

/// BOOTP's smallest packet: old boot ROMs drop shorter ones (RFC 1542 2.1).
const PACKET_MIN: usize = 300;
/// The `file` field (RFC 2131 2).
const FILE_FIELD_MAX: usize = 127;
/// Relay agent information (RFC 3046).
const OPTION_RELAY: u8 = 82;
/// iPXE's encapsulated options; its presence says who asks.
const OPTION_IPXE: u8 = 175;

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
    pub(crate) kind: MessageType,
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
    #[error("it came through the relay {relay}, which is outside {network}: the port is in another network than the host's address")]
    WrongRelay { relay: Ipv4Addr, network: Ipv4Net },
    #[error("its firmware (client architecture {arch}) needs the boot file {file}, which --boot-dir does not hold")]
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
pub(crate) fn answer(settings: &Settings, packet: &[u8], plan_of: impl FnOnce(Mac) -> Option<BootPlan>) -> Outcome {
    let nobody = |why| Outcome::Dropped(Dropped { mac: None, relay: None, why });
    let message = match Message::decode(&mut Decoder::new(packet)) {
        Ok(message) => message,
        Err(error) => return nobody(Why::Unreadable(error.to_string())),
    };
    // hlen is checked before chaddr() is read: the codec slices by it.
    if message.opcode() != Opcode::BootRequest || message.htype() != HType::Eth || message.hlen() != 6 {
        return nobody(Why::NotForServers);
    }
    let mut mac = Mac([0; 6]);
    mac.0.copy_from_slice(&message.chaddr()[..6]);
    let relay = Some(message.giaddr()).filter(|relay| !relay.is_unspecified());
    match plan_of(mac).ok_or(Why::NoPlan).and_then(|plan| Server { settings, packet, message, plan, mac }.answer()) {
        Ok(reply) => Outcome::Reply(reply),
        Err(why) => Outcome::Dropped(Dropped { mac: Some(mac), relay, why }),
    }
}

struct Server<'a> {
    settings: &'a Settings,
    packet: &'a [u8],
    message: Message,
    plan: BootPlan,
    mac: Mac,
}

impl Server<'_> {
    fn answer(self) -> Result<Reply, Why> {
        let relay = self.message.giaddr();
        let network = self.plan.address.trunc();
        // A relay's address is one of the network that the client sits in.
        if !relay.is_unspecified() && !network.contains(&relay) {
            return Err(Why::WrongRelay { relay, network });
        }
        match self.message.opts().msg_type() {
            Some(MessageType::Discover) => self.promise(MessageType::Offer),
            Some(MessageType::Request) => self.request(),
            Some(MessageType::Inform) => self.inform(),
            Some(MessageType::Decline) => {
                let declined = match self.message.opts().get(OptionCode::RequestedIpAddress) {
                    Some(DhcpOption::RequestedIpAddress(ip)) => *ip,
                    _ => self.plan.address.addr(),
                };
                Err(Why::Declined(declined))
            }
            Some(MessageType::Release) => Err(Why::Released),
            _ => Err(Why::NotForServers),
        }
    }

    /// RFC 2131 4.3.2: selecting names a server; init-reboot asks for an address; renewing has one.
    fn request(self) -> Result<Reply, Why> {
        if let Some(DhcpOption::ServerIdentifier(server)) = self.message.opts().get(OptionCode::ServerIdentifier)
            && *server != self.settings.server
        {
            return Err(Why::OtherServer(*server));
        }
        let wanted = match self.message.opts().get(OptionCode::RequestedIpAddress) {
            Some(DhcpOption::RequestedIpAddress(ip)) => *ip,
            _ => self.message.ciaddr(),
        };
        if wanted == self.plan.address.addr() { self.promise(MessageType::Ack) } else { self.refuse() }
    }

    fn promise(self, kind: MessageType) -> Result<Reply, Why> {
        let mut reply = self.base(kind);
        reply.set_yiaddr(self.plan.address.addr());
        reply.opts_mut().insert(DhcpOption::AddressLeaseTime(self.settings.lease_seconds));
        self.network_options(&mut reply);
        self.boot_options(&mut reply)?;
        Ok(self.finish(reply, kind))
    }

    /// The client has an address of its own making and wants the rest: no yiaddr, no lease (RFC 2131 4.3.5).
    fn inform(self) -> Result<Reply, Why> {
        let mut reply = self.base(MessageType::Ack);
        reply.set_ciaddr(self.message.ciaddr());
        self.network_options(&mut reply);
        self.boot_options(&mut reply)?;
        Ok(self.finish(reply, MessageType::Ack))
    }

    fn refuse(self) -> Result<Reply, Why> {
        let mut reply = self.base(MessageType::Nak);
        reply.opts_mut().insert(DhcpOption::Message("the address is not the one of this host".into()));
        if !self.message.giaddr().is_unspecified() {
            // The relay must broadcast it: the client has no usable address (RFC 2131 4.3.2).
            reply.set_flags(Flags::default().set_broadcast());
        }
        Ok(self.finish(reply, MessageType::Nak))
    }

    /// What every reply carries: the transaction, who we are, and what the client identified itself with.
    fn base(&self, kind: MessageType) -> Message {
        let none = Ipv4Addr::UNSPECIFIED;
        let asked = &self.message;
        let mut reply = Message::new_with_id(asked.xid(), none, none, none, asked.giaddr(), asked.chaddr());
        reply.set_opcode(Opcode::BootReply).set_htype(HType::Eth).set_flags(asked.flags());
        let options = reply.opts_mut();
        options.insert(DhcpOption::MessageType(kind));
        options.insert(DhcpOption::ServerIdentifier(self.settings.server));
        // RFC 6842: the client identifier goes back as it came. RFC 4578 2.3: so does the machine's UUID.
        for code in [OptionCode::ClientIdentifier, OptionCode::ClientMachineIdentifier] {
            if let Some(option) = asked.opts().get(code) {
                options.insert(option.clone());
            }
        }
        // RFC 3046 2.2: byte for byte, so not as the codec would write it. It goes out last.
        if let Some(data) = raw_option(self.packet, OPTION_RELAY) {
            options.insert(unknown(OPTION_RELAY, data));
        }
        reply
    }

    fn network_options(&self, reply: &mut Message) {
        let options = reply.opts_mut();
        options.insert(DhcpOption::SubnetMask(self.plan.address.netmask()));
        if let Some(gateway) = self.plan.gateway {
            options.insert(DhcpOption::Router(vec![gateway]));
        }
        if !self.plan.dns.is_empty() {
            options.insert(DhcpOption::DomainNameServer(self.plan.dns.clone()));
        }
        if !self.plan.ntp.is_empty() {
            options.insert(DhcpOption::NtpServers(self.plan.ntp.clone()));
        }
    }

    fn boot_options(&self, reply: &mut Message) -> Result<(), Why> {
        let file = match client(&self.message) {
            Client::Plain => return Ok(()),
            Client::Ipxe => {
                // 175.176 = 1: no need to wait for a ProxyDHCP server.
                reply.opts_mut().insert(unknown(OPTION_IPXE, vec![176, 1, 1]));
                format!("{}/ipxe/{}", self.settings.http_url, self.mac.dashed())
            }
            Client::Pxe(arch) => {
                let file = self.boot_file(arch)?;
                let options = reply.opts_mut();
                options.insert(DhcpOption::ClassIdentifier(b"PXEClient".to_vec()));
                // PXE_DISCOVERY_CONTROL = 8: take the boot file named here, ask no boot server.
                options.insert(DhcpOption::VendorExtensions(vec![6, 1, 8, 255]));
                options.insert(DhcpOption::TFTPServerName(self.settings.server.to_string().into_bytes()));
                file.to_owned()
            }
            Client::HttpBoot(arch) => {
                let file = self.boot_file(arch)?;
                // UEFI 2.10 24.7.2: without the echo the firmware ignores the offer.
                reply.opts_mut().insert(DhcpOption::ClassIdentifier(b"HTTPClient".to_vec()));
                format!("{}/boot/{file}", self.settings.http_url)
            }
        };
        reply.set_siaddr(self.settings.server);
        if file.len() <= FILE_FIELD_MAX {
            reply.set_fname_str(&file);
        }
        reply.opts_mut().insert(DhcpOption::BootfileName(file.into_bytes()));
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
            Err(Why::NoBootFile { arch, file: file.to_owned() })
        }
    }

    /// Where to (RFC 2131 4.1). A client without an address is always reached by broadcast: a plain socket
    /// can't send to an address that nobody answers ARP for yet.
    fn finish(&self, reply: Message, kind: MessageType) -> Reply {
        let to = match (self.message.giaddr(), self.message.ciaddr()) {
            (relay, _) if !relay.is_unspecified() => SocketAddrV4::new(relay, 67),
            (_, client) if !client.is_unspecified() && kind != MessageType::Nak => SocketAddrV4::new(client, 68),
            _ => SocketAddrV4::new(Ipv4Addr::BROADCAST, 68),
        };
        let mut bytes = Vec::with_capacity(PACKET_MIN);
        reply
            .encode(&mut Encoder::new(&mut bytes))
            .expect("a message that we built has no option that can't be encoded");
        bytes.resize(bytes.len().max(PACKET_MIN), 0);
        Reply { mac: self.mac, kind, to, bytes }
    }
}

fn client(message: &Message) -> Client {
    let options = message.opts();
    let ipxe_class = match options.get(OptionCode::UserClass) {
        // Plain as iPXE sends it, or with RFC 3004's length before it.
        Some(DhcpOption::UserClass(class)) => class == b"iPXE" || class == b"\x04iPXE",
        _ => false,
    };
    if ipxe_class || options.contains(OptionCode::from(OPTION_IPXE)) {
        return Client::Ipxe;
    }
    let class = match options.get(OptionCode::ClassIdentifier) {
        Some(DhcpOption::ClassIdentifier(class)) => class.as_slice(),
        _ => return Client::Plain,
    };
    let arch = match options.get(OptionCode::ClientSystemArchitecture) {
        Some(DhcpOption::ClientSystemArchitecture(arch)) => u16::from(*arch),
        // A ROM that does not say is of the time when there was only one (RFC 4578 2.1 made it mandatory).
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

fn unknown(code: u8, data: Vec<u8>) -> DhcpOption {
    DhcpOption::Unknown(UnknownOption::new(OptionCode::from(code), data))
}

/// The bytes of an option as they stand in the packet; split ones joined (RFC 3396).
fn raw_option(packet: &[u8], code: u8) -> Option<Vec<u8>> {
    // 236 bytes of fixed fields and the magic cookie.
    let mut rest = packet.get(240..)?;
    let mut found: Option<Vec<u8>> = None;
    loop {
        match *rest {
            [0, ..] => rest = &rest[1..],
            [255, ..] | [] | [_] => return found,
            [tag, len, ..] => {
                let end = 2 + usize::from(len);
                let Some(data) = rest.get(2..end) else { return found };
                if tag == code {
                    found.get_or_insert_default().extend_from_slice(data);
                }
                rest = &rest[end..];
            }
        }
    }
}

#[cfg(test)]
mod tests;
