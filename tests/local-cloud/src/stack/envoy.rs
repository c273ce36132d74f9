//! One Envoy: its process, its port, its statistics.

use std::{net::SocketAddr, path::Path, sync::Mutex, sync::PoisonError};

use serde_json::Value;
use tokio::process::Command;

use super::{options::Binaries, process::Process, write, StackError, StackOptions};

/// A running Envoy with one listener.
pub(super) struct Envoy {
    process: Mutex<Process>,
    name: &'static str,
    admin: String,
    listener: SocketAddr,
    client: reqwest::Client,
}

impl Envoy {
    /// Starts Envoy with `config` and waits until it takes requests. Its one listener must be called `name`.
    pub(super) async fn start(
        name: &'static str,
        config: &str,
        binaries: &Binaries,
        directory: &Path,
        options: &StackOptions,
    ) -> Result<Self, StackError> {
        let config_file = directory.join(format!("{name}.yaml"));
        write(&config_file, config)?;
        let admin_file = directory.join(format!("{name}.admin"));
        let mut command = Command::new(&binaries.envoy);
        command
            .arg("--config-path")
            .arg(&config_file)
            .arg("--admin-address-path")
            .arg(&admin_file)
            .args(["--concurrency", &options.concurrency.to_string()])
            // Hot restart shares memory between Envoys of one base id; without it any number run side by
            // side.
            .arg("--disable-hot-restart")
            // Access logs are tests' evidence: written at once, not after a second.
            .args(["--file-flush-interval-msec", "20"])
            // `main` lists every extension of Envoy at start: two hundred lines in front of the one that
            // matters.
            .args(["--log-level", "info", "--component-log-level", "main:warning"]);
        let mut process = Process::spawn(name, &binaries.envoy, command, directory)?;

        let admin = process.wrote(&admin_file, options.deadline).await?;
        let admin = format!("http://{}", admin.trim());
        process.ready(&format!("{admin}/ready"), options.deadline).await?;
        let client = reqwest::Client::builder().no_proxy().build()?;
        let listener = find_listener(&client, &admin, name).await?;
        Ok(Self {
            name: process.name(),
            process: Mutex::new(process),
            admin,
            listener,
            client,
        })
    }

    /// Where its listener really listens.
    pub(super) fn listener(&self) -> SocketAddr {
        self.listener
    }

    pub(super) fn log(&self) -> String {
        self.process.lock().unwrap_or_else(PoisonError::into_inner).log()
    }

    pub(super) fn is_alive(&self) -> bool {
        self.process
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_alive()
    }

    /// Every statistic, as Prometheus reads it.
    pub(super) async fn prometheus(&self) -> Result<String, StackError> {
        let url = format!("{}/stats/prometheus", self.admin);
        let answer = self.client.get(url).send().await?;
        Ok(answer.error_for_status()?.text().await?)
    }

    pub(super) async fn stat(&self, name: &str) -> Result<Option<u64>, StackError> {
        let stats = self.stats(&format!("^{}$", escape(name))).await?;
        Ok(stats
            .into_iter()
            .find(|(found, _)| found == name)
            .map(|(_, value)| value))
    }

    pub(super) async fn stats(&self, pattern: &str) -> Result<Vec<(String, u64)>, StackError> {
        let mut url = reqwest::Url::parse(&format!("{}/stats", self.admin)).map_err(|e| self.problem(e))?;
        url.query_pairs_mut().append_pair("filter", pattern);
        let answer = self.client.get(url).send().await.map_err(|e| self.problem(e))?;
        let text = answer.text().await.map_err(|e| self.problem(e))?;
        let pairs = text.lines().filter_map(|line| line.rsplit_once(": "));
        // Histograms have no single number and are left out.
        let numbers = pairs.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)));
        Ok(numbers.collect())
    }

    fn problem(&self, problem: impl ToString) -> StackError {
        StackError::Admin {
            process: self.name,
            problem: problem.to_string(),
        }
    }
}

async fn find_listener(
    client: &reqwest::Client,
    admin: &str,
    name: &'static str,
) -> Result<SocketAddr, StackError> {
    let problem = |problem: String| StackError::Admin {
        process: name,
        problem,
    };
    let answer = client.get(format!("{admin}/listeners?format=json")).send().await;
    let answer = answer.map_err(|e| problem(e.to_string()))?;
    let listeners: Value = answer.json().await.map_err(|e| problem(e.to_string()))?;
    let mut all = listeners["listener_statuses"].as_array().into_iter().flatten();
    let address = all
        .find(|listener| listener["name"] == name)
        .map(|listener| &listener["local_address"]["socket_address"])
        .and_then(|address| {
            format!("{}:{}", address["address"].as_str()?, address["port_value"])
                .parse()
                .ok()
        });
    address.ok_or_else(|| problem(format!("no listener `{name}` in {listeners}")))
}

/// A name as a regular expression that matches it alone.
fn escape(name: &str) -> String {
    let mut pattern = String::with_capacity(name.len());
    for c in name.chars() {
        if !c.is_ascii_alphanumeric() && c != '_' {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern
}
