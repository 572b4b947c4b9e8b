//! ComputerSystem: identity, power, boot override, and its Reset action.

use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use super::{CHASSIS_URI, MANAGER_URI, MAX_TEXT, SYSTEM_URI, schemas};
use crate::bmc::{
    Bmc, BootMode, BootOption, BootTarget, OverrideEnabled, Refusal, ResetType, boot_reference,
};
use crate::machine::{BootProgress, Power};
use crate::redfish::document::{Action, Collection, Document, ENABLED, Link, Status, link};
use crate::redfish::failure::Failure;
use crate::redfish::fields::Fields;
use crate::redfish::message::Message;
use crate::redfish::route::{COMPONENTS, Call, Done, Route, Scene};

pub(super) const ROUTES: &[Route] = &[
    Route::get("/redfish/v1/Systems", COMPONENTS, |_, _| {
        Some(Collection::of(
            schemas::COMPUTER_SYSTEMS,
            "/redfish/v1/Systems",
            "Computer Systems",
            ["1"],
        ))
    }),
    Route::get(SYSTEM_URI, COMPONENTS, system).patch(patch),
    Route::action(
        "/redfish/v1/Systems/1/Actions/ComputerSystem.Reset",
        COMPONENTS,
        reset,
    ),
    Route::action(
        "/redfish/v1/Systems/1/Actions/ComputerSystem.SetDefaultBootOrder",
        COMPONENTS,
        set_default_boot_order,
    ),
];

const ALL_ENABLED: [OverrideEnabled; 3] = [
    OverrideEnabled::Disabled,
    OverrideEnabled::Once,
    OverrideEnabled::Continuous,
];

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ComputerSystem<'a> {
    id: &'static str,
    name: &'static str,
    system_type: &'static str,
    manufacturer: &'a str,
    model: &'a str,
    #[serde(rename = "SKU")]
    sku: &'a str,
    part_number: &'a str,
    serial_number: &'a str,
    #[serde(rename = "UUID")]
    uuid: Uuid,
    asset_tag: Option<&'a str>,
    bios_version: &'a str,
    power_state: Power,
    status: Status,
    location_indicator_active: bool,
    boot: Boot<'a>,
    boot_progress: Progress,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_reset_time: Option<Timestamp>,
    processor_summary: ProcessorSummary<'a>,
    memory_summary: MemorySummary,
    processors: Link,
    memory: Link,
    storage: Link,
    ethernet_interfaces: Link,
    bios: Link,
    #[serde(skip_serializing_if = "Option::is_none")]
    secure_boot: Option<Link>,
    links: Links,
    actions: Actions,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Boot<'a> {
    boot_source_override_enabled: OverrideEnabled,
    #[serde(rename = "BootSourceOverrideEnabled@Redfish.AllowableValues")]
    enabled_values: [OverrideEnabled; 3],
    boot_source_override_target: BootTarget,
    #[serde(rename = "BootSourceOverrideTarget@Redfish.AllowableValues")]
    target_values: &'a [BootTarget],
    boot_source_override_mode: BootMode,
    #[serde(rename = "BootSourceOverrideMode@Redfish.AllowableValues")]
    mode_values: Vec<BootMode>,
    http_boot_uri: Option<&'a str>,
    boot_order_property_selection: &'static str,
    boot_order: Vec<String>,
    boot_options: Link,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Progress {
    last_state: BootProgress,
    last_state_time: Timestamp,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ProcessorSummary<'a> {
    count: usize,
    core_count: u32,
    logical_processor_count: u32,
    model: &'a str,
}

