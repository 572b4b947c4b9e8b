//! The deploy ramdisk of a simulated host: checks what was loaded, then runs the real agent on this machine's hardware,
//! with real HTTP and TLS over the machine's own network, until it powers the machine off or reboots it.
//!
//! ```text
//!              kernel, initrd, cmdline                        Next::PowerOff | Next::Reboot
//!                        |                                              ^
//!  HostNet --- client (requests of the agent) --events--> Agent --actions--- server (TLS, the agent's API)
//!                                                           |
//!                                                       Platform --- Disk
//! ```
//! This is the in-memory twin of the Linux shell: it carries actions out and decides nothing.

mod client;
mod identity;
mod platform;
mod server;

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use steelyard_agent::{Action, Agent, ApiReply, BadParameter, Event, HttpId, Options, Parameters, RequestId};
use steelyard_agent_api::{Cpu, PciDevice, SystemVendor};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::disk::Disk;
use super::image::{self, BadArtefact};

/// Events that wait for the agent: a few chunks of an image at most, so that the network feels the disk's speed.
const EVENTS_MAX: usize = 4;
/// A service manager starts an agent that gave up again after this (systemd: RestartSec).
const RESTART_PAUSE: Duration = Duration::from_secs(5);
/// How long an OS takes to go down after the order, in which what was answered still leaves the machine.
const SHUTDOWN: Duration = Duration::from_millis(500);

/// A TCP connection of the host.
pub trait HostStream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> HostStream for T {}

/// A TCP listener of the host.
pub trait HostListener: Send {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Box<dyn HostStream>, SocketAddr)>>;
}

/// The network as the ramdisk has it, after DHCP: what it needs of the host's TCP/IP stack.
pub trait HostNet: Send + Sync {
    /// The address from which `to` would be reached, if there is a route.
    fn source(&self, to: IpAddr) -> Option<IpAddr>;
    fn connect(&self, to: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn HostStream>>>;
    fn listen(&self, bind: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn HostListener>>>;
}

/// A network interface as the ramdisk sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nic {
    /// `eth0`.
    pub name: String,
    pub mac: [u8; 6],
    /// Whether the cable is plugged in at both ends.
    pub link: bool,
    /// Its address, once it has one.
    pub address: Option<IpAddr>,
    pub speed_mbps: u64,
    pub driver: String,
    /// PCI address, vendor and product, as sysfs has them (`0000:01:00.0`, `0x8086`).
    pub pci_address: Option<String>,
    pub vendor: Option<String>,
    pub product: Option<String>,
}

/// The machine that the ramdisk runs on.
#[derive(Clone)]
pub struct Hardware {
    pub hostname: String,
    pub cpu: Cpu,
    /// Bytes.
    pub memory: u64,
    pub nics: Vec<Nic>,
    pub disks: Vec<Disk>,
    pub pci: Vec<PciDevice>,
    pub bmc_address: Option<IpAddr>,
    pub bmc_mac: Option<String>,
    pub system: SystemVendor,
    pub uefi: bool,
}

/// What the firmware loaded, and where it runs.
pub struct Boot {
    /// The kernel's command line as the boot script gave it.
    pub cmdline: String,
    pub kernel: Bytes,
    pub initrd: Bytes,
    pub hardware: Hardware,
    pub net: Arc<dyn HostNet>,
    /// For backoff and command ids.
    pub seed: u64,
    /// The time of day at this boot.
    pub wall_clock: jiff::Timestamp,
}

/// What the machine does when the ramdisk has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    PowerOff,
    Reboot,
}

