//! The manager: the BMC itself, its clock, its network protocols, and its reset.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{CHASSIS_URI, MANAGER_URI, SYSTEM_URI, root, schemas};
use crate::bmc::Bmc;
use crate::redfish::document::{Action, Collection, Document, ENABLED, Link, Status, link};
use crate::redfish::failure::Failure;
use crate::redfish::fields::{Fields, patch_strings};
use crate::redfish::message::Message;
use crate::redfish::route::{Call, Done, MANAGER, Route, Scene};

const PROTOCOL: &str = "/redfish/v1/Managers/1/NetworkProtocol";
/// What other BMCs hold; a list without end would be a way to fill memory.
const MAX_NTP_SERVERS: usize = 8;

pub(super) const ROUTES: &[Route] = &[
    Route::get("/redfish/v1/Managers", MANAGER, |_, _| {
        Some(Collection::of(
            schemas::MANAGERS,
            "/redfish/v1/Managers",
            "Managers",
            ["1"],
        ))
    }),
    Route::get(MANAGER_URI, MANAGER, manager).patch(patch),
    Route::action("/redfish/v1/Managers/1/Actions/Manager.Reset", MANAGER, reset),
    Route::get(PROTOCOL, MANAGER, network_protocol).patch(patch_network_protocol),
];

/// BMC clocks show whole seconds.
pub(super) fn whole_seconds(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ManagerResource<'a> {
    id: &'static str,
    name: &'static str,
    manager_type: &'static str,
    manufacturer: &'a str,
    model: &'a str,
    firmware_version: &'a str,
    #[serde(rename = "UUID")]
    uuid: Uuid,
    #[serde(rename = "ServiceEntryPointUUID")]
    service_entry_point_uuid: Uuid,
    date_time: Timestamp,
    date_time_local_offset: &'static str,
    last_reset_time: Timestamp,
    power_state: &'static str,
    status: Status,
    ethernet_interfaces: Link,
    network_protocol: Link,
    links: Links,
    actions: Actions,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Links {
    manager_for_servers: [Link; 1],
    manager_for_chassis: [Link; 1],
    manager_in_chassis: Link,
    active_software_image: Link,
}

#[derive(Serialize)]
struct Actions {
    #[serde(rename = "#Manager.Reset")]
    reset: Action<ResetValues>,
}

#[derive(Serialize)]
struct ResetValues {
    #[serde(rename = "ResetType@Redfish.AllowableValues")]
    values: [ManagerReset; 2],
}

#[derive(Clone, Copy, PartialEq, Serialize, Deserialize)]
enum ManagerReset {
    ForceRestart,
    GracefulRestart,
}

const RESETS: [ManagerReset; 2] = [ManagerReset::ForceRestart, ManagerReset::GracefulRestart];

fn manager(scene: &Scene<'_>, _: &[String]) -> Option<Document> {
    let bmc = scene.bmc;
    let product = bmc.personality.product();
    let uuid = root::service_uuid(scene);
    let resource = ManagerResource {
        id: "1",
        name: "Manager",
        manager_type: "BMC",
        manufacturer: &product.system.manufacturer,
        model: &product.manager.model,
        firmware_version: &bmc.hardware.bmc_version,
        uuid,
        service_entry_point_uuid: uuid,
        date_time: whole_seconds(bmc.clock(scene.now)),
        date_time_local_offset: "+00:00",
        last_reset_time: whole_seconds(bmc.clock(bmc.started())),
        power_state: "On",
        status: ENABLED,
        ethernet_interfaces: link(format!("{MANAGER_URI}/EthernetInterfaces")),
        network_protocol: link(PROTOCOL),
        links: Links {
            manager_for_servers: [link(SYSTEM_URI)],
            manager_for_chassis: [link(CHASSIS_URI)],
            manager_in_chassis: link(CHASSIS_URI),
            active_software_image: link("/redfish/v1/UpdateService/FirmwareInventory/BMC"),
        },
        actions: Actions {
            reset: Action {
                target: format!("{MANAGER_URI}/Actions/Manager.Reset"),
                allowable: ResetValues { values: RESETS },
            },
        },
    };
    Some(Document::new(schemas::MANAGER, MANAGER_URI, &resource).volatile(&["DateTime"]))
}

fn patch(bmc: &mut Bmc, call: Call<'_>) -> Result<Done, Failure> {
    let mut fields = Fields::patch(call.body, call.current);
    let mut offset: Option<SignedDuration> = None;
    if let Some(text) = fields.string("DateTime") {
        match text.parse::<Timestamp>() {
            Ok(wanted) => offset = Some(wanted.duration_since(call.now)),
            Err(_) => fields.fail("DateTime", Message::property_format(&text, "DateTime")),
        }
    }
    fields.finish()?;
    bmc.settings.clock_offset = offset.unwrap_or(bmc.settings.clock_offset);
    Ok(Done::Updated)
}

fn reset(bmc: &mut Bmc, call: Call<'_>) -> Result<Done, Failure> {
    let mut fields = Fields::action("Manager.Reset", call.body);
    fields.choice("ResetType", &RESETS);
    fields.finish()?;
    bmc.restart_service(call.now);
    Ok(Done::NoContent)
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct NetworkProtocol<'a> {
    id: &'static str,
    name: &'static str,
    host_name: &'a str,
    status: Status,
    #[serde(rename = "HTTPS")]
    https: Protocol,
    #[serde(rename = "NTP")]
    ntp: Ntp<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Protocol {
    protocol_enabled: bool,
    port: u16,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Ntp<'a> {
    protocol_enabled: bool,
    port: u16,
    #[serde(rename = "NTPServers")]
    servers: &'a [String],
}

fn network_protocol(scene: &Scene<'_>, _: &[String]) -> Option<Document> {
    let settings = &scene.bmc.settings;
    let resource = NetworkProtocol {
        id: "NetworkProtocol",
        name: "Manager Network Protocol",
        host_name: &settings.host_name,
        status: ENABLED,
        https: Protocol {
            protocol_enabled: true,
            port: scene.bmc.personality.https_port,
        },
        ntp: Ntp {
            protocol_enabled: settings.ntp_enabled,
            port: 123,
            servers: &settings.ntp_servers,
        },
    };
    Some(Document::new(
        schemas::MANAGER_NETWORK_PROTOCOL,
        PROTOCOL,
        &resource,
    ))
}

fn patch_network_protocol(bmc: &mut Bmc, call: Call<'_>) -> Result<Done, Failure> {
    let mut fields = Fields::patch(call.body, call.current);
    let ntp = fields.object("NTP", |ntp| {
        let enabled = ntp.boolean("ProtocolEnabled");
        let servers = ntp.array("NTPServers").and_then(|wanted| {
            match patch_strings(&bmc.settings.ntp_servers, &wanted) {
                Ok(servers) if servers.len() <= MAX_NTP_SERVERS => Some(servers),
                Ok(_) => {
                    ntp.fail("NTPServers", Message::property_value("NTPServers"));
                    None
                }
                Err(value) => {
                    ntp.fail(
                        "NTPServers",
                        Message::property_type(&value.to_string(), "NTPServers"),
                    );
                    None
                }
            }
        });
        (enabled, servers)
    });
    fields.finish()?;
    if let Some((enabled, servers)) = ntp {
        bmc.settings.ntp_enabled = enabled.unwrap_or(bmc.settings.ntp_enabled);
        if let Some(servers) = servers {
            bmc.settings.ntp_servers = servers;
        }
    }
    Ok(Done::Updated)
}