#[derive(Serialize)]
struct MemorySummary {
    #[serde(rename = "TotalSystemMemoryGiB")]
    total_gib: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Links {
    chassis: [Link; 1],
    managed_by: [Link; 1],
}

#[derive(Serialize)]
struct Actions {
    #[serde(rename = "#ComputerSystem.Reset")]
    reset: Action<ResetValues>,
    #[serde(rename = "#ComputerSystem.SetDefaultBootOrder")]
    set_default_boot_order: Action<()>,
}

#[derive(Serialize)]
struct ResetValues {
    #[serde(rename = "ResetType@Redfish.AllowableValues")]
    values: [ResetType; 9],
}

fn modes(bmc: &Bmc) -> Vec<BootMode> {
    let legacy = bmc.personality.product().boot.legacy.then_some(BootMode::Legacy);
    [Some(BootMode::Uefi), legacy].into_iter().flatten().collect()
}

fn sub(name: &str) -> Link {
    link(format!("{SYSTEM_URI}/{name}"))
}

fn system(scene: &Scene<'_>, _: &[String]) -> Option<Document> {
    let bmc = scene.bmc;
    let hardware = &*bmc.hardware;
    let state = bmc.power.machine_state();
    let system = ComputerSystem {
        id: "1",
        name: "Computer System",
        system_type: "Physical",
        manufacturer: &hardware.manufacturer,
        model: &hardware.model,
        sku: &hardware.sku,
        part_number: &hardware.part_number,
        serial_number: &hardware.serial,
        uuid: hardware.uuid,
        asset_tag: Some(bmc.settings.asset_tag.as_str()).filter(|tag| !tag.is_empty()),
        bios_version: &hardware.bios_version,
        power_state: bmc.power.reported(),
        status: ENABLED,
        location_indicator_active: bmc.settings.location_indicator,
        boot: boot(bmc),
        boot_progress: Progress {
            last_state: state.boot_progress,
            last_state_time: super::manager::whole_seconds(bmc.clock(bmc.power.boot_progress_at())),
        },
        last_reset_time: bmc
            .power
            .last_reset_at()
            .map(|at| super::manager::whole_seconds(bmc.clock(at))),
        processor_summary: ProcessorSummary {
            count: hardware.processors.len(),
            core_count: hardware.cores(),
            logical_processor_count: hardware.threads(),
            model: hardware
                .processors
                .first()
                .map_or("", |processor| &processor.model),
        },
        memory_summary: MemorySummary {
            total_gib: hardware.memory_mib() / 1024,
        },
        processors: sub("Processors"),
        memory: sub("Memory"),
        storage: sub("Storage"),
        ethernet_interfaces: sub("EthernetInterfaces"),
        bios: sub("Bios"),
        secure_boot: bmc
            .personality
            .product()
            .bios
            .secure_boot
            .then(|| sub("SecureBoot")),
        links: Links {
            chassis: [link(CHASSIS_URI)],
            managed_by: [link(MANAGER_URI)],
        },
        actions: actions(),
    };
    Some(Document::new(schemas::COMPUTER_SYSTEM, SYSTEM_URI, &system))
}

fn actions() -> Actions {
    Actions {
        reset: Action {
            target: format!("{SYSTEM_URI}/Actions/ComputerSystem.Reset"),
            allowable: ResetValues {
                values: ResetType::ALL,
            },
        },
        set_default_boot_order: Action {
            target: format!("{SYSTEM_URI}/Actions/ComputerSystem.SetDefaultBootOrder"),
            allowable: (),
        },
    }
}

fn boot(bmc: &Bmc) -> Boot<'_> {
    Boot {
        boot_source_override_enabled: bmc.boot.over.enabled,
        enabled_values: ALL_ENABLED,
        boot_source_override_target: bmc.boot.over.target,
        target_values: &bmc.personality.product().boot.targets,
        boot_source_override_mode: bmc.boot.over.mode,
        mode_values: modes(bmc),
        http_boot_uri: bmc.boot.over.http_uri.as_deref(),
        boot_order_property_selection: "BootOrder",
        boot_order: bmc
            .boot
            .order(&bmc.hardware)
            .into_iter()
            .map(boot_reference)
            .collect(),
        boot_options: sub("BootOptions"),
    }
}

/// What a PATCH of `Boot` asks for.
#[derive(Default)]
struct BootWish {
    enabled: Option<OverrideEnabled>,
    target: Option<BootTarget>,
    mode: Option<BootMode>,
    /// Empty clears it.
    http_uri: Option<String>,
    order: Option<Vec<u16>>,
}

