//! A small local cloud, for Isthmus' demo and its end-to-end tests.
//!
//! **Development code. Never put it in front of anything real**: its keys live in memory, its root of trust
//! is made at every start, and it hands out tokens to whoever asks in the right form.
//!
//! It is honest all the same. An emulator that says yes to everything proves nothing, so each part verifies
//! what the real thing verifies and refuses with the real thing's error:
//!
//! | part | stands for |
//! | --- | --- |
//! | [`OpenId`] | an Amazon Cognito user pool: JWKS, discovery, client-credentials tokens |
//! | [`Federation`] | the issuer of AWS outbound identity federation (`sts:GetWebIdentityToken`) |
//! | [`Entra`] | the token endpoint of Microsoft Entra ID, with a federated credential |
//! | [`ManagedIdentity`] | the App Service managed-identity endpoint |
//! | [`EchoApp`] | the protected application on the Azure VM |
//!
//! All of it listens on free ports of 127.0.0.1 and stops when it is dropped. [`stack`] puts the real Envoy,
//! twice, and the real rotation service around it. [`stack::MiniStack`] is a user pool that nobody here wrote.

pub mod app;
pub mod entra;
pub mod fault;
pub mod federation;
pub mod jws;
pub mod managed_identity;
pub mod openid;
pub mod pki;
pub mod stack;

mod form;
mod random;
mod server;

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

pub use app::EchoApp;
pub use entra::Entra;
pub use fault::{Fault, FaultSwitch};
pub use federation::Federation;
pub use managed_identity::ManagedIdentity;
pub use openid::OpenId;
pub use stack::{Stack, StackError, StackOptions};

use entra::Directory;
use federation::AssertionFile;
use jws::SigningKey;
use pki::Authority;

/// What a caller may choose about the cloud.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long the Azure tokens live that Entra and the managed identity hand out. Default: one hour.
    pub azure_token_lifetime: Duration,
    /// What is wrong with the user pool's key set from the start. Default: nothing.
    pub jwks_fault: Fault,
    /// What is wrong with its discovery document from the start. Default: nothing.
    pub discovery_fault: Fault,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            azure_token_lifetime: Duration::from_secs(3600),
            jwks_fault: Fault::Healthy,
            discovery_fault: Fault::Healthy,
        }
    }
}

/// The running cloud. Dropping it stops every server and every open connection.
pub struct Cloud {
    /// The root certificate that signed the servers below, as PEM: the "public web PKI" of this cloud.
    pub ca_pem: String,
    /// The same root, as a file.
    pub ca_file: PathBuf,
    /// A client assertion as AWS issues it, kept fresh in this file for the rotation service to read.
    pub assertion_file: PathBuf,
    /// The user pool.
    pub openid: OpenId,
    /// The issuer of the client assertions.
    pub federation: Arc<Federation>,
    /// The Entra authority.
    pub entra: Entra,
    /// The managed-identity endpoint.
    pub managed_identity: ManagedIdentity,
    /// The application on the VM.
    pub app: EchoApp,
    _assertion: AssertionFile,
}

impl Cloud {
    /// Starts everything, and writes `ca.pem` and `assertion.jwt` into `dir`, which must exist.
    pub async fn start(dir: &Path, options: Options) -> Result<Self, CloudError> {
        let (user_pool, aws, azure) = tokio::try_join!(
            SigningKey::generate(random::cognito_kid()),
            SigningKey::generate(random::uuid()),
            SigningKey::generate(random::token(20)),
        )?;

        let authority = Authority::generate("Isthmus local cloud: development root")?;
        let ca_file = dir.join("ca.pem");
        tokio::fs::write(&ca_file, authority.pem())
            .await
            .map_err(|source| CloudError::io("writing ca.pem", source))?;

        let federation = Arc::new(Federation::new(aws));
        let assertion_file = dir.join("assertion.jwt");
        let assertion = federation.keep_fresh(&assertion_file).await?;

        let directory = Arc::new(Directory::new(azure, options.azure_token_lifetime));
        Ok(Self {
            openid: OpenId::start(&authority, user_pool, options.jwks_fault, options.discovery_fault).await?,
            entra: Entra::start(&authority, Arc::clone(&directory), Arc::clone(&federation)).await?,
            managed_identity: ManagedIdentity::start(Arc::clone(&directory)).await?,
            app: EchoApp::start(directory).await?,
            federation,
            assertion_file,
            _assertion: assertion,
            ca_pem: authority.pem().to_owned(),
            ca_file,
        })
    }
}

/// Why the cloud did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CloudError {
    /// A file or socket was refused.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A signing key could not be made.
    #[error("an RSA key could not be generated")]
    Key,
    /// A certificate could not be made.
    #[error("a certificate could not be made: {0}")]
    Certificate(#[from] rcgen::Error),
    /// A certificate was made, but the TLS library refuses it.
    #[error("TLS could not be set up: {0}")]
    Tls(#[from] rustls::Error),
}

impl CloudError {
    pub(crate) fn io(what: &'static str, source: io::Error) -> Self {
        Self::Io { what, source }
    }
}
