//! DHCP client (RFC 2131, 4578 for PXE): firmware, iPXE, ramdisk and OS use it, each with options of its own.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use dhcproto::v4::{
    DhcpOption, DhcpOptions, Flags, HType, Message, MessageType, Opcode, OptionCode, UnknownOption,
};
use dhcproto::{Decodable, Decoder, Encodable};
use ipnet::Ipv4Net;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use super::timing::Retry;
use crate::net::{Address, Route, Stack, UdpSocket};

const SERVER_PORT: u16 = 67;
const CLIENT_PORT: u16 = 68;

/// Who asks; decides what a boot server answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Client {
    /// UEFI firmware that boots by TFTP: class `PXEClient`, architecture 7 (x86-64 UEFI).
    Pxe,
    /// UEFI firmware that boots by HTTP: class `HTTPClient`, architecture 16.
    Http,
    /// iPXE, after it was loaded: user class `iPXE` and its own encapsulated options.
    Ipxe,
    /// An operating system.
    Os,
}

/// The machine that asks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asker<'a> {
    pub client: Client,
    pub uuid: Uuid,
    pub hostname: Option<&'a str>,
    /// Transaction ids come from it.
    pub seed: u64,
}

/// What the server gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lease {
    pub address: Address,
    pub routers: Vec<Ipv4Addr>,
    pub routes: Vec<Route>,
    pub dns: Vec<Ipv4Addr>,
    pub server: Ipv4Addr,
    /// Boot server: `siaddr`, or option 66 as an address.
    pub next_server: Ipv4Addr,
    /// Option 67, or the header's file field.
    pub boot_file: Option<String>,
    pub class: Option<String>,
    pub lifetime: Duration,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum DhcpError {
    #[error("no DHCP offer was received within {0:?}")]
    NoOffer(Duration),
    #[error("{server} offered {address}, but did not acknowledge the request")]
    NoAck { server: Ipv4Addr, address: Ipv4Addr },
    #[error("{0} refused the request (DHCPNAK)")]
    Nak(Ipv4Addr),
    #[error("network: {0}")]
    Io(#[from] io::Error),
}

/// Gets a lease and configures the stack with it.
pub(crate) async fn acquire(stack: &Stack, asker: Asker<'_>, retry: Retry) -> Result<Lease, DhcpError> {
    let socket = stack.udp_bind(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, CLIENT_PORT))?;
    let exchange = Exchange {
        stack,
        socket: &socket,
        asker,
        xid: fold(asker.seed),
    };
    let offer = exchange.discover(retry).await?;
    let lease = exchange.request(&offer, retry).await?;
    apply(stack, &lease)?;
    Ok(lease)
}

fn apply(stack: &Stack, lease: &Lease) -> io::Result<()> {
    stack.set_addresses(vec![lease.address])?;
    let default = lease.routers.first().map(|via| Route {
        to: Ipv4Net::default(),
        via: *via,
    });
    // RFC 3442: with option 121, option 3 is to be ignored.
    let routes = if lease.routes.is_empty() {
        default.into_iter().collect()
    } else {
        lease.routes.clone()
    };
    stack.set_routes(routes);
    Ok(())
}

/// Keeps a lease: renews at half of its life with its server, at seven eighths with any; returns when it is lost.
pub(crate) async fn keep(stack: &Stack, asker: Asker<'_>, mut lease: Lease) -> DhcpError {
    loop {
        let start = Instant::now();
        let mut renewed = None;
        for (after, to) in [
            (lease.lifetime / 2, lease.server),
            (lease.lifetime * 7 / 8, Ipv4Addr::BROADCAST),
        ] {
            tokio::time::sleep_until(start + after).await;
            match renew(stack, asker, &lease, to).await {
                Ok(fresh) => {
                    renewed = Some(fresh);
                    break;
                }
                Err(error @ DhcpError::Nak(_)) => return lost(stack, error),
                Err(error) => tracing::debug!(%error, "lease was not renewed"),
            }
        }
        let Some(fresh) = renewed else {
            tokio::time::sleep_until(start + lease.lifetime).await;
            return lost(
                stack,
                DhcpError::NoAck {
                    server: lease.server,
                    address: lease.address.ip,
                },
            );
        };
        if let Err(error) = apply(stack, &fresh) {
            return lost(stack, error.into());
        }
        lease = fresh;
    }
}

fn lost(stack: &Stack, error: DhcpError) -> DhcpError {
    // Taking all addresses away cannot exceed the stack's limit.
    let _ = stack.set_addresses(Vec::new());
    error
}

async fn renew(stack: &Stack, asker: Asker<'_>, lease: &Lease, to: Ipv4Addr) -> Result<Lease, DhcpError> {
    let socket = stack.udp_bind(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, CLIENT_PORT))?;
    let xid = fold(asker.seed ^ u64::from(u32::from(lease.address.ip)));
    let exchange = Exchange {
        stack,
        socket: &socket,
        asker,
        xid,
    };
    let mut message = exchange.message(MessageType::Request);
    message.set_ciaddr(lease.address.ip);
    message.set_flags(Flags::default());
    exchange.send(&message, to)?;
    let until = Instant::now() + lease.lifetime / 16;
    match exchange
        .answer(until, |kind| matches!(kind, MessageType::Ack | MessageType::Nak))
        .await?
    {
        Some((MessageType::Ack, ack)) => Ok(lease_of(&ack)),
        Some((_, nak)) => Err(DhcpError::Nak(server_of(&nak))),
        None => Err(DhcpError::NoAck {
            server: lease.server,
            address: lease.address.ip,
        }),
    }
}

