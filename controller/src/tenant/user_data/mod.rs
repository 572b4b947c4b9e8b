//! What a machine is told at its first boot: user data (cloud-config) and network data. Pure functions.
//!
//! ```text
//! property vcluster.com/user-data ----+
//! or MachineConfigTemplate --render---+--> cloud_config: + SSH keys, + our commands last --> userData Secret
//! network-data property, template, or the address that was allocated --> network_data --> networkData Secret
//! ```

mod cloud_config;
mod network;
mod sprig;
mod template;
mod write;

pub use cloud_config::{cloud_config, join_command};
pub use network::{NetworkFacts, check_network_data, network_data};
pub use template::{TemplateValues, render};

/// What can't be turned into data for a machine. `from` names the property, or the template and its field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UserDataError {
    #[error("{from}: {why}")]
    Template { from: String, why: String },
    #[error("{from} is not YAML: {why}")]
    Yaml { from: String, why: String },
    #[error("{from} must be a cloud-config: {why}")]
    CloudConfig { from: String, why: String },
    #[error("{from}: {path} {why}")]
    NetworkData { from: String, path: String, why: String },
}
