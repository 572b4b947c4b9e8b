//! What firmware shows of itself: boot options, BIOS attributes with their pending settings, secure boot.

use serde::Serialize;
use serde_json::{Map, Value};

use super::{SYSTEM_URI, schemas};
use crate::bmc::{Bmc, BootDevice, BootTarget};
use crate::redfish::document::{Collection, Document, Link, link};
use crate::redfish::failure::Failure;
use crate::redfish::fields::Fields;
use crate::redfish::message::Message;
use crate::redfish::route::{COMPONENTS, Call, Done, Route, Scene};

const OPTIONS: &str = "/redfish/v1/Systems/1/BootOptions";
const BIOS: &str = "/redfish/v1/Systems/1/Bios";
const BIOS_SETTINGS: &str = "/redfish/v1/Systems/1/Bios/Settings";
const SECURE_BOOT: &str = "/redfish/v1/Systems/1/SecureBoot";

pub(super) const ROUTES: &[Route] = &[
    Route::get(OPTIONS, COMPONENTS, options),
    Route::get("/redfish/v1/Systems/1/BootOptions/{}", COMPONENTS, option).patch(patch_option),
    Route::get(BIOS, COMPONENTS, bios),
    Route::get(BIOS_SETTINGS, COMPONENTS, settings).patch(patch_settings),
    Route::action(
        "/redfish/v1/Systems/1/Bios/Actions/Bios.ResetBios",
        COMPONENTS,
        reset_bios,
    ),
    Route::get(SECURE_BOOT, COMPONENTS, secure_boot).patch(patch_secure_boot),
];

