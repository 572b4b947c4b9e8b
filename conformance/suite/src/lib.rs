//! A black-box conformance suite for bare-metal clouds that speak Metal3's BareMetalHost.
//!
//! It imports nothing of Steelyard: it speaks YAML, HTTP and (where a target offers taps) frames, and judges what
//! can be seen from outside. Three parts, kept apart so that the same judges serve a lab, a seed and a rack:
//!
//! ```text
//! workload: registers, claims, joins, releases, makes mistakes   --\
//! recorder: watches objects, samples taps                          --> History --> checks (judges) --> report
//! ```

pub mod catalogue;
pub mod check;
pub mod history;
pub mod limits;
pub mod outcome;
pub mod profile;
pub mod report;
pub mod runner;
mod secrets;
pub mod suites;
pub mod target;
mod workload;

pub use check::{Check, Finding, Level, Source};
pub use history::History;
pub use limits::Limits;
pub use outcome::{Outcome, Verdict, Weight};
pub use profile::Profile;
pub use report::Report;
pub use runner::{RunOptions, run};
pub use secrets::Secrets;
pub use target::{Capability, Feature, Server, TapSample, Target, TargetError, TargetInfo};
