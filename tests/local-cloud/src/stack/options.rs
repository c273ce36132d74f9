//! What a caller chooses about the stack, and where the programs are.

use std::{
    env,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::Value;

use super::StackError;
use crate::Options;

/// How to start a [`Stack`](super::Stack).
#[derive(Debug, Clone)]
pub struct StackOptions {
    /// The compiled filter.
    pub wasm: PathBuf,
    /// The `isthmus-rotation` program.
    pub rotation: PathBuf,
    /// Envoy. Default: `$ENVOY_BIN`, else `envoy` on the PATH.
    pub envoy: Option<PathBuf>,
    /// About the local cloud, above all how long Azure tokens live.
    pub cloud: Options,
    /// Another configuration for the filter in place of the shipped one.
    pub filter_config: Option<Value>,
    /// Another provider in the place of the local user pool, by plain HTTP: where the cluster `cognito` leads.
    pub provider: Option<SocketAddr>,
    /// The bridge's port on 127.0.0.1. Default: any free one.
    pub bridge_port: Option<u16>,
    /// Worker threads of each Envoy. Default: 1, so that what one request taught a worker the next one finds.
    pub concurrency: u32,
    /// How long each process may take to become ready. Default: 30 s.
    pub deadline: Duration,
}

impl StackOptions {
    /// The shipped configuration with this module and this rotation service.
    pub fn new(wasm: impl Into<PathBuf>, rotation: impl Into<PathBuf>) -> Self {
        Self {
            wasm: wasm.into(),
            rotation: rotation.into(),
            envoy: None,
            cloud: Options::default(),
            filter_config: None,
            provider: None,
            bridge_port: None,
            concurrency: 1,
            deadline: Duration::from_secs(30),
        }
    }

    pub(super) fn binaries(&self) -> Result<Binaries, StackError> {
        Ok(Binaries {
            envoy: self.find_envoy()?,
            wasm: existing(&self.wasm, "the filter module", "`make wasm` builds it")?,
            rotation: existing(
                &self.rotation,
                "the rotation service",
                "`cargo build -p isthmus-rotation` builds it",
            )?,
        })
    }

    fn find_envoy(&self) -> Result<PathBuf, StackError> {
        const REMEDY: &str = "`make tools` installs it; or set ENVOY_BIN to an Envoy 1.40";
        let named = self
            .envoy
            .clone()
            .or_else(|| env::var_os("ENVOY_BIN").map(PathBuf::from));
        if let Some(path) = named {
            return existing(&path, "Envoy", REMEDY);
        }
        let path = env::var_os("PATH").unwrap_or_default();
        let found = env::split_paths(&path)
            .map(|dir| dir.join("envoy"))
            .find(|file| file.is_file());
        found.ok_or_else(|| missing("Envoy", "no ENVOY_BIN, no `envoy` on the PATH".into(), REMEDY))
    }
}

/// Absolute paths of files that exist.
pub(super) struct Binaries {
    pub(super) envoy: PathBuf,
    pub(super) wasm: PathBuf,
    pub(super) rotation: PathBuf,
}

pub(super) fn existing(path: &Path, what: &'static str, remedy: &'static str) -> Result<PathBuf, StackError> {
    match path.canonicalize() {
        Ok(path) if path.is_file() => Ok(path),
        _ => Err(missing(what, path.display().to_string(), remedy)),
    }
}

fn missing(what: &'static str, looked_for: String, remedy: &'static str) -> StackError {
    StackError::Missing {
        what,
        looked_for,
        remedy,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_with_its_remedy() {
        let here = file!().rsplit('/').next().unwrap();
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/stack").join(here);
        for (envoy, wasm, rotation, expected) in [
            (
                &*here,
                &*here,
                Path::new("/none"),
                "cargo build -p isthmus-rotation",
            ),
            (&*here, Path::new("/none"), &*here, "make wasm"),
            (Path::new("/none"), &*here, &*here, "make tools"),
        ] {
            let mut options = StackOptions::new(wasm, rotation);
            options.envoy = Some(envoy.to_owned());
            let message = options.binaries().err().unwrap().to_string();
            assert!(
                message.contains(expected) && message.contains("/none"),
                "{message}"
            );
        }
    }
}
