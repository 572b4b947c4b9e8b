//! A user-space TCP/IP stack on an Ethernet cable: what simulated machines and the lab's infrastructure talk with.
//!
//! ```text
//!   UdpSocket  TcpListener  TcpStream      handles, tokio AsyncRead/AsyncWrite
//!        \          |          /
//!         Core (sans-IO, one lock)         frames and time in, frames and next wake-up out
//!         |- arp       neighbours, packets that wait for one
//!         |- route     own addresses, longest prefix
//!         |- UDP, ICMP echo               ours: they must work before an address is configured (DHCP)
//!         `- TCP                          smoltcp, as an IP-level device below which is `Core`
//!        |
//!   Stack::run(wire)                       the only loop: sleeps until a frame, a kick or `poll_at`
//! ```
//!
//! Ethernet, ARP, routes and UDP are not left to smoltcp because its neighbour cache and route table are fixed-size arrays
//! inside every interface: big enough for the controller (hundreds of hosts on one segment) they would cost tens of KiB on
//! each of thousands of hosts, and packets that wait for ARP are dropped there and repeated a second later.
//!
//! Absent: IPv6, IP fragmentation (larger datagrams are refused), multicast, VLAN tags (access ports), UDP port unreachable.

mod arp;
mod core;
mod mac;
mod packet;
mod route;
mod stack;
mod tcp;
#[cfg(test)]
mod tests;
mod udp;
mod wire;

pub use mac::{Mac, MacError};
pub use route::{Address, Route};
pub use stack::{Stack, StackConfig};
pub use tcp::{TcpListener, TcpStream};
pub use udp::UdpSocket;
pub use wire::{Cable, Wire, cable};
