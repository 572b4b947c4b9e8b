//! What installations are made of: images, keys, templates.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Other, Owner, Properties};
use crate::crds::NoStatus;
use crate::crds::{Column, Described};
use crate::kind::kind;
use crate::schema::is_default;

kind! {
    /// An operating system image, chosen by the property `vcluster.com/os-image`.
    pub struct OSImage("storage.loft.sh" / "v1", "osimages", ClusterResourceScope) {
        spec: OSImageSpec,
        status: NoStatus,
    }
}

impl Described for OSImage {
    const SHORT_NAMES: &'static [&'static str] = &[];
    const COLUMNS: &'static [Column] = &[
        Column::new(
            "Image",
            "string",
            r".spec.properties.metal3\.vcluster\.com/image-url",
        ),
        Column::AGE,
    ];
    const HAS_STATUS: bool = false;
    const ABOUT: &'static str = "An operating system image that claims choose by name.";
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct OSImageSpec {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// What the image gives to a claim, above all `metal3.vcluster.com/image-url`.
    #[serde(skip_serializing_if = "Properties::is_empty")]
    pub properties: Properties,
    #[serde(flatten)]
    pub other: Other,
}

kind! {
    /// A public key that claims put on their machine.
    pub struct SSHKey("storage.loft.sh" / "v1", "sshkeys", ClusterResourceScope) {
        spec: SSHKeySpec,
        status: NoStatus,
    }
}

impl Described for SSHKey {
    const SHORT_NAMES: &'static [&'static str] = &[];
    const COLUMNS: &'static [Column] = &[Column::AGE];
    const HAS_STATUS: bool = false;
    const ABOUT: &'static str = "A public SSH key that claims choose by name.";
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct SSHKeySpec {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<Owner>,
    /// One line of an authorized_keys file.
    pub public_key: String,
    #[serde(flatten)]
    pub other: Other,
}

kind! {
    /// Templates of a machine's user data and network data.
    pub struct MachineConfigTemplate("storage.loft.sh" / "v1", "machineconfigtemplates", ClusterResourceScope) {
        spec: MachineConfigTemplateSpec,
        status: NoStatus,
    }
}

impl Described for MachineConfigTemplate {
    const SHORT_NAMES: &'static [&'static str] = &[];
    const COLUMNS: &'static [Column] = &[Column::AGE];
    const HAS_STATUS: bool = false;
    const ABOUT: &'static str = "Templates of the cloud-init and network data of machines.";
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct MachineConfigTemplateSpec {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// Cloud-config in Go's template language.
    #[serde(skip_serializing_if = "is_default")]
    pub cloud_init_template: String,
    /// Network data in Go's template language.
    #[serde(skip_serializing_if = "is_default")]
    pub network_data_template: String,
    #[serde(flatten)]
    pub other: Other,
}
