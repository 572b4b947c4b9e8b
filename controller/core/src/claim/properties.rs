//! What a claim's properties come to: provider, then environments, then type, then claim; the later wins.
//!
//! An OSImage stands for its properties at the level that names it: a claim that names one overrides the image URL
//! of its provider, and one that gives a URL overrides the OSImage of its type.

use super::view::ClaimView;
use crate::intent::NetworkName;
use std::collections::BTreeMap;
use steelyard_api::{
    loft::{NodeClaim, NodeProvider, NodeType, OSImage, Properties},
    metal3::{ChecksumType, Image},
    names::property,
};

/// Why properties do not come to anything that can be installed. `reason` is for programs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PropertyError {
    #[error(
        "OSImage {name:?} does not exist: create it, or change property {}",
        property::OS_IMAGE
    )]
    NoOsImage { name: String },
    #[error("NodeEnvironment {name:?} does not exist in namespace {namespace}: create it, or change {field}")]
    NoEnvironment {
        name: String,
        namespace: String,
        field: &'static str,
    },
    #[error(
        "no image: set property {} to the name of an OSImage, or {} and {}",
        property::OS_IMAGE,
        property::IMAGE_URL,
        property::IMAGE_CHECKSUM
    )]
    NoImage,
    #[error("the image {url} has no checksum: set property {}", property::IMAGE_CHECKSUM)]
    NoChecksum { url: String },
    #[error(
        "property {} is {found:?}: expected md5, sha256, sha512 or auto",
        property::IMAGE_CHECKSUM_TYPE
    )]
    ChecksumType { found: String },
}

impl PropertyError {
    pub fn reason(&self) -> &'static str {
        match self {
            PropertyError::NoOsImage { .. } => "OSImageNotFound",
            PropertyError::NoEnvironment { .. } => "NodeEnvironmentNotFound",
            PropertyError::NoImage | PropertyError::NoChecksum { .. } => "ImageMissing",
            PropertyError::ChecksumType { .. } => "ImageInvalid",
        }
    }
}

/// Properties merged, and what follows from them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Effective {
    pub properties: Properties,
}

impl Effective {
    pub fn get(&self, name: &str) -> Option<&str> {
        self.properties.get(name)
    }

    /// The network that a claim's machine joins: the one that a property names, else its tenant's own. A machine
    /// without either stays where it is.
    pub fn network(&self, claim: &NodeClaim) -> Option<NetworkName> {
        if let Some(name) = self.get(property::SERVER_CLUSTER) {
            return Some(NetworkName {
                name: name.to_owned(),
                create: false,
            });
        }
        let tenant = claim.spec.vcluster_ref.as_ref()?;
        let namespace = claim.metadata.namespace.as_deref().unwrap_or_default();
        Some(NetworkName {
            name: format!("{namespace}-{tenant}"),
            create: true,
        })
    }
}

/// Merges a claim's properties with those of the type and provider that it has, or would have.
pub fn effective(
    view: &ClaimView<'_>,
    provider: Option<&NodeProvider>,
    node_type: Option<&NodeType>,
) -> Result<Effective, PropertyError> {
    let claim = &view.claim.spec;
    let mut environments = Vec::new();
    if let Some(name) = claim.environment_ref.as_deref().filter(|name| !name.is_empty()) {
        environments.push(environment(view, name, "spec.environmentRef")?);
    }
    if let Some(name) = claim.properties.get(property::NETWORK_ENVIRONMENT) {
        environments.push(environment(view, name, property::NETWORK_ENVIRONMENT)?);
    }
    let mut merged = Properties::default();
    let layers = provider.map(|p| &p.spec.properties).into_iter();
    let layers = layers
        .chain(environments)
        .chain(node_type.map(|t| &t.spec.properties))
        .chain([&claim.properties]);
    for layer in layers {
        merged = overlay(merged, layer, &view.images)?;
    }
    Ok(Effective { properties: merged })
}

fn environment<'a>(
    view: &ClaimView<'a>,
    name: &str,
    field: &'static str,
) -> Result<&'a Properties, PropertyError> {
    let namespace = view.claim.metadata.namespace.as_deref().unwrap_or_default();
    let found = view.environments.iter().find(|e| {
        e.metadata.name.as_deref() == Some(name)
            && e.metadata.namespace.as_deref().unwrap_or_default() == namespace
    });
    found
        .map(|e| &e.spec.properties)
        .ok_or_else(|| PropertyError::NoEnvironment {
            name: name.to_owned(),
            namespace: namespace.to_owned(),
            field,
        })
}

fn overlay(under: Properties, layer: &Properties, images: &[&OSImage]) -> Result<Properties, PropertyError> {
    let mut merged = under;
    let chooses_image = layer.get(property::OS_IMAGE).is_some() || layer.get(property::IMAGE_URL).is_some();
    if chooses_image {
        // A checksum belongs to its image: the one of another level says nothing about this one.
        for stale in [
            property::OS_IMAGE,
            property::IMAGE_URL,
            property::IMAGE_CHECKSUM,
            property::IMAGE_CHECKSUM_TYPE,
        ] {
            merged.0.remove(stale);
        }
    }
    if let Some(name) = layer.get(property::OS_IMAGE) {
        let image = images
            .iter()
            .find(|image| image.metadata.name.as_deref() == Some(name));
        let image = image.ok_or_else(|| PropertyError::NoOsImage {
            name: name.to_owned(),
        })?;
        merged = merged.overlaid(&image.spec.properties);
    }
    Ok(merged.overlaid(layer))
}

/// The image that the properties name.
pub fn image(effective: &Effective) -> Result<Image, PropertyError> {
    let url = effective
        .get(property::IMAGE_URL)
        .ok_or(PropertyError::NoImage)?
        .to_owned();
    let checksum = effective.get(property::IMAGE_CHECKSUM).map(str::to_owned);
    // An OCI reference carries its own digest.
    if checksum.is_none() && !url.starts_with("oci://") {
        return Err(PropertyError::NoChecksum { url });
    }
    let checksum_type = match effective.get(property::IMAGE_CHECKSUM_TYPE) {
        None => None,
        Some(word) => match ChecksumType::from(word) {
            ChecksumType::Unknown => {
                return Err(PropertyError::ChecksumType {
                    found: word.to_owned(),
                });
            }
            known => Some(known),
        },
    };
    Ok(Image {
        checksum,
        checksum_type,
        url,
        ..Image::default()
    })
}

/// What requirements are compared with: the type's properties over its provider's, and those that every type has.
/// A property may hold several values, comma separated, or `*` for any.
pub fn type_properties(node_type: &NodeType, provider: Option<&NodeProvider>) -> BTreeMap<String, String> {
    let name = node_type.metadata.name.clone().unwrap_or_default();
    let of = node_type.spec.provider_ref.clone().unwrap_or_default();
    let zone = node_type
        .spec
        .other
        .get("zone")
        .and_then(|zone| zone.as_str())
        .unwrap_or("global");
    let built_in = [
        (property::NODE_TYPE, name.clone()),
        // Schedulers name the type with its provider, people without.
        (property::INSTANCE_TYPE, format!("{of}.{name},{name}")),
        (property::NODE_PROVIDER, of),
        (property::OS, "linux".to_owned()),
        (property::ZONE, zone.to_owned()),
        (property::CAPACITY_TYPE, "on-demand".to_owned()),
    ];
    let mut all: BTreeMap<_, _> = built_in
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect();
    let own = provider
        .map(|p| p.spec.properties.clone())
        .unwrap_or_default()
        .overlaid(&node_type.spec.properties);
    all.extend(own.0);
    all
}
