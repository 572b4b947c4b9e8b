//! UEFI firmware: POST, the boot override of the BMC, the boot order, network boot up to a kernel.
//!
//! ```text
//! post_begins() -> [override's entries] -> [own boot order] -> setup
//! PXE entry:  DHCP -> TFTP boot file -> magic checked -> iPXE: DHCP -> script -> kernel and ramdisk | disk | exit
//! HTTP entry: the same with option 60 HTTPClient and an HTTP download
//! ```
//! Each entry may fail and says why on the console; the next one is tried, as firmware does.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use bytes::Bytes;
use sim_bmc::{BootDevice, BootMode, BootProgress, BootTarget, OverrideEnabled};
use tokio::time::sleep;
use url::Url;

use super::chassis::{Chassis, beside};
use super::dhcp::{self, Asker, Client, DhcpError, Lease};
use super::http::{Fetch, HttpError};
use super::image::{self, NotBootable, OsManifest};
use super::ipxe::{Interpreter, Outcome, ScriptError, Step};
use super::nic::{Network, Nic};
use super::tftp::{self, TftpError};
use super::tls;
use crate::net::Stack;

/// The first bytes of the lab's iPXE (`snponly.efi`): a PE file's signature, then our mark. Simulated firmware cannot run
/// x86 code; it checks that what it loaded is the program whose behaviour it has built in.
pub const IPXE_MAGIC: &[u8] = b"MZ\0\0STEELYARD-IPXE/1\n";

/// Kernels, ramdisks and scripts; the lab's are below 256 KiB.
const DOWNLOAD_MAX: usize = 64 << 20;
const USER_AGENT_IPXE: &str = "iPXE/1.21.1";
const USER_AGENT_UEFI: &str = "UefiHttpBoot/1.0";

