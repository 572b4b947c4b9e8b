//! The service side of the ironic-python-agent protocol (as ironic-python-agent does): who a machine is,
//! the token of its boot, its heartbeats, its inventory.
//!
//! Only hosts with a published plan are known here; all others get 404, and nobody can tell an unknown host
//! from one that is not expected.

use super::{
    inventory,
    mac::Mac,
    state::{Grant, Shared, Subject},
};
use crate::secret::Secret;
use bytes::Bytes;
use http::{Method, StatusCode};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use serde::Serialize;
use serde_json::{Map, json};
use std::net::IpAddr;
use steelyard_agent_api::{
    AgentToken, ApiVersion, Fault, HEARTBEAT_MAX, Heartbeat, INSPECTION_MIN, Inspection, InspectionAnswer,
    LookupAnswer, LookupConfig, Node, Root, paths,
};
use steelyard_core::intent::BootPurpose;
use url::{Url, form_urlencoded};

/// A machine has fewer NICs than this; more addresses in one lookup are a guess.
const LOOKUP_MACS_MAX: usize = 256;
/// A self-signed certificate has about 1 KiB; it is kept in a Secret.
const CERTIFICATE_MAX: usize = 16 << 10;

/// A request as far as this API reads it.
pub(crate) struct ApiRequest<'a> {
    pub(crate) method: &'a Method,
    pub(crate) path: &'a str,
    pub(crate) query: &'a str,
    pub(crate) version: Option<&'a str>,
    pub(crate) from: IpAddr,
    pub(crate) body: Bytes,
}

/// Status and JSON body; an empty body is none.
pub(crate) type ApiReply = (StatusCode, Vec<u8>);

/// Is this path one of ours?
pub(crate) fn serves(path: &str) -> bool {
    path == "/" || path == "/v1" || path.starts_with("/v1/")
}

pub(crate) async fn answer(shared: &Shared, request: ApiRequest<'_>) -> ApiReply {
    let path = request.path.trim_end_matches('/');
    let outcome = match (request.method, path) {
        (&Method::GET | &Method::HEAD, "" | "/v1") => json_reply(
            StatusCode::OK,
            &Root::new("Steelyard", "Deploy service of Steelyard", HEARTBEAT_MAX),
        ),
        (&Method::GET, paths::LOOKUP) => lookup(shared, &request).await,
        (&Method::POST, paths::INSPECTION) => inspection(shared, &request),
        (&Method::POST, path) => match path
            .strip_prefix(paths::HEARTBEAT)
            .and_then(|rest| rest.strip_prefix('/'))
        {
            Some(uuid) => heartbeat(shared, uuid, &request).await,
            None => Err(Refused::new(
                StatusCode::NOT_FOUND,
                "there is nothing at this path",
            )),
        },
        (_, paths::LOOKUP | paths::INSPECTION) => {
            Err(Refused::new(StatusCode::METHOD_NOT_ALLOWED, "method not allowed"))
        }
        _ => Err(Refused::new(
            StatusCode::NOT_FOUND,
            "there is nothing at this path",
        )),
    };
    outcome.unwrap_or_else(|refused| {
        let Refused { status, text } = refused;
        tracing::debug!(path = request.path, from = %request.from, status = status.as_u16(), error = text, "agent refused");
        (status, serde_json::to_vec(&Fault::for_status(status.as_u16(), text)).unwrap_or_default())
    })
}

struct Refused {
    status: StatusCode,
    text: String,
}

impl Refused {
    fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Refused {
            status,
            text: text.into(),
        }
    }
    fn bad(text: impl Into<String>) -> Self {
        Refused::new(StatusCode::BAD_REQUEST, text)
    }
    fn unknown() -> Self {
        Refused::new(
            StatusCode::NOT_FOUND,
            "no node with these addresses is expected here",
        )
    }
}

impl From<super::VaultError> for Refused {
    fn from(error: super::VaultError) -> Self {
        tracing::warn!(error = %error, "agent's record can't be kept; the agent will ask again");
        Refused::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the agent's record can't be kept now: ask again",
        )
    }
}

