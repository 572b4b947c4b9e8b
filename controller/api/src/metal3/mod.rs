//! `metal3.io/v1alpha1`: BareMetalHost and HardwareData, field for field what Metal3's users know.
//!
//! The one addition is `status.steelyard` ([`SteelyardStatus`]): what could not be observed again after a crash.

mod hardware;
mod host;
mod provisioning;
mod raid;
mod references;
mod status;
mod steelyard;

pub use hardware::{
    Bios, Cpu, DiskType, Firmware, HardwareData, HardwareDataSpec, HardwareDetails, Lldp, Nic, Storage,
    SystemVendor, Vlan,
};
pub use host::{
    BareMetalHost, BareMetalHostSpec, BmcDetails, FirmwareConfig, HostNetworkAttachmentReference,
    InspectionMode, NetworkInterface, SwitchPort,
};
pub use provisioning::{
    AutomatedCleaningMode, BootMode, ChecksumType, CustomDeploy, Image, ImageFormat, RootDeviceHints,
};
pub use raid::{HardwareRaidVolume, RaidConfig, SoftwareRaidVolume};
pub use references::{ObjectReference, SecretReference, Taint};
pub use status::{
    BareMetalHostStatus, CredentialsStatus, ErrorType, OperationHistory, OperationMetric, OperationalStatus,
    ProvisionStatus, ProvisioningState,
};
pub use steelyard::{
    AgentRecord, ClaimRecord, Operation, OperationKind, SteelyardStatus, WipeEvidence, WipedDisk,
};
