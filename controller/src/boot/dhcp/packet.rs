//! DHCP on the wire (RFC 2131 2, RFC 2132, RFC 3396): what we read of a request, and the replies that we write.
//!
//! A codec of our own: dhcproto 0.15 asserts option lengths while it decodes, so one packet from anybody on the wire
//! would end the server, and it writes a relay's option twice when it is given back unparsed.

use super::{Mac, Why};
use std::{collections::BTreeMap, net::Ipv4Addr};

/// Codes of the options that we know.
pub(super) mod option {
    pub(crate) const NETMASK: u8 = 1;
    pub(crate) const ROUTER: u8 = 3;
    pub(crate) const DNS: u8 = 6;
    pub(crate) const NTP: u8 = 42;
    pub(crate) const VENDOR: u8 = 43;
    pub(crate) const REQUESTED_ADDRESS: u8 = 50;
    pub(crate) const LEASE_TIME: u8 = 51;
    pub(crate) const MESSAGE_TYPE: u8 = 53;
    pub(crate) const SERVER: u8 = 54;
    pub(crate) const MESSAGE: u8 = 56;
    pub(crate) const CLASS: u8 = 60;
    pub(crate) const CLIENT_ID: u8 = 61;
    pub(crate) const TFTP_SERVER: u8 = 66;
    pub(crate) const BOOT_FILE: u8 = 67;
    pub(crate) const USER_CLASS: u8 = 77;
    pub(crate) const RELAY: u8 = 82;
    pub(crate) const ARCHITECTURE: u8 = 93;
    pub(crate) const MACHINE_ID: u8 = 97;
    pub(crate) const IPXE: u8 = 175;
}

/// Fixed fields and the magic cookie.
const HEADER: usize = 240;
const MAGIC: [u8; 4] = [99, 130, 83, 99];
/// BOOTP's smallest packet: old boot ROMs drop shorter ones (RFC 1542 2.1).
pub(super) const PACKET_MIN: usize = 300;
/// The `file` field with its final zero (RFC 2131 2).
const FILE_FIELD: usize = 128;

/// DHCP message types (RFC 2132 9.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Discover = 1,
    Offer = 2,
    Request = 3,
    Decline = 4,
    Ack = 5,
    Nak = 6,
    Release = 7,
    Inform = 8,
}

impl Kind {
    const ALL: [Kind; 8] = [
        Kind::Discover,
        Kind::Offer,
        Kind::Request,
        Kind::Decline,
        Kind::Ack,
        Kind::Nak,
        Kind::Release,
        Kind::Inform,
    ];
}

/// What a client on Ethernet asks.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) kind: Kind,
    pub(super) xid: [u8; 4],
    pub(super) broadcast: bool,
    pub(super) ciaddr: Ipv4Addr,
    pub(super) giaddr: Ipv4Addr,
    pub(super) mac: Mac,
    options: BTreeMap<u8, Vec<u8>>,
}

impl Request {
    pub(super) fn parse(packet: &[u8]) -> Result<Self, Why> {
        let field = |at: usize| packet.get(at..at + 4).and_then(|b| <[u8; 4]>::try_from(b).ok());
        let short = || Why::Unreadable(format!("{} bytes are too few", packet.len()));
        if packet.len() < HEADER {
            return Err(short());
        }
        if field(236) != Some(MAGIC) {
            return Err(Why::Unreadable(
                "it is plain BOOTP, without DHCP's magic number".into(),
            ));
        }
        // BOOTREQUEST on Ethernet with a six-byte address.
        if packet[..3] != [1, 1, 6] {
            return Err(Why::NotForServers);
        }
        let options = read_options(&packet[HEADER..]);
        let kind = match options.get(&option::MESSAGE_TYPE).map(Vec::as_slice) {
            Some([code]) => Kind::ALL.into_iter().find(|kind| *kind as u8 == *code),
            _ => None,
        };
        let mut mac = Mac([0; 6]);
        mac.0.copy_from_slice(&packet[28..34]);
        Ok(Request {
            kind: kind.ok_or(Why::NotForServers)?,
            xid: field(4).ok_or_else(short)?,
            broadcast: packet[10] & 0x80 != 0,
            ciaddr: field(12).ok_or_else(short)?.into(),
            giaddr: field(24).ok_or_else(short)?.into(),
            mac,
            options,
        })
    }

