//! The most that a conformant target may take, in one place. Slow racks tune once.

use std::time::Duration;

#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// From registration to `available`.
    pub available: Duration,
    /// From the tenant's wish to its Ready node.
    pub ready: Duration,
    /// From the deletion of the tenant to its servers being `available` again.
    pub released: Duration,
    /// From a mistake to an error that names it, and from its mending to recovery.
    pub error: Duration,
    /// How often taps are sampled.
    pub sample: Duration,
}

impl Limits {
    /// An embedded lab.
    pub fn lab() -> Self {
        Limits {
            available: Duration::from_secs(90),
            ready: Duration::from_secs(90),
            released: Duration::from_secs(120),
            error: Duration::from_secs(60),
            sample: Duration::from_millis(20),
        }
    }

    /// By name, for a report.
    pub fn named(&self) -> [(&'static str, Duration); 5] {
        let Limits {
            available,
            ready,
            released,
            error,
            sample,
        } = *self;
        [
            ("available", available),
            ("ready", ready),
            ("released", released),
            ("error", error),
            ("sample", sample),
        ]
    }

    /// Real servers: POST alone takes minutes, a full wipe hours.
    pub fn rack() -> Self {
        Limits {
            available: Duration::from_secs(45 * 60),
            ready: Duration::from_secs(60 * 60),
            released: Duration::from_secs(24 * 3600),
            error: Duration::from_secs(10 * 60),
            sample: Duration::from_secs(2),
        }
    }
}
