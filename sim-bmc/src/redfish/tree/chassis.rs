//! The chassis that holds the server.

use serde::Serialize;

use super::{CHASSIS_URI, MANAGER_URI, MAX_TEXT, SYSTEM_URI, schemas};
use crate::bmc::Bmc;
use crate::machine::Power;
use crate::redfish::document::{Collection, Document, ENABLED, Link, Status, link};
use crate::redfish::failure::Failure;
use crate::redfish::fields::Fields;
use crate::redfish::route::{COMPONENTS, Call, Done, Route, Scene};

pub(super) const ROUTES: &[Route] = &[
    Route::get("/redfish/v1/Chassis", COMPONENTS, |_, _| {
        Some(Collection::of(
            schemas::CHASSIS_COLLECTION,
            "/redfish/v1/Chassis",
            "Chassis",
            ["1"],
        ))
    }),
    Route::get(CHASSIS_URI, COMPONENTS, chassis).patch(patch),
];

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Chassis<'a> {
    id: &'static str,
    name: &'static str,
    chassis_type: &'a str,
    manufacturer: &'a str,
    model: &'a str,
    #[serde(rename = "SKU")]
    sku: &'a str,
    part_number: &'a str,
    serial_number: &'a str,
    asset_tag: Option<&'a str>,
    location_indicator_active: bool,
    power_state: Power,
    status: Status,
    drives: Link,
    links: Links,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Links {
    computer_systems: [Link; 1],
    managed_by: [Link; 1],
    managers_in_chassis: [Link; 1],
    drives: Vec<Link>,
    processors: Vec<Link>,
}

fn chassis(scene: &Scene<'_>, _: &[String]) -> Option<Document> {
    let bmc = scene.bmc;
    let hardware = &*bmc.hardware;
    let cpus = hardware.processors.iter().map(|processor| &processor.id);
    let processors = cpus.chain(hardware.gpus.iter().map(|gpu| &gpu.id));
    let resource = Chassis {
        id: "1",
        name: "Computer System Chassis",
        chassis_type: &bmc.personality.product().chassis_type,
        manufacturer: &hardware.manufacturer,
        model: &hardware.model,
        sku: &hardware.sku,
        part_number: &hardware.part_number,
        serial_number: &hardware.serial,
        asset_tag: Some(bmc.settings.chassis_asset_tag.as_str()).filter(|tag| !tag.is_empty()),
        location_indicator_active: bmc.settings.location_indicator,
        power_state: bmc.power.reported(),
        status: ENABLED,
        drives: link(format!("{CHASSIS_URI}/Drives")),
        links: Links {
            computer_systems: [link(SYSTEM_URI)],
            managed_by: [link(MANAGER_URI)],
            managers_in_chassis: [link(MANAGER_URI)],
            drives: super::storage::drive_links(hardware),
            processors: processors
                .map(|id| link(format!("{SYSTEM_URI}/Processors/{id}")))
                .collect(),
        },
    };
    Some(Document::new(schemas::CHASSIS, CHASSIS_URI, &resource))
}

fn patch(bmc: &mut Bmc, call: Call<'_>) -> Result<Done, Failure> {
    let mut fields = Fields::patch(call.body, call.current);
    let asset_tag = fields.text("AssetTag", MAX_TEXT);
    let indicator = fields.boolean("LocationIndicatorActive");
    fields.finish()?;
    if let Some(tag) = asset_tag {
        bmc.settings.chassis_asset_tag = tag;
    }
    // One lamp: the system shows the same.
    bmc.settings.location_indicator = indicator.unwrap_or(bmc.settings.location_indicator);
    Ok(Done::Updated)
}
