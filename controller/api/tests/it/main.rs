//! The API as files: CRDs against their golden copies and against Metal3's, users' YAML against our types.

mod crds;
mod metal3;
mod rbac;
mod vmetal;

use std::path::PathBuf;

/// A path in the repository.
fn repository(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}
