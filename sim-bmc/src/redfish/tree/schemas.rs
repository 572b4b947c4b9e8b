//! The schema versions that this service declares: those of DSP8010 release 2024.1, which BMC firmware of 2024 to 2026
//! reports. A property that is newer than its type's version here is a defect that the service validator finds.

use crate::redfish::document::Schema;

macro_rules! schemas {
    ($($constant:ident = $name:literal $(, $version:literal)?;)*) => {
        $(pub(crate) const $constant: Schema = schemas!(@one $name $(, $version)?);)*
        /// Every schema in use, for `$metadata`.
        pub(crate) const ALL: &[Schema] = &[$($constant),*];
    };
    (@one $name:literal, $version:literal) => { Schema::new($name, $version) };
    (@one $name:literal) => { Schema::collection($name) };
}

schemas! {
    ACCOUNT_SERVICE = "AccountService", "v1_15_4";
    BIOS = "Bios", "v1_2_3";
    BOOT_OPTION = "BootOption", "v1_0_6";
    BOOT_OPTIONS = "BootOptionCollection";
    CHASSIS = "Chassis", "v1_25_2";
    CHASSIS_COLLECTION = "ChassisCollection";
    COMPUTER_SYSTEM = "ComputerSystem", "v1_22_4";
    COMPUTER_SYSTEMS = "ComputerSystemCollection";
    DRIVE = "Drive", "v1_19_2";
    DRIVES = "DriveCollection";
    ETHERNET_INTERFACE = "EthernetInterface", "v1_12_4";
    ETHERNET_INTERFACES = "EthernetInterfaceCollection";
    MANAGER = "Manager", "v1_19_3";
    MANAGERS = "ManagerCollection";
    MANAGER_ACCOUNT = "ManagerAccount", "v1_12_3";
    MANAGER_ACCOUNTS = "ManagerAccountCollection";
    MANAGER_NETWORK_PROTOCOL = "ManagerNetworkProtocol", "v1_10_1";
    MEMORY = "Memory", "v1_20_0";
    MEMORY_COLLECTION = "MemoryCollection";
    MESSAGE_REGISTRY_FILE = "MessageRegistryFile", "v1_1_5";
    MESSAGE_REGISTRY_FILES = "MessageRegistryFileCollection";
    PROCESSOR = "Processor", "v1_20_2";
    PROCESSORS = "ProcessorCollection";
    ROLE = "Role", "v1_3_3";
    ROLES = "RoleCollection";
    SECURE_BOOT = "SecureBoot", "v1_1_2";
    SERVICE_ROOT = "ServiceRoot", "v1_17_0";
    SESSION = "Session", "v1_7_2";
    SESSIONS = "SessionCollection";
    SESSION_SERVICE = "SessionService", "v1_1_9";
    SOFTWARE_INVENTORY = "SoftwareInventory", "v1_10_2";
    SOFTWARE_INVENTORIES = "SoftwareInventoryCollection";
    STORAGE = "Storage", "v1_16_2";
    STORAGES = "StorageCollection";
    STORAGE_CONTROLLER = "StorageController", "v1_7_5";
    STORAGE_CONTROLLERS = "StorageControllerCollection";
    TASKS = "TaskCollection";
    TASK_SERVICE = "TaskService", "v1_2_1";
    UPDATE_SERVICE = "UpdateService", "v1_14_1";
    VOLUME = "Volume", "v1_10_2";
    VOLUMES = "VolumeCollection";
}