    pub(super) fn option(&self, code: u8) -> Option<&[u8]> {
        self.options.get(&code).map(Vec::as_slice)
    }

    pub(super) fn address(&self, code: u8) -> Option<Ipv4Addr> {
        self.option(code)
            .and_then(|data| <[u8; 4]>::try_from(data).ok())
            .map(Ipv4Addr::from)
    }
}

/// Options by code; split ones joined (RFC 3396). One that is cut off ends the list.
pub(super) fn read_options(mut rest: &[u8]) -> BTreeMap<u8, Vec<u8>> {
    let mut options: BTreeMap<u8, Vec<u8>> = BTreeMap::new();
    loop {
        match *rest {
            [0, ..] => rest = &rest[1..],
            [255, ..] | [] | [_] => return options,
            [code, length, ..] => {
                let end = 2 + usize::from(length);
                let Some(data) = rest.get(2..end) else {
                    return options;
                };
                options.entry(code).or_default().extend_from_slice(data);
                rest = &rest[end..];
            }
        }
    }
}

/// A reply being made.
#[derive(Clone, Debug)]
pub(super) struct Response {
    xid: [u8; 4],
    pub(super) broadcast: bool,
    pub(super) ciaddr: Ipv4Addr,
    pub(super) yiaddr: Ipv4Addr,
    pub(super) siaddr: Ipv4Addr,
    giaddr: Ipv4Addr,
    mac: Mac,
    /// Also in the fixed field, if it fits.
    pub(super) file: String,
    options: BTreeMap<u8, Vec<u8>>,
}

impl Response {
    pub(super) fn to(request: &Request, kind: Kind) -> Self {
        let none = Ipv4Addr::UNSPECIFIED;
        Response {
            xid: request.xid,
            broadcast: request.broadcast,
            ciaddr: none,
            yiaddr: none,
            siaddr: none,
            giaddr: request.giaddr,
            mac: request.mac,
            file: String::new(),
            options: BTreeMap::from([(option::MESSAGE_TYPE, vec![kind as u8])]),
        }
    }

    pub(super) fn put(&mut self, code: u8, data: impl AsRef<[u8]>) {
        self.options.insert(code, data.as_ref().to_vec());
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0; HEADER];
        bytes[..3].copy_from_slice(&[2, 1, 6]);
        bytes[4..8].copy_from_slice(&self.xid);
        bytes[10] = if self.broadcast { 0x80 } else { 0 };
        for (at, address) in [
            (12, self.ciaddr),
            (16, self.yiaddr),
            (20, self.siaddr),
            (24, self.giaddr),
        ] {
            bytes[at..at + 4].copy_from_slice(&address.octets());
        }
        bytes[28..34].copy_from_slice(&self.mac.0);
        if self.file.len() < FILE_FIELD {
            bytes[108..108 + self.file.len()].copy_from_slice(self.file.as_bytes());
        }
        bytes[236..HEADER].copy_from_slice(&MAGIC);
        // The message type first, because simple clients look there; a relay's own last (RFC 3046 2.1).
        let order = |code: &u8| match *code {
            option::MESSAGE_TYPE => 0,
            option::RELAY => 2,
            _ => 1,
        };
        let mut options: Vec<_> = self.options.iter().collect();
        options.sort_by_key(|(code, _)| (order(code), **code));
        for (code, data) in options {
            // RFC 3396: longer ones are split. An empty one still has its code and length.
            let chunks: Vec<&[u8]> = if data.is_empty() {
                vec![&[]]
            } else {
                data.chunks(255).collect()
            };
            for chunk in chunks {
                bytes.extend_from_slice(&[*code, chunk.len() as u8]);
                bytes.extend_from_slice(chunk);
            }
        }
        bytes.push(255);
        bytes.resize(bytes.len().max(PACKET_MIN), 0);
        bytes
    }
}
