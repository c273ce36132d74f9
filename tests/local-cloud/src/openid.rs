//! An OpenID provider shaped as an Amazon Cognito user pool.
//!
//! Like Cognito's, its access tokens carry the app client in `client_id` and **no** `aud`, and its key ids
//! contain `+`, `/` and `=`. Groups come into a client-credentials token as they do in Cognito: a
//! pre-token-generation trigger (event version 3) adds `cognito:groups`.

mod token;

use std::{
    sync::{Arc, OnceLock, PoisonError, RwLock},
    time::Duration,
};

use axum::{
    http::header,
    response::IntoResponse,
    routing::{get, post},
    Json, Router,
};
use serde_json::{json, Value};

use crate::{
    fault::{Fault, FaultSwitch},
    jws::{now, SigningKey},
    pki::Authority,
    random,
    server::Server,
    CloudError,
};

/// The provider's host name: its certificate carries it, and Envoy checks it.
pub const HOST: &str = "cognito-idp.us-east-1.amazonaws.com";
/// The issuer in every token: host plus user pool.
pub const ISSUER: &str = "https://cognito-idp.us-east-1.amazonaws.com/us-east-1_Isthmus01";
/// The app client whose tokens carry the group `readers`.
pub const READER: &str = "orders-api-reader";
/// The app client whose tokens carry the group `operators`.
pub const OPERATOR: &str = "orders-api-operator";

/// Cognito's default lifetime of an access token.
const TOKEN_LIFETIME: Duration = Duration::from_secs(3600);

/// The running provider.
pub struct OpenId {
    server: Server,
    pool: Arc<Pool>,
    jwks_fault: FaultSwitch,
    discovery_fault: FaultSwitch,
}

/// An app client of the pool: its id, its secret and what its tokens say.
#[derive(Clone)]
pub struct AppClient {
    /// The client id.
    pub id: &'static str,
    /// The client secret, made at start.
    pub secret: String,
    /// The groups in `cognito:groups`.
    pub groups: Vec<&'static str>,
    /// The scopes that the client may have.
    pub scopes: Vec<&'static str>,
}

impl OpenId {
    pub(crate) async fn start(
        authority: &Authority,
        key: SigningKey,
        jwks_fault: Fault,
        discovery_fault: Fault,
    ) -> Result<Self, CloudError> {
        let client = |id, group, scopes: &[&'static str]| AppClient {
            id,
            secret: random::token(32),
            groups: vec![group],
            scopes: scopes.to_vec(),
        };
        let pool = Arc::new(Pool {
            published: RwLock::new(vec![key.jwk()]),
            live: RwLock::new(Arc::new(key)),
            foreign: OnceLock::new(),
            clients: [
                client(READER, "readers", &["orders/read"]),
                client(OPERATOR, "operators", &["orders/read", "orders/write"]),
            ],
        });

        let jwks_fault = FaultSwitch::new(jwks_fault);
        let discovery_fault = FaultSwitch::new(discovery_fault);
        let keys = Arc::clone(&pool);
        let tokens = Arc::clone(&pool);
        let router = Router::new()
            .route(
                "/us-east-1_Isthmus01/.well-known/jwks.json",
                jwks_fault.guard(get(move || async move { keys.jwks() })),
            )
            .route(
                "/us-east-1_Isthmus01/.well-known/openid-configuration",
                discovery_fault.guard(get(|| async { Json(discovery()) })),
            )
            .route(
                "/oauth2/token",
                post(move |request| async move { token::answer(&tokens, request).await }),
            );
        let server = Server::start(router, Some(authority.server(HOST)?)).await?;
        Ok(Self {
            server,
            pool,
            jwks_fault,
            discovery_fault,
        })
    }

    /// Where it really listens. The issuer names the public host; a cluster or a resolver maps one to the
    /// other.
    pub fn address(&self) -> std::net::SocketAddr {
        self.server.address()
    }

    /// The token endpoint, as a client on this machine reaches it.
    pub fn token_url(&self) -> String {
        format!("https://{}/oauth2/token", self.address())
    }

    /// What goes wrong at the JWKS endpoint, and how often it has been asked.
    pub fn jwks_fault(&self) -> &FaultSwitch {
        &self.jwks_fault
    }

    /// The same for the discovery document.
    pub fn discovery_fault(&self) -> &FaultSwitch {
        &self.discovery_fault
    }

    /// The app clients of the pool.
    pub fn clients(&self) -> &[AppClient; 2] {
        &self.pool.clients
    }

    /// Signs any claims with the live key.
    pub fn mint(&self, claims: &Value) -> String {
        let key = self.pool.live();
        key.sign(&json!({"kid": key.kid(), "alg": "RS256"}), claims)
    }

    /// Signs any claims under any header with the live key.
    pub fn mint_with_header(&self, header: &Value, claims: &Value) -> String {
        self.pool.live().sign(header, claims)
    }

    /// Signs any claims with a key that the pool never had, under the live key's id.
    pub fn mint_with_foreign_key(&self, claims: &Value) -> String {
        let foreign = self.pool.foreign.get_or_init(|| {
            SigningKey::generate_blocking(String::new()).expect("a second key can be made as the first was")
        });
        foreign.sign(&json!({"kid": self.kid(), "alg": "RS256"}), claims)
    }

