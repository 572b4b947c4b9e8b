//! `steelyard-conformance`: what a bare-metal cloud keeps of its promises.

use clap::Parser;

fn main() -> std::process::ExitCode {
    steelyard_conformance::cli::main(steelyard_conformance::cli::Cli::parse())
}
