//! Two stacks on a cable, with loss where it matters; time is tokio's, paused.

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

const A: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const B: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

fn stack(last: u8) -> Stack {
    Stack::new(StackConfig::new(Mac([2, 0, 0, 0, 0, last]), u64::from(last)))
}

fn with_address(last: u8) -> Stack {
    let stack = stack(last);
    stack
        .set_addresses(vec![Address {
            ip: [10, 0, 0, last].into(),
            prefix: 24,
        }])
        .unwrap();
    stack
}

fn at(ip: Ipv4Addr, port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(ip, port)
}

/// Runs `test` while both stacks are driven over a cable of this many frames.
async fn wired<T>(a: &Stack, b: &Stack, frames: usize, test: impl Future<Output = T>) -> T {
    let (left, right) = cable(frames);
    tokio::select! {
        biased;
        out = tokio::time::timeout(Duration::from_secs(600), test) => out.expect("test hangs"),
        () = async { tokio::join!(a.run(left), b.run(right)); } => panic!("a link ended"),
    }
}

async fn echo(listener: &TcpListener) -> io::Result<()> {
    let (mut stream, _) = listener.accept().await?;
    let mut all = Vec::new();
    stream.read_to_end(&mut all).await?;
    stream.write_all(&all).await?;
    stream.shutdown().await
}

