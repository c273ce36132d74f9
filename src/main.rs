//! The `isthmus` command.

mod check;
#[cfg(feature = "demo")]
mod demo;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

/// Isthmus, the identity bridge between AWS API Gateway and Azure VMs.
#[derive(Parser)]
#[command(version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Compile a filter configuration and say what is wrong with it. Exit status: 0 good, 1 cannot be read, 2 wrong.
    Check {
        /// The filter's configuration, JSON.
        config: PathBuf,
    },
    /// Start everything on this machine, local clouds included, and walk a tour through the bridge.
    #[cfg(feature = "demo")]
    Demo(demo::Options),
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Check { config } => check::run(&config),
        #[cfg(feature = "demo")]
        Command::Demo(options) => demo::run(&options),
    }
}
