//! How long a simulated machine takes for what has no bytes to move: POST, timeouts, the boot of an OS.
//!
//! All waits go through tokio's clock, so that a test may pause it.

use std::time::Duration;

/// Timeouts of a protocol that repeats itself: `first`, then doubled for each further try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    pub first: Duration,
    pub tries: u32,
}

impl Retry {
    /// The wait of each try, one after the other.
    pub(crate) fn waits(self) -> impl Iterator<Item = Duration> {
        (0..self.tries).map(move |i| self.first.saturating_mul(1 << i.min(16)))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Power-on to the first boot entry.
    pub post: Duration,
    pub dhcp: Retry,
    pub tftp: Retry,
    /// Boot loader to the first service of the OS.
    pub os_boot: Duration,
    /// Power button to power-off, and reboot command to reset.
    pub shutdown: Duration,
    /// `curl`'s and the kubelet's whole request.
    pub http: Duration,
    /// How often kubeadm asks for its certificate, and how long.
    pub csr_poll: Duration,
    pub csr_wait: Duration,
    /// `kubelet --node-lease-duration-seconds` / 4 and `--node-status-update-frequency`; restart delay of the service.
    pub lease_renew: Duration,
    pub node_status: Duration,
    pub service_restart: Duration,
}

impl Timing {
    /// Short enough for a demo, long enough that nothing hangs on luck: a DHCP exchange takes microseconds here, so that
    /// three tries within 1.75 s tell a wrong VLAN from a busy laptop.
    pub fn lab() -> Self {
        Self {
            post: Duration::from_millis(200),
            dhcp: Retry {
                first: Duration::from_millis(250),
                tries: 3,
            },
            tftp: Retry {
                first: Duration::from_millis(500),
                tries: 4,
            },
            os_boot: Duration::from_millis(200),
            shutdown: Duration::from_millis(100),
            http: Duration::from_secs(30),
            csr_poll: Duration::from_millis(100),
            csr_wait: Duration::from_secs(60),
            lease_renew: Duration::from_secs(10),
            node_status: Duration::from_secs(60),
            service_restart: Duration::from_secs(2),
        }
    }

    /// What a server of today takes (DHCP: 4, 8, 16, 32 s as the PXE specification 2.1 has it).
    pub fn real() -> Self {
        Self {
            post: Duration::from_secs(120),
            dhcp: Retry {
                first: Duration::from_secs(4),
                tries: 4,
            },
            tftp: Retry {
                first: Duration::from_secs(2),
                tries: 5,
            },
            os_boot: Duration::from_secs(20),
            shutdown: Duration::from_secs(5),
            http: Duration::from_secs(300),
            csr_poll: Duration::from_secs(1),
            csr_wait: Duration::from_secs(300),
            lease_renew: Duration::from_secs(10),
            node_status: Duration::from_secs(300),
            service_restart: Duration::from_secs(10),
        }
    }
}

impl Default for Timing {
    fn default() -> Self {
        Self::lab()
    }
}
