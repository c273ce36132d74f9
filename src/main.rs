//! The `isthmus` command.

mod check;
#[cfg(feature = "demo")]
mod demo;
mod engine;
mod explain;
mod lines;
mod schema;
mod verify;

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
    /// Compile a filter configuration, and say what is wrong with it or wider than it need be.
    ///
    /// Exit status: 0 good, 1 good with warnings, 2 wrong or not to be read.
    Check {
        /// The filter's configuration, JSON.
        config: PathBuf,
    },
    Explain(explain::Options),
    Verify(verify::Options),
    /// Print the JSON Schema of a configuration.
    Schema {
        /// Whose configuration.
        #[arg(value_enum)]
        of: schema::Of,
    },
    /// Start everything on this machine, local clouds included, and walk a tour through the bridge.
    #[cfg(feature = "demo")]
    Demo(demo::Options),
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Check { config } => check::run(&config),
        Command::Explain(options) => explain::run(&options),
        Command::Verify(options) => verify::run(&options),
        Command::Schema { of } => schema::run(of),
        #[cfg(feature = "demo")]
        Command::Demo(options) => demo::run(&options),
    }
}
