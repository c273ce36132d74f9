//! The managed-identity endpoint of App Service, version 2019-08-01: what `IDENTITY_ENDPOINT` and
//! `IDENTITY_HEADER` lead to ("REST endpoint reference" in the App Service documentation).

use std::sync::{
    atomic::{AtomicU64, Ordering},
    Arc,
};

use axum::{
    http::{HeaderMap, StatusCode, Uri},
    response::{IntoResponse as _, Response},
    routing::get,
    Json, Router,
};
use serde_json::{json, Value};

use crate::{
    entra::{Directory, Identity, OPERATOR, RESOURCE, SYSTEM_ASSIGNED},
    fault::FaultSwitch,
    form,
    jws::now,
    random,
    server::Server,
    CloudError,
};

const API_VERSION: &str = "2019-08-01";

/// The running endpoint.
pub struct ManagedIdentity {
    server: Server,
    state: Arc<State>,
    fault: FaultSwitch,
}

struct State {
    directory: Arc<Directory>,
    secret: String,
    issued: AtomicU64,
}

impl ManagedIdentity {
    pub(crate) async fn start(directory: Arc<Directory>) -> Result<Self, CloudError> {
        let state = Arc::new(State {
            directory,
            secret: random::uuid(),
            issued: AtomicU64::new(0),
        });
        let fault = FaultSwitch::default();
        let shared = Arc::clone(&state);
        let route = get(move |uri: Uri, headers: HeaderMap| async move { shared.answer(&uri, &headers) });
        let router = Router::new().route("/msi/token", fault.guard(route));
        Ok(Self {
            server: Server::start(router, None).await?,
            state,
            fault,
        })
    }

    /// The value of `IDENTITY_ENDPOINT`.
    pub fn endpoint(&self) -> String {
        format!("http://{}/msi/token", self.server.address())
    }

    /// The value of `IDENTITY_HEADER`: a secret that keeps request forgery from reaching the endpoint.
    pub fn identity_header(&self) -> &str {
        &self.state.secret
    }

    /// What goes wrong here, and how often it has been asked.
    pub fn fault(&self) -> &FaultSwitch {
        &self.fault
    }

    /// How many tokens it has issued.
    pub fn issued(&self) -> u64 {
        self.state.issued.load(Ordering::Relaxed)
    }
}

impl State {
    fn answer(&self, uri: &Uri, headers: &HeaderMap) -> Response {
        match self.token(uri, headers) {
            Ok(body) => Json(body).into_response(),
            Err((status, message)) => {
                let body = json!({
                    "statusCode": status.as_u16(),
                    "message": message,
                    "correlationId": random::uuid(),
                });
                (status, Json(body)).into_response()
            }
        }
    }

    fn token(&self, uri: &Uri, headers: &HeaderMap) -> Result<Value, (StatusCode, String)> {
        let bad_request = |message: String| (StatusCode::BAD_REQUEST, message);
        if headers.get("x-identity-header").map(|v| v.as_bytes()) != Some(self.secret.as_bytes()) {
            return Err((
                StatusCode::UNAUTHORIZED,
                "X-IDENTITY-HEADER is missing or wrong".into(),
            ));
        }
        let query = form::query(uri).map_err(|e| bad_request(e.to_string()))?;
        let api_version = query.get("api-version").map(String::as_str).unwrap_or_default();
        if api_version != API_VERSION {
            return Err(bad_request(format!(
                "The api-version '{api_version}' is not supported."
            )));
        }
        let resource = query.get("resource").filter(|resource| *resource == RESOURCE);
        let resource = resource.ok_or_else(|| bad_request("The resource is missing or unknown.".into()))?;
        let identity: Identity = match query.get("client_id").map(String::as_str) {
            None => SYSTEM_ASSIGNED,
            Some(id) if id == OPERATOR.client_id => OPERATOR,
            Some(id) => {
                return Err(bad_request(format!(
                    "No User Assigned Managed Identity found for '{id}'."
                )))
            }
        };
        self.issued.fetch_add(1, Ordering::Relaxed);
        Ok(json!({
            "access_token": self.directory.token(&identity, resource),
            // A string, unlike everywhere else in OAuth.
            "expires_on": (now() + self.directory.token_lifetime().as_secs()).to_string(),
            "resource": resource,
            "token_type": "Bearer",
            "client_id": identity.client_id.to_uppercase(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::jws::SigningKey;

    #[tokio::test]
    async fn the_identity_header_and_each_parameter_are_verified() {
        let key = SigningKey::generate("entra".into()).await.unwrap();
        let directory = Arc::new(Directory::new(key, Duration::from_secs(60)));
        let identity = ManagedIdentity::start(Arc::clone(&directory)).await.unwrap();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let secret = identity.identity_header().to_owned();
        let ok = "api-version=2019-08-01&resource=api://orders";
        let operator = format!("{ok}&client_id={}", OPERATOR.client_id);
        for (query, header, status, appid) in [
            (
                operator.as_str(),
                Some(secret.as_str()),
                200,
                Some(OPERATOR.client_id),
            ),
            (ok, Some(secret.as_str()), 200, Some(SYSTEM_ASSIGNED.client_id)),
            (ok, None, 401, None),
            (ok, Some("guess"), 401, None),
            (
                "api-version=2018-02-01&resource=api://orders",
                Some(secret.as_str()),
                400,
                None,
            ),
            ("resource=api://orders", Some(secret.as_str()), 400, None),
            ("api-version=2019-08-01", Some(secret.as_str()), 400, None),
            (
                "api-version=2019-08-01&resource=api://other",
                Some(secret.as_str()),
                400,
                None,
            ),
            (
                &format!("{ok}&client_id=nobody"),
                Some(secret.as_str()),
                400,
                None,
            ),
            (
                &format!("{ok}&resource=api://orders"),
                Some(secret.as_str()),
                400,
                None,
            ),
        ] {
            let mut request = client.get(format!("{}?{query}", identity.endpoint()));
            if let Some(header) = header {
                request = request.header("X-IDENTITY-HEADER", header);
            }
            let answer = request.send().await.unwrap();
            assert_eq!(answer.status().as_u16(), status, "{query}");
            let body: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
            if let Some(appid) = appid {
                assert!(body["expires_on"].as_str().unwrap().parse::<u64>().unwrap() > now());
                let claims = directory.verify(body["access_token"].as_str().unwrap()).unwrap();
                assert_eq!(
                    (&claims["appid"], &claims["aud"]),
                    (&json!(appid), &json!(RESOURCE))
                );
            }
        }
        assert_eq!((identity.issued(), identity.fault().requests()), (2, 10));
    }
}
