//! Two TCP/IP stacks that nobody here wrote (smoltcp) talk through the fabric: ping and TCP inside a tenant,
//! TCP through the gateway to a service, and nothing at all across tenants.

use std::{collections::VecDeque, net::Ipv4Addr, time::Duration};

use sim_fabric::{Mac, Port};
use smoltcp::{
    iface::{Config, Interface, SocketHandle, SocketSet},
    phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken},
    socket::tcp,
    time::Instant,
    wire::{EthernetAddress, HardwareAddress, IpCidr, Ipv4Address},
};

use crate::support::{Lab, mac, nic, port};

struct Wire {
    port: Port,
    waiting: VecDeque<bytes::Bytes>,
}

struct Rx(bytes::Bytes);
struct Tx<'a>(&'a Port);

impl RxToken for Rx {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl TxToken for Tx<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut frame = vec![0; len];
        let answer = f(&mut frame);
        self.0.send(frame.into());
        answer
    }
}

impl Device for Wire {
    type RxToken<'a> = Rx;
    type TxToken<'a> = Tx<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Rx, Tx<'_>)> {
        while let Some(frame) = self.port.try_recv() {
            self.waiting.push_back(frame);
        }
        Some((Rx(self.waiting.pop_front()?), Tx(&self.port)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Tx<'_>> {
        Some(Tx(&self.port))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = 1514;
        capabilities
    }
}

struct Stack {
    wire: Wire,
    interface: Interface,
    sockets: SocketSet<'static>,
    tcp: SocketHandle,
}

impl Stack {
    fn new(port: Port, mac: Mac, ip: [u8; 4], gateway: [u8; 4]) -> Stack {
        let mut wire = Wire {
            port,
            waiting: VecDeque::new(),
        };
        let mut config = Config::new(HardwareAddress::Ethernet(EthernetAddress(mac.0)));
        config.random_seed = u64::from(mac.0[4]);
        let mut interface = Interface::new(config, &mut wire, Instant::ZERO);
        interface.update_ip_addrs(|addresses| {
            addresses
                .push(IpCidr::new(Ipv4Addr::from(ip).into(), 24))
                .unwrap();
        });
        interface
            .routes_mut()
            .add_default_ipv4_route(Ipv4Address::from(gateway))
            .unwrap();
        let buffer = || tcp::SocketBuffer::new(vec![0; 16 * 1024]);
        let mut sockets = SocketSet::new(Vec::new());
        let tcp = sockets.add(tcp::Socket::new(buffer(), buffer()));
        Stack {
            wire,
            interface,
            sockets,
            tcp,
        }
    }

    fn socket(&mut self) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(self.tcp)
    }

    fn poll(&mut self, at: Instant) {
        self.interface.poll(at, &mut self.wire, &mut self.sockets);
    }

    fn connect(&mut self, to: [u8; 4]) {
        let Stack {
            interface,
            sockets,
            tcp,
            ..
        } = self;
        sockets
            .get_mut::<tcp::Socket<'_>>(*tcp)
            .connect(interface.context(), (Ipv4Addr::from(to), 80), 49152)
            .unwrap();
    }
}

/// Moves `bytes` from one stack to the other; how many arrived in ten simulated seconds.
fn transfer(lab: &Lab, client: &mut Stack, server: &mut Stack, bytes: usize, to: [u8; 4]) -> usize {
    server.socket().listen(80).unwrap();
    client.connect(to);
    let pattern = |at: usize| (at % 251) as u8;
    let (mut sent, mut got) = (0, 0);
    for millisecond in 0..10_000 {
        let at = Instant::from_millis(millisecond);
        client.poll(at);
        server.poll(at);
        let socket = client.socket();
        while socket.can_send() && sent < bytes {
            let chunk: Vec<u8> = (sent..bytes.min(sent + 4096)).map(pattern).collect();
            sent += socket.send_slice(&chunk).unwrap();
        }
        let socket = server.socket();
        while socket.can_recv() {
            socket
                .recv(|data| {
                    assert!(
                        data.iter().enumerate().all(|(i, byte)| *byte == pattern(got + i)),
                        "in order and whole"
                    );
                    got += data.len();
                    (data.len(), ())
                })
                .unwrap();
        }
        if got == bytes {
            break;
        }
        lab.pass(Duration::from_millis(1));
    }
    got
}

const BYTES: usize = 1 << 20;

#[tokio::test]
async fn stacks_talk_inside_a_tenant_and_with_services_and_not_across() {
    let lab = Lab::new();
    let mut api = lab.api().await;
    api.put_servers("provisioning", &["bare-metal-4"]).await;
    api.tenant("one", &["bare-metal-1", "bare-metal-3"]).await;
    api.tenant("two", &["bare-metal-2"]).await;
    lab.converge();
    let witness = lab.fabric.witness();
    let host = |name: &str, server: u8, ip: [u8; 4]| {
        Stack::new(lab.attach(name), nic(server, 0), ip, [ip[0], ip[1], ip[2], 1])
    };
    {
        let mut a = host("leaf-1/swp1", 1, [10, 100, 0, 10]);
        let mut b = host("leaf-2/swp1", 3, [10, 100, 0, 11]);
        assert_eq!(
            transfer(&lab, &mut a, &mut b, BYTES, [10, 100, 0, 11]),
            BYTES,
            "inside, across leaves"
        );
    }
    {
        let mut a = host("leaf-1/swp1", 1, [10, 100, 0, 10]);
        let services = lab.fabric.attach_network("services").unwrap();
        let mut service = Stack::new(
            services,
            mac("02:00:00:00:00:fe"),
            [192, 168, 101, 254],
            [192, 168, 101, 1],
        );
        assert_eq!(
            transfer(&lab, &mut a, &mut service, BYTES, [192, 168, 101, 254]),
            BYTES,
            "through the gateway"
        );
    }
    let mut a = host("leaf-1/swp1", 1, [10, 100, 0, 10]);
    let mut other = host("leaf-1/swp3", 2, [10, 100, 1, 10]);
    assert_eq!(
        transfer(&lab, &mut a, &mut other, 1, [10, 100, 1, 10]),
        0,
        "by its address"
    );
    drop((a, other));
    // Even a tenant that lies about its address: same subnet, other V-Net.
    let mut a = host("leaf-1/swp1", 1, [10, 100, 0, 10]);
    let mut liar = host("leaf-1/swp3", 2, [10, 100, 0, 12]);
    assert_eq!(
        transfer(&lab, &mut a, &mut liar, 1, [10, 100, 0, 12]),
        0,
        "by a borrowed address"
    );
    let (one, two) = (port("leaf-1/swp1"), port("leaf-1/swp3"));
    assert_eq!((witness.frames(&one, &two), witness.frames(&two, &one)), (0, 0));
    assert_eq!(witness.violations(), []);
}
