//! The operating system (seam).

use super::chassis::{Chassis, End};
use super::image::OsManifest;
use super::nic::Nic;

pub(crate) async fn run(_chassis: &Chassis, _nics: &mut [Nic], _index: usize, _manifest: &OsManifest) -> End {
    std::future::pending().await
}
