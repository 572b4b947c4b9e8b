//! Runs the conformance suite: on a lab of its own in memory, or on any cluster with any BareMetalHost controller.
//!
//! ```text
//! cli: run, catalogue, diff -> target: lab | kubeconfig -> steelyard-suite -> report.{json,xml,html}
//! ```

pub mod cli;
pub mod target;
