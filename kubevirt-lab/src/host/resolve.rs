//! Names to addresses: a stub resolver (RFC 1035) for A records, with the name servers that DHCP or the config drive gave.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use tokio::time::timeout;

use super::nic::Network;

const PORT: u16 = 53;
/// resolv.conf(5): `timeout:` is 5 s, `attempts:` 2; a lab's server is next door.
const WAIT: Duration = Duration::from_secs(2);
const TRIES: usize = 2;
const TYPE_A: u16 = 1;

/// The first address of a name.
pub(crate) async fn lookup(net: &Network, host: &str) -> io::Result<Ipv4Addr> {
    let servers = net.dns();
    if servers.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            "no name server is configured",
        ));
    }
    let mut last = io::Error::from(io::ErrorKind::TimedOut);
    for server in std::iter::repeat_n(&servers, TRIES).flatten() {
        match ask(net, *server, host).await {
            Ok(ip) => return Ok(ip),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn ask(net: &Network, server: Ipv4Addr, host: &str) -> io::Result<Ipv4Addr> {
    let stack = net.towards(server).ok_or(io::ErrorKind::NetworkUnreachable)?;
    let socket = stack.udp_bind(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0))?;
    // The port is the id: both are only there to tell answers apart.
    let id = socket.local_addr().port();
    let query =
        query(id, host).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "not a host name"))?;
    socket.send_to(&query, SocketAddrV4::new(server, PORT))?;
    loop {
        let (answer, from) = timeout(WAIT, socket.recv_from())
            .await
            .map_err(|_| io::ErrorKind::TimedOut)??;
        if *from.ip() == server && answer.get(..2) == Some(&id.to_be_bytes()[..]) {
            return address(&answer).ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "name not known"));
        }
    }
}

fn query(id: u16, host: &str) -> Option<Vec<u8>> {
    // Recursion desired, one question.
    let mut packet = [id.to_be_bytes(), [1, 0], [0, 1], [0, 0], [0, 0], [0, 0]].concat();
    for label in host.trim_end_matches('.').split('.') {
        let length = u8::try_from(label.len())
            .ok()
            .filter(|length| (1..=63).contains(length))?;
        packet.push(length);
        packet.extend_from_slice(label.as_bytes());
    }
    packet.extend_from_slice(&[0, 0, TYPE_A as u8, 0, 1]);
    Some(packet)
}

/// The first A record of an answer without an error.
fn address(packet: &[u8]) -> Option<Ipv4Addr> {
    let word = |at: usize| Some(u16::from_be_bytes([*packet.get(at)?, *packet.get(at + 1)?]));
    if word(2)? & 0x800f != 0x8000 {
        return None;
    }
    let mut at = 12;
    for _ in 0..word(4)? {
        at = skip_name(packet, at)? + 4;
    }
    for _ in 0..word(6)? {
        at = skip_name(packet, at)?;
        let (kind, length) = (word(at)?, usize::from(word(at + 8)?));
        if kind == TYPE_A && length == 4 {
            let octets: [u8; 4] = packet.get(at + 10..at + 14)?.try_into().ok()?;
            return Some(octets.into());
        }
        at += 10 + length;
    }
    None
}

fn skip_name(packet: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *packet.get(at)? {
            0 => return Some(at + 1),
            // RFC 1035 4.1.4: a pointer ends the name.
            length if length & 0xc0 == 0xc0 => return Some(at + 2),
            length => at += 1 + usize::from(length),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_an_answer_with_an_alias_before_the_address() {
        let mut answer = query(7, "a.lab").unwrap();
        answer[2..4].copy_from_slice(&[0x81, 0x80]);
        answer[6..8].copy_from_slice(&[0, 2]);
        answer.extend([0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 9, 0, 4, 1, b'b', 0xc0, 14]);
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 10, 0, 0, 7]);
        assert_eq!(address(&answer), Some([10, 0, 0, 7].into()));
        for cut in 0..answer.len() - 1 {
            assert_eq!(address(&answer[..cut]), None, "cut at {cut}");
        }
        answer[3] = 0x83;
        assert_eq!(address(&answer), None, "NXDOMAIN");
    }

    #[test]
    fn refuses_what_is_no_name() {
        assert!(query(1, "a..b").is_none());
        assert!(query(1, &"x".repeat(64)).is_none());
    }
}
