//! The application on the Azure VM: it echoes what reaches it, and protects itself as an Entra-protected API
//! does.
//!
//! It is the witness of the tests: what it has not seen did not reach the VM. Its answer goes back to the
//! caller, so the bearer token, which is the *bridge's*, is left out of it; [`Seen`] has it, in this process
//! only.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::{
    body::to_bytes,
    extract::Request,
    http::{header, request::Parts, HeaderMap, Method, StatusCode},
    response::{IntoResponse as _, Response},
    Json, Router,
};
use serde_json::{json, Value};

use crate::{
    entra::{Directory, RESOURCE},
    jws::{now, BadToken},
    server::Server,
    CloudError,
};

/// How many requests, and how many token ids, are remembered.
const MEMORY: usize = 10_000;
const BODY_LIMIT: usize = 1 << 20;

/// The running application.
pub struct EchoApp {
    server: Server,
    state: Arc<State>,
}

/// A request that reached the application.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The method.
    pub method: String,
    /// The path, with its query.
    pub path: String,
    /// The header values by lower-case name, in order of arrival; bytes that are not UTF-8 as `\xNN`.
    pub headers: BTreeMap<String, Vec<String>>,
    /// The verdict on the bearer token.
    pub azure: Verdict,
}

/// What the application thinks of the bearer token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is Entra's, for this API, and in time.
    Valid {
        /// The application that the token was issued to.
        appid: String,
        /// The token's unique id.
        uti: String,
        /// Until when it is valid, Unix seconds.
        exp: u64,
        /// The app roles in it.
        roles: Vec<String>,
    },
    /// Why it is not.
    Invalid(&'static str),
}

impl Verdict {
    /// The application that a valid token was issued to.
    pub fn appid(&self) -> Option<&str> {
        match self {
            Self::Valid { appid, .. } => Some(appid),
            Self::Invalid(_) => None,
        }
    }
}

impl EchoApp {
    pub(crate) async fn start(directory: Arc<Directory>) -> Result<Self, CloudError> {
        let state = Arc::new(State {
            directory,
            memory: Mutex::default(),
        });
        let shared = Arc::clone(&state);
        let router = Router::new().fallback(move |request| async move { shared.answer(request).await });
        Ok(Self {
            server: Server::start(router, None).await?,
            state,
        })
    }

    /// Where it listens, plain HTTP, as behind a sidecar.
    pub fn address(&self) -> std::net::SocketAddr {
        self.server.address()
    }

    /// The last requests that reached it, oldest first; at most 10,000.
    pub fn seen(&self) -> Vec<Seen> {
        self.state.memory().ring.iter().cloned().collect()
    }

    /// How many requests have ever reached it.
    pub fn requests(&self) -> u64 {
        self.state.memory().requests
    }

    /// How many different valid Azure tokens it has seen of one application (`appid`).
    pub fn tokens_seen(&self, appid: &str) -> usize {
        let memory = self.state.memory();
        memory.utis.iter().filter(|(owner, _)| owner == appid).count()
    }
}

struct State {
    directory: Arc<Directory>,
    memory: Mutex<Memory>,
}

#[derive(Default)]
struct Memory {
    ring: VecDeque<Seen>,
    requests: u64,
    utis: HashSet<(String, String)>,
}

