//! The commands of `steelyard-conformance`. Exit codes: 0 all pass, 1 a MUST is not met, 2 no verdict, 3 partial.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line talks to people"
)]

mod diff;
mod run;

use clap::{Parser, Subcommand, ValueEnum};
use std::{path::PathBuf, process::ExitCode};
use steelyard_suite::catalogue;

/// No verdict: the suite or the target broke.
const BROKEN: u8 = 2;

/// Checks what a bare-metal cloud keeps of its promises, and says so in a report.
#[derive(Debug, Parser)]
#[command(name = "steelyard-conformance", version, max_term_width = 110)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the suite on a lab of its own, or on a cluster.
    Run(run::RunArgs),
    /// Print the catalogue of checks.
    Catalogue {
        #[arg(long, value_enum, default_value_t = Format::Yaml)]
        format: Format,
    },
    /// Compare two reports (report.json): exit 1 if a check got worse.
    Diff { before: PathBuf, after: PathBuf },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Yaml,
    Markdown,
}

pub fn main(cli: Cli) -> ExitCode {
    let result = match cli.command {
        Command::Run(args) => run::run(&args),
        Command::Catalogue { format } => {
            let text = match format {
                Format::Yaml => catalogue::yaml(),
                Format::Markdown => catalogue::markdown(),
            };
            print!("{text}");
            Ok(0)
        }
        Command::Diff { before, after } => diff::run(&before, &after),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("steelyard-conformance: {error:#}");
            ExitCode::from(BROKEN)
        }
    }
}
