//! The Entra tenant: its signing key, its identities, and the tokens they get.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use serde_json::{json, Value};

use crate::{
    jws::{now, BadToken, SigningKey},
    random,
};

/// The tenant.
pub const TENANT_ID: &str = "11111111-2222-4333-8444-555555555555";
/// The application ID URI of the API on the VM.
pub const RESOURCE: &str = "api://orders";
/// May read metrics. Reached from AWS, through its federated credential.
pub const READER: Identity = Identity {
    client_id: "aaaaaaaa-0000-4000-8000-000000000001",
    object_id: "aaaaaaaa-0000-4000-8000-00000000000f",
    roles: &["Metrics.Read"],
};
/// May do more. A user-assigned managed identity.
pub const OPERATOR: Identity = Identity {
    client_id: "bbbbbbbb-0000-4000-8000-000000000002",
    object_id: "bbbbbbbb-0000-4000-8000-00000000000f",
    roles: &["Metrics.Read", "Storage.Manage"],
};
/// The managed identity of the machine itself. It may do nothing.
pub const SYSTEM_ASSIGNED: Identity = Identity {
    client_id: "cccccccc-0000-4000-8000-000000000003",
    object_id: "cccccccc-0000-4000-8000-00000000000f",
    roles: &[],
};

/// A service principal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The application (client) id.
    pub client_id: &'static str,
    /// The object id, in `oid` and `sub`.
    pub object_id: &'static str,
    /// The app roles it has been assigned on the API.
    pub roles: &'static [&'static str],
}

/// What Entra, the managed identity and the application on the VM have in common.
pub(crate) struct Directory {
    key: SigningKey,
    lifetime: AtomicU64,
}

impl Directory {
    pub(crate) fn new(key: SigningKey, token_lifetime: Duration) -> Self {
        Self {
            key,
            lifetime: AtomicU64::new(token_lifetime.as_secs()),
        }
    }

    pub(crate) fn token_lifetime(&self) -> Duration {
        Duration::from_secs(self.lifetime.load(Ordering::Relaxed))
    }

    pub(crate) fn set_token_lifetime(&self, lifetime: Duration) {
        self.lifetime.store(lifetime.as_secs(), Ordering::Relaxed);
    }

    pub(crate) fn issuer() -> String {
        format!("https://sts.windows.net/{TENANT_ID}/")
    }

    /// A version 1 application token, which is what an API gets unless its manifest asks for version 2.
    pub(crate) fn claims(&self, identity: &Identity, resource: &str) -> Value {
        let now = now();
        json!({
            "aud": resource,
            "iss": Self::issuer(),
            "iat": now,
            "nbf": now,
            "exp": now + self.token_lifetime().as_secs(),
            "appid": identity.client_id,
            "appidacr": "2",
            "idp": Self::issuer(),
            "idtyp": "app",
            "oid": identity.object_id,
            "sub": identity.object_id,
            "roles": identity.roles,
            "tid": TENANT_ID,
            "uti": random::token(16),
            "ver": "1.0",
        })
    }

    pub(crate) fn token(&self, identity: &Identity, resource: &str) -> String {
        self.sign(&self.claims(identity, resource))
    }

    pub(crate) fn sign(&self, claims: &Value) -> String {
        let kid = self.key.kid();
        self.key.sign(
            &json!({"typ": "JWT", "alg": "RS256", "x5t": kid, "kid": kid}),
            claims,
        )
    }

    pub(crate) fn verify(&self, token: &str) -> Result<Value, BadToken> {
        self.key.verify(token)
    }

    pub(crate) fn jwks(&self) -> Value {
        let mut jwk = self.key.jwk();
        jwk["x5t"] = self.key.kid().into();
        jwk["issuer"] = format!("https://login.microsoftonline.com/{TENANT_ID}/v2.0").into();
        json!({"keys": [jwk]})
    }
}
