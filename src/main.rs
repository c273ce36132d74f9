//! The `isthmus` command.

mod check;
#[cfg(feature = "demo")]
mod demo;
mod engine;
mod explain;
mod lines;
mod schema;
mod verify;

use std::process::ExitCode;

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
    Check(check::Options),
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
        Command::Check(options) => check::run(&options),
        Command::Explain(options) => explain::run(&options),
        Command::Verify(options) => verify::run(&options),
        Command::Schema { of } => schema::run(of),
        #[cfg(feature = "demo")]
        Command::Demo(options) => demo::run(&options),
    }
}
