//! Access tokens from Entra, through the official `azure_identity` crate.
//!
//! That crate keeps a token cache that serves the same token until 300 s before it expires, and retries for over a minute.
//! Both are of no use to a service with a schedule of its own, so every attempt builds a new credential, makes one request
//! and is bounded in time.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use azure_core::{
    cloud::{CloudConfiguration, CustomConfiguration},
    credentials::{AccessToken, TokenCredential},
    error::ErrorKind,
    http::{ClientMethodOptions, ClientOptions, HttpClient, RetryOptions, Transport},
};
use azure_identity::{
    ClientAssertion, ClientAssertionCredential, ClientAssertionCredentialOptions, ManagedIdentityCredential,
    ManagedIdentityCredentialOptions, UserAssignedId,
};
use tokio::io::AsyncReadExt;
use zeroize::Zeroizing;

use crate::{
    config::{Authority, EntraTokenConfig, IdentityConfig, ManagedIdentityConfig},
    secret::Value,
    source::{Obtained, Source, SourceError},
    token::{Token, MAX_TOKEN},
};

mod transport;

pub(crate) use transport::client;
pub use transport::CloudError;
use transport::OneTry;

/// How long one attempt may take, from reading the assertion to the last byte of the answer.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(10);

/// Entra's tokens live for a day at most; an answer that claims more is believed only this far.
const LONGEST_LIFETIME: Duration = Duration::from_secs(7 * 86_400);

/// Obtains access tokens of one identity.
pub(crate) struct EntraToken {
    config: EntraTokenConfig,
    cloud: Arc<CloudConfiguration>,
    http: Arc<OneTry>,
    timeout: Duration,
}

impl EntraToken {
    pub(crate) fn new(
        config: EntraTokenConfig,
        authority: &Authority,
        http: Arc<dyn HttpClient>,
        timeout: Duration,
    ) -> Self {
        let mut cloud = CustomConfiguration::default();
        cloud.authority_host = authority.as_str().to_owned();
        Self {
            config,
            cloud: Arc::new(cloud.into()),
            http: Arc::new(OneTry::new(http)),
            timeout,
        }
    }

    async fn exchange(&self) -> Result<AccessToken, SourceError> {
        let client_options = ClientOptions {
            retry: RetryOptions::none(),
            transport: Some(Transport::new(self.http.clone())),
            cloud: Some(self.cloud.clone()),
            ..ClientOptions::default()
        };
        let credential: Arc<dyn TokenCredential> = match &self.config.identity {
            IdentityConfig::Federated {
                tenant_id,
                client_id,
                assertion_file,
            } => ClientAssertionCredential::new(
                tenant_id.to_string(),
                client_id.to_string(),
                AssertionFile(assertion_file.as_path().to_owned()),
                Some(ClientAssertionCredentialOptions { client_options }),
            )
            .map_err(|_| SourceError::Unusable("the authority or the tenant id is not accepted"))?,
            IdentityConfig::ManagedIdentity(id) => {
                let options = ManagedIdentityCredentialOptions {
                    user_assigned_id: user_assigned_id(id),
                    client_options,
                };
                ManagedIdentityCredential::new(Some(options)).map_err(|_| {
                    SourceError::Unusable("no supported managed identity endpoint, or not by resource id")
                })?
            }
        };
        let scope = self.config.scope.as_str();
        credential
            .get_token(&[scope], None)
            .await
            .map_err(|error| cause(&error))
    }
}

#[async_trait]
impl Source for EntraToken {
    async fn obtain(&self) -> Result<Obtained, SourceError> {
        let answer = tokio::time::timeout(self.timeout, self.exchange()).await;
        let access = answer.map_err(|_| SourceError::Timeout(self.timeout))??;
        let token = Token::parse(access.token.secret())?;

        let now = SystemTime::now();
        let expires_at = SystemTime::from(access.expires_on).min(now + LONGEST_LIFETIME);
        if expires_at <= now {
            return Err(SourceError::AlreadyExpired);
        }
        Ok(Obtained {
            value: Value::Token(token),
            expires_at,
        })
    }
}

/// An assertion that is read from its file at every exchange.
#[derive(Debug)]
struct AssertionFile(PathBuf);

#[async_trait]
impl ClientAssertion for AssertionFile {
    async fn secret(&self, _: Option<ClientMethodOptions<'_>>) -> azure_core::Result<String> {
        self.read()
            .await
            .map_err(|error| azure_core::Error::new(ErrorKind::Other, error))
    }
}

impl AssertionFile {
    async fn read(&self) -> Result<String, SourceError> {
        let unreadable = |error: std::io::Error| SourceError::AssertionUnreadable(error.kind());
        let file = tokio::fs::File::open(&self.0).await.map_err(unreadable)?;
        // One byte more than is legal, and room for a line end.
        let limit = MAX_TOKEN + 3;
        let mut bytes = Zeroizing::new(Vec::with_capacity(limit));
        file.take(limit as u64)
            .read_to_end(&mut bytes)
            .await
            .map_err(unreadable)?;

        let text = std::str::from_utf8(&bytes)
            .map_err(|_| SourceError::AssertionMalformed)?
            .trim_ascii();
        let is_jwt = text.split('.').filter(|part| !part.is_empty()).count() == 3;
        if !is_jwt || text.split('.').count() != 3 || Token::parse(text).is_err() {
            return Err(SourceError::AssertionMalformed);
        }
        Ok(text.to_owned())
    }
}

fn user_assigned_id(id: &ManagedIdentityConfig) -> Option<UserAssignedId> {
    match id {
        ManagedIdentityConfig::System => None,
        ManagedIdentityConfig::ClientId(id) => Some(UserAssignedId::ClientId(id.to_string())),
        ManagedIdentityConfig::ObjectId(id) => Some(UserAssignedId::ObjectId(id.to_string())),
        ManagedIdentityConfig::ResourceId(id) => Some(UserAssignedId::ResourceId(id.to_string())),
    }
}

/// The cause of a failure. The library's texts can hold response bodies and are dropped: whatever went wrong on the wire or
/// with the assertion is our own error somewhere in the chain, and anything else is an answer that could not be read.
fn cause(error: &azure_core::Error) -> SourceError {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(ours) = error.downcast_ref::<SourceError>() {
            return ours.clone();
        }
        next = error.source();
    }
    SourceError::Malformed
}

#[cfg(test)]
mod tests;
