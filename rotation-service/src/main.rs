//! The `isthmus-rotation` daemon.

#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::{
    fs,
    future::Future,
    io::{self, IsTerminal},
    path::PathBuf,
    process::ExitCode,
};

use clap::Parser;
use isthmus_rotation::{run, Config};
use tokio::signal::unix::{signal, SignalKind};
use tracing_subscriber::EnvFilter;

/// Exit code of a wrong command line (clap's own) and of a wrong configuration.
const WRONG_CONFIG: u8 = 2;

/// Azure's crates narrate every request; what matters of it is logged here.
const DEFAULT_LOG: &str = "info,azure_core=warn,azure_identity=warn,typespec_client_core=warn";

/// Keeps Azure credentials and certificates fresh and serves them to Envoy over SDS.
#[derive(Parser)]
#[command(name = "isthmus-rotation", version, about)]
struct Arguments {
    /// The configuration, a YAML file.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,

    /// Check the configuration and end: 0 if it is valid, 2 if not.
    #[arg(long)]
    check: bool,

    /// Write each log line as a JSON object.
    #[arg(long)]
    json_logs: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let config = match load(&arguments.config) {
        Ok(config) => config,
        Err(message) => return fail(WRONG_CONFIG, &message),
    };
    if arguments.check {
        println!("OK: {} secrets", config.secrets.len());
        return ExitCode::SUCCESS;
    }
    start_logging(arguments.json_logs);
    match serve(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => fail(1, &message),
    }
}

fn load(path: &PathBuf) -> Result<Config, String> {
    let named = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let text = fs::read_to_string(path).map_err(|error| named(&error))?;
    Config::from_yaml(&text).map_err(|error| named(&error))
}

fn start_logging(json: bool) {
    let filter = EnvFilter::try_from_env("ISTHMUS_LOG").unwrap_or_else(|_| EnvFilter::new(DEFAULT_LOG));
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr);
    match json {
        true => logs.json().flatten_event(true).init(),
        false => logs.init(),
    }
}

#[tokio::main]
async fn serve(config: Config) -> Result<(), String> {
    // One crypto provider for the whole process, named rather than guessed from the features of dependencies.
    if rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .is_err()
    {
        return Err("another crypto provider is installed already".to_owned());
    }
    let stop = stop_signal().map_err(|error| format!("cannot listen for signals: {error}"))?;
    run(config, stop).await.map_err(|error| error.to_string())
}

/// Ready when the process is asked to end.
fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

fn fail(code: u8, message: &str) -> ExitCode {
    eprintln!("isthmus-rotation: {message}");
    ExitCode::from(code)
}