    /// An access token for any client and groups, as the token endpoint would issue it.
    pub fn access_token(&self, client: &str, groups: &[&str], lifetime: Duration) -> String {
        self.mint(&access_claims(client, groups, "orders/read", lifetime))
    }

    /// The claims of such a token, for tests that change one of them.
    pub fn access_claims(&self, client: &str, groups: &[&str], lifetime: Duration) -> Value {
        access_claims(client, groups, "orders/read", lifetime)
    }

    /// The live key's id.
    pub fn kid(&self) -> String {
        self.pool.live().kid().to_owned()
    }

    /// Signs with a new key from now on. The old key stays in the key set if `keep_old`, as in a planned
    /// rotation; without it, every token signed before is void, as after a compromise.
    pub async fn rotate_key(&self, keep_old: bool) -> Result<(), CloudError> {
        let key = SigningKey::generate(random::cognito_kid()).await?;
        let mut published = self
            .pool
            .published
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if !keep_old {
            published.clear();
        }
        published.push(key.jwk());
        *self.pool.live.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(key);
        Ok(())
    }
}

/// What the handlers share.
struct Pool {
    live: RwLock<Arc<SigningKey>>,
    published: RwLock<Vec<Value>>,
    foreign: OnceLock<SigningKey>,
    clients: [AppClient; 2],
}

impl Pool {
    fn live(&self) -> Arc<SigningKey> {
        Arc::clone(&self.live.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn jwks(&self) -> impl IntoResponse {
        let keys = self.published.read().unwrap_or_else(PoisonError::into_inner);
        (
            [(header::CACHE_CONTROL, "public, max-age=86400")],
            Json(json!({ "keys": *keys })),
        )
    }
}

fn access_claims(client: &str, groups: &[&str], scope: &str, lifetime: Duration) -> Value {
    let now = now();
    json!({
        "sub": client,
        "iss": ISSUER,
        "client_id": client,
        "token_use": "access",
        "scope": scope,
        "cognito:groups": groups,
        "auth_time": now,
        "iat": now,
        "exp": now + lifetime.as_secs(),
        "jti": random::uuid(),
        "version": 2,
    })
}

fn discovery() -> Value {
    json!({
        "issuer": ISSUER,
        "jwks_uri": format!("{ISSUER}/.well-known/jwks.json"),
        "token_endpoint": "https://isthmus.auth.us-east-1.amazoncognito.com/oauth2/token",
        "id_token_signing_alg_values_supported": ["RS256"],
        "response_types_supported": ["code", "token"],
        "scopes_supported": ["openid", "email", "phone", "profile"],
        "subject_types_supported": ["public"],
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) async fn healthy(authority: &Authority, key: SigningKey) -> OpenId {
        OpenId::start(authority, key, Fault::Healthy, Fault::Healthy)
            .await
            .unwrap()
    }

    #[tokio::test]
    async fn the_key_set_follows_rotations_and_counts_its_readers() {
        let authority = Authority::generate("test").unwrap();
        let first = SigningKey::generate(random::cognito_kid()).await.unwrap();
        let openid = healthy(&authority, first).await;
        let client = reqwest::Client::builder()
            .tls_certs_only([reqwest::Certificate::from_pem(authority.pem().as_bytes()).unwrap()])
            .no_proxy()
            .resolve(HOST, openid.address())
            .build()
            .unwrap();
        // By its public name: the certificate must carry it.
        let url = format!(
            "https://{HOST}:{}/us-east-1_Isthmus01/.well-known/jwks.json",
            openid.address().port()
        );
        let kids = || async {
            let answer = client.get(&url).send().await.unwrap();
            assert!(answer.headers()["cache-control"]
                .to_str()
                .unwrap()
                .contains("max-age="));
            let keys: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
            let keys = keys["keys"].as_array().unwrap().clone();
            keys.iter()
                .map(|k| k["kid"].as_str().unwrap().to_owned())
                .collect::<Vec<_>>()
        };

        let first = openid.kid();
        assert!(first.contains('+') && first.contains('/') && first.ends_with('='));
        assert_eq!(kids().await, std::slice::from_ref(&first));
        openid.rotate_key(true).await.unwrap();
        assert_eq!(kids().await, [first, openid.kid()]);
        openid.rotate_key(false).await.unwrap();
        assert_eq!(kids().await, [openid.kid()]);
        assert_eq!(openid.jwks_fault().requests(), 3);
    }

    #[tokio::test]
    async fn a_foreign_key_signs_under_the_live_keys_id_and_does_not_verify() {
        let authority = Authority::generate("test").unwrap();
        let key = SigningKey::generate("k".into()).await.unwrap();
        let openid = healthy(&authority, key).await;
        let claims = openid.access_claims(READER, &["readers"], TOKEN_LIFETIME);
        assert!(claims.get("aud").is_none());
        assert_eq!(openid.pool.live().verify(&openid.mint(&claims)).unwrap(), claims);
        assert_eq!(
            openid.pool.live().verify(&openid.mint_with_foreign_key(&claims)),
            Err(crate::jws::BadToken::Signature)
        );
    }
}
