//! Tables of the DHCP engine: who asks how, and what goes back, as bytes; hostile packets.

use super::packet::{PACKET_MIN, read_options};
use super::*;
use proptest::prelude::*;

const MAC: Mac = Mac([0x52, 0x54, 0, 0, 0, 1]);

fn settings() -> Settings {
    Settings {
        server: [192, 168, 100, 4].into(),
        http_url: "http://192.168.100.4:8080".into(),
        lease_seconds: 3600,
        boot_files: ["snponly.efi", "vmlinuz"].map(str::to_owned).into(),
    }
}

fn plan() -> BootPlan {
    BootPlan {
        operation: "op-1".into(),
        purpose: steelyard_core::intent::BootPurpose::Inspect,
        mac: MAC.to_string(),
        address: "192.168.100.10/24".parse().unwrap(),
        gateway: Some([192, 168, 100, 1].into()),
        dns: vec![[192, 168, 100, 2].into(), [1, 1, 1, 1].into()],
        ntp: vec![[192, 168, 100, 3].into()],
        node_uuid: "u".into(),
    }
}

/// A request as bytes; not made with the codec that reads it.
struct Packet(Vec<u8>);

impl Packet {
    fn new(kind: u8) -> Self {
        let mut bytes = vec![0; 236];
        bytes[..4].copy_from_slice(&[1, 1, 6, 0]);
        bytes[4..8].copy_from_slice(&[0xde, 0xad, 0xbe, 0xef]);
        bytes[10] = 0x80;
        bytes[28..34].copy_from_slice(&MAC.0);
        bytes.extend_from_slice(&[99, 130, 83, 99, 53, 1, kind]);
        Packet(bytes)
    }

    fn option(mut self, code: u8, data: &[u8]) -> Self {
        self.0.extend_from_slice(&[code, data.len() as u8]);
        self.0.extend_from_slice(data);
        self
    }

