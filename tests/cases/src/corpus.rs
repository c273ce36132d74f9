//! Test data that nobody here wrote (`tests/corpus`), as one table of rows. The engine runs it natively, with a host's
//! cryptography in front and as WebAssembly under Node; the end-to-end tests send its requests through a real Envoy.
//!
//! The files are read strictly: a member that is not known here may mean that a row asks for more than is done with it.

mod attack;
mod istio;
mod policy;
mod rfc;
mod wycheproof;

use std::fmt;

use base64::{engine::general_purpose::URL_SAFE_NO_PAD, Engine as _};
use serde::Deserialize;
use serde_json::{json, Map, Value};

pub use policy::{Decision, DECISIONS};

/// One thing to verify, and what must come of it.
#[derive(Clone, Debug)]
pub struct Row {
    /// The set that it is from.
    pub set: Set,
    /// Unique over all sets: the set's folder, the case's own id, and `/bearer` where a JWS is sent as a bearer token.
    pub id: String,
    /// What is to be verified.
    pub check: Check,
    /// What the set says about it.
    pub label: Label,
    /// The engine's reason for a refusal, where no other one would be right.
    pub reason: Option<&'static str>,
}

/// The sets, as far as they are run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Set {
    /// Wycheproof's JSON Web Signatures.
    WycheproofJws,
    /// Wycheproof's signatures and MACs over plain messages.
    WycheproofRaw,
    /// The examples of RFC 7515, 7520, 7797 and 8037.
    Rfc,
    /// Attacks on JWT validators, with good tokens as control.
    Attack,
    /// Istio's sample tokens.
    Istio,
}

/// How a row is verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A JWS, by its signature alone.
    Jws,
    /// A signature over a message that is no JWS.
    Raw,
    /// A request, by everything that the filter asks of it.
    Bearer,
}

/// What is to be verified.
#[derive(Clone, Debug)]
pub enum Check {
    /// A JWS, with one of the keys of a JWK set.
    JwsWithSet {
        /// The JWS.
        jws: String,
        /// The set.
        jwks: Value,
    },
    /// A JWS, with one JWK.
    JwsWithKey {
        /// The JWS.
        jws: String,
        /// The key.
        jwk: Value,
    },
    /// A signature or MAC over a message.
    Raw {
        /// The algorithm's name (RFC 7518, section 3.1).
        algorithm: String,
        /// The key.
        jwk: Value,
        /// The message.
        message: Vec<u8>,
        /// The signature, in the form that it has in a JWS.
        signature: Vec<u8>,
    },
    /// A request to the filter.
    Request(Request),
}

/// A request with a credential, for a filter with a configuration.
#[derive(Clone, Debug)]
pub struct Request {
    /// What it carries.
    pub credential: Credential,
    /// The filter's configuration: one provider, and one role that whoever is known holds and that may do everything.
    pub filter_config: Value,
    /// When, in seconds since 1970, it would be in time; nothing if it is today.
    pub now: Option<u64>,
    /// Header fields that the backend must see if the request passes.
    pub upstream: Vec<(String, String)>,
    /// Header fields that must never reach the backend.
    pub absent: Vec<String>,
}

/// What a request carries.
#[derive(Clone, Debug)]
pub enum Credential {
    /// `Authorization: Bearer` and this, byte for byte.
    Bearer(String),
    /// These header fields, byte for byte.
    Raw(Vec<(String, String)>),
}

/// What a set says about a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Label {
    /// It is genuine.
    Accept,
    /// It is not.
    Reject,
    /// The set leaves it to the validator, or says nothing of this use of it: [`DECISIONS`] has what is right here.
    Policy,
}

/// What must come of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is taken.
    Accept,
    /// It is refused.
    Reject,
}

/// Every row of every set.
pub fn rows() -> Vec<Row> {
    [
        wycheproof::jws(),
        wycheproof::raw(),
        rfc::rows(),
        attack::rows(),
        istio::rows(),
    ]
    .concat()
}

/// The filter's configuration that comes with the attacks: the one that a real Envoy gets.
pub fn filter_config() -> Value {
    attack::filter_config()
}

// === impl Row ===

impl Row {
    /// What must come of it. Panics on a row that is neither labelled nor decided; there is none.
    pub fn verdict(&self) -> Verdict {
        match (self.label, self.decision()) {
            (Label::Accept, _) => Verdict::Accept,
            (Label::Reject, _) => Verdict::Reject,
            (Label::Policy, Some(decision)) => decision.verdict,
            (Label::Policy, None) => panic!("{}: a policy row without a decision", self.id),
        }
    }

