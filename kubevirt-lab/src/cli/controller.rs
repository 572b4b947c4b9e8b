//! `controller`: the same controller code in a process of its own. Kubernetes, BMCs and the fabric's API are
//! on sockets; what a NIC would carry crosses the fabric through two unix sockets.

use super::runtime;
use crate::{
    files::{LabFiles, write_secret},
    lab::{Lab, Networks},
    net::Wire,
    wire::UnixWire,
    world::FabricNet,
};
use anyhow::Context;
use clap::Parser;
use std::{path::Path, sync::Arc};
use steelyard_controller::{Args, Clock, Dice, OsNet, World, tasks::Tasks};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

const NETWORKS: [&str; 2] = ["provisioning", "services"];

/// The lab's side: sockets for the two networks, flags and kubeconfig for whoever comes.
pub(super) fn offer(lab: &Lab, tasks: &Tasks, files: &LabFiles) -> anyhow::Result<()> {
    for network in NETWORKS {
        let path = files.socket(network);
        let listener = UnixListener::bind(&path).with_context(|| path.display().to_string())?;
        let (fabric, owner) = (lab.fabric.clone(), tasks.clone());
        tasks.spawn("fabric socket", async move {
            while let Ok((stream, _)) = listener.accept().await {
                match fabric.attach_network(network) {
                    Ok(port) => owner.spawn("fabric cable", bridge(port, stream)),
                    Err(error) => tracing::warn!(network, %error, "no port for the controller"),
                }
            }
        });
    }
    let flags = lab.flags().join("\0");
    write_secret(&files.controller_flags(), &flags)?;
    write_secret(
        &files.controller_kubeconfig(),
        &lab.controller_kubeconfig().unwrap_or_default(),
    )?;
    Ok(())
}

/// Carries frames between a port of the fabric and a socket until either is gone.
async fn bridge(mut port: sim_fabric::Port, stream: UnixStream) {
    let (mut wire, moving) = UnixWire::new(stream);
    let mut moving = std::pin::pin!(moving);
    loop {
        tokio::select! {
            biased;
            frame = Wire::recv(&mut port) => match frame {
                Some(frame) => wire.send(frame),
                None => return,
            },
            frame = wire.recv() => match frame {
                Some(frame) => Wire::send(&mut port, frame),
                None => return,
            },
            _ = &mut moving => return,
        }
    }
}

/// The controller's side.
pub(super) fn run(dir: &Path) -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_env_filter(super::daemon::filter())
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    runtime()?.block_on(control(&LabFiles::new(dir)))
}

async fn control(files: &LabFiles) -> anyhow::Result<()> {
    let path = files.controller_flags();
    let flags = std::fs::read_to_string(&path)
        .with_context(|| format!("{}: start the lab with CONTROLLER=process first", path.display()))?;
    let args = Args::try_parse_from(std::iter::once("steelyard-controller").chain(flags.split('\0')))?;
    let kubeconfig = std::fs::read_to_string(files.controller_kubeconfig())?;

    let tasks = Tasks::new(CancellationToken::new());
    let [provisioning, services] = [
        connect(files, NETWORKS[0], &tasks).await?,
        connect(files, NETWORKS[1], &tasks).await?,
    ];
    // The vip tells which of the two sets of networks the lab has.
    let small = Networks::for_hosts(1);
    let networks = if args.provisioning_vip == small.vip {
        small
    } else {
        Networks::for_hosts(usize::MAX)
    };
    let (provisioning, services) = networks.controller_stacks(provisioning, services, &tasks)?;
    let world = World {
        kube: crate::lab::connect(&kubeconfig).await?,
        clock: Clock::system(),
        dice: Dice::system().context("the operating system gives no randomness")?,
        oob: Arc::new(OsNet),
        provisioning: Arc::new(FabricNet::new(provisioning)),
        services: Arc::new(FabricNet::new(services)),
    };
    let mut running = std::pin::pin!(steelyard_controller::run(world, args, tasks.clone()));
    let told = async {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            () = super::daemon::terminated() => {}
        }
    };
    let result = tokio::select! {
        result = &mut running => result,
        () = told => {
            tasks.stop();
            // It gives the lease back, so that the next one need not wait for its end.
            running.await
        }
    };
    tasks.end(super::daemon::PATIENCE).await;
    Ok(result?)
}

async fn connect(files: &LabFiles, network: &str, tasks: &Tasks) -> anyhow::Result<UnixWire> {
    let path = files.socket(network);
    let stream = UnixStream::connect(&path)
        .await
        .with_context(|| path.display().to_string())?;
    let (wire, moving) = UnixWire::new(stream);
    tasks.spawn("fabric cable", async move {
        if let Err(error) = moving.await {
            tracing::error!(%error, "the lab's fabric is gone");
        }
    });
    Ok(wire)
}
