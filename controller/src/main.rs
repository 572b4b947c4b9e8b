//! `steelyard-controller`: the controller on the operating system's sockets.

use clap::Parser;
use std::{process::ExitCode, sync::Arc};
use steelyard_controller::{Args, Clock, Dice, OsNet, World, run, tasks::Tasks};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let args = Args::parse();
    let filter = EnvFilter::try_from_env("STEELYARD_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    if args.log_json {
        log.json().init();
    } else {
        log.init();
    }
    // Twice is harmless: the first provider stays.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match work(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = %format!("{error:#}"), "ended");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn work(args: Args) -> anyhow::Result<()> {
    let net = Arc::new(OsNet);
    let world = World {
        kube: kube::Client::try_default().await?,
        clock: Clock::system(),
        dice: Dice::system()?,
        oob: net.clone(),
        provisioning: net.clone(),
        services: net,
    };
    let tasks = Tasks::new(CancellationToken::new());
    let mut terminate = signal(SignalKind::terminate())?;
    let mut running = std::pin::pin!(run(world, args, tasks.clone()));
    let result = tokio::select! {
        result = &mut running => result,
        _ = async { tokio::select! { _ = terminate.recv() => {}, _ = tokio::signal::ctrl_c() => {} } } => {
            tasks.stop();
            // It gives the lease back.
            running.await
        }
    };
    Ok(result?)
}
