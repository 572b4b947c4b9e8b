//! Power, with ResetType chosen from what the BMC offers.

use super::{
    conversation::Conversation,
    document::{Document, Reset},
    system::System,
};
use crate::bmc::BmcError;
use http::StatusCode;
use serde_json::{Value, json};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    On,
    Off,
    SoftOff,
}

impl Wish {
    /// In the order in which we like them.
    fn reset_types(self) -> &'static [&'static str] {
        match self {
            Wish::On => &["On", "ForceOn", "PushPowerButton"],
            Wish::Off => &["ForceOff"],
            // A pressed button is a request to the operating system, too.
            Wish::SoftOff => &["GracefulShutdown", "PushPowerButton"],
        }
    }

    fn reached(self, state: Option<&str>) -> bool {
        match self {
            Wish::On => matches!(state, Some("On" | "PoweringOn")),
            Wish::Off | Wish::SoftOff => matches!(state, Some("Off" | "PoweringOff")),
        }
    }
}

pub(super) async fn ensure(talk: &mut Conversation, system: &mut System, wish: Wish) -> Result<(), BmcError> {
    let document = system.document(talk).await?;
    if wish.reached(state(&document)) {
        return Ok(());
    }
    let (target, kind) = action(talk, &document, wish).await?;
    match talk.post(&target, &json!({ "ResetType": kind })).await {
        // "Already on", or a state that changed under our hands: what counts is where it is now.
        Err(
            refused @ BmcError::Answer {
                status: StatusCode::CONFLICT | StatusCode::BAD_REQUEST,
                ..
            },
        ) => {
            let now = system.document(talk).await?;
            if wish.reached(state(&now)) {
                Ok(())
            } else {
                Err(refused)
            }
        }
        done => done,
    }
}

fn state(document: &Document) -> Option<&str> {
    document.body.get("PowerState").and_then(Value::as_str)
}

/// Where to post, and the ResetType.
async fn action(
    talk: &mut Conversation,
    document: &Document,
    wish: Wish,
) -> Result<(String, &'static str), BmcError> {
    let path = &document.path;
    let reset = document
        .body
        .pointer("/Actions/#ComputerSystem.Reset")
        .cloned()
        .unwrap_or_default();
    let reset: Reset = serde_json::from_value(reset).map_err(|e| talk.unreadable(path, e.to_string()))?;
    let target = reset
        .target
        .unwrap_or_else(|| format!("{path}/Actions/ComputerSystem.Reset"));
    let mut allowable = reset.allowable;
    if allowable.is_none()
        && let Some(info) = reset.info
    {
        allowable = Some(parameters(&talk.get(&info).await?));
    }
    let offered = |kind: &&&str| {
        allowable
            .as_ref()
            .is_none_or(|a| a.is_empty() || a.iter().any(|v| v == **kind))
    };
    // PushPowerButton does the wrong thing in the wrong state; it is only for BMCs that name it.
    let named = |kind: &&&str| **kind != "PushPowerButton" || allowable.is_some();
    let kind = wish.reset_types().iter().filter(named).find(offered).copied();
    let kind = kind.ok_or_else(|| {
        let offers = allowable.unwrap_or_default().join(", ");
        talk.unreadable(
            path,
            format!(
                "it offers the ResetTypes {offers} and none of {}",
                wish.reset_types().join(", ")
            ),
        )
    })?;
    Ok((target, kind))
}

/// The values of ResetType in an ActionInfo.
fn parameters(info: &Document) -> Vec<String> {
    let parameters = info.body.get("Parameters").and_then(Value::as_array);
    let reset = parameters
        .into_iter()
        .flatten()
        .find(|p| p.get("Name").and_then(Value::as_str) == Some("ResetType"));
    let values = reset
        .and_then(|p| p.get("AllowableValues"))
        .and_then(Value::as_array);
    values
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}
