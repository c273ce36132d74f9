//! The token endpoint: RFC 6749 section 4.4, client credentials.

use axum::{
    extract::Request,
    http::{header, HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    Json,
};
use base64::{engine::general_purpose::STANDARD, Engine as _};
use serde_json::json;

use super::{access_claims, AppClient, Pool, TOKEN_LIFETIME};
use crate::form::{self, Parameters};

pub(super) async fn answer(pool: &Pool, request: Request) -> Response {
    let headers = request.headers().clone();
    let granted = match form::body(request).await {
        Ok(form) => grant(pool, &headers, &form),
        Err(e) => Err(Refusal::new("invalid_request", e.to_string())),
    };
    match granted {
        Ok((client, scope)) => {
            let key = pool.live();
            let claims = access_claims(client.id, &client.groups, &scope, TOKEN_LIFETIME);
            let token = key.sign(&json!({"kid": key.kid(), "alg": "RS256"}), &claims);
            // RFC 6749, 5.1: tokens are never stored on the way.
            let uncached = [(header::CACHE_CONTROL, "no-store"), (header::PRAGMA, "no-cache")];
            let expires_in = TOKEN_LIFETIME.as_secs();
            let body = json!({"access_token": token, "expires_in": expires_in, "token_type": "Bearer"});
            (uncached, Json(body)).into_response()
        }
        Err(refusal) => refusal.into_response(),
    }
}

fn grant<'p>(
    pool: &'p Pool,
    headers: &HeaderMap,
    form: &Parameters,
) -> Result<(&'p AppClient, String), Refusal> {
    let client = authenticate(pool, headers, form)?;
    match form.get("grant_type").map(String::as_str) {
        Some("client_credentials") => {}
        Some(_) => return Err(Refusal::new("unsupported_grant_type", "only client_credentials")),
        None => return Err(Refusal::new("invalid_request", "grant_type is missing")),
    }
    let Some(scope) = form.get("scope").filter(|scope| !scope.is_empty()) else {
        return Ok((client, client.scopes.join(" ")));
    };
    if scope.split(' ').all(|one| client.scopes.contains(&one)) {
        Ok((client, scope.clone()))
    } else {
        Err(Refusal::new(
            "invalid_scope",
            "the client may not have that scope",
        ))
    }
}

/// The client that proved itself, by HTTP Basic or by form fields; both at once is an error (RFC 6749, 2.3).
fn authenticate<'p>(
    pool: &'p Pool,
    headers: &HeaderMap,
    form: &Parameters,
) -> Result<&'p AppClient, Refusal> {
    let basic = headers.get(header::AUTHORIZATION);
    let (id, secret) = match (basic, form.get("client_id"), form.get("client_secret")) {
        (Some(_), _, Some(_)) => {
            return Err(Refusal::new(
                "invalid_request",
                "two ways of client authentication",
            ))
        }
        (Some(basic), ..) => decode_basic(basic.as_bytes()).ok_or_else(|| Refusal::client(true))?,
        (None, Some(id), Some(secret)) => (id.clone(), secret.clone()),
        (None, ..) => return Err(Refusal::client(false)),
    };
    let known = pool.clients.iter().find(|client| client.id == id);
    known
        .filter(|client| client.secret == secret)
        .ok_or_else(|| Refusal::client(basic.is_some()))
}

fn decode_basic(value: &[u8]) -> Option<(String, String)> {
    let (scheme, encoded) = std::str::from_utf8(value).ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?;
    let (id, secret) = pair.split_once(':')?;
    Some((id.to_owned(), secret.to_owned()))
}

/// An error answer of RFC 6749, section 5.2.
struct Refusal {
    status: StatusCode,
    error: &'static str,
    description: String,
    challenge: bool,
}

