//! A child process with its log.

use std::{
    fs::OpenOptions,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{
    process::{Child, Command},
    time::Instant,
};

use super::StackError;

/// How often a condition is looked at again.
pub(super) const POLL: Duration = Duration::from_millis(20);

/// How much of a log goes into an error.
const TAIL_LINES: usize = 25;

/// A running program whose output goes to `<name>.log`. Dropping it kills it and waits for its end.
pub(super) struct Process {
    name: &'static str,
    child: Child,
    log: PathBuf,
    /// Where the log of this run begins: earlier runs of the same name wrote into the same file.
    log_start: usize,
}

impl Process {
    pub(super) fn spawn(
        name: &'static str,
        program: &Path,
        mut command: Command,
        directory: &Path,
    ) -> Result<Self, StackError> {
        let path = directory.join(format!("{name}.log"));
        // Appended to: a restart must not wipe out what led to it.
        let log = OpenOptions::new().create(true).append(true).open(&path);
        let log = log.map_err(|source| StackError::io(format!("writing {}", path.display()), source))?;
        let log_start = std::fs::metadata(&path).map_or(0, |file| file.len()) as usize;
        let log_too = log
            .try_clone()
            .map_err(|source| StackError::io("writing a log", source))?;
        for proxy in [
            "HTTP_PROXY",
            "HTTPS_PROXY",
            "ALL_PROXY",
            "http_proxy",
            "https_proxy",
            "all_proxy",
        ] {
            command.env_remove(proxy);
        }
        let child = command
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(log_too)
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| StackError::io(format!("starting {}", program.display()), source))?;
        Ok(Self {
            name,
            child,
            log: path,
            log_start,
        })
    }

    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    pub(super) fn log(&self) -> String {
        std::fs::read(&self.log)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// Waits until `url` answers 200.
    pub(super) async fn ready(&mut self, url: &str, deadline: Duration) -> Result<(), StackError> {
        let client = reqwest::Client::builder()
            .no_proxy()
            .timeout(Duration::from_secs(2))
            .build()?;
        let end = Instant::now() + deadline;
        loop {
            let last = match client.get(url).send().await {
                Ok(answer) if answer.status().is_success() => return Ok(()),
                Ok(answer) => format!("{url} answers {}", answer.status()),
                Err(_) => format!("{url} does not answer"),
            };
            self.still(end, deadline, last).await?;
        }
    }

    /// Waits until `path` has been written.
    pub(super) async fn wrote(&mut self, path: &Path, deadline: Duration) -> Result<String, StackError> {
        let end = Instant::now() + deadline;
        loop {
            match std::fs::read_to_string(path) {
                Ok(text) if !text.is_empty() => return Ok(text),
                _ => {
                    self.still(end, deadline, format!("{} is not there", path.display()))
                        .await?
                }
            }
        }
    }

    /// Waits until this run's log shows `what`.
    pub(super) async fn logged<T>(
        &mut self,
        deadline: Duration,
        what: &str,
        find: impl Fn(&str) -> Option<T>,
    ) -> Result<T, StackError> {
        let end = Instant::now() + deadline;
        loop {
            match self.log().get(self.log_start..).and_then(&find) {
                Some(found) => return Ok(found),
                None => {
                    self.still(end, deadline, format!("the log does not show {what}"))
                        .await?
                }
            }
        }
    }

    /// Pauses before the next look, or says why there is no point in one.
    async fn still(&mut self, end: Instant, deadline: Duration, last: String) -> Result<(), StackError> {
        if let Ok(Some(status)) = self.child.try_wait() {
            return Err(StackError::Exited {
                process: self.name,
                status,
                log: self.tail(),
            });
        }
        if Instant::now() > end {
            return Err(StackError::NotReady {
                process: self.name,
                after: deadline,
                last,
                log: self.tail(),
            });
        }
        tokio::time::sleep(POLL).await;
        Ok(())
    }

    pub(super) fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    pub(super) async fn kill9(&mut self) -> Result<(), StackError> {
        let name = self.name;
        self.child
            .kill()
            .await
            .map_err(|source| StackError::io(format!("killing {name}"), source))
    }

    fn tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Its files and ports must be free when the caller goes on, and there is no awaiting in a drop.
        let _ = self.child.start_kill();
        for _ in 0..200 {
            match self.child.try_wait() {
                Ok(None) => std::thread::sleep(Duration::from_millis(2)),
                _ => return,
            }
        }
    }
}