fn fold(seed: u64) -> u32 {
    (seed ^ (seed >> 32)) as u32
}

struct Exchange<'a> {
    stack: &'a Stack,
    socket: &'a UdpSocket,
    asker: Asker<'a>,
    xid: u32,
}

impl Exchange<'_> {
    async fn discover(&self, retry: Retry) -> Result<Message, DhcpError> {
        let start = Instant::now();
        let mut until = start;
        for wait in retry.waits() {
            let mut message = self.message(MessageType::Discover);
            message.set_secs(u16::try_from(start.elapsed().as_secs()).unwrap_or(u16::MAX));
            self.send(&message, Ipv4Addr::BROADCAST)?;
            until += wait;
            while let Some((_, offer)) = self.answer(until, |kind| kind == MessageType::Offer).await? {
                // A server that does not mean us (no boot file, no echo of HTTPClient) is passed over: RFC 4578, UEFI 2.10 24.7.
                if self.suits(&offer) {
                    return Ok(offer);
                }
                tracing::debug!(server = %server_of(&offer), "offer without boot information passed over");
            }
        }
        Err(DhcpError::NoOffer(start.elapsed()))
    }

    fn suits(&self, offer: &Message) -> bool {
        let lease = lease_of(offer);
        match self.asker.client {
            Client::Pxe => {
                lease.boot_file.is_some() && lease.class.as_deref().is_none_or(|class| class != "HTTPClient")
            }
            Client::Http => lease.boot_file.is_some() && lease.class.as_deref() == Some("HTTPClient"),
            Client::Ipxe | Client::Os => true,
        }
    }

    async fn request(&self, offer: &Message, retry: Retry) -> Result<Lease, DhcpError> {
        let server = server_of(offer);
        let mut until = Instant::now();
        for wait in retry.waits() {
            let mut message = self.message(MessageType::Request);
            message
                .opts_mut()
                .insert(DhcpOption::RequestedIpAddress(offer.yiaddr()));
            message.opts_mut().insert(DhcpOption::ServerIdentifier(server));
            self.send(&message, Ipv4Addr::BROADCAST)?;
            until += wait;
            match self
                .answer(until, |kind| matches!(kind, MessageType::Ack | MessageType::Nak))
                .await?
            {
                Some((MessageType::Ack, ack)) => return Ok(lease_of(&ack)),
                Some((_, nak)) => return Err(DhcpError::Nak(server_of(&nak))),
                None => {}
            }
        }
        Err(DhcpError::NoAck {
            server,
            address: offer.yiaddr(),
        })
    }

    fn message(&self, kind: MessageType) -> Message {
        let zero = Ipv4Addr::UNSPECIFIED;
        let mut message = Message::new_with_id(self.xid, zero, zero, zero, zero, &self.stack.mac().0);
        message.set_opcode(Opcode::BootRequest).set_htype(HType::Eth);
        // We cannot take a unicast before we have the address: ask for broadcast, as EDK2 and iPXE do.
        message.set_flags(Flags::default().set_broadcast());
        let options = message.opts_mut();
        options.insert(DhcpOption::MessageType(kind));
        options.insert(DhcpOption::MaxMessageSize(1472));
        self.identify(options);
        message
    }

    fn identify(&self, options: &mut DhcpOptions) {
        let mut wanted = vec![
            OptionCode::SubnetMask,
            OptionCode::Router,
            OptionCode::DomainNameServer,
            OptionCode::Hostname,
            OptionCode::AddressLeaseTime,
            OptionCode::ServerIdentifier,
        ];
        let raw = |code: OptionCode, data: Vec<u8>| DhcpOption::Unknown(UnknownOption::new(code, data));
        let (class, arch) = match self.asker.client {
            Client::Pxe => ("PXEClient:Arch:00007:UNDI:003016", 7u16),
            Client::Http => ("HTTPClient:Arch:00016:UNDI:003016", 16),
            Client::Ipxe => ("PXEClient:Arch:00007:UNDI:003010", 7),
            Client::Os => {
                wanted.push(OptionCode::ClasslessStaticRoute);
                options.insert(DhcpOption::ParameterRequestList(wanted));
                options.extend_hostname(self.asker.hostname);
                return;
            }
        };
        wanted.extend([
            OptionCode::TFTPServerName,
            OptionCode::BootfileName,
            OptionCode::ClassIdentifier,
        ]);
        options.insert(DhcpOption::ClassIdentifier(class.as_bytes().to_vec()));
        options.insert(raw(
            OptionCode::ClientSystemArchitecture,
            arch.to_be_bytes().to_vec(),
        ));
        // RFC 4578 2.2: UNDI, major 3, minor 16.
        options.insert(raw(OptionCode::ClientNetworkInterface, vec![1, 3, 16]));
        // RFC 4578 2.3: type 0, then the GUID as SMBIOS holds it (first three fields little-endian).
        let mut id = vec![0];
        id.extend(self.asker.uuid.to_bytes_le());
        options.insert(raw(OptionCode::ClientMachineIdentifier, id));
        if self.asker.client == Client::Ipxe {
            wanted.push(OptionCode::Unknown(IPXE_ENCAPSULATED));
            options.insert(DhcpOption::UserClass(b"iPXE".to_vec()));
            // Features (ipxe/features.h), each with value 1: HTTP 0x13, TFTP 0x15, EFI 0x24.
            let features = vec![0x13, 1, 1, 0x15, 1, 1, 0x24, 1, 1];
            options.insert(raw(OptionCode::Unknown(IPXE_ENCAPSULATED), features));
        }
        options.insert(DhcpOption::ParameterRequestList(wanted));
    }

    fn send(&self, message: &Message, to: Ipv4Addr) -> Result<(), DhcpError> {
        let bytes = message.to_vec().map_err(io::Error::other)?;
        self.socket.send_to(&bytes, SocketAddrV4::new(to, SERVER_PORT))?;
        Ok(())
    }

    /// The next answer to us of a wanted kind, until the deadline.
    async fn answer(
        &self,
        until: Instant,
        wanted: impl Fn(MessageType) -> bool,
    ) -> Result<Option<(MessageType, Message)>, DhcpError> {
        loop {
            let Ok(received) = timeout_at(until, self.socket.recv_from()).await else {
                return Ok(None);
            };
            let (bytes, _) = received?;
            let Ok(message) = Message::decode(&mut Decoder::new(&bytes)) else {
                continue;
            };
            let ours = message.opcode() == Opcode::BootReply
                && message.xid() == self.xid
                && message.chaddr() == self.stack.mac().0;
            if let Some(DhcpOption::MessageType(kind)) = message.opts().get(OptionCode::MessageType)
                && ours
                && wanted(*kind)
            {
                return Ok(Some((*kind, message.clone())));
            }
        }
    }
}

