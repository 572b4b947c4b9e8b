//! RAID volumes, hardware and software. For both lists, absent means "leave alone" and empty means "remove all".

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::provisioning::{RootDeviceHints, size};

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct RaidConfig {
    #[serde(rename = "hardwareRAIDVolumes", skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-steelyard-nullable" = true))]
    pub hardware_raid_volumes: Option<Vec<HardwareRaidVolume>>,
    #[serde(rename = "softwareRAIDVolumes", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2), extend("x-steelyard-nullable" = true))]
    pub software_raid_volumes: Option<Vec<SoftwareRaidVolume>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["level"]))]
pub struct HardwareRaidVolume {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub controller: Option<String>,
    #[schemars(extend("enum" = ["0", "1", "2", "5", "6", "1+0", "5+0", "6+0"]))]
    pub level: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "positive")]
    pub number_of_physical_disks: Option<i64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub physical_disks: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rotational: Option<bool>,
    /// Zero or absent: as large as possible.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "size")]
    pub size_gibibytes: Option<i64>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["level"]))]
pub struct SoftwareRaidVolume {
    #[schemars(extend("enum" = ["0", "1", "1+0"]))]
    pub level: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 2))]
    pub physical_disks: Vec<RootDeviceHints>,
    #[schemars(schema_with = "crate::schema::default_false")]
    pub root_volume: bool,
    /// Zero or absent: as large as possible.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "size")]
    pub size_gibibytes: Option<i64>,
}

fn positive(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "integer", "minimum": 1 })
}
