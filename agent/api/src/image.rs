//! What to write to the disk: `image_info` of `write_image` and `standby.prepare_image`.

use std::fmt;

use serde::{Deserialize, Serialize};

/// `image_info` (ipa `extensions/standby.py`). Valid only with `id`, `urls` and a checksum.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ImageInfo {
    pub id: String,
    #[serde(default)]
    pub urls: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_format: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_format: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream_raw_images: Option<bool>,
    /// Hex digest, or the URL of a checksum file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksum: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub os_hash_algo: Option<String>,
    /// Hex digest, or the URL of a checksum file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub os_hash_value: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_server_auth_strategy: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_server_user: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_server_password: Option<String>,
    /// Base64 of a whole `Authorization` value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_request_authorization: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxies: Option<ImageProxies>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_proxy: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_uuid: Option<String>,
    /// The same as the separate parameter `configdrive`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configdrive: Option<String>,
    /// `partition` or `whole-disk` (the default).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_type: Option<String>,
}

/// Proxies by scheme.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageProxies {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub https: Option<String>,
}

// The credentials and the config drive (user data, join tokens) are secrets: never in a log.
impl fmt::Debug for ImageInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ImageInfo")
            .field("id", &self.id)
            .field("urls", &self.urls)
            .field("disk_format", &self.disk_format)
            .field("checksum", &self.checksum)
            .field("os_hash_algo", &self.os_hash_algo)
            .field("os_hash_value", &self.os_hash_value)
            .finish_non_exhaustive()
    }
}

/// What `write_image` of our agent returns: IPA's sentence in `result`, then the facts behind it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageWritten {
    pub result: String,
    #[serde(default)]
    pub device: String,
    #[serde(default)]
    pub serial: Option<String>,
    #[serde(default)]
    pub bytes: u64,
    #[serde(default)]
    pub algorithm: String,
    #[serde(default)]
    pub digest: String,
    /// Size of the config drive that was written, if one was given.
    #[serde(default)]
    pub configdrive_bytes: Option<u64>,
}
