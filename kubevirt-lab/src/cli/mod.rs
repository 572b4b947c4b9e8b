//! The commands of `steelyard-lab`, which `make` calls.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line talks to people"
)]

mod bench;
mod captures;
mod controller;
mod daemon;
mod demo;
mod down;
mod kubectl;
mod options;
mod status;
mod up;

use clap::{Parser, Subcommand};
use std::{path::PathBuf, process::ExitCode};

/// A whole data centre in one process: Kubernetes API, servers with BMCs, switches, and the controller.
#[derive(Debug, Parser)]
#[command(name = "steelyard-lab", version, max_term_width = 110)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start the lab in the background and return once it is ready.
    Up(options::LabOptions),
    /// Run the lab in the foreground (what `up` starts).
    Run(options::LabOptions),
    /// Show what the lab is doing.
    Status(Dir),
    /// Stop the lab; logs and captures stay.
    Down(Dir),
    /// The whole story in one go: servers become available, a tenant asks, a node joins, it is released.
    Demo(Dir),
    /// Count DHCP, HTTP, TLS and join frames in each network while the story runs (needs tshark).
    Captures,
    /// Measure start, registration, claim to node, and memory.
    Bench(bench::BenchOptions),
    /// The controller as a process of its own, joined to a running lab's fabric by unix sockets.
    Controller(Dir),
}

#[derive(Clone, Debug, clap::Args)]
struct Dir {
    /// The lab's files.
    #[arg(long, default_value = ".lab")]
    dir: PathBuf,
}

/// Runs a command; the exit code is 0 when it did what it says.
pub fn main(cli: Cli) -> ExitCode {
    // Twice is harmless: the first provider stays.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let result = match cli.command {
        Command::Up(options) => up::run(&options),
        Command::Run(options) => daemon::run(&options),
        Command::Status(dir) => status::run(&dir.dir),
        Command::Down(dir) => down::run(&dir.dir),
        Command::Demo(dir) => demo::run(&dir.dir),
        Command::Captures => captures::run(),
        Command::Bench(options) => bench::run(&options),
        Command::Controller(dir) => controller::run(&dir.dir),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("steelyard-lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// A runtime for the lab: a thread for each core, since machines, switches and APIs run side by side.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}
