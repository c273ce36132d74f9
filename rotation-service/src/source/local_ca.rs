//! Certificates and the trust bundle from the local CA.

use std::sync::Arc;

use async_trait::async_trait;

use crate::{
    clock::Clock,
    config::LeafConfig,
    local_ca::LocalCa,
    secret::Value,
    source::{Obtained, Source, SourceError},
};

/// Issues a new certificate with a new key at each attempt.
pub(crate) struct Leaf {
    pub(crate) ca: Arc<LocalCa>,
    pub(crate) config: LeafConfig,
    pub(crate) clock: Arc<dyn Clock>,
}

#[async_trait]
impl Source for Leaf {
    async fn obtain(&self) -> Result<Obtained, SourceError> {
        let (pair, expires_at) = self.ca.issue(&self.config, self.clock.now())?;
        Ok(Obtained {
            value: Value::CertifiedKey(pair),
            expires_at,
        })
    }
}

/// The CA's own certificate.
pub(crate) struct TrustBundle {
    pub(crate) ca: Arc<LocalCa>,
}

#[async_trait]
impl Source for TrustBundle {
    async fn obtain(&self) -> Result<Obtained, SourceError> {
        Ok(Obtained {
            value: Value::TrustBundle(self.ca.certificate_pem().as_bytes().to_vec()),
            expires_at: self.ca.not_after(),
        })
    }
}
