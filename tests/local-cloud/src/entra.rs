//! The token endpoint of Microsoft Entra ID, for workload identity federation.
//!
//! It verifies a client assertion as Entra does ("Workload identity federation" and "Certificate credentials"
//! in the Microsoft identity platform documentation): RS256, the federated issuer's signature, then issuer,
//! subject and audience, each compared exactly, and the validity time.

mod directory;
mod error;

use std::{
    sync::{
        atomic::{AtomicU64, Ordering},
        Arc,
    },
    time::Duration,
};

use axum::{
    extract::{Path, Request},
    http::{header, StatusCode},
    response::{IntoResponse as _, Response},
    routing::{get, post},
    Json, Router,
};
use serde_json::{json, Value};

use crate::{
    fault::FaultSwitch,
    federation,
    form::{self, BadForm, Parameters},
    jws::{self, now, BadToken},
    pki::Authority,
    server::Server,
    CloudError, Federation,
};

pub use directory::{Identity, OPERATOR, READER, RESOURCE, SYSTEM_ASSIGNED, TENANT_ID};

pub(crate) use directory::Directory;
use error::AadSts;

/// The authority's host name, which its certificate carries.
pub const HOST: &str = "login.microsoftonline.com";
/// The only kind of client assertion there is (RFC 7523, section 2.2).
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// The clock skew that Entra allows.
const SKEW: u64 = 300;

/// The running authority.
pub struct Entra {
    server: Server,
    state: Arc<State>,
    fault: FaultSwitch,
}

struct State {
    directory: Arc<Directory>,
    federation: Arc<Federation>,
    issued: AtomicU64,
}

impl Entra {
    pub(crate) async fn start(
        authority: &Authority,
        directory: Arc<Directory>,
        federation: Arc<Federation>,
    ) -> Result<Self, CloudError> {
        let state = Arc::new(State {
            directory,
            federation,
            issued: AtomicU64::new(0),
        });
        let fault = FaultSwitch::default();
        let tokens = Arc::clone(&state);
        let keys = Arc::clone(&state);
        let router = Router::new()
            .route(
                "/{tenant}/oauth2/v2.0/token",
                fault.guard(post(move |Path(tenant): Path<String>, request| async move {
                    answer(&tokens, &tenant, request).await
                })),
            )
            .route(
                "/common/discovery/v2.0/keys",
                get(move || async move { Json(keys.directory.jwks()) }),
            );
        let server = Server::start(router, Some(authority.server(HOST)?)).await?;
        Ok(Self { server, state, fault })
    }

    /// The authority's URL without a path, as a client on this machine reaches it.
    pub fn url(&self) -> String {
        format!("https://{}", self.server.address())
    }

    /// The token endpoint of the one tenant.
    pub fn token_url(&self) -> String {
        format!("{}/{TENANT_ID}/oauth2/v2.0/token", self.url())
    }

    /// What goes wrong at the token endpoint, and how often it has been asked.
    pub fn fault(&self) -> &FaultSwitch {
        &self.fault
    }

    /// How many tokens it has issued (those of the managed identity are counted there).
    pub fn issued(&self) -> u64 {
        self.state.issued.load(Ordering::Relaxed)
    }

    /// From now on Azure tokens live this long, the managed identity's too.
    pub fn set_token_lifetime(&self, lifetime: Duration) {
        self.state.directory.set_token_lifetime(lifetime);
    }

    /// Signs any claims with Entra's key, to see what the application makes of them.
    pub fn mint(&self, claims: &Value) -> String {
        self.state.directory.sign(claims)
    }

    /// The claims of an application's token as issued now: `identity` asks for the protected API.
    pub fn claims(&self, identity: &Identity) -> Value {
        self.state.directory.claims(identity, RESOURCE)
    }
}

async fn answer(state: &State, tenant: &str, request: Request) -> Response {
    let granted = match form::body(request).await {
        Ok(form) => grant(state, tenant, &form),
        Err(BadForm::NotAForm) => Err(AadSts::missing("grant_type")),
        Err(BadForm::Repeated(name)) => Err(AadSts::repeated(&name)),
    };
    match granted {
        Ok((identity, resource)) => {
            state.issued.fetch_add(1, Ordering::Relaxed);
            let lifetime = state.directory.token_lifetime().as_secs();
            let body = json!({
                "token_type": "Bearer",
                "expires_in": lifetime,
                "ext_expires_in": lifetime,
                "access_token": state.directory.token(identity, &resource),
            });
            let uncached = [
                (header::CACHE_CONTROL, "no-store, no-cache"),
                (header::PRAGMA, "no-cache"),
            ];
            (StatusCode::OK, uncached, Json(body)).into_response()
        }
        Err(error) => error.into_response(),
    }
}

/// The identity that proved itself, and the resource it wants a token for.
fn grant(state: &State, tenant: &str, form: &Parameters) -> Result<(&'static Identity, String), AadSts> {
    if tenant != TENANT_ID {
        return Err(AadSts::tenant_not_found(tenant));
    }
    let need = |name| {
        let value = form
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty());
        value.ok_or_else(|| AadSts::missing(name))
    };
    let grant_type = need("grant_type")?;
    if grant_type != "client_credentials" {
        return Err(AadSts::grant_type(grant_type));
    }
    let client_id = need("client_id")?;
    let scope = need("scope")?;
    let Some(assertion) = form
        .get("client_assertion")
        .filter(|assertion| !assertion.is_empty())
    else {
        return Err(AadSts::no_credential());
    };
    if need("client_assertion_type")? != ASSERTION_TYPE {
        return Err(AadSts::no_credential());
    }

    let resource = scope
        .strip_suffix("/.default")
        .filter(|resource| !resource.contains(' '));
    let resource = resource.ok_or_else(|| AadSts::scope(scope))?;
    // Only one identity has a federated credential; the operator is a managed identity and has none to
    // present.
    if client_id != READER.client_id {
        return Err(AadSts::application_not_found(client_id, tenant));
    }
    verify_assertion(&state.federation, assertion)?;
    if resource != RESOURCE {
        return Err(AadSts::resource_not_found(resource));
    }
    Ok((&READER, resource.to_owned()))
}

/// The issuer comes first, because it says whose keys to look at; nothing else is believed before the
/// signature.
fn verify_assertion(federation: &Federation, assertion: &str) -> Result<(), AadSts> {
    let unverified = jws::unverified_claims(assertion).ok_or_else(AadSts::malformed_assertion)?;
    let issuer = unverified["iss"].as_str().unwrap_or_default();
    if issuer != federation::ISSUER {
        return Err(AadSts::federated_issuer(issuer));
    }
    let claims = federation.verify(assertion).map_err(|bad| match bad {
        BadToken::Malformed => AadSts::malformed_assertion(),
        BadToken::Algorithm(name) => AadSts::algorithm(&name),
        BadToken::UnknownKey | BadToken::Signature => AadSts::bad_signature(),
    })?;
    let subject = claims["sub"].as_str().unwrap_or_default();
    if subject != federation::ROLE_ARN {
        return Err(AadSts::federated_subject(subject));
    }
    if claims["aud"] != federation::AUDIENCE {
        return Err(AadSts::federated_audience(
            claims["aud"].as_str().unwrap_or_default(),
        ));
    }
    let (now, from) = (now(), claims["nbf"].as_u64().unwrap_or(0));
    match claims["exp"].as_u64() {
        Some(until) if from <= now + SKEW && now < until + SKEW => Ok(()),
        until => Err(AadSts::not_in_time(now, from, until.unwrap_or(0))),
    }
}

#[cfg(test)]
mod tests;
