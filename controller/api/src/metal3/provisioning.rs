//! What is put on a server, on which disk, and how it boots: shared by spec and status.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::words::words;

words! {
    pub enum BootMode { Uefi = "UEFI", UefiSecureBoot = "UEFISecureBoot", Legacy = "legacy", }
}

words! {
    /// Wiping between two users. Between tenants Steelyard wipes fully unless this says `disabled`.
    pub enum AutomatedCleaningMode { Metadata = "metadata", Disabled = "disabled", }
}

words! {
    pub enum ChecksumType { Md5 = "md5", Sha256 = "sha256", Sha512 = "sha512", Auto = "auto", }
}

words! {
    pub enum ImageFormat { Raw = "raw", Qcow2 = "qcow2", Vdi = "vdi", Vmdk = "vmdk", LiveIso = "live-iso", }
}

/// The operating system image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["url"]))]
pub struct Image {
    /// The hash, or the URL of a file that lists it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checksum: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checksum_type: Option<ChecksumType>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<ImageFormat>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oci_auth_secret_name: Option<String>,
    pub url: String,
}

/// A site's own deploy step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(extend("required" = ["method"]))]
pub struct CustomDeploy {
    pub method: String,
}

/// Which disk is the root disk: every hint that is given must match.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct RootDeviceHints {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hctl: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "size")]
    pub min_size_gigabytes: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rotational: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serial_number: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vendor: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wwn: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wwn_vendor_extension: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wwn_with_extension: Option<String>,
}

pub(super) fn size(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": "integer", "minimum": 0 })
}