    fn field(mut self, at: usize, bytes: &[u8]) -> Self {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    fn pxe(self, arch: u8) -> Self {
        self.option(60, b"PXEClient:Arch:00007:UNDI:003001")
            .option(93, &[0, arch])
            .option(97, &[0; 17])
    }

    fn send(mut self) -> Outcome {
        self.0.push(255);
        answer(&settings(), &self.0, |mac| (mac == MAC).then(plan))
    }

    fn reply(self) -> Answered {
        match self.send() {
            Outcome::Reply(reply) => Answered(reply),
            Outcome::Dropped(dropped) => panic!("dropped: {dropped:?}"),
        }
    }

    fn why(self) -> Why {
        match self.send() {
            Outcome::Dropped(dropped) => dropped.why,
            Outcome::Reply(reply) => panic!("answered with {:?}", reply.kind),
        }
    }
}

struct Answered(Reply);

impl Answered {
    fn option(&self, code: u8) -> Option<Vec<u8>> {
        read_options(&self.0.bytes[240..]).remove(&code)
    }
    fn text(&self, code: u8) -> String {
        String::from_utf8(self.option(code).unwrap_or_default()).unwrap()
    }
    fn field(&self, at: usize, len: usize) -> &[u8] {
        &self.0.bytes[at..at + len]
    }
}

#[test]
fn firmware_gets_address_and_boot_file() {
    let reply = Packet::new(1).pxe(7).option(61, &[1, 2, 3]).reply();
    assert_eq!(reply.0.kind, Kind::Offer);
    assert_eq!(reply.0.to.to_string(), "255.255.255.255:68");
    assert_eq!(reply.field(0, 3), [2, 1, 6], "BOOTREPLY on Ethernet");
    assert_eq!(reply.field(4, 4), [0xde, 0xad, 0xbe, 0xef]);
    assert_eq!(
        reply.field(16, 8),
        [192, 168, 100, 10, 192, 168, 100, 4],
        "yiaddr, siaddr"
    );
    assert_eq!(reply.field(28, 6), MAC.0);
    assert_eq!(reply.field(108, 12), *b"snponly.efi\0");
    let want: [(u8, &[u8]); 12] = [
        (53, &[2]),
        (54, &[192, 168, 100, 4]),
        (1, &[255, 255, 255, 0]),
        (3, &[192, 168, 100, 1]),
        (6, &[192, 168, 100, 2, 1, 1, 1, 1]),
        (42, &[192, 168, 100, 3]),
        (51, &[0, 0, 14, 16]),
        (60, b"PXEClient"),
        (43, &[6, 1, 8, 255]),
        (66, b"192.168.100.4"),
        (67, b"snponly.efi"),
        (61, &[1, 2, 3]),
    ];
    for (code, data) in want {
        assert_eq!(reply.option(code).as_deref(), Some(data), "option {code}");
    }
    assert_eq!(
        reply.option(97),
        Some(vec![0; 17]),
        "the machine's UUID goes back"
    );
    assert!(reply.0.bytes.len() >= 300);
}

#[test]
fn somebody_elses_codec_reads_it() {
    use dhcproto::v4::{Decodable, Decoder, DhcpOption, Message, MessageType, OptionCode};
    let reply = Packet::new(1).pxe(7).option(61, &[1, 2, 3]).reply();
    let message = Message::decode(&mut Decoder::new(&reply.0.bytes)).unwrap();
    assert_eq!(message.opts().msg_type(), Some(MessageType::Offer));
    assert_eq!(
        (
            message.yiaddr(),
            message.fname_str().unwrap().unwrap().trim_end_matches('\0')
        ),
        ([192, 168, 100, 10].into(), "snponly.efi")
    );
    assert_eq!(
        message.opts().get(OptionCode::AddressLeaseTime),
        Some(&DhcpOption::AddressLeaseTime(3600))
    );
    let servers = vec![[192, 168, 100, 2].into(), [1, 1, 1, 1].into()];
    assert_eq!(
        message.opts().get(OptionCode::DomainNameServer),
        Some(&DhcpOption::DomainNameServer(servers))
    );
}

#[test]
fn ipxe_gets_its_script() {
    for packet in [
        Packet::new(1).pxe(7).option(77, b"iPXE"),
        Packet::new(1).pxe(7).option(77, b"\x04iPXE"),
        Packet::new(1).option(175, &[0xb1, 4, 0, 0, 0, 0]),
    ] {
        let reply = packet.reply();
        assert_eq!(reply.text(67), "http://192.168.100.4:8080/ipxe/52-54-00-00-00-01");
        assert_eq!(reply.option(175), Some(vec![176, 1, 1]));
        assert_eq!(reply.option(60), None);
    }
}

#[test]
fn http_boot_is_echoed() {
    let reply = Packet::new(1)
        .option(60, b"HTTPClient:Arch:00016:UNDI:003001")
        .option(93, &[0, 16])
        .reply();
    assert_eq!(
        (reply.text(60).as_str(), reply.text(67).as_str()),
        ("HTTPClient", "http://192.168.100.4:8080/boot/snponly.efi")
    );
    assert_eq!(reply.option(66), None);
}

#[test]
fn a_ramdisk_gets_an_address_only() {
    let reply = Packet::new(1).option(60, b"udhcp 1.36").reply();
    assert!([43, 66, 67, 175].iter().all(|code| reply.option(*code).is_none()));
    assert_eq!(reply.field(20, 4), [0; 4], "no next-server");
}

#[test]
fn requests_are_acked_or_refused() {
    let (ours, right, wrong) = ([192, 168, 100, 4], [192, 168, 100, 10], [192, 168, 100, 77]);
    let select = Packet::new(3).option(54, &ours).option(50, &right).reply();
    assert_eq!(select.0.kind, Kind::Ack);
    assert_eq!(
        Packet::new(3).option(50, &right).reply().0.kind,
        Kind::Ack,
        "init-reboot"
    );
    let renew = Packet::new(3).field(12, &right).reply();
    assert_eq!(
        (renew.0.kind, renew.0.to.to_string().as_str()),
        (Kind::Ack, "192.168.100.10:68")
    );
    for packet in [
        Packet::new(3).option(54, &ours).option(50, &wrong),
        Packet::new(3).option(50, &wrong),
        Packet::new(3).field(12, &wrong),
    ] {
        let nak = packet.reply();
        assert_eq!(
            (nak.0.kind, nak.0.to.to_string().as_str()),
            (Kind::Nak, "255.255.255.255:68")
        );
        assert_eq!(
            (nak.field(16, 4), nak.option(51)),
            ([0; 4].as_slice(), None),
            "no address in a NAK"
        );
    }
    assert_eq!(
        Packet::new(3).option(54, &[10, 0, 0, 1]).why(),
        Why::OtherServer([10, 0, 0, 1].into())
    );
}

#[test]
fn inform_brings_options_without_a_lease() {
    let reply = Packet::new(8).field(12, &[192, 168, 100, 10]).pxe(7).reply();
    assert_eq!(
        (reply.0.kind, reply.field(16, 4), reply.option(51)),
        (Kind::Ack, [0; 4].as_slice(), None)
    );
    assert_eq!(
        (reply.text(67).as_str(), reply.0.to.to_string().as_str()),
        ("snponly.efi", "192.168.100.10:68")
    );
}

#[test]
fn relays_get_their_own_words_back() {
    // Sub-options in an order that is not theirs by number: they must come back byte for byte.
    let info = [2, 3, 9, 9, 9, 1, 4, 1, 2, 3, 4];
    let reply = Packet::new(1)
        .pxe(7)
        .field(24, &[192, 168, 100, 1])
        .option(82, &info)
        .reply();
    assert_eq!(reply.0.to.to_string(), "192.168.100.1:67");
    assert_eq!(reply.option(82).as_deref(), Some(info.as_slice()));
    assert_eq!(reply.field(24, 4), [192, 168, 100, 1]);
    let long = vec![7; 255];
    let reply = Packet::new(1)
        .option(82, &long)
        .option(82, &[8])
        .field(24, &[192, 168, 100, 1])
        .reply();
    assert_eq!(
        reply.option(82),
        Some([long, vec![8]].concat()),
        "split in two, both ways"
    );
    let nak = Packet::new(3)
        .option(50, &[1, 2, 3, 4])
        .field(24, &[192, 168, 100, 1])
        .field(10, &[0])
        .reply();
    assert_eq!(
        (nak.0.kind, nak.field(10, 1)),
        (Kind::Nak, [0x80].as_slice()),
        "the relay must broadcast it"
    );
}

#[test]
fn drops_say_why() {
    let relay = Packet::new(1).field(24, &[10, 9, 9, 1]).why();
    assert!(
        relay.to_string().contains("10.9.9.1") && relay.to_string().contains("192.168.100.0/24"),
        "{relay}"
    );
    let stranger = Packet::new(1).field(28, &[2, 2, 2, 2, 2, 2]).send();
    let Outcome::Dropped(dropped) = stranger else {
        panic!("a stranger was answered")
    };
    assert_eq!((dropped.mac, dropped.why), (Some(Mac([2; 6])), Why::NoPlan));
    assert!(matches!(
        Packet::new(1).pxe(11).why(),
        Why::NoBootFile { arch: 11, .. }
    ));
    assert_eq!(Packet::new(1).pxe(99).why(), Why::UnknownArch(99));
    assert_eq!(
        Packet::new(4).option(50, &[192, 168, 100, 10]).why(),
        Why::Declined([192, 168, 100, 10].into())
    );
    assert_eq!(Packet::new(7).why(), Why::Released);
    assert_eq!(
        Packet::new(2).why(),
        Why::NotForServers,
        "an OFFER of somebody else"
    );
    assert_eq!(Packet::new(1).field(0, &[2]).why(), Why::NotForServers, "a reply");
    assert_eq!(
        Packet::new(1).field(2, &[16]).why(),
        Why::NotForServers,
        "InfiniBand's length"
    );
}

/// What firmware sends, cut, bent and filled with noise.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let options = prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..40)), 0..12);
    (
        1u8..9,
        options,
        any::<prop::sample::Index>(),
        prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
    )
        .prop_map(|(kind, options, cut, bend)| {
            let mut packet = Packet::new(kind);
            for (code, data) in &options {
                packet = packet.option(*code, data);
            }
            let mut bytes = packet.0;
            if let Some((at, value)) = bend {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            // One in eight is cut.
            if cut.index(8) == 0 {
                bytes.truncate(cut.index(bytes.len() + 1));
            }
            bytes
        })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 2000, ..ProptestConfig::default() })]
    #[test]
    fn no_packet_hurts(bytes in prop_oneof![hostile(), prop::collection::vec(any::<u8>(), 0..600)]) {
        if let Outcome::Reply(reply) = answer(&settings(), &bytes, |mac| (mac == MAC).then(plan)) {
            prop_assert_eq!(reply.mac, MAC);
            prop_assert!(reply.bytes.len() >= PACKET_MIN && reply.bytes[0] == 2);
            let yiaddr = &reply.bytes[16..20];
            prop_assert!(yiaddr == [0; 4] || yiaddr == [192, 168, 100, 10]);
        }
    }
}
