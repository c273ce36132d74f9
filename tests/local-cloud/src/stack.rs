//! The whole path, started as a person would start it: the local cloud, the rotation service, and Envoy
//! twice, with the configuration files that are shipped.
//!
//! ```text
//! client ─▶ Envoy bridge (bridge.yaml, the filter) ─▶ Envoy sidecar (vm.yaml) ─▶ EchoApp
//!                 ▲ SDS                                     ▲ SDS
//!                 └──────── isthmus-rotation (rotation.yaml) ┘──▶ Entra, managed identity
//! ```
//!
//! Only addresses and paths are changed in the files; see [`config`]. Every port is the kernel's choice, so
//! any number of stacks run side by side.

pub mod config;

mod envoy;
mod log;
mod ministack;
mod options;
mod process;
mod rotation;

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitStatus,
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    pki::{Authority, Identity},
    Cloud, CloudError,
};

pub use ministack::MiniStack;
pub use options::StackOptions;

use config::ConfigError;
use envoy::Envoy;
use rotation::Rotation;

/// The name that the bridge's configuration lets in as a caller.
pub const GATEWAY_ID: &str = "spiffe://isthmus.local/gateway";

/// The running stack. Dropping it, also in a panic, kills the processes and removes the directory.
pub struct Stack {
    // Fields are dropped in this order: those who call before those who are called, the directory last.
    bridge: Envoy,
    vm: Envoy,
    rotation: Rotation,
    cloud: Cloud,
    clients: Authority,
    client: reqwest::Client,
    files: Files,
    _directory: TempDir,
}

/// Where things are, for a person with `curl`.
#[derive(Debug, Clone)]
pub struct Files {
    /// Everything below is in this directory.
    pub directory: PathBuf,
    /// The gateway's client certificate, PEM.
    pub client_certificate: PathBuf,
    /// Its key, PEM.
    pub client_key: PathBuf,
    /// The root that the bridge's certificate comes from, PEM.
    pub ca: PathBuf,
}

impl Stack {
    /// Starts everything and returns when the bridge takes requests.
    ///
    /// # Errors
    /// A missing file names what makes it; a process that dies or does not become ready shows the end of its
    /// log.
    pub async fn start(options: StackOptions) -> Result<Self, StackError> {
        let binaries = options.binaries()?;
        let listen = bridge_address(options.bridge_port)?;
        let directory = tempfile::Builder::new()
            .prefix("isthmus-")
            .tempdir()
            .map_err(|source| StackError::io("making a temporary directory", source))?;
        let dir = directory.path();
        let cloud = Cloud::start(dir_at(dir, "cloud")?.as_path(), options.cloud.clone()).await?;

        let files = Files {
            directory: dir.to_owned(),
            client_certificate: dir.join("client.pem"),
            client_key: dir.join("client.key"),
            ca: dir.join("ca.pem"),
        };
        let paths = config::Paths {
            socket: dir.join("sds.sock"),
            local_ca: dir.join("ca"),
        };
        let rotation_config = dir.join("rotation.yaml");
        write(&rotation_config, &config::rotation(&cloud, &paths)?)?;
        let rotation = Rotation::start(
            &binaries.rotation,
            &rotation_config,
            dir,
            &cloud,
            options.deadline,
        )
        .await?;

        let vm_config = config::vm(&paths, cloud.app.address(), &dir.join("vm.access.log"))?;
        let vm = Envoy::start("vm", &vm_config, &binaries, dir, &options).await?;
        let bridge_config = config::bridge(
            &paths,
            &cloud,
            &config::Bridge {
                listen,
                vm: vm.listener(),
                module: &binaries.wasm,
                filter: options.filter_config.as_ref(),
                provider: options.provider,
                access_log: &dir.join("bridge.access.log"),
            },
        )?;
        let bridge = Envoy::start("bridge", &bridge_config, &binaries, dir, &options).await?;

        let certificate = read(&paths.local_ca.join("ca.crt"))?;
        let clients = Authority::from_pem(&certificate, &read(&paths.local_ca.join("ca.key"))?)?;
        let gateway = clients.client(GATEWAY_ID)?;
        write(&files.ca, clients.pem())?;
        write(&files.client_certificate, &gateway.certificate_pem)?;
        write(&files.client_key, &gateway.key_pem)?;
        Ok(Self {
            client: http_client(&clients, Some(&gateway))?,
            clients,
            bridge,
            vm,
            rotation,
            cloud,
            files,
            _directory: directory,
        })
    }

