//! A simulated server: a machine that is honest about what it does.
//!
//! ```text
//! machine.rs   power, commands of the BMC, one future per boot     chassis.rs, timing.rs, console.rs: what a boot runs on
//!  |- firmware.rs  POST, boot order, PXE and HTTP boot             dhcp.rs tftp.rs http.rs resolve.rs tls.rs: its protocols
//!  |   `- ipxe.rs      the boot script
//!  |- ramdisk.rs   the deploy agent on this hardware               hardware.rs: one source for BMC, agent and kubelet
//!  `- os.rs        what is really on the disk                      disk.rs image.rs iso.rs rootfs.rs
//!      |- cloudinit.rs network.rs                                  shell/ curl.rs: runcmd and the join script
//!      `- kubelet.rs   the node                                    join.rs (kubeadm), kube.rs
//! ```

mod chassis;
mod cloudinit;
mod console;
mod curl;
mod dhcp;
pub mod disk;
mod firmware;
mod hardware;
mod http;
pub mod image;
mod ipxe;
pub mod iso;
mod join;
mod kube;
mod kubelet;
mod machine;
mod network;
mod nic;
mod os;
pub mod ramdisk;
mod resolve;
mod rootfs;
mod shell;
#[cfg(test)]
mod tests;
mod tftp;
mod timing;
mod tls;

pub use chassis::Now;
pub use console::Console;
pub use firmware::IPXE_MAGIC;
pub use machine::{Host, HostConfig, HostStatus};
pub use nic::Plug;
pub use timing::{Retry, Timing};
