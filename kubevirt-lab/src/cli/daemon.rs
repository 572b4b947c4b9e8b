//! The lab's process: assembles it, writes its files, says when it is ready, ends it on a signal.

use super::{options::LabOptions, runtime};
use crate::{
    files::LabFiles,
    lab::{ControllerMode, Lab},
    ready,
};
use anyhow::Context;
use std::time::Duration;
use steelyard_controller::{Dice, tasks::Tasks};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Captures are for labs that people look at: one file for each network, on up to so many hosts.
const CAPTURED_HOSTS_MAX: usize = 16;
/// For tasks to end after a signal.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

pub(super) fn run(options: &LabOptions) -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_env_filter(filter())
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    runtime()?.block_on(serve(options))
}

pub(super) fn filter() -> tracing_subscriber::EnvFilter {
    tracing_subscriber::EnvFilter::try_from_env("STEELYARD_LOG").unwrap_or_else(|_| "info".into())
}

async fn serve(options: &LabOptions) -> anyhow::Result<()> {
    let stop = CancellationToken::new();
    let tasks = Tasks::new(stop.clone());
    let files = LabFiles::new(&options.dir);
    // A closed terminal is no reason to end.
    let _hangup = signal(SignalKind::hangup())?;
    let work = async {
        let lab = Lab::start(options.config()?, tasks.clone()).await?;
        files.write(&lab)?;
        let capture = (lab.config.plan.hosts.len() <= CAPTURED_HOSTS_MAX)
            .then(|| lab.fabric.capture_each(files.captures()));
        lead(&lab, &tasks, &files)?;
        ready::wait(&lab).await?;
        files.mark_ready()?;
        tracing::info!(hosts = lab.config.plan.hosts.len(), "the lab is ready");
        tasks.stopped().await;
        drop(capture);
        anyhow::Ok(())
    };
    let result = tokio::select! {
        result = work => result,
        () = terminated() => Ok(()),
        _ = tokio::signal::ctrl_c() => Ok(()),
    };
    tasks.end(PATIENCE).await;
    files.remove();
    result
}

/// Resolves when the process is told to end.
pub(super) async fn terminated() {
    match signal(SignalKind::terminate()) {
        Ok(mut stream) => {
            stream.recv().await;
        }
        // Without a handler the signal ends the process by itself.
        Err(_) => std::future::pending().await,
    }
}

/// Starts the controller, or what another process needs to be it.
fn lead(lab: &Lab, tasks: &Tasks, files: &LabFiles) -> anyhow::Result<()> {
    match lab.config.controller {
        ControllerMode::None => Ok(()),
        ControllerMode::Process => super::controller::offer(lab, tasks, files),
        ControllerMode::Inside => {
            let dice = Dice::system().context("the operating system gives no randomness")?;
            let controller = lab.run_controller(tasks, dice)?;
            let owner = tasks.clone();
            tasks.spawn("controller", async move {
                if let Err(error) = controller.await {
                    tracing::error!(error = %error, "the controller ended");
                    owner.end(Duration::ZERO).await;
                }
            });
            Ok(())
        }
    }
}
