//! Deliberate defects, one at a time: with the feature `mutants`, tests and the conformance suite break one rule
//! and demand that somebody notices. Without the feature none of this is compiled.

use std::sync::atomic::{AtomicUsize, Ordering};

macro_rules! mutants {
    ($( $(#[$doc:meta])* $name:ident = $word:literal, )+) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Mutant { $( $(#[$doc])* $name, )+ }

        impl Mutant {
            pub const ALL: &'static [Mutant] = &[$(Mutant::$name),+];

            pub fn name(self) -> &'static str {
                match self { $(Mutant::$name => $word,)+ }
            }
        }
    };
}

mutants! {
    /// Deprovisioning ends without the erase job.
    SkipWipe = "skip-wipe",
    /// Evidence is believed although a disk was not read back.
    NoVerify = "no-verify",
    /// The server goes from one network to another without having been seen in none.
    SkipDetach = "skip-detach",
    /// The server is switched on before the fabric shows it in its network.
    PowerBeforeNetwork = "power-before-network",
    /// What a claim wrote stays on the host.
    ForgetRestore = "forget-restore",
    /// A host that somebody holds says that it is available for provisioning.
    OfferClaimed = "offer-claimed",
    /// A boot MAC that the server does not have is accepted.
    IgnoreBootMac = "ignore-boot-mac",
    /// An error stays in the status after its cause is gone.
    KeepError = "keep-error",
    /// A refused password is sent again and again.
    RetryPassword = "retry-password",
    /// No HardwareData object is written.
    NoHardwareData = "no-hardware-data",
    /// The status of an inspected host does not tell what the host is made of.
    NoInventory = "no-inventory",
    /// Provisioning ends when the image is written, before anything has booted.
    ProvisionedTooEarly = "provisioned-too-early",
    /// A removed image changes nothing.
    KeepImage = "keep-image",
    /// A deleted host is forgotten without having been switched off.
    DeleteWithoutPowerOff = "delete-without-power-off",
    /// A dropped DISCOVER is not told to anybody.
    SilentDrop = "silent-drop",
    /// The plain reboot annotation is never removed.
    KeepRebootAnnotation = "keep-reboot-annotation",
    /// The host stays in the provisioning network instead of its tenant's.
    StayHome = "stay-home",
}

impl std::str::FromStr for Mutant {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Mutant::ALL.iter().copied().find(|m| m.name() == name);
        found.ok_or_else(|| format!("no mutant is named {name}"))
    }
}

/// 0: none.
static SELECTED: AtomicUsize = AtomicUsize::new(0);

/// Breaks one rule in the whole process, or mends it again.
pub fn select(mutant: Option<Mutant>) {
    SELECTED.store(mutant.map_or(0, |m| m as usize + 1), Ordering::SeqCst);
}

pub fn is(mutant: Mutant) -> bool {
    SELECTED.load(Ordering::SeqCst) == mutant as usize + 1
}
