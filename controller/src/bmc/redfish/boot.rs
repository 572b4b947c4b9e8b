//! The boot override: the network once, the disk for good.

use super::{
    conversation::Conversation,
    document::{Boot, ComputerSystem, Document},
    system::System,
};
use crate::bmc::{BmcError, NetworkBoot};
use http::StatusCode;
use serde_json::{Value, json};

pub(super) async fn network_once(
    talk: &mut Conversation,
    system: &mut System,
    way: NetworkBoot,
) -> Result<(), BmcError> {
    let wanted: &[&str] = match way {
        NetworkBoot::Pxe => &["Pxe", "UefiHttp"],
        NetworkBoot::UefiHttp => &["UefiHttp"],
    };
    let document = system.document(talk).await?;
    set(talk, &document, wanted, "Once").await
}

/// Some firmware refuses a continuous override; once is enough then, since its default order follows.
pub(super) async fn disk(talk: &mut Conversation, system: &mut System) -> Result<(), BmcError> {
    let document = system.document(talk).await?;
    match set(talk, &document, &["Hdd"], "Continuous").await {
        Err(BmcError::Answer {
            status: StatusCode::BAD_REQUEST,
            ..
        }) => {
            let document = system.document(talk).await?;
            set(talk, &document, &["Hdd"], "Once").await
        }
        done => done,
    }
}

async fn set(
    talk: &mut Conversation,
    document: &Document,
    wanted: &[&str],
    enabled: &str,
) -> Result<(), BmcError> {
    let read: ComputerSystem = document
        .read()
        .map_err(|why| talk.unreadable(&document.path, why))?;
    let boot = read.boot.unwrap_or_default();
    let target = choose(&boot, wanted).ok_or_else(|| {
        let offers = boot.targets.clone().unwrap_or_default().join(", ");
        talk.unreadable(
            &document.path,
            format!(
                "it can boot from {offers}, and from none of {}",
                wanted.join(", ")
            ),
        )
    })?;
    let is = |field: &Option<String>, want: &str| field.as_deref() == Some(want);
    // Our boot services speak UEFI only.
    let legacy = boot.mode.as_deref().is_some_and(|mode| mode != "UEFI");
    if is(&boot.target, target) && is(&boot.enabled, enabled) && !legacy {
        return Ok(());
    }
    let mut change = json!({ "BootSourceOverrideTarget": target, "BootSourceOverrideEnabled": enabled });
    if legacy {
        change["BootSourceOverrideMode"] = json!("UEFI");
    }
    let change = json!({ "Boot": change });
    match settings(talk, document).await? {
        Some(settings) => talk.patch(&settings, &change).await,
        None => talk.patch(document, &change).await,
    }
}

/// The first wish that the firmware offers; the first of all where it does not say.
fn choose<'a>(boot: &Boot, wanted: &[&'a str]) -> Option<&'a str> {
    match &boot.targets {
        Some(offers) if !offers.is_empty() => wanted.iter().copied().find(|w| offers.iter().any(|o| o == w)),
        _ => wanted.first().copied(),
    }
}

/// Where the BMC keeps pending settings, if boot settings belong there.
async fn settings(talk: &mut Conversation, document: &Document) -> Result<Option<Document>, BmcError> {
    let Some(path) = document.link("/@Redfish.Settings/SettingsObject") else {
        return Ok(None);
    };
    let settings = talk.get(&path).await?;
    let has = settings
        .body
        .pointer("/Boot/BootSourceOverrideTarget")
        .is_some_and(|v: &Value| !v.is_null());
    Ok(has.then_some(settings))
}
