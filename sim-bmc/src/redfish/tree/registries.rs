//! Message registries: the one whose messages this service sends, served from here so that no client needs the internet.

use serde::Serialize;
use serde_json::{Map, Value};

use super::schemas;
use crate::redfish::document::{Collection, Document};
use crate::redfish::message::{BASE_JSON, BASE_PREFIX, BASE_VERSION};
use crate::redfish::route::{MANAGER, Route, Scene};

const REGISTRIES: &str = "/redfish/v1/Registries";

pub(super) const ROUTES: &[Route] = &[
    Route::get(REGISTRIES, MANAGER, |_, _| {
        Some(Collection::of(
            schemas::MESSAGE_REGISTRY_FILES,
            REGISTRIES,
            "Message Registries",
            [BASE_PREFIX],
        ))
    }),
    Route::get("/redfish/v1/Registries/{}", MANAGER, file),
    Route::get("/redfish/v1/Registries/{}/{}", MANAGER, registry),
];

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct MessageRegistryFile {
    id: &'static str,
    name: &'static str,
    registry: &'static str,
    languages: [&'static str; 1],
    location: [Location; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Location {
    language: &'static str,
    uri: String,
    publication_uri: String,
}

fn file(_: &Scene<'_>, params: &[String]) -> Option<Document> {
    if params.first()? != BASE_PREFIX {
        return None;
    }
    let resource = MessageRegistryFile {
        id: BASE_PREFIX,
        name: "Base Message Registry File",
        registry: BASE_PREFIX,
        languages: ["en"],
        location: [Location {
            language: "en",
            uri: format!("{REGISTRIES}/{BASE_PREFIX}/{BASE_VERSION}"),
            publication_uri: format!("https://redfish.dmtf.org/registries/{BASE_VERSION}.json"),
        }],
    };
    Some(Document::new(
        schemas::MESSAGE_REGISTRY_FILE,
        format!("{REGISTRIES}/{BASE_PREFIX}"),
        &resource,
    ))
}

fn registry(_: &Scene<'_>, params: &[String]) -> Option<Document> {
    if params.first()? != BASE_PREFIX || params.get(1)? != BASE_VERSION {
        return None;
    }
    // Parsed for each of these rare requests rather than held: the file is 114 KiB.
    let body: Map<String, Value> = serde_json::from_str(BASE_JSON).ok()?;
    Some(Document::plain(
        &format!("{REGISTRIES}/{BASE_PREFIX}/{BASE_VERSION}"),
        body,
    ))
}
