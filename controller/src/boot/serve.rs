//! The sockets of the boot services: datagrams and connections in, engines asked, answers out.

use super::{
    stall::StallGuard,
    state::Shared,
    tftp::{self, Progress, Refusal, Transfer},
    web,
};
use crate::net::{BoxedStream, Listener, Udp};
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use tokio::task::JoinSet;

/// Connections at once; each holds two buffers of at most 64 KiB, so 128 MiB at worst.
const CONNECTIONS_MAX: usize = 1024;
/// Of one address: a firmware, a ramdisk and a download have one or two each.
const CONNECTIONS_PER_PEER_MAX: usize = 16;
const BUFFER_MAX: usize = 64 << 10;
/// A kept connection without a request, or a request whose headers don't arrive.
const HEADERS_WITHIN: Duration = Duration::from_secs(30);
/// A download whose reader stopped.
const STALL_AFTER: Duration = Duration::from_secs(60);
/// Transfers at once: a rack boots over TFTP for a second or two each.
const TRANSFERS_MAX: usize = 256;
/// After a failed accept or receive: the cause (no file handles, a link that is down) lasts a while.
const PAUSE: Duration = Duration::from_millis(100);

#[derive(Debug, thiserror::Error)]
#[error("{service} can't listen on {address}: {why}. {fix}")]
pub struct BootError {
    pub service: &'static str,
    pub address: SocketAddr,
    pub why: io::Error,
    pub fix: &'static str,
}

impl BootError {
    fn new(service: &'static str, address: SocketAddr, why: io::Error) -> Self {
        let fix = match why.kind() {
            io::ErrorKind::AddrInUse => {
                "Another program has this port: stop it (often dnsmasq or another DHCP server)"
            }
            io::ErrorKind::PermissionDenied => "Ports below 1024 need CAP_NET_BIND_SERVICE",
            io::ErrorKind::AddrNotAvailable => {
                "This machine does not have the address: put it on the provisioning interface, or correct the flag"
            }
            _ => "Check the address and the provisioning interface",
        };
        BootError {
            service,
            address,
            why,
            fix,
        }
    }
}

pub(crate) async fn run(shared: Arc<Shared>) -> BootError {
    let tftp = async {
        match shared.config.tftp {
            Some(address) => tftp(&shared, address).await,
            None => std::future::pending().await,
        }
    };
    let end = tokio::select! {
        biased;
        end = dhcp(&shared) => end,
        end = tftp => end,
        end = serve_web(&shared) => end,
    };
    match end {
        Err(error) => error,
        Ok(never) => match never {},
    }
}