fn json_reply(status: StatusCode, body: &impl Serialize) -> Result<ApiReply, Refused> {
    let body = serde_json::to_vec(body);
    body.map(|body| (status, body))
        .map_err(|e| Refused::new(StatusCode::INTERNAL_SERVER_ERROR, e.to_string()))
}

fn query(text: &str, name: &str) -> Option<String> {
    form_urlencoded::parse(text.as_bytes())
        .find(|(key, _)| key == name)
        .map(|(_, value)| value.into_owned())
}

/// The host that was named, if the request comes from where this host is.
fn honest(shared: &Shared, subject: Subject, from: IpAddr) -> Result<Subject, Refused> {
    if shared.is_source(&subject, from) {
        return Ok(subject);
    }
    tracing::warn!(host = %subject.key, %from, expected = %subject.plan.address.addr(), "agent speaks from another address");
    Err(Refused::unknown())
}

async fn lookup(shared: &Shared, request: &ApiRequest<'_>) -> Result<ApiReply, Refused> {
    let addresses = query(request.query, "addresses").unwrap_or_default();
    // Addresses that are no Ethernet MAC (InfiniBand has 20 bytes) are skipped, as Ironic does.
    let macs: Vec<Mac> = addresses
        .split(',')
        .take(LOOKUP_MACS_MAX)
        .filter_map(|mac| mac.trim().parse().ok())
        .collect();
    let uuid = query(request.query, "node_uuid").filter(|uuid| !uuid.is_empty());
    let subject = match uuid {
        Some(uuid) => shared
            .by_uuid(&uuid)
            .filter(|s| macs.is_empty() || macs.contains(&s.mac)),
        None if macs.is_empty() => return Err(Refused::bad("addresses or node_uuid must be given")),
        None => shared.by_macs(&macs),
    };
    let subject = honest(shared, subject.ok_or_else(Refused::unknown)?, request.from)?;
    let token = match shared.grant(&subject.key).await? {
        Grant::Token(token) => AgentToken::new(token.reveal()),
        Grant::Masked => AgentToken::masked(),
        Grant::Pending => {
            return Err(Refused::new(
                StatusCode::CONFLICT,
                "another lookup of this node is being answered",
            ));
        }
        Grant::Gone => return Err(Refused::unknown()),
    };
    let node = Node {
        uuid: subject.plan.node_uuid,
        ..Node::default()
    };
    let config = LookupConfig::new(shared.config.heartbeat_timeout.as_secs().max(1), token);
    json_reply(StatusCode::OK, &LookupAnswer { node, config })
}

async fn heartbeat(shared: &Shared, uuid: &str, request: &ApiRequest<'_>) -> Result<ApiReply, Refused> {
    let subject = shared.by_uuid(uuid).ok_or_else(Refused::unknown)?;
    let beat: Heartbeat = serde_json::from_slice(&request.body)
        .map_err(|e| Refused::bad(format!("the heartbeat is not readable: {e}")))?;
    let invalid = || Refused::bad("Invalid or missing agent token received");
    let record = shared.record(&subject.key).await?.ok_or_else(invalid)?;
    let known = AgentToken::new(record.token.reveal());
    if !beat
        .agent_token
        .is_some_and(|token| known.matches(token.expose()))
    {
        return Err(invalid());
    }
    if beat.agent_version.is_none() && beat.agent_status.is_none() {
        return Err(Refused::bad("agent_version is missing"));
    }
    check_callback(&beat.callback_url)?;
    let certificate = beat
        .agent_verify_ca
        .as_deref()
        .map(check_certificate)
        .transpose()?;
    match &record.callback_url {
        Some(url) if *url != beat.callback_url => {
            return Err(Refused::bad("Detected change in ramdisk provided callback_url"));
        }
        Some(_) if certificate.is_some() && record.certificate != certificate => {
            return Err(Refused::bad(
                "the agent's certificate changed since its first heartbeat",
            ));
        }
        Some(_) => {}
        None => {
            let Some(certificate) = certificate else {
                return Err(Refused::bad(
                    "agent_verify_ca is missing: the agent's API must use TLS",
                ));
            };
            let mut next = record;
            next.callback_url = Some(beat.callback_url);
            next.certificate = Some(certificate);
            shared.update(&subject.key, next).await?;
            tracing::info!(host = %subject.key, operation = subject.plan.operation, "agent is there");
        }
    }
    shared.beat(&subject.key);
    Ok((StatusCode::ACCEPTED, Vec::new()))
}