impl State {
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn answer(&self, request: Request) -> Response {
        let (parts, body) = request.into_parts();
        // Read to the end, so that a request with a body does not cost its connection.
        let body_bytes = to_bytes(body, BODY_LIMIT).await.map(|body| body.len()).ok();
        let seen = self.look_at(&parts);
        self.memory().remember(seen.clone());

        // What probes and browsers ask without a token is open here as in any app.
        let is_open = parts.method == Method::OPTIONS || parts.uri.path() == "/healthz";
        let status = match seen.azure {
            Verdict::Valid { .. } => StatusCode::OK,
            Verdict::Invalid(_) if is_open => StatusCode::OK,
            Verdict::Invalid(_) => StatusCode::UNAUTHORIZED,
        };
        let mut answer = seen.to_json();
        answer["body_bytes"] = json!(body_bytes);
        let mut response = (status, Json(answer)).into_response();
        if status == StatusCode::UNAUTHORIZED {
            let bearer = header::HeaderValue::from_static("Bearer");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, bearer);
        }
        response
    }

    fn look_at(&self, parts: &Parts) -> Seen {
        let mut headers = BTreeMap::<String, Vec<String>>::new();
        for (name, value) in &parts.headers {
            let text = match std::str::from_utf8(value.as_bytes()) {
                Ok(text) => text.to_owned(),
                Err(_) => value.as_bytes().escape_ascii().to_string(),
            };
            headers.entry(name.as_str().to_owned()).or_default().push(text);
        }
        Seen {
            method: parts.method.to_string(),
            path: parts.uri.to_string(),
            headers,
            azure: self.judge(&parts.headers).unwrap_or_else(Verdict::Invalid),
        }
    }

    /// Without any clock skew: an expired token is noticed in the second it expires.
    fn judge(&self, headers: &HeaderMap) -> Result<Verdict, &'static str> {
        let mut values = headers.get_all(header::AUTHORIZATION).iter();
        let (Some(value), None) = (values.next(), values.next()) else {
            return Err(match headers.contains_key(header::AUTHORIZATION) {
                true => "repeated_authorization",
                false => "no_token",
            });
        };
        let value = value.to_str().map_err(|_| "malformed")?;
        let token = value.strip_prefix("Bearer ").ok_or("no_token")?;
        let claims = self.directory.verify(token).map_err(|bad| match bad {
            BadToken::Malformed => "malformed",
            BadToken::Algorithm(_) => "algorithm",
            BadToken::UnknownKey => "unknown_key",
            BadToken::Signature => "signature",
        })?;
        if claims["iss"] != Directory::issuer() {
            return Err("issuer");
        }
        if claims["aud"] != RESOURCE {
            return Err("audience");
        }
        if claims["nbf"].as_u64().is_none_or(|nbf| nbf > now()) {
            return Err("not_yet_valid");
        }
        let exp = claims["exp"]
            .as_u64()
            .filter(|&exp| now() < exp)
            .ok_or("expired")?;
        let text = |name: &str| claims[name].as_str().unwrap_or_default().to_owned();
        let roles = claims["roles"].as_array().into_iter().flatten();
        Ok(Verdict::Valid {
            appid: text("appid"),
            uti: text("uti"),
            exp,
            roles: roles
                .filter_map(|role| role.as_str().map(str::to_owned))
                .collect(),
        })
    }
}

impl Memory {
    fn remember(&mut self, seen: Seen) {
        self.requests += 1;
        if let Verdict::Valid { appid, uti, .. } = &seen.azure {
            if self.utis.len() < MEMORY {
                self.utis.insert((appid.clone(), uti.clone()));
            }
        }
        if self.ring.len() == MEMORY {
            self.ring.pop_front();
        }
        self.ring.push_back(seen);
    }
}

impl Seen {
    /// The first value of a header, by lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.first().map(String::as_str)
    }

    fn to_json(&self) -> Value {
        let mut headers = self.headers.clone();
        for value in headers.get_mut("authorization").into_iter().flatten() {
            let scheme = value.split(' ').next().unwrap_or_default();
            *value = format!("{scheme} (not shown)");
        }
        let azure = match &self.azure {
            Verdict::Valid {
                appid,
                uti,
                exp,
                roles,
            } => json!({"valid": true, "appid": appid, "uti": uti, "exp": exp, "roles": roles}),
            Verdict::Invalid(error) => json!({"valid": false, "error": error}),
        };
        json!({"method": self.method, "path": self.path, "headers": headers, "azure": azure})
    }
}

#[cfg(test)]
mod tests;
