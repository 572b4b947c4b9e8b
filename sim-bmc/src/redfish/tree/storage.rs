//! Storage subsystems with their controllers, drives, and one raw volume per drive.

use serde::Serialize;

use super::{CHASSIS_URI, schemas};
use crate::hardware::{Drive, DriveProtocol, Hardware, StorageController};
use crate::redfish::document::{Collection, Document, ENABLED, Link, Status, link};
use crate::redfish::route::{COMPONENTS, Route, Scene};

const STORAGE: &str = "/redfish/v1/Systems/1/Storage";
/// Drives hang under the chassis: the path under Storage is deprecated in the Drive schema.
const DRIVES: &str = "/redfish/v1/Chassis/1/Drives";

pub(super) const ROUTES: &[Route] = &[
    Route::get(STORAGE, COMPONENTS, storages),
    Route::get("/redfish/v1/Systems/1/Storage/{}", COMPONENTS, storage),
    Route::get(
        "/redfish/v1/Systems/1/Storage/{}/Controllers",
        COMPONENTS,
        controllers,
    ),
    Route::get(
        "/redfish/v1/Systems/1/Storage/{}/Controllers/{}",
        COMPONENTS,
        controller,
    ),
    Route::get(DRIVES, COMPONENTS, drives),
    Route::get("/redfish/v1/Chassis/1/Drives/{}", COMPONENTS, drive),
    Route::get("/redfish/v1/Systems/1/Storage/{}/Volumes", COMPONENTS, volumes),
    Route::get("/redfish/v1/Systems/1/Storage/{}/Volumes/{}", COMPONENTS, volume),
];

/// Where a drive is, by its id.
pub(super) fn drive_uri(id: &str) -> String {
    format!("{DRIVES}/{id}")
}

pub(super) fn drive_links(hardware: &Hardware) -> Vec<Link> {
    hardware
        .drives()
        .map(|drive| link(drive_uri(&drive.id)))
        .collect()
}

fn find<'a>(scene: &Scene<'a>, params: &[String]) -> Option<&'a StorageController> {
    let wanted = params.first()?;
    scene
        .bmc
        .hardware
        .storage
        .iter()
        .find(|storage| storage.id == *wanted)
}

