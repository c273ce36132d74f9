//! The whole service: sources, refreshers, store, SDS and admin endpoints, from a configuration to an orderly end.

use std::{future::Future, io, net::SocketAddr, sync::Arc, time::Duration};

use azure_core::http::HttpClient;
use tokio::{
    net::TcpListener,
    sync::watch,
    task::{JoinError, JoinSet},
};
use tonic::transport::Server;
use tracing::{info, warn};

use crate::{
    admin,
    clock::{Clock, SystemClock},
    config::{Config, LocalCaConfig, SecretConfig, SourceConfig},
    local_ca::{CaError, LocalCa},
    refresh::Refresher,
    sds::{
        socket::{Socket, SocketError},
        Sds,
    },
    source::{
        entra::{self, CloudError, EntraToken},
        local_ca::{Leaf, TrustBundle},
        Source,
    },
    store::Store,
};

/// How long open connections may take to end.
const DRAIN: Duration = Duration::from_secs(5);

/// The service cannot start or go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// The SDS socket.
    #[error("SDS socket: {0}")]
    Socket(#[from] SocketError),
    /// The local CA.
    #[error("local CA: {0}")]
    LocalCa(#[from] CaError),
    /// The client for Entra.
    #[error("cloud: {0}")]
    Cloud(#[from] CloudError),
    /// The admin address.
    #[error("cannot listen on the admin address {address}: {source}")]
    Admin {
        /// The configured address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The SDS server stopped by itself.
    #[error("the SDS server stopped: {0}")]
    Sds(#[source] tonic::transport::Error),
    /// The admin server stopped by itself.
    #[error("the admin server stopped: {0}")]
    AdminStopped(#[source] io::Error),
    /// A refresher stopped by itself. A defect; going on would let its secret run out.
    #[error("a refresher stopped")]
    Refresher,
    /// The configuration was not made by [`Config::from_yaml`] and contradicts itself.
    #[error("the configuration contradicts itself: {0}")]
    Contradiction(&'static str),
}

/// A service that holds its socket and is ready to run.
pub struct Service {
    socket: Socket,
    admin: Option<TcpListener>,
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
    refreshers: Vec<Refresher>,
}

impl Service {
    /// Opens the local CA, binds the addresses and prepares every secret. No secret is fetched yet.
    ///
    /// # Errors
    ///
    /// What cannot be had.
    pub async fn start(config: Config) -> Result<Self, ServiceError> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let store = Arc::new(Store::new(
            config.secrets.iter().map(|secret| secret.name.clone()),
        ));
        let sources = Sources::open(&config, clock.clone())?;
        let mut refreshers = Vec::with_capacity(config.secrets.len());
        for secret in &config.secrets {
            let source = sources.of(&config, secret)?;
            let cell = store.cell(secret.name.as_str());
            let cell = cell
                .ok_or(ServiceError::Contradiction("a secret without a place"))?
                .clone();
            let name = secret.name.clone();
            refreshers.push(Refresher::new(name, source, cell, clock.clone(), jitter));
        }
        let admin = match config.admin {
            Some(address) => Some(bind_admin(address).await?),
            None => None,
        };
        let socket = Socket::bind(&config.sds)?;
        info!(path = %config.sds.path.as_path().display(), secrets = refreshers.len(), "serving SDS");
        Ok(Self {
            socket,
            admin,
            store,
            clock,
            refreshers,
        })
    }

    /// Where the admin endpoints answer: the configured address, with the port that the system chose if that was 0.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin
            .as_ref()
            .and_then(|listener| listener.local_addr().ok())
    }

    /// The secrets that are kept.
    pub fn store(&self) -> Arc<Store> {
        self.store.clone()
    }

    /// Keeps and serves the secrets until `shutdown` is ready, then lets open streams end and removes the socket.
    ///
    /// # Errors
    ///
    /// A part of the service stopped by itself.
    pub async fn serve(self, shutdown: impl Future<Output = ()>) -> Result<(), ServiceError> {
        // Dropped last, on every way out.
        let (incoming, _socket_file) = self.socket.into_incoming();
        let (stop, stopped) = watch::channel(false);

        let mut tasks = JoinSet::new();
        for refresher in self.refreshers {
            tasks.spawn(async {
                refresher.run().await;
                Err(ServiceError::Refresher)
            });
        }
        if let Some(listener) = self.admin {
            let router = admin::router(self.store.clone(), self.clock);
            tasks.spawn(async {
                axum::serve(listener, router)
                    .await
                    .map_err(ServiceError::AdminStopped)
            });
        }
        let sds = Server::builder().add_service(Sds::server(self.store, stopped.clone()));
        let sds = sds.serve_with_incoming_shutdown(incoming, until_changed(stopped));
        let mut sds = std::pin::pin!(sds);

        let outcome = tokio::select! {
            () = shutdown => Ok(()),
            ended = &mut sds => return ended.map_err(ServiceError::Sds),
            Some(ended) = tasks.join_next() => Err(why_ended(ended)),
        };
        info!("stopping");
        stop.send_replace(true);
        if tokio::time::timeout(DRAIN, sds).await.is_err() {
            warn!("some SDS clients did not let go in time");
        }
        outcome
    }
}

/// Runs the service until `shutdown` is ready.
///
/// # Errors
///
/// It cannot start, or a part of it stopped by itself.
pub async fn run(config: Config, shutdown: impl Future<Output = ()>) -> Result<(), ServiceError> {
    Service::start(config).await?.serve(shutdown).await
}

/// What several secrets share.
struct Sources {
    http: Option<Arc<dyn HttpClient>>,
    local_ca: Option<Arc<LocalCa>>,
    clock: Arc<dyn Clock>,
}

impl Sources {
    fn open(config: &Config, clock: Arc<dyn Clock>) -> Result<Self, ServiceError> {
        let open = |ca: &LocalCaConfig| LocalCa::open(ca, clock.now()).map(Arc::new);
        let local_ca = config.local_ca.as_ref().map(open).transpose()?;
        // A host without tokens needs no trust anchors either.
        let is_token = |secret: &SecretConfig| matches!(secret.source, SourceConfig::EntraToken(_));
        let http: Option<Arc<dyn HttpClient>> = match config.secrets.iter().any(is_token) {
            true => Some(Arc::new(entra::client(&config.cloud)?)),
            false => None,
        };
        Ok(Self {
            http,
            local_ca,
            clock,
        })
    }

    fn of(&self, config: &Config, secret: &SecretConfig) -> Result<Arc<dyn Source>, ServiceError> {
        let http = || {
            self.http
                .clone()
                .ok_or(ServiceError::Contradiction("a token without a client"))
        };
        let local_ca = || {
            self.local_ca
                .clone()
                .ok_or(ServiceError::Contradiction("a certificate without a CA"))
        };
        Ok(match &secret.source {
            SourceConfig::EntraToken(token) => {
                let authority = &config.cloud.authority;
                Arc::new(EntraToken::new(token.clone(), authority, http()?, entra::TIMEOUT))
            }
            SourceConfig::Certificate(leaf) => Arc::new(Leaf {
                ca: local_ca()?,
                config: leaf.clone(),
                clock: self.clock.clone(),
            }),
            SourceConfig::TrustBundle => Arc::new(TrustBundle { ca: local_ca()? }),
        })
    }
}

async fn bind_admin(address: SocketAddr) -> Result<TcpListener, ServiceError> {
    let listener = TcpListener::bind(address)
        .await
        .map_err(|source| ServiceError::Admin { address, source })?;
    if let Ok(address) = listener.local_addr() {
        info!(%address, "serving /healthz and /readyz");
    }
    Ok(listener)
}

async fn until_changed(mut stopped: watch::Receiver<bool>) {
    // An error means that the sender is gone, which ends the service as well.
    let _ = stopped.changed().await;
}

fn why_ended(ended: Result<Result<(), ServiceError>, JoinError>) -> ServiceError {
    match ended {
        Ok(Err(error)) => error,
        Ok(Ok(())) | Err(_) => ServiceError::Refresher,
    }
}

fn jitter() -> f64 {
    fastrand::f64() * 2.0 - 1.0
}
