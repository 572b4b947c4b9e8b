//! A Redfish BMC emulator that real clients believe.
//!
//! Four parts (ARCHITECTURE.md, "Simulators are honest"): the engine [`Bmc`], sans-IO; personalities as data files;
//! [`faults`] wrapped around the engine; a thin server ([`serve`], [`serve_connection`]). [`BmcHandle`] joins engine and
//! [`Machine`] behind one lock.

mod bmc;
pub mod faults;
mod handle;
pub mod hardware;
mod machine;
mod personality;
mod redfish;
mod serve;
mod tls;

pub use bmc::{
    Bmc, BootDevice, BootMode, BootOption, BootOverride, BootTarget, Config, OverrideEnabled, Password,
    Reply, Request, ResetType,
};
pub use handle::{BmcHandle, Now};
pub use hardware::{Hardware, Mac, Nic};
pub use machine::{
    BootProgress, Machine, MachineCommand, MachineError, MachineState, MemoryMachine, MemoryTimings, Power,
};
pub use personality::{Identity, Personality, PersonalityError, Quirks, Timings};
pub use serve::{serve, serve_connection};
pub use tls::{TlsError, self_signed};
