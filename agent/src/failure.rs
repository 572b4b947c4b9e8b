//! Why a command failed. Class names and codes are those of IPA (`errors.py`), because services compare them.

use steelyard_agent_api::CommandError;

use crate::platform::DiskError;

/// A failed command, step or job.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    #[error("{0}")]
    InvalidParams(String),
    /// Python's class for a missing or unknown keyword argument; IPA answers with it, so do we.
    #[error("{0}")]
    TypeError(String),
    #[error("{0}")]
    DeviceNotFound(String),
    #[error(
        "image {image} has the wrong checksum: expected {algorithm} {expected}, got {actual} over {bytes} bytes; nothing bootable was left on {device}"
    )]
    ImageChecksum {
        image: String,
        algorithm: &'static str,
        expected: String,
        actual: String,
        bytes: u64,
        device: String,
    },
    #[error("checksum of image {image}: {why}")]
    ChecksumUnusable { image: String, why: String },
    #[error("image {image}: {why}")]
    InvalidImage { image: String, why: String },
    #[error("download of {url} failed: {why}")]
    ImageDownload { url: String, why: String },
    #[error("{0}")]
    ImageWrite(String),
    #[error("config drive: {0}")]
    ConfigDrive(String),
    #[error("{0}")]
    Deployment(String),
    #[error("erase failed: {0}")]
    Erase(String),
    #[error(
        "{device} holds a {what}, which other machines may share; it was not touched. Set ipa-guard-special-filesystems=false, or the node's wipe_special_filesystems, to erase it"
    )]
    ProtectedDevice { device: String, what: &'static str },
    #[error("hardware managers changed since the steps were read: asked for {asked}, have {have}")]
    VersionMismatch { asked: String, have: String },
    #[error("no {kind} step {step}: this agent does not have it")]
    UnknownStep { kind: &'static str, step: String },
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl Failure {
    /// `type` of the command error.
    pub(crate) fn class(&self) -> &'static str {
        match self {
            Self::InvalidParams(_) => "InvalidCommandParamsError",
            Self::TypeError(_) => "TypeError",
            Self::DeviceNotFound(_) => "DeviceNotFound",
            Self::ImageChecksum { .. } | Self::ChecksumUnusable { .. } => "ImageChecksumError",
            Self::InvalidImage { .. } => "InvalidImage",
            Self::ImageDownload { .. } => "ImageDownloadError",
            Self::ImageWrite(_) => "ImageWriteError",
            Self::ConfigDrive(_) => "InstanceDeployFailure",
            Self::Deployment(_) => "DeploymentError",
            Self::Erase(_) => "BlockDeviceEraseError",
            Self::ProtectedDevice { .. } => "ProtectedDeviceError",
            Self::VersionMismatch { .. } => "VersionMismatch",
            Self::UnknownStep { .. } => "IncompatibleHardwareMethodError",
            Self::Disk(_) => "BlockDeviceError",
        }
    }

    /// `code` of the command error.
    pub(crate) fn code(&self) -> u16 {
        match self {
            Self::InvalidParams(_) => 400,
            Self::DeviceNotFound(_) => 404,
            Self::VersionMismatch { .. } => 409,
            _ => 500,
        }
    }
}

impl From<&Failure> for CommandError {
    fn from(failure: &Failure) -> Self {
        let text = failure.to_string();
        Self {
            class: failure.class().to_owned(),
            code: failure.code(),
            message: text.lines().next().unwrap_or_default().to_owned(),
            details: text,
        }
    }
}
