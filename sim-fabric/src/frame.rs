//! Ethernet headers as a switch reads them: addresses, one optional 802.1Q tag, the EtherType. The payload
//! stays bytes; what a gateway needs of ARP, IPv4 and ICMP is smoltcp's codecs' work (`dataplane/gateway.rs`).

use bytes::{BufMut, Bytes, BytesMut};

use crate::names::Mac;

pub(crate) const HEADER: usize = 14;
/// Header, one tag and the 9216-byte payload that leaves usually carry (jumbo frames).
pub(crate) const MAX_FRAME: usize = HEADER + 4 + 9216;
pub(crate) const ARP: u16 = 0x0806;
pub(crate) const IPV4: u16 = 0x0800;
const DOT1Q: u16 = 0x8100;

/// What the header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) dst: Mac,
    pub(crate) src: Mac,
    /// The VLAN id of an 802.1Q tag; a priority tag (id 0) counts as untagged (802.1Q 6.9).
    pub(crate) vlan: Option<u16>,
    tagged: bool,
    /// The EtherType behind the tag.
    pub(crate) ethertype: u16,
}

impl Header {
    /// None: not a frame that a switch would carry (runt, oversized, or sent by a group address).
    pub(crate) fn parse(frame: &[u8]) -> Option<Header> {
        if frame.len() < HEADER || frame.len() > MAX_FRAME {
            return None;
        }
        let dst = Mac(frame[0..6].try_into().ok()?);
        let src = Mac(frame[6..12].try_into().ok()?);
        let outer = u16::from_be_bytes([frame[12], frame[13]]);
        let (vlan, ethertype) = if outer == DOT1Q {
            let tag = frame.get(14..18)?;
            let vlan = u16::from_be_bytes([tag[0], tag[1]]) & 0x0fff;
            ((vlan != 0).then_some(vlan), u16::from_be_bytes([tag[2], tag[3]]))
        } else {
            (None, outer)
        };
        (!src.is_group()).then_some(Header {
            dst,
            src,
            vlan,
            tagged: outer == DOT1Q,
            ethertype,
        })
    }

    /// 01:80:c2:00:00:00 to :0f end at the port that receives them (802.1Q table 8-1): STP, LACP, LLDP.
    pub(crate) fn is_link_local(&self) -> bool {
        let Mac([a, b, c, d, e, f]) = self.dst;
        [a, b, c, d, e] == [0x01, 0x80, 0xc2, 0, 0] && f <= 0x0f
    }

    /// The frame without its tag, as networks carry it.
    pub(crate) fn untag(&self, frame: Bytes) -> Bytes {
        if !self.tagged {
            return frame;
        }
        let mut plain = BytesMut::with_capacity(frame.len() - 4);
        plain.put_slice(&frame[..12]);
        plain.put_slice(&frame[16..]);
        plain.freeze()
    }
}

/// The frame with a tag for `vlan`, as a tagged member sees it.
pub(crate) fn tag(frame: &[u8], vlan: u16) -> Bytes {
    let mut tagged = BytesMut::with_capacity(frame.len() + 4);
    tagged.put_slice(&frame[..12]);
    tagged.put_u16(DOT1Q);
    tagged.put_u16(vlan);
    tagged.put_slice(&frame[12..]);
    tagged.freeze()
}

/// A short name for what a frame is, for people: `DHCP DISCOVER`, `ARP`, `IPv4`.
pub(crate) fn describe(frame: &[u8]) -> String {
    let Some(header) = Header::parse(frame) else {
        return "malformed".to_owned();
    };
    let offset = if header.tagged { HEADER + 4 } else { HEADER };
    match header.ethertype {
        ARP => "ARP".to_owned(),
        IPV4 => dhcp_kind(&frame[offset..]).map_or("IPv4".to_owned(), |kind| format!("DHCP {kind}")),
        0x86dd => "IPv6".to_owned(),
        0x88cc => "LLDP".to_owned(),
        other => format!("EtherType 0x{other:04x}"),
    }
}

/// The message type (option 53, RFC 2132 9.6) of a BOOTP request in an IPv4 packet.
fn dhcp_kind(packet: &[u8]) -> Option<&'static str> {
    const BOOTP_OPTIONS: usize = 236 + 4;
    let header = usize::from(packet.first()? & 0x0f) * 4;
    let udp = packet.get(header..)?;
    if packet.get(9) != Some(&17) || udp.get(2..4)? != [0, 67] {
        return None;
    }
    let mut options = udp.get(8 + BOOTP_OPTIONS..)?;
    loop {
        match *options.first()? {
            0 => options = &options[1..],
            53 => {
                return Some(match options.get(2)? {
                    1 => "DISCOVER",
                    3 => "REQUEST",
                    4 => "DECLINE",
                    7 => "RELEASE",
                    8 => "INFORM",
                    _ => "message",
                });
            }
            _ => options = options.get(2 + usize::from(*options.get(1)?)..)?,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(ethertype: &[u8], payload: &[u8]) -> Bytes {
        let mut f = vec![0xff; 6];
        f.extend([0x52, 0x54, 0, 0, 0, 1]);
        f.extend(ethertype);
        f.extend(payload);
        f.into()
    }

    #[test]
    fn headers() {
        // ethertype bytes, payload, expected (vlan, ethertype)
        let table: &[(&[u8], &[u8], Option<(Option<u16>, u16)>)] = &[
            (&[8, 0], &[0; 20], Some((None, IPV4))),
            (&[0x81, 0], &[0x00, 0x64, 8, 6], Some((Some(100), ARP))),
            (&[0x81, 0], &[0xe0, 0x64, 8, 6], Some((Some(100), ARP))),
            (&[0x81, 0], &[0xe0, 0x00, 8, 6], Some((None, ARP))),
            (&[0x81, 0], &[0x00, 0x64], None),
            (&[8, 0], &[0; 9300], None),
        ];
        for (kind, payload, want) in table {
            let got = Header::parse(&frame(kind, payload)).map(|h| (h.vlan, h.ethertype));
            assert_eq!(got, *want, "{kind:x?}");
        }
        assert_eq!(Header::parse(&[0; 13]), None);
        let mut group_source = frame(&[8, 0], &[]).to_vec();
        group_source[6] = 1;
        assert_eq!(Header::parse(&group_source), None);
    }

    #[test]
    fn a_tag_comes_off_as_it_went_on() {
        let plain = frame(&[8, 0], b"payload");
        let tagged = tag(&plain, 7);
        let header = Header::parse(&tagged).unwrap();
        assert_eq!(header.vlan, Some(7));
        assert_eq!(header.untag(tagged), plain);
    }

    #[test]
    fn hostile_dhcp_is_only_ipv4() {
        let mut packet = vec![0x45; 20];
        packet[9] = 17;
        packet.extend([0, 68, 0, 67, 0, 0, 0, 0]);
        packet.extend([0; 240]);
        assert_eq!(describe(&frame(&[8, 0], &packet)), "IPv4");
        packet.extend([12, 200]);
        assert_eq!(describe(&frame(&[8, 0], &packet)), "IPv4");
        packet.truncate(20 + 8 + 240);
        packet.extend([0, 53, 1, 1, 255]);
        assert_eq!(describe(&frame(&[8, 0], &packet)), "DHCP DISCOVER");
    }
}
