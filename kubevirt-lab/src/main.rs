//! `steelyard-lab`: a data centre on a laptop.

use clap::Parser;

fn main() -> std::process::ExitCode {
    steelyard_lab::cli::main(steelyard_lab::cli::Cli::parse())
}
