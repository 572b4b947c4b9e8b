//! The seam between a BMC and the machine it manages.
//!
//! The BMC never owns power: it asks a [`Machine`] to do something and reports what the machine says about itself.
//! Backends live beside this file (`memory.rs`); the lab brings its own simulated host.

mod memory;

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};

pub use memory::{MemoryMachine, MemoryTimings};

/// Power as Redfish's `PowerState` names it (Resource.PowerState; `Paused` is not produced).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Power {
    On,
    Off,
    PoweringOn,
    PoweringOff,
}

/// `ComputerSystem.BootProgress.LastState`, in the order in which a boot passes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum BootProgress {
    None,
    PrimaryProcessorInitializationStarted,
    BusInitializationStarted,
    MemoryInitializationStarted,
    SecondaryProcessorInitializationStarted,
    #[serde(rename = "PCIResourceConfigStarted")]
    PciResourceConfigStarted,
    SystemHardwareInitializationComplete,
    SetupEntered,
    #[serde(rename = "OSBootStarted")]
    OsBootStarted,
    #[serde(rename = "OSRunning")]
    OsRunning,
}

/// What a machine says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MachineState {
    pub power: Power,
    pub boot_progress: BootProgress,
}

impl MachineState {
    pub const OFF: MachineState = MachineState {
        power: Power::Off,
        boot_progress: BootProgress::None,
    };
    pub const ON: MachineState = MachineState {
        power: Power::On,
        boot_progress: BootProgress::None,
    };
}

/// What a BMC can do to a machine. Each is one electrical or ACPI event: sequences such as a power cycle
/// are composed by the BMC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MachineCommand {
    /// Power on; firmware starts at POST.
    On,
    /// Cut power at once.
    ForceOff,
    /// Press the ACPI power button; the operating system may take its time, or ignore it.
    GracefulShutdown,
    /// Assert reset; power stays on, firmware starts at POST.
    ForceRestart,
    /// Ask the operating system to reboot.
    GracefulRestart,
    /// Raise a non-maskable interrupt.
    Nmi,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MachineError {
    #[error("machine cannot do {command:?} while it is {power:?}; power it to the other state first")]
    WrongState { command: MachineCommand, power: Power },
    #[error("machine backend failed at {command:?}: {reason}")]
    Backend { command: MachineCommand, reason: String },
}

/// A machine behind a BMC. `apply` returns when the command has taken effect electrically (power is on or off, the
/// button was pressed), not when an operating system has followed.
pub trait Machine: Send + Sync {
    fn state(&self) -> BoxFuture<'_, MachineState>;
    fn apply(&self, command: MachineCommand) -> BoxFuture<'_, Result<(), MachineError>>;
}
