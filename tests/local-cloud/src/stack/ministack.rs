//! MiniStack, an emulator of AWS from PyPI. Its Amazon Cognito was written by people who have never seen Isthmus:
//! where the local cloud and the filter share a mistake about the real one, this one may not.

use std::{
    env,
    ffi::OsString,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use tempfile::TempDir;
use tokio::process::Command;

use super::{options::existing, process::Process, StackError};

/// A running MiniStack with nothing in it, plain HTTP. Dropping it kills the process and removes its files.
pub struct MiniStack {
    // Dropped in this order.
    _process: Process,
    address: SocketAddr,
    _directory: TempDir,
}

impl MiniStack {
    /// Starts it from the tools' directory and returns when it answers.
    ///
    /// # Errors
    /// If it is not installed, it says what installs it. If it ends or does not become ready, its log's end tells.
    pub async fn start(deadline: Duration) -> Result<Self, StackError> {
        let program = tools_directory(|name| env::var_os(name)).join("venv/bin/ministack");
        let program = existing(&program, "MiniStack", "`make tools` installs it")?;
        let directory = tempfile::Builder::new()
            .prefix("isthmus-ministack-")
            .tempdir()
            .map_err(|source| StackError::io("making a temporary directory", source))?;
        let mut process = Process::spawn(
            "ministack",
            &program,
            command(&program, directory.path()),
            directory.path(),
        )?;
        let address = process
            .logged(deadline, "its address", |log| {
                let (_, rest) = log.split_once("Running on http://")?;
                rest.split_once(' ')?.0.parse().ok()
            })
            .await?;
        process
            .ready(&format!("http://{address}/_ministack/health"), deadline)
            .await?;
        Ok(Self {
            _process: process,
            address,
            _directory: directory,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its URL, without a path.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

fn command(program: &Path, directory: &Path) -> Command {
    let mut command = Command::new(program);
    // Nothing of this machine's own AWS or MiniStack settings.
    command.env_clear();
    for (name, value) in [
        ("BIND_HOST", "127.0.0.1"),
        // Any free one.
        ("GATEWAY_PORT", "0"),
        ("MINISTACK_HOST", "127.0.0.1"),
        // Would listen on a fixed port of every interface.
        ("IOT_MTLS_ENABLED", "0"),
    ] {
        command.env(name, value);
    }
    // Its signing keys and its process id would go to /tmp.
    for name in ["HOME", "STATE_DIR", "TMPDIR"] {
        command.env(name, directory);
    }
    command
}

/// Where `tools/setup` and the Makefile have it; a variable that is empty counts as not set.
fn tools_directory(variable: impl Fn(&str) -> Option<OsString>) -> PathBuf {
    let set = |name| {
        variable(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let cache = || set("XDG_CACHE_HOME").unwrap_or_else(|| set("HOME").unwrap_or_default().join(".cache"));
    set("ISTHMUS_TOOLS").unwrap_or_else(|| cache().join("isthmus"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tools_are_looked_for_where_the_setup_puts_them() {
        for (set, expected) in [
            (&[("HOME", "/h")][..], "/h/.cache/isthmus"),
            (&[("HOME", "/h"), ("XDG_CACHE_HOME", "")], "/h/.cache/isthmus"),
            (&[("HOME", "/h"), ("XDG_CACHE_HOME", "/c")], "/c/isthmus"),
            (&[("XDG_CACHE_HOME", "/c"), ("ISTHMUS_TOOLS", "/t")], "/t"),
        ] {
            let variable = |name: &str| {
                let found = set.iter().find(|(other, _)| *other == name);
                found.map(|(_, value)| OsString::from(value))
            };
            assert_eq!(tools_directory(variable), Path::new(expected));
        }
    }
}
