//! UpdateService: the inventory of what firmware runs. Updating it comes with a later issue.

use serde::Serialize;

use super::{MANAGER_URI, SYSTEM_URI, schemas};
use crate::redfish::document::{Collection, Document, ENABLED, Link, Status, link};
use crate::redfish::route::{COMPONENTS, Route, Scene};

const SERVICE: &str = "/redfish/v1/UpdateService";
const INVENTORY: &str = "/redfish/v1/UpdateService/FirmwareInventory";

pub(super) const ROUTES: &[Route] = &[
    Route::get(SERVICE, COMPONENTS, service),
    Route::get(INVENTORY, COMPONENTS, inventory),
    Route::get("/redfish/v1/UpdateService/FirmwareInventory/{}", COMPONENTS, item),
];

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct UpdateService {
    id: &'static str,
    name: &'static str,
    service_enabled: bool,
    status: Status,
    firmware_inventory: Link,
    /// None yet, said so: sushy takes an UpdateService without the object for a broken one.
    actions: NoActions,
}

#[derive(Serialize)]
struct NoActions {}

fn service(_: &Scene<'_>, _: &[String]) -> Option<Document> {
    let resource = UpdateService {
        id: "UpdateService",
        name: "Update Service",
        service_enabled: true,
        status: ENABLED,
        firmware_inventory: link(INVENTORY),
        actions: NoActions {},
    };
    Some(Document::new(schemas::UPDATE_SERVICE, SERVICE, &resource))
}

/// One piece of firmware: its id, name, version, and what it runs on.
struct Firmware<'a> {
    id: &'a str,
    name: &'static str,
    version: &'a str,
    related: String,
}

fn firmware<'a>(scene: &Scene<'a>) -> Vec<Firmware<'a>> {
    let hardware = &scene.bmc.hardware;
    let mut found = vec![
        Firmware {
            id: "BMC",
            name: "BMC Firmware",
            version: &hardware.bmc_version,
            related: MANAGER_URI.to_owned(),
        },
        Firmware {
            id: "BIOS",
            name: "System Firmware",
            version: &hardware.bios_version,
            related: SYSTEM_URI.to_owned(),
        },
    ];
    found.extend(hardware.gpus.iter().map(|gpu| Firmware {
        id: &gpu.id,
        name: "GPU Firmware",
        version: &gpu.firmware,
        related: format!("{SYSTEM_URI}/Processors/{}", gpu.id),
    }));
    found
}

fn inventory(scene: &Scene<'_>, _: &[String]) -> Option<Document> {
    let ids = firmware(scene).into_iter().map(|item| item.id);
    Some(Collection::of(
        schemas::SOFTWARE_INVENTORIES,
        INVENTORY,
        "Firmware Inventory",
        ids,
    ))
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct SoftwareInventory<'a> {
    id: &'a str,
    name: &'static str,
    version: &'a str,
    updateable: bool,
    related_item: [Link; 1],
    #[serde(rename = "RelatedItem@odata.count")]
    related_count: usize,
    status: Status,
}

fn item(scene: &Scene<'_>, params: &[String]) -> Option<Document> {
    let wanted = params.first()?;
    let item = firmware(scene).into_iter().find(|item| item.id == wanted)?;
    let resource = SoftwareInventory {
        id: item.id,
        name: item.name,
        version: item.version,
        updateable: false,
        related_item: [link(item.related)],
        related_count: 1,
        status: ENABLED,
    };
    Some(Document::new(
        schemas::SOFTWARE_INVENTORY,
        format!("{INVENTORY}/{wanted}"),
        &resource,
    ))
}