    /// The bridge's URL, without a path.
    pub fn bridge_url(&self) -> String {
        format!("https://{}", self.bridge.listener())
    }

    /// Where the VM's sidecar listens: it must not let in anyone but the bridge.
    pub fn vm_address(&self) -> SocketAddr {
        self.vm.listener()
    }

    /// A client that is API Gateway: it has the gateway's certificate and trusts the bridge's.
    pub fn client(&self) -> reqwest::Client {
        self.client.clone()
    }

    /// A client with a certificate for another name, or with none.
    pub fn client_as(&self, uri: Option<&str>) -> Result<reqwest::Client, StackError> {
        let identity = uri.map(|uri| self.clients.client(uri)).transpose()?;
        http_client(&self.clients, identity.as_ref())
    }

    /// The local cloud: tokens, faults, and what the application saw.
    pub fn cloud(&self) -> &Cloud {
        &self.cloud
    }

    /// Where the client's certificate and the logs are.
    pub fn files(&self) -> &Files {
        &self.files
    }

    /// The filter's audit events so far, oldest first.
    pub fn audit_events(&self) -> Result<Vec<Value>, StackError> {
        let mut lines = self.access_log()?;
        lines.retain(log::is_audit_event);
        Ok(lines)
    }

    /// Every line of the bridge's access log: the filter's events, and what Envoy refused by itself.
    pub fn access_log(&self) -> Result<Vec<Value>, StackError> {
        log::lines(&self.files.directory.join("bridge.access.log"))
    }

    /// Every line of the sidecar's access log.
    pub fn vm_access_log(&self) -> Result<Vec<Value>, StackError> {
        log::lines(&self.files.directory.join("vm.access.log"))
    }

    /// The first line of the bridge's access log that `matches`. Envoy writes it a moment after the answer.
    pub async fn wait_for_audit(
        &self,
        deadline: Duration,
        matches: impl Fn(&Value) -> bool,
    ) -> Result<Value, StackError> {
        let end = tokio::time::Instant::now() + deadline;
        loop {
            if let Some(line) = self.access_log()?.into_iter().find(&matches) {
                return Ok(line);
            }
            if tokio::time::Instant::now() > end {
                return Err(StackError::NoAuditEvent { after: deadline });
            }
            tokio::time::sleep(process::POLL).await;
        }
    }

    /// A counter or gauge of the bridge; `None` if Envoy does not have it (yet).
    pub async fn bridge_stat(&self, name: &str) -> Result<Option<u64>, StackError> {
        self.bridge.stat(name).await
    }

    /// All counters and gauges of the bridge whose name matches a regular expression.
    pub async fn bridge_stats(&self, pattern: &str) -> Result<Vec<(String, u64)>, StackError> {
        self.bridge.stats(pattern).await
    }

    /// The bridge's statistics, as Prometheus reads them.
    pub async fn bridge_prometheus(&self) -> Result<String, StackError> {
        self.bridge.prometheus().await
    }

    /// What the bridge's Envoy has logged.
    pub fn bridge_log(&self) -> String {
        self.bridge.log()
    }

    /// What the sidecar's Envoy has logged.
    pub fn vm_log(&self) -> String {
        self.vm.log()
    }

    /// What the rotation service has logged, over all its restarts.
    pub async fn rotation_log(&self) -> String {
        self.rotation.log().await
    }

    /// Whether the bridge's Envoy still runs.
    pub fn bridge_is_alive(&self) -> bool {
        self.bridge.is_alive()
    }

    /// `kill -9` of the rotation service; returns when it is gone.
    pub async fn rotation_kill9(&self) -> Result<(), StackError> {
        self.rotation.kill9().await
    }