async fn dhcp(shared: &Arc<Shared>) -> Result<Infallible, BootError> {
    let address = shared.config.dhcp;
    let socket = shared
        .world
        .net
        .udp(address)
        .await
        .map_err(|why| BootError::new("DHCP", address, why))?;
    tracing::info!(%address, "DHCP listens");
    let mut buffer = vec![0; 4096];
    loop {
        match socket.recv_from(&mut buffer).await {
            Ok((size, _)) => {
                if let Some(reply) = shared.dhcp(&buffer[..size])
                    && let Err(error) = socket.send_to(&reply.bytes, reply.to.into()).await
                {
                    tracing::warn!(mac = %reply.mac, to = %reply.to, %error, "DHCP reply could not be sent");
                }
            }
            Err(error) => {
                tracing::debug!(%error, "DHCP socket");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn tftp(shared: &Arc<Shared>, address: SocketAddr) -> Result<Infallible, BootError> {
    let socket = shared
        .world
        .net
        .udp(address)
        .await
        .map_err(|why| BootError::new("TFTP", address, why))?;
    tracing::info!(%address, "TFTP listens");
    let mut transfers: JoinSet<SocketAddr> = JoinSet::new();
    let mut running = BTreeSet::new();
    let mut buffer = vec![0; 1500];
    loop {
        let received = tokio::select! {
            biased;
            Some(ended) = transfers.join_next() => {
                match ended {
                    Ok(peer) => { running.remove(&peer); }
                    Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                    Err(_) => {}
                }
                continue;
            }
            received = socket.recv_from(&mut buffer) => received,
        };
        let (size, peer) = match received {
            Ok(received) => received,
            Err(error) => {
                tracing::debug!(%error, "TFTP socket");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        // A repeated request is answered by its running transfer's retransmission.
        if running.contains(&peer) {
            continue;
        }
        let opened = open(shared, &buffer[..size], running.len());
        match opened {
            Ok((request, file)) => {
                running.insert(peer);
                let shared = shared.clone();
                transfers.spawn(async move {
                    transfer(&shared, address.ip(), peer, &request, file).await;
                    peer
                });
            }
            Err(refusal) => {
                tracing::debug!(%peer, error = %refusal, "TFTP request refused");
                // An error packet is not answered, so that two servers can't talk to each other for ever.
                if buffer.get(1) != Some(&5)
                    && let Err(error) = socket.send_to(&refusal.packet(), peer).await
                {
                    tracing::debug!(%peer, %error, "TFTP answer could not be sent");
                }
            }
        }
    }
}

/// What a packet to the well-known port asks for, if we have it and room for it.
fn open(shared: &Shared, packet: &[u8], running: usize) -> Result<(tftp::Request, bytes::Bytes), Refusal> {
    let request = tftp::parse_request(packet)?;
    if running >= TRANSFERS_MAX {
        return Err(Refusal::Busy);
    }
    match shared.config.assets.in_memory(&request.file) {
        Some(file) => Ok((request, file)),
        None => Err(Refusal::NoFile(request.file.chars().take(100).collect())),
    }
}

/// One transfer on a port of its own, which is its identity (RFC 1350 4).
async fn transfer(
    shared: &Shared,
    ip: IpAddr,
    peer: SocketAddr,
    request: &tftp::Request,
    file: bytes::Bytes,
) {
    let socket = match shared.world.net.udp(SocketAddr::new(ip, 0)).await {
        Ok(socket) => socket,
        Err(error) => return tracing::warn!(%peer, %error, "no port for a TFTP transfer"),
    };
    let (mut transfer, packets) = Transfer::open(request, file, peer, shared.now());
    send_all(&*socket, packets).await;
    let mut buffer = vec![0; 1500];
    while *transfer.progress() == Progress::Running {
        let packets = tokio::select! {
            biased;
            received = socket.recv_from(&mut buffer) => match received {
                Ok((size, from)) => transfer.on_packet(&buffer[..size], from, shared.now()),
                // An ICMP error of an earlier packet: time decides.
                Err(_) => { tokio::time::sleep(PAUSE).await; transfer.poll(shared.now()) }
            },
            () = shared.world.clock.sleep_until(transfer.poll_at()) => transfer.poll(shared.now()),
        };
        send_all(&*socket, packets).await;
    }
    match transfer.progress() {
        Progress::Failed(error) => tracing::debug!(%peer, file = request.file, error, "TFTP transfer failed"),
        _ => tracing::debug!(%peer, file = request.file, "TFTP transfer done"),
    }
}

async fn send_all(socket: &dyn Udp, packets: tftp::Packets) {
    for (to, packet) in packets {
        if let Err(error) = socket.send_to(&packet, to).await {
            tracing::debug!(%to, %error, "TFTP packet could not be sent");
        }
    }
}

async fn serve_web(shared: &Arc<Shared>) -> Result<Infallible, BootError> {
    let address = shared.config.http;
    let mut listener: Box<dyn Listener> = shared
        .world
        .net
        .listen(address)
        .await
        .map_err(|why| BootError::new("HTTP boot", address, why))?;
    tracing::info!(%address, "HTTP boot listens");
    let mut connections: JoinSet<IpAddr> = JoinSet::new();
    let mut of_peer: BTreeMap<IpAddr, usize> = BTreeMap::new();
    loop {
        tokio::select! {
            biased;
            Some(ended) = connections.join_next() => match ended {
                Ok(peer) => {
                    if let Some(count) = of_peer.get_mut(&peer) {
                        *count -= 1;
                        if *count == 0 { of_peer.remove(&peer); }
                    }
                }
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                Err(_) => {}
            },
            accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => match accepted {
                Ok((stream, from)) => {
                    let count = of_peer.entry(from.ip()).or_default();
                    if *count >= CONNECTIONS_PER_PEER_MAX {
                        tracing::debug!(%from, "too many connections of one address");
                        continue;
                    }
                    *count += 1;
                    let shared = shared.clone();
                    connections.spawn(async move {
                        connection(shared, BoxedStream(stream), from).await;
                        from.ip()
                    });
                }
                Err(error) => {
                    tracing::debug!(%error, "HTTP accept");
                    tokio::time::sleep(PAUSE).await;
                }
            },
        }
    }
}

async fn connection(shared: Arc<Shared>, stream: BoxedStream, from: SocketAddr) {
    let service = service_fn(|request| {
        let shared = shared.clone();
        async move { Ok::<_, Infallible>(web::handle(&shared, request, from.ip()).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        // It would come from the system's clock, and a replayed run would send other bytes.
        .auto_date_header(false)
        .header_read_timeout(HEADERS_WITHIN)
        .max_buf_size(BUFFER_MAX)
        .serve_connection(TokioIo::new(StallGuard::new(stream, STALL_AFTER)), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%from, %error, "HTTP connection ended");
    }
}
