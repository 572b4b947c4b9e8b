//! A simulated server: a machine that is honest about what it does.
//!
//! ```text
//! machine.rs   power, commands of the BMC, one future per boot     chassis.rs, timing.rs, console.rs: what a boot runs on
//!  |- firmware.rs  POST, boot order, PXE and HTTP boot             dhcp.rs tftp.rs http.rs resolve.rs tls.rs: its protocols
//!  |   `- ipxe.rs      the boot script
//!  |- ramdisk.rs   the deploy agent on this hardware               hardware.rs: one source for BMC, agent and kubelet
//!  `- os.rs        what is really on the disk                      disk.rs image.rs iso.rs
//! ```

mod chassis;
mod console;
mod dhcp;
pub mod disk;
mod firmware;
mod hardware;
mod http;
pub mod image;
mod ipxe;
pub mod iso;
mod machine;
mod nic;
mod os;
pub mod ramdisk;
mod resolve;
mod tftp;
mod timing;
mod tls;

pub use chassis::Now;
pub use console::Console;
pub use firmware::IPXE_MAGIC;
pub use machine::{Host, HostConfig, HostStatus};
pub use nic::Plug;
pub use timing::{Retry, Timing};