fn read_boot(fields: &mut Fields<'_>, bmc: &Bmc) -> BootWish {
    let wish = BootWish {
        enabled: fields.choice("BootSourceOverrideEnabled", &ALL_ENABLED),
        target: fields.choice(
            "BootSourceOverrideTarget",
            &bmc.personality.product().boot.targets,
        ),
        mode: fields.choice("BootSourceOverrideMode", &modes(bmc)),
        http_uri: fields.text("HttpBootUri", 2048),
        order: read_order(fields, &bmc.boot.options(&bmc.hardware)),
    };
    if let Some(uri) = &wish.http_uri
        && !uri.is_empty()
        && !(uri.starts_with("http://") || uri.starts_with("https://"))
    {
        fields.fail("HttpBootUri", Message::property_format(uri, "HttpBootUri"));
    }
    wish
}

/// A boot order names known options, each at most once.
fn read_order(fields: &mut Fields<'_>, options: &[BootOption]) -> Option<Vec<u16>> {
    let wanted = fields.array("BootOrder")?;
    let mut order = Vec::with_capacity(wanted.len());
    for value in &wanted {
        let known = value
            .as_str()
            .and_then(|name| options.iter().find(|option| option.reference() == name));
        match known {
            Some(option) if !order.contains(&option.number) => order.push(option.number),
            Some(_) => fields.fail("BootOrder", Message::property_value("BootOrder")),
            None => {
                let shown = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                fields.fail("BootOrder", Message::property_not_in_list(&shown, "BootOrder"));
            }
        }
    }
    Some(order)
}

fn patch(bmc: &mut Bmc, call: Call<'_>) -> Result<Done, Failure> {
    let mut fields = Fields::patch(call.body, call.current);
    let asset_tag = fields.text("AssetTag", MAX_TEXT);
    let indicator = fields.boolean("LocationIndicatorActive");
    let wish = fields
        .object("Boot", |boot| read_boot(boot, bmc))
        .unwrap_or_default();
    fields.finish()?;
    if let Some(tag) = asset_tag {
        bmc.settings.asset_tag = tag;
    }
    if let Some(indicator) = indicator {
        bmc.settings.location_indicator = indicator;
    }
    let over = &mut bmc.boot.over;
    over.target = wish.target.unwrap_or(over.target);
    over.mode = wish.mode.unwrap_or(over.mode);
    over.enabled = wish.enabled.unwrap_or(over.enabled);
    if let Some(uri) = wish.http_uri {
        over.http_uri = Some(uri).filter(|uri| !uri.is_empty());
    }
    if wish.enabled.is_some() || wish.target.is_some() {
        tracing::info!(target = ?over.target, enabled = ?over.enabled, "boot override set");
    }
    if let Some(order) = wish.order {
        bmc.boot.set_order(Some(order));
    }
    Ok(Done::Updated)
}

fn reset(bmc: &mut Bmc, call: Call<'_>) -> Result<Done, Failure> {
    let mut fields = Fields::action("ComputerSystem.Reset", call.body);
    let reset = fields.choice("ResetType", &ResetType::ALL);
    let given = fields.took_any();
    if !given {
        // ResetType is optional in the schema; without it there is no telling which of nine is meant.
        fields.missing("ResetType");
    }
    fields.finish()?;
    let Some(reset) = reset else {
        return Err(Failure::bad_request(Message::unrecognized_request_body()));
    };
    let timings = bmc.personality.timings;
    match bmc.power.accept(reset, &timings, call.now) {
        Ok(()) => {
            tracing::info!(?reset, "system reset accepted");
            Ok(Done::NoContent)
        }
        Err(Refusal::InTransition) => Err(Failure::conflict(Message::resource_in_use())),
        Err(Refusal::NeedsPower) => Err(Failure::conflict(Message::chassis_power_on_required("1"))),
    }
}

fn set_default_boot_order(bmc: &mut Bmc, call: Call<'_>) -> Result<Done, Failure> {
    Fields::action("ComputerSystem.SetDefaultBootOrder", call.body).finish()?;
    bmc.boot.set_order(None);
    bmc.written(SYSTEM_URI);
    Ok(Done::NoContent)
}