    /// Starts the rotation service (again) with the same files, and waits for it to be ready.
    pub async fn rotation_restart(&self, deadline: Duration) -> Result<(), StackError> {
        self.rotation.restart(deadline).await
    }
}

/// Envoy shares a port that is taken without a word, so this asks first.
fn bridge_address(port: Option<u16>) -> Result<SocketAddr, StackError> {
    let address = SocketAddr::from((std::net::Ipv4Addr::LOCALHOST, port.unwrap_or_default()));
    std::net::TcpListener::bind(address).map_err(|source| StackError::Port {
        port: address.port(),
        source,
    })?;
    Ok(address)
}

/// Why there is no stack, or why it does not answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StackError {
    /// The local cloud did not start.
    #[error("the local cloud: {0}")]
    Cloud(#[from] CloudError),
    /// A shipped configuration file is not what this crate takes it for.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A program or file that the caller must provide is not there.
    #[error("{what} is missing ({looked_for}): {remedy}")]
    Missing {
        /// What it is.
        what: &'static str,
        /// Where it was looked for.
        looked_for: String,
        /// What to do about it.
        remedy: &'static str,
    },
    /// The port that was asked for is taken.
    #[error("port {port} of 127.0.0.1 is in use or not allowed ({source}): choose another one, or none for any free one")]
    Port {
        /// Which.
        port: u16,
        /// What the system said.
        source: io::Error,
    },
    /// A file or socket was refused.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// A process ended when it should run.
    #[error("{process} ended ({status}); its log ends:\n{log}")]
    Exited {
        /// Which.
        process: &'static str,
        /// How.
        status: ExitStatus,
        /// The last lines it wrote.
        log: String,
    },
    /// A process runs and does not become ready.
    #[error("{process} is not ready after {after:?} ({last}); its log ends:\n{log}")]
    NotReady {
        /// Which.
        process: &'static str,
        /// After how long.
        after: Duration,
        /// The last answer of its readiness probe.
        last: String,
        /// The last lines it wrote.
        log: String,
    },
    /// Envoy's admin interface did not answer as expected.
    #[error("the admin interface of {process}: {problem}")]
    Admin {
        /// Which Envoy.
        process: &'static str,
        /// What was wrong.
        problem: String,
    },
    /// The HTTP client could not be made.
    #[error("the HTTP client could not be made: {0}")]
    Client(#[from] reqwest::Error),
    /// No line of the access log was the expected one.
    #[error("no such line in the bridge's access log after {after:?}")]
    NoAuditEvent {
        /// After how long.
        after: Duration,
    },
}

impl StackError {
    fn io(what: impl Into<String>, source: io::Error) -> Self {
        Self::Io {
            what: what.into(),
            source,
        }
    }
}

fn http_client(trust: &Authority, identity: Option<&Identity>) -> Result<reqwest::Client, StackError> {
    let root = reqwest::Certificate::from_pem(trust.pem().as_bytes())?;
    let mut builder = reqwest::Client::builder()
        .tls_certs_only([root])
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(Duration::from_secs(30));
    if let Some(Identity {
        certificate_pem,
        key_pem,
    }) = identity
    {
        builder = builder.identity(reqwest::Identity::from_pem(
            format!("{certificate_pem}{key_pem}").as_bytes(),
        )?);
    }
    Ok(builder.build()?)
}

fn dir_at(parent: &Path, name: &str) -> Result<PathBuf, StackError> {
    let path = parent.join(name);
    std::fs::create_dir(&path)
        .map_err(|source| StackError::io(format!("making {}", path.display()), source))?;
    Ok(path)
}

fn read(path: &Path) -> Result<String, StackError> {
    std::fs::read_to_string(path)
        .map_err(|source| StackError::io(format!("reading {}", path.display()), source))
}

fn write(path: &Path, text: &str) -> Result<(), StackError> {
    std::fs::write(path, text).map_err(|source| StackError::io(format!("writing {}", path.display()), source))
}
