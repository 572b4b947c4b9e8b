//! The deploy ramdisk of a simulated host (seam; the shell follows).

use std::io;
use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use futures::future::BoxFuture;
use steelyard_agent_api::{Cpu, PciDevice, SystemVendor};
use tokio::io::{AsyncRead, AsyncWrite};

use super::disk::Disk;

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
    pub net: std::sync::Arc<dyn HostNet>,
    /// For backoff and command ids.
    pub seed: u64,
    /// Seconds since 1970 at this boot.
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
    #[error("kernel: {0}")]
    Kernel(String),
    #[error("initrd: {0}")]
    Initrd(String),
}

/// Boots the ramdisk and returns when it powers the machine off or reboots it.
pub async fn run(_boot: Boot) -> Result<Next, RamdiskError> {
    Err(RamdiskError::Kernel("not built yet".to_owned()))
}
