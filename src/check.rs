//! `isthmus check`: the filter's own compiler, before Envoy sees the configuration.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;
use isthmus_engine::{ConfigError, Engine};
use serde_json::Value;

use crate::lines::write_out;

/// The header by which Envoy's routes select the cluster of a credential.
const CREDENTIAL_HEADER: &str = "x-isthmus-credential";

/// Compile a filter configuration, and say what is wrong with it or wider than it need be.
///
/// Exit status: 0 good, 1 good with warnings, 2 wrong or not to be read.
#[derive(Args)]
pub(crate) struct Options {
    /// The filter's configuration, JSON.
    config: PathBuf,
    /// Envoy's configuration, YAML or JSON: credentials that none of its routes serves are named.
    #[arg(long)]
    envoy: Option<PathBuf>,
}

pub(crate) fn run(options: &Options) -> ExitCode {
    let name = options.config.display();
    match warnings(options) {
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
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::from(2)
        }
    }
}

fn warnings(options: &Options) -> Result<Vec<ConfigError>, String> {
    let wrong = |path: &Path, problem: &dyn std::fmt::Display| format!("{}: {problem}", path.display());
    let read = |path: &Path| fs::read(path).map_err(|error| wrong(path, &error));
    let text = read(&options.config)?;
    let mut warnings = Engine::new(&text)
        .and_then(|_| isthmus_engine::warnings(&text))
        .map_err(|error| wrong(&options.config, &error))?;
    if let Some(envoy) = &options.envoy {
        let document: Value =
            serde_norway::from_slice(&read(envoy)?).map_err(|error| wrong(envoy, &error))?;
        let mut served = Vec::new();
        collect_served(&document, &mut served);
        let config: Value = serde_json::from_slice(&text).map_err(|error| wrong(&options.config, &error))?;
        let roles = config["roles"].as_array().into_iter().flatten().enumerate();
        for (place, role) in roles {
            if let Some(credential) = role["credential"].as_str().filter(|own| !served.contains(own)) {
                warnings.push(ConfigError {
                    path: format!("roles[{place}].credential"),
                    problem: format!("no route of {} serves {credential:?}", envoy.display()),
                });
            }
        }
    }
    Ok(warnings)
}

/// The credentials that routes match exactly, wherever they stand in the document.
fn collect_served<'d>(document: &'d Value, served: &mut Vec<&'d str>) {
    match document {
        Value::Object(members) => {
            if members.get("name").is_some_and(|name| name == CREDENTIAL_HEADER) {
                served.extend(document["string_match"]["exact"].as_str());
            }
            members.values().for_each(|value| collect_served(value, served));
        }
        Value::Array(elements) => elements.iter().for_each(|value| collect_served(value, served)),
        _ => {}
    }
}
