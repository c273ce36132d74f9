//! `isthmus schema`: made from the types that read the configuration, so that the two cannot drift apart.

use std::process::ExitCode;

use clap::ValueEnum;

use crate::lines::write_out;

/// Whose configuration.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Of {
    /// The filter's.
    Filter,
}

pub(crate) fn run(of: Of) -> ExitCode {
    let schema = match of {
        Of::Filter => isthmus_engine::schema(),
    };
    match write_out(format_args!("{schema:#}")) {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(1)
        }
    }
}