fn check_callback(text: &str) -> Result<(), Refused> {
    let url = Url::parse(text).map_err(|e| Refused::bad(format!("callback_url is not a URL: {e}")))?;
    if url.scheme() != "https" {
        return Err(Refused::bad("callback_url must be https"));
    }
    // A name would be looked up in a network where whoever answers first is believed.
    if !matches!(url.host(), Some(url::Host::Ipv4(_) | url::Host::Ipv6(_)))
        || url.path() != "/"
        || url.query().is_some()
    {
        return Err(Refused::bad("callback_url must be https://ADDRESS:PORT"));
    }
    Ok(())
}

fn check_certificate(pem: &str) -> Result<String, Refused> {
    if pem.len() > CERTIFICATE_MAX {
        return Err(Refused::bad("agent_verify_ca is too long"));
    }
    CertificateDer::from_pem_slice(pem.as_bytes())
        .map(|_| pem.to_owned())
        .map_err(|e| Refused::bad(format!("agent_verify_ca is not a PEM certificate: {e}")))
}

fn inspection(shared: &Shared, request: &ApiRequest<'_>) -> Result<ApiReply, Refused> {
    let report: Inspection = serde_json::from_slice(&request.body)
        .map_err(|e| Refused::bad(format!("the inventory is not readable: {e}")))?;
    let interfaces = &report.inventory.interfaces;
    if interfaces.is_empty() || interfaces.iter().any(|nic| nic.mac_address.is_empty()) {
        return Err(Refused::bad(
            "inventory.interfaces must list at least one NIC, each with its mac_address",
        ));
    }
    let macs: Vec<Mac> = interfaces
        .iter()
        .filter_map(|nic| nic.mac_address.parse().ok())
        .collect();
    let uuid = query(request.query, "node_uuid");
    let subject = shared
        .by_macs(&macs)
        .filter(|s| uuid.as_ref().is_none_or(|uuid| *uuid == s.plan.node_uuid))
        .filter(|s| s.plan.purpose == BootPurpose::Inspect)
        .ok_or_else(Refused::unknown)?;
    let subject = honest(shared, subject, request.from)?;
    let found = match report.error.as_deref().filter(|error| !error.is_empty()) {
        Some(error) => Err(error.chars().take(2000).collect()),
        None => Ok(inventory::found(&report)),
    };
    tracing::info!(host = %subject.key, operation = subject.plan.operation, ok = found.is_ok(), "inventory received");
    shared.inspected(&subject.key, found);
    let uuid = subject.plan.node_uuid;
    let new = request
        .version
        .and_then(|v| v.parse::<ApiVersion>().ok())
        .is_some_and(|v| v >= INSPECTION_MIN);
    let answer = if new {
        InspectionAnswer {
            uuid: None,
            node: Some(Node {
                uuid,
                ..Node::default()
            }),
        }
    } else {
        InspectionAnswer::found(&uuid)
    };
    json_reply(StatusCode::ACCEPTED, &answer)
}

/// The node as commands carry it; its `root_device` decides which disk is written.
pub(super) fn node(
    subject: &Subject,
    root_device: Option<Map<String, serde_json::Value>>,
) -> serde_json::Value {
    let instance_info = root_device
        .map(|hints| json!({ "root_device": hints }))
        .unwrap_or_else(|| json!({}));
    json!({
        "uuid": subject.plan.node_uuid,
        "name": subject.key.name,
        "properties": {},
        "instance_info": instance_info,
        // One pass, and never a success by skipping: a drive whose secure erase fails is overwritten or reported.
        "driver_internal_info": { "agent_erase_devices_iterations": 1, "agent_erase_devices_zeroize": true,
            "agent_continue_if_secure_erase_failed": false, "agent_erase_skip_read_only": false,
            "disk_erasure_concurrency": 4 },
    })
}

/// A token as it goes onto the wire.
pub(super) fn wire(token: &Secret) -> AgentToken {
    AgentToken::new(token.reveal())
}
