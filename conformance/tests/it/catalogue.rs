//! The catalogue in the repository is that of the code.

use steelyard_suite::catalogue;

#[test]
fn catalogue_yaml() {
    crate::golden("conformance/catalogue.yaml", &catalogue::yaml());
}

#[test]
fn catalogue_page() {
    crate::golden("docs/conformance.md", &catalogue::markdown());
}
