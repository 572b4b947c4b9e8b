//! Ethernet interfaces: the host's, and the BMC's own.

use serde::Serialize;

use super::{CHASSIS_URI, MANAGER_URI, SYSTEM_URI, schemas};
use crate::hardware::Mac;
use crate::redfish::document::{Collection, Document, ENABLED, Link, Status, link};
use crate::redfish::route::{COMPONENTS, MANAGER, Route, Scene};

const HOST: &str = "/redfish/v1/Systems/1/EthernetInterfaces";
const BMC: &str = "/redfish/v1/Managers/1/EthernetInterfaces";
/// What a BMC calls its dedicated port.
const BMC_PORT: &str = "eth0";

pub(super) const ROUTES: &[Route] = &[
    Route::get(HOST, COMPONENTS, host_interfaces),
    Route::get(
        "/redfish/v1/Systems/1/EthernetInterfaces/{}",
        COMPONENTS,
        host_interface,
    ),
    Route::get(BMC, MANAGER, |_, _| {
        Some(Collection::of(
            schemas::ETHERNET_INTERFACES,
            BMC,
            "BMC Ethernet Interfaces",
            [BMC_PORT],
        ))
    }),
    Route::get(
        "/redfish/v1/Managers/1/EthernetInterfaces/eth0",
        MANAGER,
        bmc_interface,
    ),
];

fn host_interfaces(scene: &Scene<'_>, _: &[String]) -> Option<Document> {
    let ids = scene.bmc.hardware.nics.iter().map(|nic| nic.id.as_str());
    Some(Collection::of(
        schemas::ETHERNET_INTERFACES,
        HOST,
        "Ethernet Interfaces",
        ids,
    ))
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct EthernetInterface<'a> {
    id: &'a str,
    name: &'a str,
    #[serde(rename = "MACAddress")]
    mac_address: Mac,
    #[serde(rename = "PermanentMACAddress")]
    permanent_mac_address: Mac,
    speed_mbps: u32,
    full_duplex: bool,
    link_status: &'static str,
    interface_enabled: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    host_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uefi_device_path: Option<String>,
    status: Status,
    #[serde(skip_serializing_if = "Option::is_none")]
    links: Option<Links>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Links {
    chassis: Link,
}

fn host_interface(scene: &Scene<'_>, params: &[String]) -> Option<Document> {
    let wanted = params.first()?;
    let mut nics = scene.bmc.hardware.nics.iter().enumerate();
    let (index, nic) = nics.find(|(_, nic)| nic.id == *wanted)?;
    let resource = EthernetInterface {
        id: &nic.id,
        name: &nic.name,
        mac_address: nic.mac,
        permanent_mac_address: nic.mac,
        speed_mbps: nic.speed_mbps,
        full_duplex: true,
        link_status: "LinkUp",
        interface_enabled: true,
        host_name: None,
        uefi_device_path: Some(format!(
            "PciRoot(0x0)/Pci(0x2,0x{index:X})/{}",
            crate::bmc::mac_node(nic.mac)
        )),
        status: ENABLED,
        links: Some(Links {
            chassis: link(CHASSIS_URI),
        }),
    };
    Some(Document::new(
        schemas::ETHERNET_INTERFACE,
        format!("{SYSTEM_URI}/EthernetInterfaces/{wanted}"),
        &resource,
    ))
}

fn bmc_interface(scene: &Scene<'_>, _: &[String]) -> Option<Document> {
    let mac = scene.bmc.hardware.bmc_mac;
    let resource = EthernetInterface {
        id: BMC_PORT,
        name: "BMC Ethernet Interface",
        mac_address: mac,
        permanent_mac_address: mac,
        speed_mbps: 1000,
        full_duplex: true,
        link_status: "LinkUp",
        interface_enabled: true,
        host_name: Some(&scene.bmc.settings.host_name),
        uefi_device_path: None,
        status: ENABLED,
        links: None,
    };
    Some(Document::new(
        schemas::ETHERNET_INTERFACE,
        format!("{MANAGER_URI}/EthernetInterfaces/{BMC_PORT}"),
        &resource,
    ))
}
