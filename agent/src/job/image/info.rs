//! What `image_info` says besides the checksum: a name for messages, credentials, and why it can't be used.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use steelyard_agent_api::ImageInfo;

use super::Target;
use crate::checksum;
use crate::failure::Failure;

pub(super) fn name(id: &str, url: &str) -> String {
    let base = checksum::base_name(url);
    if id.is_empty() || id == base {
        base.to_owned()
    } else {
        format!("{id} ({base})")
    }
}

pub(super) fn invalid(image: &str, why: &str) -> Failure {
    Failure::InvalidImage {
        image: image.to_owned(),
        why: why.to_owned(),
    }
}

pub(super) fn not_raw(image: &str, format: &str) -> Failure {
    invalid(
        image,
        &format!(
            "it is {format}, and for now only raw images are written: convert it (`qemu-img convert -O raw`) and name that"
        ),
    )
}

pub(super) fn too_long(image: &str, length: u64, target: &Target) -> Failure {
    Failure::ImageWrite(format!(
        "image {image} has {length} bytes or more, {} only {}",
        target.name, target.size
    ))
}

/// The `Authorization` value that `image_info` asks for.
pub(super) fn authorization(image: &ImageInfo) -> Result<Option<String>, Failure> {
    if let Some(packed) = &image.image_request_authorization {
        let value = STANDARD
            .decode(packed)
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok());
        let bad = || {
            Failure::InvalidParams("image_info.image_request_authorization is not base64 of text".to_owned())
        };
        return value.ok_or_else(bad).map(Some);
    }
    match (
        image.image_server_auth_strategy.as_deref(),
        &image.image_server_user,
        &image.image_server_password,
    ) {
        (Some("http_basic"), Some(user), Some(password)) => Ok(Some(format!(
            "Basic {}",
            STANDARD.encode(format!("{user}:{password}"))
        ))),
        (Some("http_basic"), _, _) => Err(Failure::InvalidParams(
            "image_info.image_server_auth_strategy is http_basic, but user or password is missing".to_owned(),
        )),
        _ => Ok(None),
    }
}