/// What firmware hands over to.
pub(crate) enum Loaded {
    Kernel {
        kernel: Bytes,
        cmdline: String,
        initrd: Bytes,
        nic: usize,
    },
    Disk {
        index: usize,
        manifest: OsManifest,
    },
    /// Nothing boots: somebody has to look.
    Setup,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entry {
    Disk(usize),
    Pxe(usize),
    Http(usize),
}

#[derive(Debug, thiserror::Error)]
enum BootError {
    #[error("no link")]
    NoLink,
    #[error("{0}")]
    Dhcp(#[from] DhcpError),
    #[error("no boot file in the DHCP answer of {0}")]
    NoFile(Ipv4Addr),
    #[error("{0}")]
    Tftp(#[from] TftpError),
    #[error("{0}")]
    Http(#[from] HttpError),
    #[error("{url}: HTTP status {status}")]
    Status { url: String, status: u16 },
    #[error("{0:?} is not a program that this firmware can start")]
    NotExecutable(String),
    #[error("iPXE: {0}")]
    Script(#[from] ScriptError),
    #[error("iPXE: disk 0x{0:02x}: no such drive")]
    NoDrive(u8),
    #[error("{0}")]
    NotBootable(#[from] NotBootable),
    #[error("TLS: {0}")]
    Tls(#[from] tls::TlsError),
    #[error("iPXE went back to the firmware")]
    Exit,
}

/// One pass of the firmware, from POST to whatever boots.
pub(crate) async fn run(chassis: &Chassis, nics: &mut [Nic]) -> Loaded {
    let machine = &chassis.hardware;
    chassis.say(format!(
        "{} {} BIOS {}",
        machine.manufacturer, machine.model, machine.bios_version
    ));
    (chassis.report)(BootProgress::MemoryInitializationStarted, "POST");
    sleep(chassis.timing.post).await;
    (chassis.report)(
        BootProgress::SystemHardwareInitializationComplete,
        "POST complete",
    );
    let (first, uri, setup) = overridden(chassis);
    if setup {
        return Loaded::Setup;
    }
    let order = own_order(chassis, nics);
    let mut tried = Vec::new();
    for entry in entries(&order, first).into_iter().chain(order.iter().copied()) {
        // UEFI tries an entry of the override again in its own turn; the answer would be the same, seconds later.
        if tried.contains(&entry) {
            continue;
        }
        tried.push(entry);
        let name = describe(chassis, nics, entry);
        chassis.say(format!("Booting {name}"));
        (chassis.report)(BootProgress::SystemHardwareInitializationComplete, &name);
        match attempt(chassis, nics, entry, uri.as_deref()).await {
            Ok(loaded) => return loaded,
            Err(error) => {
                tracing::debug!(host = %chassis.name, entry = name, %error, "boot entry failed");
                chassis.say(format!("{name}: {error}"));
            }
        }
    }
    chassis.say("No bootable option or device was found. Entering setup.");
    Loaded::Setup
}

/// What the BMC wants first: a target, a URI for HTTP, or setup.
fn overridden(chassis: &Chassis) -> (BootTarget, Option<String>, bool) {
    let Some(bmc) = &chassis.bmc else {
        return (BootTarget::None, None, false);
    };
    let over = bmc.post_begins();
    if over.enabled == OverrideEnabled::Disabled || over.target == BootTarget::None {
        return (BootTarget::None, None, false);
    }
    chassis.say(format!(
        "Boot override by the BMC: {:?} ({:?}, {:?})",
        over.target, over.enabled, over.mode
    ));
    if over.mode == BootMode::Legacy {
        chassis.say("Legacy boot is not supported by this firmware; boot override ignored.");
        return (BootTarget::None, None, false);
    }
    if matches!(over.target, BootTarget::Cd | BootTarget::Usb | BootTarget::Diags) {
        chassis.say(format!("{:?}: no medium", over.target));
    }
    (over.target, over.http_uri, over.target == BootTarget::BiosSetup)
}

/// The machine's own order: the BMC's (which users may edit), else disks, then PXE.
fn own_order(chassis: &Chassis, nics: &[Nic]) -> Vec<Entry> {
    let Some(bmc) = &chassis.bmc else {
        return (0..chassis.disks.len())
            .map(Entry::Disk)
            .chain((0..nics.len()).map(Entry::Pxe))
            .collect();
    };
    let drives: Vec<&str> = chassis.hardware.drives().map(|drive| drive.id.as_str()).collect();
    let nic = |id: &str| nics.iter().position(|nic| nic.id == id);
    let options = bmc.boot_order();
    let found = options.iter().filter_map(|option| match &option.device {
        BootDevice::Drive { id } => drives.iter().position(|drive| drive == id).map(Entry::Disk),
        BootDevice::Pxe { nic: id } => nic(id).map(Entry::Pxe),
        BootDevice::Http { nic: id } => nic(id).map(Entry::Http),
    });
    found.collect()
}

fn entries(order: &[Entry], target: BootTarget) -> Vec<Entry> {
    let wanted = |entry: &Entry| match target {
        BootTarget::Pxe => matches!(entry, Entry::Pxe(_)),
        BootTarget::UefiHttp => matches!(entry, Entry::Http(_)),
        BootTarget::Hdd => matches!(entry, Entry::Disk(_)),
        _ => false,
    };
    order.iter().copied().filter(wanted).collect()
}

fn describe(chassis: &Chassis, nics: &[Nic], entry: Entry) -> String {
    match entry {
        Entry::Disk(index) => chassis
            .disks
            .get(index)
            .map_or_else(|| format!("disk {index}"), |disk| disk.model().name.clone()),
        Entry::Pxe(index) => format!("PXEv4 {} ({})", nics[index].name, nics[index].mac),
        Entry::Http(index) => format!("HTTPv4 {} ({})", nics[index].name, nics[index].mac),
    }
}

async fn attempt(
    chassis: &Chassis,
    nics: &mut [Nic],
    entry: Entry,
    uri: Option<&str>,
) -> Result<Loaded, BootError> {
    let (index, client) = match entry {
        Entry::Disk(index) => return disk(chassis, index, index as u8),
        Entry::Pxe(index) => (index, Client::Pxe),
        Entry::Http(index) => (index, Client::Http),
    };
    let nic = &mut nics[index];
    if !nic.carrier() {
        return Err(BootError::NoLink);
    }
    let stack = nic.stack(chassis.seed_for(0x10 + index as u64));
    let program = beside(stack.run(&mut *nic), boot_program(chassis, &stack, client, uri)).await;
    stack.link_down();
    program?;
    // iPXE brings its own driver and stack, and asks for an address anew.
    let stack = nic.stack(chassis.seed_for(0x20 + index as u64));
    let outcome = beside(stack.run(&mut *nic), ipxe(chassis, &stack)).await;
    stack.link_down();
    match outcome? {
        Outcome::Boot {
            kernel,
            cmdline,
            initrd,
        } => Ok(Loaded::Kernel {
            kernel,
            cmdline,
            initrd,
            nic: index,
        }),
        Outcome::Disk(number) => {
            let index = usize::from(number.checked_sub(0x80).ok_or(BootError::NoDrive(number))?);
            disk(chassis, index, number)
        }
        Outcome::Exit => Err(BootError::Exit),
    }
}

fn disk(chassis: &Chassis, index: usize, number: u8) -> Result<Loaded, BootError> {
    let disk = chassis.disks.get(index).ok_or(BootError::NoDrive(number))?;
    let manifest = image::boot_disk(disk)?;
    Ok(Loaded::Disk { index, manifest })
}

/// The firmware's part: DHCP, and a boot file that is iPXE.
async fn boot_program(
    chassis: &Chassis,
    stack: &Stack,
    client: Client,
    uri: Option<&str>,
) -> Result<(), BootError> {
    let asker = Asker {
        client,
        uuid: chassis.hardware.uuid,
        hostname: None,
        seed: chassis.seed_for(1),
    };
    let lease = dhcp::acquire(stack, asker, chassis.timing.dhcp).await?;
    chassis.say(format!(
        "Station address {}, boot server {}",
        lease.address.ip, lease.next_server
    ));
    let file = match uri.filter(|_| client == Client::Http) {
        Some(uri) => uri.to_owned(),
        None => lease.boot_file.clone().ok_or(BootError::NoFile(lease.server))?,
    };
    let network = network(stack, &lease);
    let content = match client {
        Client::Http => download(chassis, &network, &file, USER_AGENT_UEFI).await?,
        _ => tftp::read(stack, lease.next_server, &file, chassis.timing.tftp).await?,
    };
    if !content.starts_with(IPXE_MAGIC) {
        return Err(BootError::NotExecutable(file));
    }
    chassis.say(format!("Loaded {file} ({} bytes)", content.len()));
    Ok(())
}

fn network(stack: &Stack, lease: &Lease) -> Network {
    let network = Network::of(stack.clone());
    network.add_dns(lease.dns.iter().copied());
    network
}

async fn download(chassis: &Chassis, net: &Network, url: &str, agent: &str) -> Result<Bytes, BootError> {
    let parsed = Url::parse(url).map_err(|_| HttpError::Url(url.to_owned()))?;
    let fetch = Fetch {
        net,
        // Trusts no CA: this firmware has none enrolled.
        tls: tls::roots(b"", None, &chassis.clock)?,
        agent,
        body_max: DOWNLOAD_MAX,
        redirects_max: 4,
        timeout: chassis.timing.http,
    };
    let (status, body) = fetch.get(&parsed).await?;
    if !status.is_success() {
        return Err(BootError::Status {
            url: url.to_owned(),
            status: status.as_u16(),
        });
    }
    Ok(body)
}

/// iPXE: its own DHCP, then the script that the answer names.
async fn ipxe(chassis: &Chassis, stack: &Stack) -> Result<Outcome, BootError> {
    chassis.say("iPXE initialising devices... ok");
    let asker = Asker {
        client: Client::Ipxe,
        uuid: chassis.hardware.uuid,
        hostname: None,
        seed: chassis.seed_for(2),
    };
    let lease = dhcp::acquire(stack, asker, chassis.timing.dhcp).await?;
    let network = network(stack, &lease);
    let file = lease.boot_file.clone().ok_or(BootError::NoFile(lease.server))?;
    chassis.say(format!("iPXE: net0 {} {}, {file}", stack.mac(), lease.address.ip));
    let session = Ipxe {
        chassis,
        stack,
        network: &network,
        asker,
        next_server: lease.next_server,
    };
    let script = session.fetch(&file).await?;
    let mut interpreter = Interpreter::new(&script, session.settings(&lease, &file))?;
    loop {
        match interpreter.step()? {
            Step::End(outcome) => return Ok(outcome),
            Step::Echo(text) => chassis.say(text),
            Step::Fetch(url) => {
                let content = session.fetch(&url).await;
                let shown = content
                    .as_ref()
                    .map_or_else(|error| error.to_string(), |_| "ok".to_owned());
                chassis.say(format!("{url}... {shown}"));
                interpreter.answer(content.map_err(|error| error.to_string()))?;
            }
            Step::Dhcp => {
                let lease = dhcp::acquire(stack, asker, chassis.timing.dhcp).await;
                if let Ok(lease) = &lease {
                    interpreter.set("net0/ip", lease.address.ip.to_string());
                    interpreter.set("ip", lease.address.ip.to_string());
                }
                interpreter.answer(lease.map(|_| Bytes::new()).map_err(|error| error.to_string()))?;
            }
        }
    }
}

struct Ipxe<'a> {
    chassis: &'a Chassis,
    stack: &'a Stack,
    network: &'a Network,
    asker: Asker<'a>,
    next_server: Ipv4Addr,
}

impl Ipxe<'_> {
    /// A URL, or a file on the TFTP server that DHCP named.
    async fn fetch(&self, url: &str) -> Result<Bytes, BootError> {
        let Some(rest) = url.strip_prefix("tftp://") else {
            if url.contains("://") {
                return download(self.chassis, self.network, url, USER_AGENT_IPXE).await;
            }
            return Ok(tftp::read(self.stack, self.next_server, url, self.chassis.timing.tftp).await?);
        };
        let bad = || HttpError::Url(url.to_owned());
        let (server, file) = rest.split_once('/').ok_or_else(bad)?;
        let server = server.parse().map_err(|_| bad())?;
        Ok(tftp::read(self.stack, server, file, self.chassis.timing.tftp).await?)
    }

    fn settings(&self, lease: &Lease, file: &str) -> BTreeMap<String, String> {
        let hardware = &self.chassis.hardware;
        let mut settings = BTreeMap::new();
        for name in ["mac", "net0/mac", "netX/mac"] {
            settings.insert(name.to_owned(), self.stack.mac().to_string());
        }
        for name in ["ip", "net0/ip", "netX/ip"] {
            settings.insert(name.to_owned(), lease.address.ip.to_string());
        }
        let others = [
            ("uuid", self.asker.uuid.to_string()),
            ("serial", hardware.serial.clone()),
            ("manufacturer", hardware.manufacturer.to_string()),
            ("product", hardware.model.to_string()),
            ("next-server", self.next_server.to_string()),
            ("filename", file.to_owned()),
            ("platform", "efi".to_owned()),
            ("buildarch", "x86_64".to_owned()),
        ];
        settings.extend(others.map(|(name, value)| (name.to_owned(), value)));
        settings
    }
}
