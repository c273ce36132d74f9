//! `isthmus check`: the filter's own compiler, before Envoy sees the configuration.

use std::{fs, path::Path, process::ExitCode};

use isthmus_engine::Engine;

pub(crate) fn run(config: &Path) -> ExitCode {
    let text = match fs::read(config) {
        Ok(text) => text,
        Err(error) => {
            eprintln!("{}: {error}", config.display());
            return ExitCode::from(1);
        }
    };
    match Engine::new(&text) {
        Ok(_) => {
            println!("{}: good", config.display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{}: {error}", config.display());
            ExitCode::from(2)
        }
    }
}
