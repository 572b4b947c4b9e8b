//! An embedded lab: all of it in this process, on in-memory networks. The suite sees its Kubernetes API, and has taps on
//! its switches, machines and disks.

use super::{servers, yaml_files};
use anyhow::Context;
use futures::future::BoxFuture;
use std::{
    path::{Path, PathBuf},
    time::Duration,
};
use steelyard_lab::{
    Dice, Registration, Tasks,
    lab::{Lab, LabConfig},
    plan::Plan,
};
use steelyard_suite::{Capability, Feature, Server, TapSample, Target, TargetError, TargetInfo};

/// For tasks to end.
const PATIENCE: Duration = Duration::from_secs(5);
/// The tenant of the examples.
const TENANT: &str = "p-default/one";

pub struct LabTarget {
    lab: Lab,
    tasks: Tasks,
    platform: Vec<PathBuf>,
}

impl LabTarget {
    /// Starts a lab of `hosts` unregistered servers and its controller.
    pub async fn start(hosts: usize, seed: u64, platform: &Path) -> anyhow::Result<Self> {
        // Twice is harmless: the first provider stays.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let platform = yaml_files(platform)?;
        let config = LabConfig {
            register: false,
            ..LabConfig::in_memory(Plan::standard(hosts, seed)?)
        };
        let tasks = Tasks::default();
        let lab = Lab::start(config, tasks.clone())
            .await
            .context("the lab does not start")?;
        let controller = lab.run_controller(&tasks, Dice::seeded(seed))?;
        let owner = tasks.clone();
        tasks.spawn("controller", async move {
            if let Err(error) = controller.await {
                tracing::error!(%error, "the controller ended");
                owner.end(Duration::ZERO).await;
            }
        });
        Ok(LabTarget { lab, tasks, platform })
    }

    /// Stops everything.
    pub async fn end(self) {
        self.tasks.end(PATIENCE).await;
    }

    pub fn lab(&self) -> &Lab {
        &self.lab
    }
}

impl Target for LabTarget {
    fn info(&self) -> TargetInfo {
        TargetInfo {
            name: format!("embedded lab of {} servers", self.lab.config.plan.hosts.len()),
            features: vec![Feature::Platform, Feature::Isolation, Feature::WipeEvidence],
            capabilities: vec![
                Capability::Taps,
                Capability::Disks,
                Capability::Destructive,
                Capability::Spares,
            ],
        }
    }

    fn kube(&self) -> kube::Client {
        self.lab.admin.clone()
    }

    fn servers(&self) -> BoxFuture<'_, Result<Vec<Server>, TargetError>> {
        Box::pin(async {
            servers(&Registration::of(&self.lab.config.plan).servers)
                .map_err(|e| TargetError::Broken(format!("the lab's servers.yaml: {e:#}")))
        })
    }

    fn platform_files(&self) -> Vec<PathBuf> {
        self.platform.clone()
    }

    fn tenant(&self) -> BoxFuture<'_, Result<Option<kube::Client>, TargetError>> {
        Box::pin(async { Ok(self.lab.tenant(TENANT)) })
    }

    fn tap(&self, server: &str) -> Option<TapSample> {
        Some(TapSample {
            powered_on: self.lab.is_powered(server)?,
            networks: self.lab.networks_of(server)?,
        })
    }

    fn disks_hold(&self, server: &str, needle: &[u8]) -> Option<bool> {
        self.lab.disks_hold(server, needle)
    }
}