/// iPXE's own options travel inside this one (ipxe.org/howto/dhcpd).
const IPXE_ENCAPSULATED: u8 = 175;

trait Hostname {
    fn extend_hostname(&mut self, name: Option<&str>);
}

impl Hostname for DhcpOptions {
    fn extend_hostname(&mut self, name: Option<&str>) {
        if let Some(name) = name {
            self.insert(DhcpOption::Hostname(name.to_owned()));
        }
    }
}

fn server_of(message: &Message) -> Ipv4Addr {
    match message.opts().get(OptionCode::ServerIdentifier) {
        Some(DhcpOption::ServerIdentifier(server)) => *server,
        _ => message.siaddr(),
    }
}

/// Reads an offer or an acknowledgement; what is missing gets the protocol's default.
fn lease_of(message: &Message) -> Lease {
    let options = message.opts();
    let text = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        let text = text.trim_end_matches('\0').trim();
        (!text.is_empty()).then(|| text.to_owned())
    };
    let mask = match options.get(OptionCode::SubnetMask) {
        Some(DhcpOption::SubnetMask(mask)) => ipnet::ipv4_mask_to_prefix(*mask).ok(),
        _ => None,
    };
    let (mut routers, mut dns, mut routes) = (Vec::new(), Vec::new(), Vec::new());
    if let Some(DhcpOption::Router(list)) = options.get(OptionCode::Router) {
        routers.clone_from(list);
    }
    if let Some(DhcpOption::DomainNameServer(list)) = options.get(OptionCode::DomainNameServer) {
        dns.clone_from(list);
    }
    if let Some(DhcpOption::ClasslessStaticRoute(list)) = options.get(OptionCode::ClasslessStaticRoute) {
        routes.extend(list.iter().map(|(to, via)| Route { to: *to, via: *via }));
    }
    let tftp = match options.get(OptionCode::TFTPServerName) {
        Some(DhcpOption::TFTPServerName(name)) => text(name).and_then(|name| name.parse().ok()),
        _ => None,
    };
    let siaddr = Some(message.siaddr()).filter(|siaddr| !siaddr.is_unspecified());
    let boot_file = match options.get(OptionCode::BootfileName) {
        Some(DhcpOption::BootfileName(name)) => text(name),
        _ => message.fname().and_then(text),
    };
    let class = match options.get(OptionCode::ClassIdentifier) {
        Some(DhcpOption::ClassIdentifier(class)) => text(class),
        _ => None,
    };
    let seconds = match options.get(OptionCode::AddressLeaseTime) {
        Some(DhcpOption::AddressLeaseTime(seconds)) => *seconds,
        _ => 3600,
    };
    let server = server_of(message);
    Lease {
        address: Address {
            ip: message.yiaddr(),
            prefix: mask.unwrap_or(24),
        },
        routers,
        routes,
        dns,
        server,
        next_server: siaddr.or(tftp).unwrap_or(server),
        boot_file,
        class,
        lifetime: Duration::from_secs(u64::from(seconds.max(16))),
    }
}
