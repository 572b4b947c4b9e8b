//! The flags of `up` and `run`.

use crate::{
    host::Timing,
    lab::{ControllerMode, LabConfig, Sockets},
    plan::Plan,
};
use anyhow::Context;
use std::{net::SocketAddr, path::PathBuf};

#[derive(Clone, Debug, clap::Args)]
pub(super) struct LabOptions {
    /// The lab's files go here.
    #[arg(long, default_value = ".lab")]
    pub dir: PathBuf,
    /// Number of servers: four small VMs, then CPU and GPU servers in turn.
    #[arg(long, default_value_t = 16)]
    pub hosts: usize,
    /// Identities (serials, MACs, passwords) are made from it.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Create the hosts, a provider and an image.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set)]
    pub register: bool,
    /// Servers from a YAML file instead of --hosts.
    #[arg(long)]
    pub file: Option<PathBuf>,
    /// Kubeconfig of an existing cluster to use instead of the embedded one.
    #[arg(long)]
    pub cluster: Option<PathBuf>,
    /// Who runs the controller.
    #[arg(long, value_enum, default_value_t = ControllerMode::Inside)]
    pub controller: ControllerMode,
    /// Where the Kubernetes API listens.
    #[arg(long, default_value_t = Sockets::default().kubernetes)]
    pub kubernetes_listen: SocketAddr,
    /// Where the fabric's management API listens.
    #[arg(long, default_value_t = Sockets::default().fabric)]
    pub fabric_listen: SocketAddr,
    /// Where images and boot files are served from.
    #[arg(long, default_value_t = Sockets::default().mirror)]
    pub mirror_listen: SocketAddr,
    /// A flag for the controller, e.g. --controller-flag=--retry-after=30s; may be repeated.
    #[arg(long = "controller-flag", allow_hyphen_values = true)]
    pub controller_flags: Vec<String>,
}

impl LabOptions {
    /// The defaults in another directory.
    pub(super) fn standard(dir: PathBuf, hosts: usize, register: bool) -> Self {
        let sockets = Sockets::default();
        LabOptions {
            dir,
            hosts,
            seed: 1,
            register,
            file: None,
            cluster: None,
            controller: ControllerMode::Inside,
            kubernetes_listen: sockets.kubernetes,
            fabric_listen: sockets.fabric,
            mirror_listen: sockets.mirror,
            controller_flags: Vec::new(),
        }
    }

    pub(super) fn config(&self) -> anyhow::Result<LabConfig> {
        let plan = match &self.file {
            Some(file) => {
                let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
                Plan::from_yaml(&file.display().to_string(), &text, self.seed)?
            }
            None => Plan::standard(self.hosts, self.seed)?,
        };
        let kubeconfig = match &self.cluster {
            Some(file) => Some(std::fs::read_to_string(file).with_context(|| file.display().to_string())?),
            None => None,
        };
        Ok(LabConfig {
            plan,
            register: self.register,
            sockets: Some(self.sockets()),
            kubeconfig,
            controller: self.controller,
            timing: Timing::lab(),
            dir: Some(self.dir.clone()),
            controller_flags: self.controller_flags.clone(),
        })
    }

    pub(super) fn sockets(&self) -> Sockets {
        Sockets {
            kubernetes: self.kubernetes_listen,
            fabric: self.fabric_listen,
            mirror: self.mirror_listen,
        }
    }

    /// The same flags for the process in the background.
    pub(super) fn to_flags(&self) -> Vec<String> {
        use clap::ValueEnum;
        let controller = self
            .controller
            .to_possible_value()
            .map(|v| v.get_name().to_owned())
            .unwrap_or_default();
        let mut flags: Vec<String> = [
            ("--dir", self.dir.display().to_string()),
            ("--hosts", self.hosts.to_string()),
            ("--seed", self.seed.to_string()),
            ("--register", self.register.to_string()),
            ("--controller", controller),
            ("--kubernetes-listen", self.kubernetes_listen.to_string()),
            ("--fabric-listen", self.fabric_listen.to_string()),
            ("--mirror-listen", self.mirror_listen.to_string()),
        ]
        .into_iter()
        .flat_map(|(flag, value)| [flag.to_owned(), value])
        .collect();
        for (flag, path) in [("--file", &self.file), ("--cluster", &self.cluster)] {
            if let Some(path) = path {
                flags.extend([flag.to_owned(), path.display().to_string()]);
            }
        }
        flags.extend(
            self.controller_flags
                .iter()
                .map(|f| format!("--controller-flag={f}")),
        );
        flags
    }
}
