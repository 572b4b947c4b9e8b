//! The service root and what stands beside it.

use serde::Serialize;
use serde_json::{Map, json};
use uuid::Uuid;

use super::schemas;
use crate::redfish::document::{Document, Link, link};
use crate::redfish::metadata;
use crate::redfish::query::MAX_LEVELS;
use crate::redfish::route::{MANAGER, Route, Scene};

pub(super) const ROUTES: &[Route] = &[
    Route::get("/redfish", MANAGER, versions),
    Route::get("/redfish/v1", MANAGER, root),
    Route::get("/redfish/v1/odata", MANAGER, odata),
    Route::get("/redfish/v1/$metadata", MANAGER, |_, _| {
        Some(Document::metadata("/redfish/v1/$metadata"))
    }),
];

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ServiceRoot<'a> {
    id: &'static str,
    name: &'static str,
    redfish_version: &'static str,
    #[serde(rename = "UUID")]
    uuid: Uuid,
    vendor: &'a str,
    product: &'a str,
    protocol_features_supported: ProtocolFeatures,
    systems: Link,
    chassis: Link,
    managers: Link,
    account_service: Link,
    session_service: Link,
    update_service: Link,
    tasks: Link,
    registries: Link,
    links: Links,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Links {
    sessions: Link,
    manager_providing_service: Link,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ProtocolFeatures {
    excerpt_query: bool,
    filter_query: bool,
    only_member_query: bool,
    select_query: bool,
    top_skip_query: bool,
    #[serde(rename = "MultipleHTTPRequests")]
    multiple_http_requests: bool,
    expand_query: ExpandQuery,
    deep_operations: DeepOperations,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ExpandQuery {
    expand_all: bool,
    levels: bool,
    links: bool,
    no_links: bool,
    max_levels: u8,
}

#[derive(Serialize)]
struct DeepOperations {
    #[serde(rename = "DeepPATCH")]
    patch: bool,
    #[serde(rename = "DeepPOST")]
    post: bool,
}

fn root(scene: &Scene<'_>, _: &[String]) -> Option<Document> {
    let product = scene.bmc.personality.product();
    let root = ServiceRoot {
        id: "RootService",
        name: "Root Service",
        redfish_version: "1.20.0",
        uuid: service_uuid(scene),
        vendor: &product.vendor,
        product: &product.product,
        protocol_features_supported: ProtocolFeatures {
            excerpt_query: false,
            filter_query: false,
            only_member_query: true,
            select_query: true,
            top_skip_query: true,
            multiple_http_requests: true,
            expand_query: ExpandQuery {
                expand_all: true,
                levels: true,
                links: true,
                no_links: true,
                max_levels: MAX_LEVELS,
            },
            deep_operations: DeepOperations {
                patch: false,
                post: false,
            },
        },
        systems: link("/redfish/v1/Systems"),
        chassis: link("/redfish/v1/Chassis"),
        managers: link("/redfish/v1/Managers"),
        account_service: link("/redfish/v1/AccountService"),
        session_service: link("/redfish/v1/SessionService"),
        update_service: link("/redfish/v1/UpdateService"),
        tasks: link("/redfish/v1/TaskService"),
        registries: link("/redfish/v1/Registries"),
        links: Links {
            sessions: link(super::SESSIONS_URI),
            manager_providing_service: link(super::MANAGER_URI),
        },
    };
    Some(Document::new(schemas::SERVICE_ROOT, "/redfish/v1/", &root))
}

/// The service's own UUID, which is not the system's: the BMC's MAC makes it differ, and it stays for one BMC.
pub(super) fn service_uuid(scene: &Scene<'_>) -> Uuid {
    let hardware = &scene.bmc.hardware;
    let mut bytes = *hardware.uuid.as_bytes();
    for (byte, mac) in bytes.iter_mut().rev().zip(hardware.bmc_mac.0) {
        *byte ^= mac;
    }
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

fn versions(_: &Scene<'_>, _: &[String]) -> Option<Document> {
    let mut body = Map::new();
    body.insert("v1".to_owned(), json!("/redfish/v1/"));
    Some(Document::plain("/redfish", body))
}

fn odata(scene: &Scene<'_>, _: &[String]) -> Option<Document> {
    let root = root(scene, &[])?;
    Some(Document::plain(
        "/redfish/v1/odata",
        metadata::service_document(&root.body),
    ))
}