#[tokio::test(start_paused = true)]
async fn bulk_both_ways_also_over_a_link_that_drops() {
    // 512 frames hold every window; 12 drop bursts, so retransmission (at least 1 s each) has to repair them.
    for (frames, size) in [(512, 4 << 20), (12, 256 << 10)] {
        let (a, b) = (with_address(1), with_address(2));
        let data: Vec<u8> = (0..size)
            .map(|i: u32| (i.wrapping_mul(2_654_435_761) >> 13) as u8)
            .collect();
        wired(&a, &b, frames, async {
            let listener = b.tcp_listen(at(B, 80), 4).unwrap();
            let client = async {
                let mut stream = a.tcp_connect(at(B, 80)).await.unwrap();
                stream.write_all(&data).await.unwrap();
                stream.shutdown().await.unwrap();
                let mut back = Vec::new();
                stream.read_to_end(&mut back).await.unwrap();
                assert!(back == data, "{frames}: what came back differs");
            };
            let (_, served) = tokio::join!(client, echo(&listener));
            served.unwrap();
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn many_connections_come_and_go() {
    let (a, b) = (with_address(1), with_address(2));
    wired(&a, &b, 1024, async {
        let listener = b.tcp_listen(at(Ipv4Addr::UNSPECIFIED, 80), 64).unwrap();
        let server = async {
            for _ in 0..300 {
                echo(&listener).await.unwrap();
            }
        };
        let clients = async {
            for round in 0..6 {
                let calls = (0..50).map(async |i: u8| {
                    let mut stream = a.tcp_connect(at(B, 80)).await.unwrap();
                    stream.write_all(&[round, i]).await.unwrap();
                    stream.shutdown().await.unwrap();
                    let mut back = Vec::new();
                    stream.read_to_end(&mut back).await.unwrap();
                    assert_eq!(back, [round, i]);
                });
                futures::future::join_all(calls).await;
            }
        };
        tokio::join!(server, clients);
        // All sockets go away by themselves, on both sides.
        while a.open() + b.open() > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn failures_have_their_proper_kind() {
    let (a, b) = (with_address(1), with_address(2));
    wired(&a, &b, 64, async {
        let kind = |result: io::Result<TcpStream>| result.err().map(|error| error.kind());
        assert_eq!(
            kind(a.tcp_connect(at(B, 81)).await),
            Some(io::ErrorKind::ConnectionRefused)
        );
        assert_eq!(
            kind(a.tcp_connect(at([10, 0, 0, 9].into(), 80)).await),
            Some(io::ErrorKind::HostUnreachable)
        );
        assert_eq!(
            kind(a.tcp_connect(at([10, 9, 0, 9].into(), 80)).await),
            Some(io::ErrorKind::NetworkUnreachable)
        );

        // A gateway that does not answer for the destination: silence.
        a.set_default_route(Some(B));
        let start = tokio::time::Instant::now();
        assert_eq!(
            kind(a.tcp_connect(at([10, 9, 0, 9].into(), 80)).await),
            Some(io::ErrorKind::TimedOut)
        );
        assert_eq!(start.elapsed(), Duration::from_secs(10));

        // A backlog of one: the second waits until the first is taken.
        let listener = b.tcp_listen(at(B, 80), 1).unwrap();
        let taken = b
            .tcp_listen(at(Ipv4Addr::UNSPECIFIED, 80), 1)
            .err()
            .map(|error| error.kind());
        assert_eq!(taken, Some(io::ErrorKind::AddrInUse));
        let first = a.tcp_connect(at(B, 80)).await.unwrap();
        let second = a.tcp_connect(at(B, 80));
        let (second, accepted) = tokio::join!(second, async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            listener.accept().await.unwrap()
        });
        let mut second = second.unwrap();

        // The peer goes away with our bytes unread: a reset, on the next read.
        let (peer, _) = accepted;
        let mut first = first;
        first.write_all(b"unread").await.unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
        drop(peer);
        let error = first.read(&mut [0]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        // A listener that goes away resets what it had not accepted.
        drop(listener);
        assert_eq!(
            second.read(&mut [0]).await.unwrap_err().kind(),
            io::ErrorKind::ConnectionReset
        );
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn broadcasts_without_an_address_as_dhcp_needs() {
    let (client, server) = (stack(1), with_address(2));
    wired(&client, &server, 64, async {
        let from = client.udp_bind(at(Ipv4Addr::UNSPECIFIED, 68)).unwrap();
        let to = server.udp_bind(at(Ipv4Addr::UNSPECIFIED, 67)).unwrap();
        from.send_to(b"discover", at(Ipv4Addr::BROADCAST, 67)).unwrap();
        let (data, source) = to.recv_from().await.unwrap();
        assert_eq!(
            (&data[..], source),
            (&b"discover"[..], at(Ipv4Addr::UNSPECIFIED, 68))
        );
        to.send_to(b"offer", at(Ipv4Addr::BROADCAST, 68)).unwrap();
        assert_eq!(from.recv_from().await.unwrap().1, at(B, 67));
        let unicast = from.send_to(b"x", at(B, 67)).unwrap_err();
        assert_eq!(unicast.kind(), io::ErrorKind::NetworkUnreachable);

        client.set_addresses(vec![Address { ip: A, prefix: 24 }]).unwrap();
        from.send_to(b"request", at(B, 67)).unwrap();
        assert_eq!(to.recv_from().await.unwrap().1, at(A, 68));
        let long = from.send_to(&[0; 1473], at(B, 67)).unwrap_err();
        assert_eq!(long.kind(), io::ErrorKind::InvalidInput);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_pulled_cable_fails_what_waits_and_ends_run() {
    let (a, b) = (with_address(1), with_address(2));
    let (left, right) = cable(64);
    let test = async {
        let listener = b.tcp_listen(at(B, 80), 4).unwrap();
        let socket = a.udp_bind(at(A, 9)).unwrap();
        let mut stream = a.tcp_connect(at(B, 80)).await.unwrap();
        let _peer = listener.accept().await.unwrap();
        let waits = async {
            let mut byte = [0];
            let (read, received) = tokio::join!(stream.read(&mut byte), socket.recv_from());
            assert_eq!(read.unwrap_err().kind(), io::ErrorKind::NetworkDown);
            assert_eq!(received.unwrap_err().kind(), io::ErrorKind::NetworkDown);
        };
        tokio::join!(waits, async { a.link_down() });
    };
    // Dropping a's end of the cable, when its run returns, ends b's as well.
    tokio::time::timeout(Duration::from_secs(60), async {
        tokio::join!(test, a.run(left), b.run(right))
    })
    .await
    .expect("all three end");
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_is_noticed() {
    let (a, b) = (with_address(1), with_address(2));
    let (left, right) = cable(64);
    let listener = b.tcp_listen(at(B, 80), 4).unwrap();
    let mut stream = None;
    tokio::select! {
        () = async { tokio::join!(a.run(left), b.run(right)); } => panic!("a link ended"),
        () = async {
            let (connected, _) = tokio::join!(a.tcp_connect(at(B, 80)), listener.accept());
            stream = connected.ok();
        } => {}
    }
    // b's power is cut: nobody answers any more, but the switch port stays up.
    let (left, _right) = cable(64);
    let mut stream = stream.expect("connected");
    let start = tokio::time::Instant::now();
    tokio::select! {
        () = a.run(left) => panic!("a link ended"),
        read = stream.read_u8() => assert_eq!(read.unwrap_err().kind(), io::ErrorKind::ConnectionReset),
    }
    assert!(
        start.elapsed() <= Duration::from_secs(60),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn answers_pings_and_talks_to_itself() {
    let a = with_address(1);
    let (left, mut right) = cable(64);
    let test = async {
        let listener = a.tcp_listen(at(A, 80), 1).unwrap();
        let (stream, served) = tokio::join!(
            async {
                let mut stream = a.tcp_connect(at(A, 80)).await.unwrap();
                stream.write_all(b"self").await.unwrap();
                stream.shutdown().await.unwrap();
                let mut back = Vec::new();
                stream.read_to_end(&mut back).await.unwrap();
                back
            },
            echo(&listener)
        );
        served.unwrap();
        assert_eq!(stream, b"self");

        // Echo request (type 8) from 10.0.0.2, id 1, sequence 1, checksum by hand.
        let mut ping = vec![0x45, 0, 0, 28, 0, 0, 0, 0, 64, 1, 0, 0, 10, 0, 0, 2, 10, 0, 0, 1];
        let sum = checksum(&ping);
        ping[10..12].copy_from_slice(&sum.to_be_bytes());
        ping.extend([8, 0, 0xf7, 0xfd, 0, 1, 0, 1]);
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
        frame.extend(&ping);
        // Ethernet pads short frames; the padding is not part of the packet.
        frame.resize(60, 0);
        right.send(frame.into());
        let asks = frame_of(&mut right, 0x0806).await;
        assert_eq!(asks[38..42], B.octets(), "asks for the sender's MAC first");
        let mut answer = vec![
            2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 6, 0, 1, 8, 0, 6, 4, 0, 2, 2, 0, 0, 0, 0, 2,
        ];
        answer.extend(B.octets());
        answer.extend([2, 0, 0, 0, 0, 1]);
        answer.extend(A.octets());
        right.send(answer.into());
        let reply = frame_of(&mut right, 0x0800).await;
        assert_eq!(
            (reply[34], &reply[38..42]),
            (0, &[0, 1, 0, 1][..]),
            "echo reply with our id and sequence"
        );
    };
    tokio::select! {
        () = a.run(left) => panic!("link ended"),
        () = test => {}
    }
}

async fn frame_of(wire: &mut Cable, ethertype: u16) -> Bytes {
    loop {
        let frame = wire.recv().await.expect("cable");
        // The announcement at start asks for its own address: not an answer.
        if frame[12..14] == ethertype.to_be_bytes()
            && !(ethertype == 0x0806 && frame[28..32] == frame[38..42])
        {
            return frame;
        }
    }
}

fn checksum(header: &[u8]) -> u16 {
    let mut sum: u32 = header
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[tokio::test(start_paused = true)]
async fn an_idle_stack_sleeps() {
    let a = with_address(1);
    let (left, _right) = cable(64);
    let _listener = a.tcp_listen(at(A, 80), 4).unwrap();
    let mut polls = 0u32;
    let mut run = std::pin::pin!(a.run(left));
    let counted = std::future::poll_fn(|cx| {
        polls += 1;
        run.as_mut().poll(cx)
    });
    let _ = tokio::time::timeout(Duration::from_secs(3600), counted).await;
    // Start, the announcement, the end of the hour: nothing wakes it between.
    assert!(polls <= 4, "{polls} polls in an idle hour");
}