fn options(scene: &Scene<'_>, _: &[String]) -> Option<Document> {
    let options = scene.bmc.boot.options(&scene.bmc.hardware);
    let ids = options.iter().map(|option| option.reference());
    Some(Collection::of(
        schemas::BOOT_OPTIONS,
        OPTIONS,
        "Boot Options",
        ids,
    ))
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct BootOptionResource {
    id: String,
    name: String,
    boot_option_reference: String,
    boot_option_enabled: bool,
    display_name: String,
    alias: BootTarget,
    uefi_device_path: String,
    related_item: Vec<Link>,
    #[serde(rename = "RelatedItem@odata.count")]
    related_count: usize,
}

fn option(scene: &Scene<'_>, params: &[String]) -> Option<Document> {
    let wanted = params.first()?;
    let hardware = &scene.bmc.hardware;
    let option = scene
        .bmc
        .boot
        .options(hardware)
        .into_iter()
        .find(|option| option.reference() == *wanted)?;
    let related_item: Vec<Link> = match &option.device {
        BootDevice::Drive { id } => vec![link(super::storage::drive_uri(id))],
        BootDevice::Pxe { nic } | BootDevice::Http { nic } => {
            vec![link(format!("{SYSTEM_URI}/EthernetInterfaces/{nic}"))]
        }
    };
    let resource = BootOptionResource {
        id: option.reference(),
        name: option.display_name.clone(),
        boot_option_reference: option.reference(),
        boot_option_enabled: option.enabled,
        alias: option.target(),
        display_name: option.display_name,
        uefi_device_path: option.device_path,
        related_count: related_item.len(),
        related_item,
    };
    Some(Document::new(
        schemas::BOOT_OPTION,
        format!("{OPTIONS}/{wanted}"),
        &resource,
    ))
}

fn patch_option(bmc: &mut Bmc, call: Call<'_>) -> Result<Done, Failure> {
    let wanted = call.param(0).to_owned();
    let mut fields = Fields::patch(call.body, call.current);
    let enabled = fields.boolean("BootOptionEnabled");
    fields.finish()?;
    let options = bmc.boot.options(&bmc.hardware);
    if let Some(enabled) = enabled
        && let Some(option) = options.iter().find(|option| option.reference() == wanted)
    {
        bmc.boot.set_enabled(option.number, enabled);
    }
    Ok(Done::Updated)
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Bios {
    #[serde(rename = "@odata.context")]
    context: &'static str,
    id: &'static str,
    name: &'static str,
    reset_bios_to_defaults_pending: bool,
    attributes: Map<String, Value>,
    #[serde(rename = "@Redfish.Settings")]
    settings: SettingsReference,
    actions: BiosActions,
}

/// Bios.Settings: the same type, without what belongs to the current one.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct BiosSettings {
    #[serde(rename = "@odata.context")]
    context: &'static str,
    id: &'static str,
    name: &'static str,
    attributes: Map<String, Value>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct SettingsReference {
    #[serde(rename = "@odata.type")]
    kind: &'static str,
    settings_object: Link,
    supported_apply_times: [&'static str; 1],
}

#[derive(Serialize)]
struct BiosActions {
    #[serde(rename = "#Bios.ResetBios")]
    reset: ResetBios,
}

#[derive(Serialize)]
struct ResetBios {
    target: &'static str,
}

const BIOS_CONTEXT: &str = "/redfish/v1/$metadata#Bios.Bios";

/// The personality's attributes, overlaid with what is current.
fn current_attributes(bmc: &Bmc) -> Map<String, Value> {
    let defaults = &bmc.personality.product().bios.attributes;
    let value = |name: &String, default: &Value| bmc.boot.bios.get(name).unwrap_or(default).clone();
    defaults
        .iter()
        .map(|(name, default)| (name.clone(), value(name, default)))
        .collect()
}

fn bios(scene: &Scene<'_>, _: &[String]) -> Option<Document> {
    let resource = Bios {
        context: BIOS_CONTEXT,
        id: "Bios",
        name: "BIOS Configuration",
        reset_bios_to_defaults_pending: false,
        attributes: current_attributes(scene.bmc),
        settings: SettingsReference {
            kind: "#Settings.v1_3_5.Settings",
            settings_object: link(BIOS_SETTINGS),
            supported_apply_times: ["OnReset"],
        },
        actions: BiosActions {
            reset: ResetBios {
                target: "/redfish/v1/Systems/1/Bios/Actions/Bios.ResetBios",
            },
        },
    };
    Some(Document::new(schemas::BIOS, BIOS, &resource))
}

fn settings(scene: &Scene<'_>, _: &[String]) -> Option<Document> {
    let mut attributes = current_attributes(scene.bmc);
    for (name, value) in &scene.bmc.boot.bios_pending {
        attributes.insert(name.clone(), value.clone());
    }
    let resource = BiosSettings {
        context: BIOS_CONTEXT,
        id: "Settings",
        name: "BIOS Configuration Pending Settings",
        attributes,
    };
    Some(Document::new(schemas::BIOS, BIOS_SETTINGS, &resource))
}

fn patch_settings(bmc: &mut Bmc, call: Call<'_>) -> Result<Done, Failure> {
    let mut fields = Fields::patch(call.body, call.current);
    let mut pending = Vec::new();
    let defaults = &bmc.personality.product().bios.attributes;
    fields.object("Attributes", |attributes| {
        for (name, value) in attributes.take_all() {
            match defaults.get(&name) {
                None => attributes.fail(&name, Message::property_unknown(&name)),
                Some(default) if std::mem::discriminant(default) != std::mem::discriminant(&value) => {
                    attributes.fail(&name, Message::property_type(&value.to_string(), &name));
                }
                Some(_) => pending.push((name, value)),
            }
        }
    });
    fields.finish()?;
    bmc.boot.bios_pending.extend(pending);
    Ok(Done::Updated)
}

fn reset_bios(bmc: &mut Bmc, call: Call<'_>) -> Result<Done, Failure> {
    Fields::action("Bios.ResetBios", call.body).finish()?;
    let defaults = bmc.personality.product().bios.attributes.clone();
    bmc.boot.bios_pending.extend(defaults);
    bmc.written(BIOS_SETTINGS);
    Ok(Done::NoContent)
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct SecureBoot {
    id: &'static str,
    name: &'static str,
    secure_boot_enable: bool,
    secure_boot_current_boot: &'static str,
    secure_boot_mode: &'static str,
}

fn secure_boot(scene: &Scene<'_>, _: &[String]) -> Option<Document> {
    if !scene.bmc.personality.product().bios.secure_boot {
        return None;
    }
    let boot = &scene.bmc.boot;
    let resource = SecureBoot {
        id: "SecureBoot",
        name: "UEFI Secure Boot",
        secure_boot_enable: boot.secure_boot_enable,
        secure_boot_current_boot: if boot.secure_boot_current {
            "Enabled"
        } else {
            "Disabled"
        },
        secure_boot_mode: "UserMode",
    };
    Some(Document::new(schemas::SECURE_BOOT, SECURE_BOOT, &resource))
}

fn patch_secure_boot(bmc: &mut Bmc, call: Call<'_>) -> Result<Done, Failure> {
    let mut fields = Fields::patch(call.body, call.current);
    let enable = fields.boolean("SecureBootEnable");
    fields.finish()?;
    bmc.boot.secure_boot_enable = enable.unwrap_or(bmc.boot.secure_boot_enable);
    Ok(Done::Updated)
}