    /// The reason with which it must be refused, where only one would be right.
    pub fn reason(&self) -> Option<&'static str> {
        self.reason
            .or_else(|| self.decision().and_then(|decision| decision.reason))
    }

    /// What was decided about it.
    pub fn decision(&self) -> Option<&'static Decision> {
        DECISIONS.iter().find(|decision| decision.row == self.id)
    }

    /// How it is verified.
    pub fn kind(&self) -> Kind {
        match self.check {
            Check::JwsWithSet { .. } | Check::JwsWithKey { .. } => Kind::Jws,
            Check::Raw { .. } => Kind::Raw,
            Check::Request(_) => Kind::Bearer,
        }
    }

    /// The algorithm that it names, if it names one where it should.
    pub fn algorithm(&self) -> Option<String> {
        let token = match &self.check {
            Check::Raw { algorithm, .. } => return Some(algorithm.clone()),
            Check::JwsWithSet { jws, .. } | Check::JwsWithKey { jws, .. } => jws,
            Check::Request(request) => match &request.credential {
                Credential::Bearer(token) => token,
                Credential::Raw(_) => return None,
            },
        };
        Some(part(token, 0)?.get("alg")?.as_str()?.to_owned())
    }
}

// === impl Request ===

impl Request {
    /// The header fields with the credential.
    pub fn header_fields(&self) -> Vec<(String, Vec<u8>)> {
        match &self.credential {
            Credential::Bearer(token) => {
                vec![("authorization".to_owned(), format!("Bearer {token}").into_bytes())]
            }
            Credential::Raw(fields) => fields
                .iter()
                .map(|(name, value)| (name.clone(), value.clone().into_bytes()))
                .collect(),
        }
    }
}

// === impl Set ===

impl Set {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::WycheproofJws,
        Self::WycheproofRaw,
        Self::Rfc,
        Self::Attack,
        Self::Istio,
    ];

    /// How many cases its files hold, counted without reading them.
    pub fn cases(self) -> usize {
        let lines = |text: &str| text.lines().filter(|line| !line.is_empty()).count();
        match self {
            Self::WycheproofJws => lines(wycheproof::JWS),
            Self::WycheproofRaw => lines(wycheproof::RAW),
            Self::Rfc => lines(rfc::CASES),
            Self::Attack => lines(attack::CASES),
            Self::Istio => istio::TOKENS.len(),
        }
    }

    /// The ways in which each of its cases is verified.
    pub fn kinds(self) -> &'static [Kind] {
        match self {
            Self::WycheproofJws | Self::Rfc | Self::Istio => &[Kind::Jws, Kind::Bearer],
            Self::WycheproofRaw => &[Kind::Raw],
            Self::Attack => &[Kind::Bearer],
        }
    }
}

impl fmt::Display for Set {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::WycheproofJws => "wycheproof/jws",
            Self::WycheproofRaw => "wycheproof/prim",
            Self::Rfc => "rfc-jose",
            Self::Attack => "jwt-attack",
            Self::Istio => "istio-jwt",
        })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Jws => "JWS",
            Self::Raw => "raw signature",
            Self::Bearer => "bearer token",
        })
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Accept => "accept",
            Self::Reject => "reject",
        })
    }
}

/// The audience of every configuration here.
const AUDIENCE: &str = "foo";

/// A JWS as a bearer token.
fn bearer(token: &str, filter_config: Value, now: Option<u64>) -> Check {
    Check::Request(Request {
        credential: Credential::Bearer(token.to_owned()),
        filter_config,
        now,
        upstream: Vec::new(),
        absent: Vec::new(),
    })
}

/// A configuration with one provider, and a role that whoever is known holds and that may do everything. Its credential is one
/// that the shipped Envoy configuration has a route for.
fn config_with_provider(
    issuer: &str,
    audience: &str,
    algorithms: &[String],
    jwks: &Value,
    claims_to_headers: &Map<String, Value>,
) -> Value {
    let headers: Vec<Value> = claims_to_headers
        .iter()
        .map(|(claim, header)| json!({"claim": claim, "header": header}))
        .collect();
    json!({
        "providers": [{
            "name": "corpus", "preset": "oidc", "issuer": issuer, "audiences": [audience],
            "algorithms": algorithms, "jwks": {"inline": jwks},
        }],
        "claims_to_headers": headers,
        "roles": [{
            "name": "anyone", "credential": "azure/reader",
            "holders": [{"provider": "corpus"}],
            "allow": [{"methods": ["*"], "paths": ["/**"]}],
        }],
    })
}

/// The cases of a file with one JSON document on each line.
fn lines<'t, T: Deserialize<'t>>(text: &'t str, file: &str) -> Vec<T> {
    let case = |(place, line): (usize, &'t str)| {
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{file}, line {}: {error}", place + 1))
    };
    text.lines().enumerate().map(case).collect()
}

/// A part of a token as JSON, if it is that.
fn part(token: &str, place: usize) -> Option<Value> {
    let bytes = URL_SAFE_NO_PAD.decode(token.split('.').nth(place)?).ok()?;
    serde_json::from_slice(&bytes).ok()
}

#[cfg(test)]
mod tests;
