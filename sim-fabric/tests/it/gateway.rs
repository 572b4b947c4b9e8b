//! Gateways: ARP, ping, routing by the policy, and every way to say no. Packets are built here by hand, since
//! the fabric must not be judged by the codec that it uses.

use std::{net::Ipv4Addr, time::Duration};

use bytes::Bytes;
use sim_fabric::{Denied, Mac, Port, Settings, Topology};

use crate::support::{COMMIT_DELAY, Lab, ether, mac, nic, site};

const SERVICE: [u8; 4] = [192, 168, 101, 254];
const SERVICE_MAC: &str = "02:00:00:00:00:fe";

fn checksum(bytes: &[u8]) -> [u8; 2] {
    let words = bytes
        .chunks(2)
        .map(|w| u32::from(w[0]) << 8 | u32::from(*w.get(1).unwrap_or(&0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}

fn arp(op: u8, sha: Mac, spa: [u8; 4], tha: Mac, tpa: [u8; 4]) -> Vec<u8> {
    let mut p = vec![0, 1, 8, 0, 6, 4, 0, op];
    p.extend(sha.0);
    p.extend(spa);
    p.extend(tha.0);
    p.extend(tpa);
    p
}

fn ipv4(src: [u8; 4], dst: [u8; 4], ttl: u8, proto: u8, payload: &[u8]) -> Vec<u8> {
    let mut p = vec![0x45, 0, 0, 0, 0, 1, 0, 0, ttl, proto, 0, 0];
    p.extend(src);
    p.extend(dst);
    p[2..4].copy_from_slice(&((20 + payload.len()) as u16).to_be_bytes());
    let sum = checksum(&p);
    p[10..12].copy_from_slice(&sum);
    p.extend(payload);
    p
}

fn echo(kind: u8) -> Vec<u8> {
    let mut p = vec![kind, 0, 0, 0, 0xbe, 0xef, 0, 7, b'p', b'i', b'n', b'g'];
    let sum = checksum(&p);
    p[2..4].copy_from_slice(&sum);
    p
}

/// What a test says of an IPv4 packet that came out.
#[derive(Debug, PartialEq, Eq)]
struct Got {
    src_mac: Mac,
    src: [u8; 4],
    dst: [u8; 4],
    ttl: u8,
    proto: u8,
    payload: Vec<u8>,
}

fn parse(frame: &Bytes) -> Got {
    assert_eq!(frame[12..14], [8, 0], "IPv4");
    let p = &frame[14..];
    assert_eq!(checksum(&p[..20]), [0, 0], "header checksum");
    let array = |at: usize| p[at..at + 4].try_into().unwrap();
    let payload = p[20..usize::from(u16::from_be_bytes([p[2], p[3]]))].to_vec();
    if p[9] == 1 {
        assert_eq!(checksum(&payload), [0, 0], "ICMP checksum");
    }
    Got {
        src_mac: Mac(frame[6..12].try_into().unwrap()),
        src: array(12),
        dst: array(16),
        ttl: p[8],
        proto: p[9],
        payload,
    }
}

/// A host with a gateway that it has resolved.
struct Host {
    port: Port,
    mac: Mac,
    ip: [u8; 4],
    gateway: Mac,
}

impl Host {
    fn new(port: Port, mac: Mac, ip: [u8; 4]) -> Host {
        let mut host = Host {
            port,
            mac,
            ip,
            gateway: Mac::BROADCAST,
        };
        let router = [ip[0], ip[1], ip[2], 1];
        host.port.send(ether(
            Mac::BROADCAST,
            mac,
            0x0806,
            &arp(1, mac, ip, Mac([0; 6]), router),
        ));
        let reply = host.port.try_recv().expect("the gateway answers ARP");
        host.gateway = Mac(reply[6..12].try_into().unwrap());
        assert_eq!(reply[..6], mac.0);
        assert_eq!(reply[14..], arp(2, host.gateway, router, mac, ip), "who it is");
        host
    }

    fn send(&self, dst: [u8; 4], ttl: u8, proto: u8, payload: &[u8]) {
        self.port.send(ether(
            self.gateway,
            self.mac,
            0x0800,
            &ipv4(self.ip, dst, ttl, proto, payload),
        ));
    }

    fn recv(&mut self) -> Option<Got> {
        self.port.try_recv().map(|frame| parse(&frame))
    }

    /// Answers the gateway's ARP request for this host.
    fn answer_arp(&mut self) {
        let request = self.port.try_recv().expect("the gateway asks");
        assert_eq!(
            (&request[..6], &request[12..14]),
            (&Mac::BROADCAST.0[..], &[8, 6][..])
        );
        assert_eq!(request[38..42], self.ip);
        let router: [u8; 4] = request[28..32].try_into().unwrap();
        let sender = Mac(request[6..12].try_into().unwrap());
        self.port.send(ether(
            sender,
            self.mac,
            0x0806,
            &arp(2, self.mac, self.ip, sender, router),
        ));
    }
}

/// Tenants `one` (bare-metal-1, 10.100.0.0/24) and `two` (bare-metal-3, 10.100.1.0/24).
async fn tenants(topology: Topology) -> (Lab, Host, Host) {
    let lab = Lab::with(
        topology,
        Settings {
            commit_delay: COMMIT_DELAY,
            ..Settings::default()
        },
    );
    let mut api = lab.api().await;
    api.put_servers("provisioning", &["bare-metal-2", "bare-metal-4"])
        .await;
    api.tenant("one", &["bare-metal-1"]).await;
    api.tenant("two", &["bare-metal-3"]).await;
    lab.converge();
    let a = Host::new(lab.attach("leaf-1/swp1"), nic(1, 0), [10, 100, 0, 10]);
    let b = Host::new(lab.attach("leaf-2/swp1"), nic(3, 0), [10, 100, 1, 10]);
    (lab, a, b)
}

#[test]
fn it_answers_ping_and_nothing_else_for_itself() {
    let lab = Lab::new();
    let mut host = Host::new(lab.attach("leaf-1/swp1"), nic(1, 0), [192, 168, 100, 10]);
    host.send([192, 168, 100, 1], 64, 1, &echo(8));
    let pong = host.recv().unwrap();
    assert_eq!(
        (pong.src, pong.dst, pong.payload),
        ([192, 168, 100, 1], host.ip, echo(0))
    );
    host.send([192, 168, 100, 1], 64, 17, &[0, 1, 0, 53, 0, 8, 0, 0]);
    let no = host.recv().unwrap();
    assert_eq!(no.payload[..2], [3, 3], "port unreachable");
    host.send([192, 168, 100, 1], 64, 6, &[0; 20]);
    host.send([192, 168, 100, 1], 64, 1, &echo(0));
    let mut broken = echo(8);
    broken[9] ^= 1;
    host.send([192, 168, 100, 1], 64, 1, &broken);
    assert_eq!(host.recv(), None);
    // Others' ARP is none of its business.
    host.port.send(ether(
        Mac::BROADCAST,
        host.mac,
        0x0806,
        &arp(1, host.mac, host.ip, Mac([0; 6]), [192, 168, 100, 4]),
    ));
    assert_eq!(host.port.try_recv(), None);
}

#[tokio::test]
async fn tenants_reach_services_and_back() {
    let (lab, mut a, _) = tenants(site()).await;
    let mut service = Host::new(
        lab.fabric.attach_network("services").unwrap(),
        mac(SERVICE_MAC),
        SERVICE,
    );
    a.send(SERVICE, 64, 17, b"question");
    let got = service.recv().unwrap();
    let want = Got {
        src_mac: service.gateway,
        src: a.ip,
        dst: SERVICE,
        ttl: 63,
        proto: 17,
        payload: b"question".to_vec(),
    };
    assert_eq!(got, want);
    service.send(a.ip, 64, 17, b"answer");
    assert_eq!(a.recv().unwrap().payload, b"answer");
    // The far side's router address is reachable, since its network is.
    a.send([192, 168, 101, 1], 64, 1, &echo(8));
    assert_eq!(a.recv().unwrap().src, [192, 168, 101, 1]);
}

/// From a tenant to each destination: the ICMP type and code that comes back.
#[tokio::test]
async fn every_refusal_has_its_reason() {
    let (_lab, mut a, mut b) = tenants(site()).await;
    let table: &[([u8; 4], u8, Option<[u8; 2]>)] = &[
        ([10, 100, 1, 10], 64, Some([3, 13])),
        ([10, 100, 1, 1], 64, Some([3, 13])),
        ([192, 168, 100, 4], 64, Some([3, 13])),
        ([8, 8, 8, 8], 64, Some([3, 0])),
        ([192, 168, 101, 254], 1, Some([11, 0])),
        ([192, 168, 101, 255], 64, None),
        ([192, 168, 101, 0], 64, None),
        ([224, 0, 0, 1], 64, None),
        ([255, 255, 255, 255], 64, None),
        ([127, 0, 0, 1], 64, None),
        ([0, 0, 0, 0], 64, None),
    ];
    for (dst, ttl, want) in table {
        a.send(*dst, *ttl, 17, b"eight by");
        let got = a.recv();
        assert_eq!(
            got.as_ref().map(|g| [g.payload[0], g.payload[1]]),
            *want,
            "{dst:?}"
        );
        if let Some(got) = got {
            assert_eq!(
                (got.src, got.payload[24..28].to_vec()),
                ([10, 100, 0, 1], dst.to_vec()),
                "quotes what it refuses"
            );
        }
        assert_eq!(b.recv(), None, "{dst:?}");
    }
    // Never an error about an error or about a later fragment (RFC 1122 3.2.2).
    a.send([8, 8, 8, 8], 64, 1, &[3, 1, 0xfc, 0xfe, 0, 0, 0, 0]);
    let mut fragment = ipv4(a.ip, [8, 8, 8, 8], 64, 17, b"rest");
    fragment[7] = 1;
    fragment[10..12].copy_from_slice(&[0, 0]);
    let sum = checksum(&fragment[..20]);
    fragment[10..12].copy_from_slice(&sum);
    a.port.send(ether(a.gateway, a.mac, 0x0800, &fragment));
    assert_eq!(a.recv(), None);
}

#[tokio::test]
async fn broken_and_borrowed_packets_go_nowhere() {
    let (lab, mut a, mut b) = tenants(site()).await;
    let mut service = Host::new(
        lab.fabric.attach_network("services").unwrap(),
        mac(SERVICE_MAC),
        SERVICE,
    );
    let good = ipv4(a.ip, SERVICE, 64, 17, b"x");
    let mut bad_sum = good.clone();
    bad_sum[10] ^= 1;
    let mut too_long = good.clone();
    too_long[3] = 200;
    let borrowed = ipv4(b.ip, SERVICE, 64, 17, b"x");
    let router = ipv4([10, 100, 0, 1], SERVICE, 64, 17, b"x");
    for packet in [
        &bad_sum,
        &too_long,
        &borrowed,
        &router,
        &vec![0x45],
        &vec![],
        &vec![0x40; 20],
    ] {
        a.port.send(ether(a.gateway, a.mac, 0x0800, packet));
        a.port.send(ether(a.gateway, a.mac, 0x0806, packet));
    }
    assert_eq!((service.recv(), b.recv(), a.recv()), (None, None, None));
    let spoofed = |name: &str| {
        lab.fabric
            .snapshot()
            .networks
            .into_iter()
            .find(|n| n.name == name)
            .unwrap()
            .counters
            .spoofed
    };
    assert_eq!(spoofed("one-net"), 2);
    a.port.send(ether(a.gateway, a.mac, 0x0800, &good));
    assert_eq!(service.recv().unwrap().payload, b"x");
}

#[tokio::test]
async fn silence_can_be_the_answer() {
    let (_lab, mut a, _) = tenants(Topology {
        denied: Denied::Drop,
        ..site()
    })
    .await;
    a.send([10, 100, 1, 10], 64, 17, b"x");
    a.send([8, 8, 8, 8], 64, 17, b"x");
    assert_eq!(a.recv(), None);
    a.send(SERVICE, 1, 17, b"x");
    assert_eq!(
        a.recv().unwrap().payload[..2],
        [11, 0],
        "traceroute works all the same"
    );
}

#[test]
fn provisioning_reaches_nobody() {
    let lab = Lab::new();
    let mut host = Host::new(lab.attach("leaf-1/swp1"), nic(1, 0), [192, 168, 100, 10]);
    let mut service = Host::new(
        lab.fabric.attach_network("services").unwrap(),
        mac(SERVICE_MAC),
        SERVICE,
    );
    host.send(SERVICE, 64, 17, b"x");
    assert_eq!(host.recv().unwrap().payload[..2], [3, 13]);
    service.send(host.ip, 64, 17, b"x");
    assert_eq!(service.recv().unwrap().payload[..2], [3, 13]);
}

#[tokio::test]
async fn next_hops_are_asked_for_and_given_up() {
    let (lab, mut a, _) = tenants(site()).await;
    let mut port = lab.fabric.attach_network("services").unwrap();
    for n in 0..10u8 {
        a.send(SERVICE, 64, 17, &[n]);
    }
    // One request for ten packets, then two more.
    for seconds in [0, 1, 1] {
        lab.pass(Duration::from_secs(seconds));
        assert_eq!(port.try_recv().unwrap()[38..42], SERVICE, "asks");
        assert_eq!(port.try_recv(), None);
    }
    lab.pass(Duration::from_secs(1));
    assert_eq!(port.try_recv(), None);
    let told: Vec<_> = std::iter::from_fn(|| a.recv())
        .map(|g| [g.payload[0], g.payload[1]])
        .collect();
    assert_eq!(told, [[3, 1]; 8], "host unreachable, for as many as may wait");
    // A host that appears gets what comes next; what waited comes first and in order.
    let mut host = Host {
        port,
        mac: mac(SERVICE_MAC),
        ip: SERVICE,
        gateway: Mac::BROADCAST,
    };
    a.send(SERVICE, 64, 17, b"1");
    a.send(SERVICE, 64, 17, b"2");
    host.answer_arp();
    a.send(SERVICE, 64, 17, b"3");
    let got: Vec<_> = std::iter::from_fn(|| host.recv()).map(|g| g.payload[0]).collect();
    assert_eq!(got, b"123");
}

#[test]
fn it_does_not_complain_without_end() {
    let lab = Lab::new();
    let mut host = Host::new(lab.attach("leaf-1/swp1"), nic(1, 0), [192, 168, 100, 10]);
    let mut complaints = |count: usize| {
        for _ in 0..count {
            host.send(Ipv4Addr::new(8, 8, 8, 8).octets(), 64, 17, b"x");
        }
        std::iter::from_fn(|| host.recv()).count()
    };
    assert_eq!(complaints(150), 100);
    lab.clock.pass(Duration::from_secs(1));
    assert_eq!(complaints(1), 1);
}