impl Refusal {
    fn new(error: &'static str, description: impl Into<String>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            error,
            description: description.into(),
            challenge: false,
        }
    }

    /// `invalid_client`; a client that tried the Authorization header is challenged for it.
    fn client(challenge: bool) -> Self {
        Self {
            status: StatusCode::UNAUTHORIZED,
            challenge,
            ..Self::new("invalid_client", "client authentication failed")
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = Json(json!({"error": self.error, "error_description": self.description}));
        let mut response = (self.status, [(header::CACHE_CONTROL, "no-store")], body).into_response();
        if self.challenge {
            let basic = header::HeaderValue::from_static("Basic realm=\"user pool\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, basic);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use reqwest::{header::AUTHORIZATION, Client, RequestBuilder};
    use serde_json::Value;

    use super::super::{tests::healthy, OpenId, OPERATOR, READER};
    use super::*;
    use crate::{jws::SigningKey, pki::Authority};

    async fn pool() -> (OpenId, Client) {
        let authority = Authority::generate("test").unwrap();
        let root = reqwest::Certificate::from_pem(authority.pem().as_bytes()).unwrap();
        let client = Client::builder()
            .tls_certs_only([root])
            .no_proxy()
            .build()
            .unwrap();
        let key = SigningKey::generate("k".into()).await.unwrap();
        (healthy(&authority, key).await, client)
    }

    async fn ask(request: RequestBuilder, body: String) -> (u16, Value) {
        let answer = request
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body)
            .send()
            .await
            .unwrap();
        let status = answer.status().as_u16();
        (
            status,
            serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap(),
        )
    }

    #[tokio::test]
    async fn a_client_gets_a_token_of_its_own_by_form_or_by_basic() {
        let (openid, http) = pool().await;
        for (client, group) in openid.clients().iter().zip(["readers", "operators"]) {
            let form = format!(
                "grant_type=client_credentials&client_id={}&client_secret={}",
                client.id, client.secret
            );
            let basic = STANDARD.encode(format!("{}:{}", client.id, client.secret));
            let with_basic = http
                .post(openid.token_url())
                .header(AUTHORIZATION, format!("Basic {basic}"));
            for (request, body) in [
                (http.post(openid.token_url()), form),
                (with_basic, "grant_type=client_credentials".to_owned()),
            ] {
                let (status, answer) = ask(request, body).await;
                assert_eq!((status, answer["token_type"].as_str()), (200, Some("Bearer")));
                let claims = openid
                    .pool
                    .live()
                    .verify(answer["access_token"].as_str().unwrap())
                    .unwrap();
                assert_eq!(claims["client_id"], client.id);
                assert_eq!(claims["cognito:groups"], json!([group]));
                assert_eq!(claims["token_use"], "access");
            }
        }
    }

    #[tokio::test]
    async fn everything_else_is_refused_in_the_words_of_the_rfc() {
        let (openid, http) = pool().await;
        let [reader, operator] = openid.clients().clone();
        let ok = format!("client_id={READER}&client_secret={}", reader.secret);
        for (body, status, error) in [
            (format!("{ok}&grant_type=password"), 400, "unsupported_grant_type"),
            (ok.clone(), 400, "invalid_request"),
            (
                format!("{ok}&grant_type=client_credentials&scope=orders/write"),
                400,
                "invalid_scope",
            ),
            (
                format!("{ok}&grant_type=client_credentials&grant_type=client_credentials"),
                400,
                "invalid_request",
            ),
            (
                format!(
                    "grant_type=client_credentials&client_id={OPERATOR}&client_secret={}",
                    reader.secret
                ),
                401,
                "invalid_client",
            ),
            (
                format!(
                    "grant_type=client_credentials&client_id=nobody&client_secret={}",
                    operator.secret
                ),
                401,
                "invalid_client",
            ),
            ("grant_type=client_credentials".into(), 401, "invalid_client"),
        ] {
            let (got, answer) = ask(http.post(openid.token_url()), body.clone()).await;
            assert_eq!((got, answer["error"].as_str()), (status, Some(error)), "{body}");
        }
    }
}
