//! One way to read and write YAML, so that every reader agrees with kubectl.
//!
//! serde-saphyr reads `0644` as a float unless told otherwise; kubectl reads it as octal.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The text is not the YAML that was expected; the message carries line and column.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct YamlError(String);

/// Reads one document.
pub fn read<T: DeserializeOwned>(text: &str) -> Result<T, YamlError> {
    serde_saphyr::from_str_with_options(text, options()).map_err(|e| YamlError(e.to_string()))
}

/// Reads every document of a file; empty documents are skipped.
pub fn read_all<T: DeserializeOwned>(text: &str) -> Result<Vec<T>, YamlError> {
    serde_saphyr::from_multiple_with_options(text, options()).map_err(|e| YamlError(e.to_string()))
}

/// Writes one document, with its leading marker.
pub fn document<T: Serialize>(value: &T) -> String {
    let body = serde_saphyr::to_string(value).expect("our types serialise to plain maps, lists and scalars");
    format!("---\n{body}")
}

fn options() -> serde_saphyr::Options {
    serde_saphyr::options! { legacy_octal_numbers: true }
}
