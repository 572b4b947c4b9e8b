//! The lifecycle of a host (BareMetalHost).

pub mod view;