/// Why the ramdisk didn't come up.
#[derive(Debug, thiserror::Error)]
pub enum RamdiskError {
    #[error(transparent)]
    Artefact(#[from] BadArtefact),
    #[error(transparent)]
    Cmdline(#[from] BadParameter),
}

/// Boots the ramdisk and returns when it powers the machine off or reboots it. Dropping the future is pulling the plug:
/// all connections and tasks go with it.
pub async fn run(boot: Boot) -> Result<Next, RamdiskError> {
    image::check(&boot.kernel, &boot.initrd)?;
    let parameters = Parameters::parse(&boot.cmdline)?;
    let began = Instant::now();
    let mut run: u64 = 0;
    loop {
        let up = jiff::SignedDuration::try_from(began.elapsed()).unwrap_or_default();
        let now = boot.wall_clock + up;
        let options = Options {
            parameters: parameters.clone(),
            seed: boot.seed.wrapping_add(run),
            started_at: now.as_second() as f64,
        };
        match Shell::new(&boot, options, now).run().await {
            End::Next(next) => {
                tracing::debug!(host = boot.hardware.hostname, ?next, "the ramdisk ends");
                tokio::time::sleep(SHUTDOWN).await;
                return Ok(next);
            }
            End::Exit(why) => tracing::warn!(
                host = boot.hardware.hostname,
                why,
                "the agent gave up and is started again"
            ),
            End::Lockdown(why) => {
                tracing::warn!(host = boot.hardware.hostname, why, "the agent locked itself down");
                return std::future::pending().await;
            }
        }
        run += 1;
        tokio::time::sleep(RESTART_PAUSE).await;
    }
}

/// How one run of the agent ended.
#[derive(Debug)]
enum End {
    Next(Next),
    Exit(String),
    Lockdown(&'static str),
}

/// What the tasks of the shell report.
enum Report {
    Event(Event),
    /// A request for the agent's API, with the way back.
    Request(steelyard_agent::ApiRequest, oneshot::Sender<ApiReply>),
}

struct Shell<'a> {
    boot: &'a Boot,
    agent: Agent,
    now: jiff::Timestamp,
    reports: mpsc::Sender<Report>,
    inbox: mpsc::Receiver<Report>,
    /// Every task of this run; they end when it ends.
    tasks: JoinSet<()>,
    transfers: BTreeMap<HttpId, AbortHandle>,
    replies: BTreeMap<RequestId, oneshot::Sender<ApiReply>>,
    requests: u64,
    stop: CancellationToken,
    serving: Option<oneshot::Receiver<()>>,
}

impl<'a> Shell<'a> {
    fn new(boot: &'a Boot, options: Options, now: jiff::Timestamp) -> Self {
        let platform = platform::Machine::new(boot.hardware.clone());
        let agent = Agent::new(options, Box::new(platform), Instant::now().into_std());
        let (reports, inbox) = mpsc::channel(EVENTS_MAX);
        Self {
            boot,
            agent,
            now,
            reports,
            inbox,
            tasks: JoinSet::new(),
            transfers: BTreeMap::new(),
            replies: BTreeMap::new(),
            requests: 0,
            stop: CancellationToken::new(),
            serving: None,
        }
    }

    async fn run(mut self) -> End {
        let mut event = Event::Started;
        loop {
            let actions = self.agent.on(event, Instant::now().into_std());
            for action in actions {
                if let Some(end) = self.act(action) {
                    self.finish().await;
                    return end;
                }
            }
            event = self.next_event().await;
        }
    }

    async fn next_event(&mut self) -> Event {
        loop {
            let due = self.agent.poll_at().map(Instant::from_std);
            let timer = async move {
                match due {
                    // Others get their turn between two slices of a long job.
                    Some(at) if at <= Instant::now() => tokio::task::yield_now().await,
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                report = self.inbox.recv() => match report {
                    Some(Report::Event(event)) => return event,
                    Some(Report::Request(request, reply)) => {
                        self.requests += 1;
                        let id = RequestId(self.requests);
                        self.replies.insert(id, reply);
                        return Event::Request(id, request);
                    }
                    // Never: we hold a sender.
                    None => return Event::Tick,
                },
                Some(_) = self.tasks.join_next() => {}
                () = timer => return Event::Tick,
            }
        }
    }

    fn act(&mut self, action: Action) -> Option<End> {
        match action {
            Action::Http(request) => {
                let id = request.id;
                self.transfers.retain(|_, transfer| !transfer.is_finished());
                let work = client::transfer(self.boot.net.clone(), request, self.reports.clone());
                self.transfers.insert(id, self.tasks.spawn(work));
            }
            Action::CancelHttp(id) => {
                if let Some(transfer) = self.transfers.remove(&id) {
                    transfer.abort();
                }
            }
            Action::Listen { service, port } => self.listen(&service, port),
            Action::Reply(id, reply) => {
                if let Some(way) = self.replies.remove(&id) {
                    // The client may have gone away meanwhile.
                    let _ = way.send(reply);
                }
            }
            Action::PowerOff => return Some(End::Next(Next::PowerOff)),
            Action::Reboot => return Some(End::Next(Next::Reboot)),
            Action::Lockdown(why) => return Some(End::Lockdown(why)),
            Action::Exit(why) => return Some(End::Exit(why)),
        }
        None
    }

    fn listen(&mut self, service: &str, port: u16) {
        let (ended, serving) = oneshot::channel();
        let work = server::serve(
            server::Place {
                net: self.boot.net.clone(),
                service: service.to_owned(),
                port,
                hostname: self.boot.hardware.hostname.clone(),
                now: self.now,
            },
            self.reports.clone(),
            self.stop.clone(),
        );
        self.tasks.spawn(async move {
            work.await;
            let _ = ended.send(());
        });
        self.serving = Some(serving);
    }

    /// Lets the replies that were given leave, then ends everything.
    async fn finish(mut self) {
        // Requests that still come or wait are refused.
        self.inbox.close();
        self.replies.clear();
        self.stop.cancel();
        if let Some(serving) = self.serving.take() {
            let _ = tokio::time::timeout(SHUTDOWN, serving).await;
        }
        self.tasks.shutdown().await;
    }
}

#[cfg(test)]
mod tests;
