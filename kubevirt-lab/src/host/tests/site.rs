//! The other end of the cable: DHCP, TFTP and HTTP of the tests' own, in a few lines each and without the client's code.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use dhcproto::v4::{DhcpOption, Message, MessageType, Opcode, OptionCode};
use dhcproto::{Decodable, Decoder, Encodable};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;

use crate::net::{Address, Mac, Stack, StackConfig, TcpListener};

pub(super) const VIP: Ipv4Addr = Ipv4Addr::new(192, 168, 100, 4);
pub(super) const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 168, 100, 10);

pub(super) struct Site {
    pub stack: Stack,
    /// Boot file of firmware, and of iPXE.
    pub boot_files: (&'static str, String),
    pub tftp: BTreeMap<String, Vec<u8>>,
    /// Path to content; others are 404.
    pub http: BTreeMap<String, Vec<u8>>,
    /// What was asked for, in order: `DISCOVER PXE`, `TFTP file`, `GET /path`.
    pub seen: watch::Sender<Vec<String>>,
}

impl Site {
    pub(super) fn new() -> Self {
        let stack = Stack::new(StackConfig::new(Mac([2, 0, 0, 0, 0, 0xfe]), 99));
        stack
            .set_addresses(vec![Address { ip: VIP, prefix: 24 }])
            .unwrap();
        Self {
            stack,
            boot_files: ("snponly.efi", format!("http://{VIP}:8080/ipxe/script")),
            tftp: BTreeMap::new(),
            http: BTreeMap::new(),
            seen: watch::Sender::default(),
        }
    }

    fn note(&self, text: String) {
        self.seen.send_modify(|seen| seen.push(text));
    }

    pub(super) async fn wait_for(&self, text: &str) {
        let mut seen = self.seen.subscribe();
        seen.wait_for(|seen| seen.iter().any(|line| line.contains(text)))
            .await
            .unwrap();
    }

    /// DHCP, TFTP and HTTP on 8080, until dropped.
    pub(super) async fn serve(&self) {
        let web = self.stack.tcp_listen(SocketAddrV4::new(VIP, 8080), 8).unwrap();
        tokio::join!(self.dhcp(), self.tftp(), self.web(&web));
    }

    async fn dhcp(&self) {
        let socket = self
            .stack
            .udp_bind(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 67))
            .unwrap();
        loop {
            let (bytes, _) = socket.recv_from().await.unwrap();
            let request = Message::decode(&mut Decoder::new(&bytes)).unwrap();
            let option = |code| request.opts().get(code);
            let Some(DhcpOption::MessageType(kind)) = option(OptionCode::MessageType) else {
                panic!("no type")
            };
            let ipxe = matches!(option(OptionCode::UserClass), Some(DhcpOption::UserClass(class)) if class == b"iPXE");
            let firmware = option(OptionCode::ClientSystemArchitecture).is_some() && !ipxe;
            let who = if ipxe {
                "iPXE"
            } else if firmware {
                "PXE"
            } else {
                "OS"
            };
            self.note(format!("{kind:?} {who}").to_uppercase());
            let answer = if *kind == MessageType::Discover {
                MessageType::Offer
            } else {
                MessageType::Ack
            };
            let zero = Ipv4Addr::UNSPECIFIED;
            let mut reply = Message::new_with_id(request.xid(), zero, CLIENT, VIP, zero, request.chaddr());
            reply.set_opcode(Opcode::BootReply);
            let options = reply.opts_mut();
            options.insert(DhcpOption::MessageType(answer));
            options.insert(DhcpOption::ServerIdentifier(VIP));
            options.insert(DhcpOption::SubnetMask([255, 255, 255, 0].into()));
            options.insert(DhcpOption::AddressLeaseTime(3600));
            if firmware {
                options.insert(DhcpOption::BootfileName(self.boot_files.0.as_bytes().to_vec()));
            } else if ipxe {
                options.insert(DhcpOption::BootfileName(self.boot_files.1.as_bytes().to_vec()));
            }
            socket
                .send_to(
                    &reply.to_vec().unwrap(),
                    SocketAddrV4::new(Ipv4Addr::BROADCAST, 68),
                )
                .unwrap();
        }
    }

    async fn tftp(&self) {
        let socket = self.stack.udp_bind(SocketAddrV4::new(VIP, 69)).unwrap();
        loop {
            let (request, client) = socket.recv_from().await.unwrap();
            let words: Vec<_> = request[2..]
                .split(|b| *b == 0)
                .map(String::from_utf8_lossy)
                .collect();
            self.note(format!("TFTP {}", words[0]));
            let transfer = self.stack.udp_bind(SocketAddrV4::new(VIP, 0)).unwrap();
            let Some(file) = self.tftp.get(words[0].as_ref()) else {
                transfer.send_to(b"\0\x05\0\x01no such file\0", client).unwrap();
                continue;
            };
            let at = words.iter().position(|word| word == "blksize").unwrap();
            let size: usize = words[at + 1].parse().unwrap();
            transfer
                .send_to(
                    format!("\0\x06blksize\0{size}\0tsize\0{}\0", file.len()).as_bytes(),
                    client,
                )
                .unwrap();
            // A client whose power was cut acknowledges nothing.
            let acknowledged = || tokio::time::timeout(Duration::from_secs(1), transfer.recv_from());
            if acknowledged().await.is_err() {
                continue;
            }
            // A block that is not full ends the file, also an empty one.
            for number in 0..=file.len() / size {
                let block = &file[number * size..file.len().min((number + 1) * size)];
                let head = [0, 3, ((number + 1) >> 8) as u8, (number + 1) as u8];
                transfer.send_to(&[&head, block].concat(), client).unwrap();
                if acknowledged().await.is_err() {
                    break;
                }
            }
        }
    }

    async fn web(&self, listener: &TcpListener) {
        let mut calls = FuturesUnordered::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => calls.push(self.answer(accepted.unwrap().0)),
                Some(()) = calls.next() => {}
            }
        }
    }

    /// One request on one connection.
    pub(super) async fn answer(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => return,
            }
        }
        let head = String::from_utf8(head).unwrap();
        let mut words = head.split(' ');
        let (method, path) = (words.next().unwrap(), words.next().unwrap());
        self.note(format!("{method} {path}"));
        let (status, body) = match self.http.get(path) {
            Some(body) => ("200 OK", body.as_slice()),
            None => ("404 Not Found", &b"nothing here"[..]),
        };
        let answer = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        // A client whose power was cut does not read.
        let _ = stream.write_all(&[answer.as_bytes(), body].concat()).await;
        let _ = stream.shutdown().await;
        let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    }
}
