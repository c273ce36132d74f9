//! The rotation service as a process.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::Value;
use tokio::{process::Command, sync::Mutex};

use super::{process::Process, StackError};
use crate::Cloud;

/// The running (or killed) rotation service, and what it takes to start it again.
pub(super) struct Rotation {
    program: PathBuf,
    config: PathBuf,
    directory: PathBuf,
    identity: [(&'static str, String); 2],
    process: Mutex<Process>,
}

impl Rotation {
    /// Starts it and waits until every secret is there.
    pub(super) async fn start(
        program: &Path,
        config: &Path,
        directory: &Path,
        cloud: &Cloud,
        deadline: Duration,
    ) -> Result<Self, StackError> {
        // What App Service gives to a process that has a managed identity.
        let identity = [
            ("IDENTITY_ENDPOINT", cloud.managed_identity.endpoint()),
            (
                "IDENTITY_HEADER",
                cloud.managed_identity.identity_header().to_owned(),
            ),
        ];
        let mut process = spawn(program, config, directory, &identity)?;
        wait(&mut process, deadline).await?;
        Ok(Self {
            program: program.to_owned(),
            config: config.to_owned(),
            directory: directory.to_owned(),
            identity,
            process: Mutex::new(process),
        })
    }

    pub(super) async fn kill9(&self) -> Result<(), StackError> {
        self.process.lock().await.kill9().await
    }

    pub(super) async fn restart(&self, deadline: Duration) -> Result<(), StackError> {
        let mut process = self.process.lock().await;
        process.kill9().await?;
        *process = spawn(&self.program, &self.config, &self.directory, &self.identity)?;
        wait(&mut process, deadline).await
    }

    /// What it has logged, over all its restarts.
    pub(super) async fn log(&self) -> String {
        self.process.lock().await.log()
    }
}

fn spawn(
    program: &Path,
    config: &Path,
    directory: &Path,
    identity: &[(&'static str, String)],
) -> Result<Process, StackError> {
    let mut command = Command::new(program);
    command.arg("--config").arg(config).arg("--json-logs");
    command.envs(identity.iter().map(|(name, value)| (name, value)));
    Process::spawn("isthmus-rotation", program, command, directory)
}

async fn wait(process: &mut Process, deadline: Duration) -> Result<(), StackError> {
    let admin = process
        .logged(deadline, "its admin address", admin_address)
        .await?;
    process.ready(&format!("http://{admin}/readyz"), deadline).await
}

/// Its admin interface is on a port of the kernel's choice, which it logs.
fn admin_address(log: &str) -> Option<String> {
    log.lines().find_map(|line| {
        let line: Value = serde_json::from_str(line).ok()?;
        let about_admin = line["message"].as_str()?.contains("/readyz");
        about_admin.then(|| line["address"].as_str().map(str::to_owned))?
    })
}