fn storages(scene: &Scene<'_>, _: &[String]) -> Option<Document> {
    let ids = scene
        .bmc
        .hardware
        .storage
        .iter()
        .map(|storage| storage.id.as_str());
    Some(Collection::of(schemas::STORAGES, STORAGE, "Storage", ids))
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct StorageResource<'a> {
    id: &'a str,
    name: &'a str,
    status: Status,
    controllers: Link,
    drives: Vec<Link>,
    #[serde(rename = "Drives@odata.count")]
    drive_count: usize,
    volumes: Link,
    links: StorageLinks,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct StorageLinks {
    enclosures: [Link; 1],
}

fn storage(scene: &Scene<'_>, params: &[String]) -> Option<Document> {
    let storage = find(scene, params)?;
    let uri = format!("{STORAGE}/{}", storage.id);
    let resource = StorageResource {
        id: &storage.id,
        name: &storage.name,
        status: ENABLED,
        controllers: link(format!("{uri}/Controllers")),
        drives: storage
            .drives
            .iter()
            .map(|drive| link(drive_uri(&drive.id)))
            .collect(),
        drive_count: storage.drives.len(),
        volumes: link(format!("{uri}/Volumes")),
        links: StorageLinks {
            enclosures: [link(CHASSIS_URI)],
        },
    };
    Some(Document::new(schemas::STORAGE, uri, &resource))
}

fn controllers(scene: &Scene<'_>, params: &[String]) -> Option<Document> {
    let uri = format!("{STORAGE}/{}/Controllers", find(scene, params)?.id);
    Some(Collection::of(
        schemas::STORAGE_CONTROLLERS,
        &uri,
        "Storage Controllers",
        ["0"],
    ))
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ControllerResource<'a> {
    id: &'static str,
    name: &'a str,
    manufacturer: &'a str,
    model: &'a str,
    firmware_version: &'a str,
    supported_controller_protocols: [&'static str; 1],
    supported_device_protocols: [DriveProtocol; 1],
    status: Status,
}

fn controller(scene: &Scene<'_>, params: &[String]) -> Option<Document> {
    let storage = find(scene, params)?;
    if params.get(1)? != "0" {
        return None;
    }
    let resource = ControllerResource {
        id: "0",
        name: &storage.name,
        manufacturer: &storage.manufacturer,
        model: &storage.model,
        firmware_version: &storage.firmware,
        supported_controller_protocols: ["PCIe"],
        supported_device_protocols: [storage.protocol],
        status: ENABLED,
    };
    Some(Document::new(
        schemas::STORAGE_CONTROLLER,
        format!("{STORAGE}/{}/Controllers/0", storage.id),
        &resource,
    ))
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct DriveResource<'a> {
    id: &'a str,
    name: &'a str,
    manufacturer: &'a str,
    model: &'a str,
    serial_number: &'a str,
    revision: &'a str,
    capacity_bytes: u64,
    block_size_bytes: u32,
    protocol: DriveProtocol,
    media_type: &'static str,
    failure_predicted: bool,
    status: Status,
    links: DriveLinks,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct DriveLinks {
    chassis: Link,
    storage: Link,
    volumes: [Link; 1],
}

fn drive(scene: &Scene<'_>, params: &[String]) -> Option<Document> {
    let wanted = params.first()?;
    let mut all = scene
        .bmc
        .hardware
        .storage
        .iter()
        .flat_map(|s| s.drives.iter().map(move |drive| (s, drive)));
    let (storage, drive): (&StorageController, &Drive) = all.find(|(_, drive)| drive.id == *wanted)?;
    let resource = DriveResource {
        id: &drive.id,
        name: &drive.id,
        manufacturer: &drive.manufacturer,
        model: &drive.model,
        serial_number: &drive.serial,
        revision: &drive.firmware,
        capacity_bytes: drive.capacity_bytes,
        block_size_bytes: drive.block_size_bytes,
        protocol: drive.protocol,
        media_type: if drive.rotational { "HDD" } else { "SSD" },
        failure_predicted: false,
        status: ENABLED,
        links: DriveLinks {
            chassis: link(CHASSIS_URI),
            storage: link(format!("{STORAGE}/{}", storage.id)),
            volumes: [link(format!("{STORAGE}/{}/Volumes/{}", storage.id, drive.id))],
        },
    };
    Some(Document::new(schemas::DRIVE, drive_uri(&drive.id), &resource))
}

fn drives(scene: &Scene<'_>, _: &[String]) -> Option<Document> {
    let ids = scene.bmc.hardware.drives().map(|drive| drive.id.as_str());
    Some(Collection::of(schemas::DRIVES, DRIVES, "Drives", ids))
}

fn volumes(scene: &Scene<'_>, params: &[String]) -> Option<Document> {
    let storage = find(scene, params)?;
    let uri = format!("{STORAGE}/{}/Volumes", storage.id);
    let ids = storage.drives.iter().map(|drive| drive.id.as_str());
    Some(Collection::of(schemas::VOLUMES, &uri, "Volumes", ids))
}

/// A drive as the host sees it: no RAID is configured.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct VolumeResource<'a> {
    id: &'a str,
    name: &'a str,
    #[serde(rename = "RAIDType")]
    raid_type: &'static str,
    capacity_bytes: u64,
    block_size_bytes: u32,
    encrypted: bool,
    status: Status,
    links: VolumeLinks,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct VolumeLinks {
    drives: [Link; 1],
    #[serde(rename = "Drives@odata.count")]
    drive_count: usize,
}

fn volume(scene: &Scene<'_>, params: &[String]) -> Option<Document> {
    let storage = find(scene, params)?;
    let wanted = params.get(1)?;
    let drive = storage.drives.iter().find(|drive| drive.id == *wanted)?;
    let resource = VolumeResource {
        id: &drive.id,
        name: &drive.id,
        raid_type: "None",
        capacity_bytes: drive.capacity_bytes,
        block_size_bytes: drive.block_size_bytes,
        encrypted: false,
        status: ENABLED,
        links: VolumeLinks {
            drives: [link(drive_uri(&drive.id))],
            drive_count: 1,
        },
    };
    Some(Document::new(
        schemas::VOLUME,
        format!("{STORAGE}/{}/Volumes/{}", storage.id, drive.id),
        &resource,
    ))
}
