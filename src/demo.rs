//! `isthmus demo`: the whole path on one machine, with the real Envoy and the real rotation service.
//!
//! Development code, behind the feature `demo`: the clouds are local and small, see `isthmus_local_cloud`.

mod report;
mod step;
mod tour;

use std::{env, path::PathBuf, process::ExitCode, time::Duration};

use isthmus_local_cloud::stack::{Stack, StackError, StackOptions};

/// How the demo is run.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// End after the tour, with status 1 if any step was not as promised
    #[arg(long)]
    once: bool,
    /// Port of the bridge on 127.0.0.1 [default: any free one]
    #[arg(long)]
    port: Option<u16>,
    /// Seconds that the Azure tokens of the local cloud live
    #[arg(long, default_value_t = 10, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(3..))]
    azure_token_lifetime: u64,
    /// Worker threads of each Envoy
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    concurrency: u32,
    /// The filter module [default: the one that was built with this command]
    #[arg(long, value_name = "FILE")]
    wasm: Option<PathBuf>,
}

pub(crate) fn run(options: &Options) -> ExitCode {
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("isthmus demo: no runtime: {error}");
            return ExitCode::from(2);
        }
    };
    match runtime.block_on(walk(options)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("isthmus demo: {error}");
            ExitCode::from(2)
        }
    }
}

/// True if every step was as promised.
async fn walk(options: &Options) -> Result<bool, StackError> {
    println!("Starting the local cloud, the rotation service, the VM's Envoy and the bridge's Envoy …");
    let lifetime = Duration::from_secs(options.azure_token_lifetime);
    tokio::select! {
        outcome = tour_and_stay(options, lifetime) => outcome,
        interrupted = tokio::signal::ctrl_c() => {
            if let Err(error) = interrupted {
                eprintln!("isthmus demo: cannot wait for Ctrl-C: {error}");
            }
            println!("\nStopping.");
            Ok(true)
        }
    }
}

async fn tour_and_stay(options: &Options, lifetime: Duration) -> Result<bool, StackError> {
    let stack = Stack::start(stack_options(options, lifetime)).await?;
    let as_promised = tour::walk(&stack, lifetime).await?;
    if !options.once {
        report::invitation(&stack);
        std::future::pending::<()>().await;
    }
    Ok(as_promised)
}

fn stack_options(options: &Options, lifetime: Duration) -> StackOptions {
    let wasm = options
        .wasm
        .clone()
        .unwrap_or_else(|| PathBuf::from(env!("ISTHMUS_WASM")));
    // The daemon is built beside this command.
    let own_path = env::current_exe().unwrap_or_default();
    let mut stack = StackOptions::new(wasm, own_path.with_file_name("isthmus-rotation"));
    stack.cloud.azure_token_lifetime = lifetime;
    stack.concurrency = options.concurrency;
    stack.bridge_port = options.port;
    stack
}
