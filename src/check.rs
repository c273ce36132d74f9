//! `isthmus check`: the filter's own compiler, before Envoy sees the configuration.

use std::{fs, path::Path, process::ExitCode};

use isthmus_engine::Engine;

use crate::lines::write_out;

pub(crate) fn run(config: &Path) -> ExitCode {
    let name = config.display();
    let text = match fs::read(config) {
        Ok(text) => text,
        Err(error) => {
            eprintln!("{name}: {error}");
            return ExitCode::from(2);
        }
    };
    let checked = Engine::new(&text).and_then(|_| isthmus_engine::warnings(&text));
    match checked {
        Ok(warnings) if warnings.is_empty() => {
            // Who does not read on knows enough.
            let _ = write_out(format_args!("{name}: good"));
            ExitCode::SUCCESS
        }
        Ok(warnings) => {
            for warning in &warnings {
                let _ = write_out(format_args!("{name}: warning: {warning}"));
            }
            ExitCode::from(1)
        }
        Err(error) => {
            eprintln!("{name}: {error}");
            ExitCode::from(2)
        }
    }
}
