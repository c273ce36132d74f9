//! Attacks on JWT validators, with good tokens as control, and the provider that they are made for.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    config_with_provider, lines, part, Check, Credential, Label, Request, Row, Set, AUDIENCE, DECISIONS,
};

pub(super) const CASES: &str = include_str!("../../../corpus/jwt-attack/derived_cases.dev.jsonl");
const CONFIG: &str = include_str!("../../../corpus/jwt-attack/derived_filter_config.json");
const KEYS: &str = include_str!("../../../corpus/jwt-attack/derived_jwks.json");

/// Cases whose name says what is wrong with them, by the beginning of their id.
const REASONS: [(&str, &str); 9] = [
    ("alg-none/none", "algorithm_not_allowed"),
    ("alg-none/NONE", "algorithm_not_allowed"),
    ("alg-none/space", "algorithm_not_allowed"),
    ("base64/", "malformed_token"),
    ("claims/payload-", "malformed_token"),
    ("claims/dup-", "malformed_token"),
    ("claims/exp-past", "expired"),
    ("claims/iss-", "unknown_issuer"),
    ("claims/aud-", "wrong_audience"),
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(
    dead_code,
    reason = "every member is named, so that one with a meaning of its own is noticed"
)]
struct Case {
    id: String,
    class: String,
    /// What goes after `Bearer `.
    jwt: Option<String>,
    /// A whole `Authorization` field.
    authorization: Option<String>,
    /// Whole fields.
    headers: Option<Vec<(String, String)>>,
    expect: Label,
    upstream_must_not_have: Option<String>,
    /// Nothing may be fetched because of it; here that holds of every case.
    #[serde(default)]
    no_egress: bool,
    why: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Provider {
    issuer: String,
    audience: String,
    allowed_algs: Vec<String>,
    claims_to_headers: Map<String, Value>,
    require_exp: bool,
}

pub(super) fn filter_config() -> Value {
    let provider = provider();
    let jwks = serde_json::from_str(KEYS).expect("derived_jwks.json");
    config_with_provider(
        &provider.issuer,
        &provider.audience,
        &provider.allowed_algs,
        &jwks,
        &provider.claims_to_headers,
    )
}

pub(super) fn rows() -> Vec<Row> {
    read(CASES)
}

pub(super) fn read(text: &str) -> Vec<Row> {
    let cases: Vec<Case> = lines(text, "derived_cases.dev.jsonl");
    let (config, provider) = (filter_config(), provider());
    cases
        .into_iter()
        .map(|case| case.into_row(&config, &provider))
        .collect()
}

// === impl Case ===

impl Case {
    fn into_row(self, config: &Value, provider: &Provider) -> Row {
        let id = format!("{}/{}", Set::Attack, self.id);
        let decided = DECISIONS.iter().find(|decision| decision.row == id);
        let absent: Vec<String> = decided
            .iter()
            .flat_map(|decision| decision.absent)
            .map(|name| (*name).to_owned())
            .chain(self.upstream_must_not_have)
            .collect();
        let mut upstream = self
            .jwt
            .as_deref()
            .map_or_else(Vec::new, |jwt| claim_headers(jwt, provider));
        upstream.retain(|(name, _)| !absent.contains(name));
        let credential = match (self.jwt, self.authorization, self.headers) {
            (Some(jwt), None, None) => Credential::Bearer(jwt),
            (None, Some(value), None) => Credential::Raw(vec![("authorization".to_owned(), value)]),
            (None, None, Some(fields)) => Credential::Raw(fields),
            _ => panic!("{}: not exactly one credential", self.id),
        };
        let reason = REASONS.iter().find(|(prefix, _)| self.id.starts_with(prefix));
        Row {
            set: Set::Attack,
            id,
            check: Check::Request(Request {
                credential,
                filter_config: config.clone(),
                now: None,
                upstream,
                absent,
            }),
            label: self.expect,
            reason: reason.map(|(_, reason)| *reason),
        }
    }
}

fn provider() -> Provider {
    let provider: Provider = serde_json::from_str(CONFIG).expect("derived_filter_config.json");
    assert!(provider.require_exp, "the filter always asks for `exp`");
    assert_eq!(provider.audience, AUDIENCE);
    provider
}

/// What the backend must be told if the token is taken.
fn claim_headers(jwt: &str, provider: &Provider) -> Vec<(String, String)> {
    let Some(claims) = part(jwt, 1) else {
        return Vec::new();
    };
    let header = |(claim, header): (&String, &Value)| {
        let value = claims.get(claim)?.as_str()?;
        Some((header.as_str()?.to_owned(), value.to_owned()))
    };
    provider.claims_to_headers.iter().filter_map(header).collect()
}
