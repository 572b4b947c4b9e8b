//! What one boot of a machine runs on: its parts, its console, and the ways in which it speaks to the world outside.

use std::future::poll_fn;
use std::net::IpAddr;
use std::sync::Arc;
use std::task::Poll;

use jiff::Timestamp;
use sim_bmc::{BmcHandle, BootProgress, Hardware};

use super::console::Console;
use super::disk::Disk;
use super::timing::Timing;

/// The wall clock; it must run in step with tokio's.
pub type Now = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Tells the machine's owner how far the boot is: progress for the BMC, a few words for people.
pub(crate) type Report = Arc<dyn Fn(BootProgress, &str) + Send + Sync>;

/// Parts are shared by all boots; `seed` is of this one.
#[derive(Clone)]
pub(crate) struct Chassis {
    pub name: Arc<str>,
    pub hardware: Arc<Hardware>,
    pub disks: Vec<Disk>,
    pub console: Console,
    pub timing: Timing,
    pub clock: Now,
    pub seed: u64,
    pub bmc: Option<BmcHandle>,
    pub bmc_address: Option<IpAddr>,
    pub report: Report,
}

impl Chassis {
    /// A seed for one use, from that of the boot (SplitMix64's finaliser).
    pub(crate) fn seed_for(&self, purpose: u64) -> u64 {
        let mut z = self
            .seed
            .wrapping_add(purpose.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(crate) fn say(&self, text: impl AsRef<str>) {
        self.console.print(text);
    }
}

/// How a boot ended by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    PowerOff,
    Reboot,
}

/// Runs what moves the frames beside the work; ends with the work. The frames come first: work waits for them.
pub(crate) async fn beside<T>(frames: impl Future<Output = ()>, work: impl Future<Output = T>) -> T {
    let mut frames = std::pin::pin!(frames);
    let mut work = std::pin::pin!(work);
    let mut running = true;
    poll_fn(|cx| {
        if running && frames.as_mut().poll(cx).is_ready() {
            // The fabric is gone: the work's sockets have failed, it ends by itself.
            running = false;
        }
        let done = work.as_mut().poll(cx);
        if let Poll::Ready(out) = done {
            // What the work sent last (a FIN, a heartbeat) still leaves.
            if running {
                let _ = frames.as_mut().poll(cx);
            }
            return Poll::Ready(out);
        }
        Poll::Pending
    })
    .await
}
