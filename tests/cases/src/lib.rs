//! The table of cases (`tests/cases/*.json`) and what it needs to be run: the filter's configuration, the keys, and
//! tokens minted at the time of the run. Three runners use it: the engine natively, the engine as WebAssembly under
//! Node, and a real Envoy with the shipped module.
//!
//! Development code with published keys.

mod token;

use serde::Deserialize;
use serde_json::{json, Value};

pub use token::{jwks, TokenSpec};

/// The issuer of every good token.
pub const ISSUER: &str = "https://idp.example/pool";

/// One case of the table.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// What must hold.
    pub name: String,
    /// Request method.
    #[serde(default = "get")]
    pub method: String,
    /// Request target.
    pub path: String,
    /// Token to mint and send as `Authorization: Bearer`.
    pub token: Option<TokenSpec>,
    /// Further header fields. Every character stands for the byte of its number, up to U+00FF.
    #[serde(default)]
    pub headers: Vec<(String, String)>,
    /// What must come of it.
    pub expect: Expect,
    /// What must come of it through Envoy, where Envoy acts before the filter sees the request.
    pub envoy: Option<Expect>,
}

/// What must come of a case.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// HTTP status; 200 means that the request reached the backend.
    pub status: u16,
    /// The filter's reason; nothing where Envoy itself refuses.
    pub reason: Option<String>,
    /// Header fields that the backend must see, each exactly once and with this value.
    #[serde(default)]
    pub upstream: Vec<(String, String)>,
    /// Header fields that must not reach the backend.
    #[serde(default)]
    pub absent: Vec<String>,
}

fn get() -> String {
    "GET".to_owned()
}

impl Case {
    /// The request's header fields as bytes, token included, for a run at `now` (seconds since 1970).
    pub fn header_fields(&self, now: u64) -> Vec<(String, Vec<u8>)> {
        let bytes = |text: &str| {
            text.chars()
                .map(|c| u8::try_from(c).expect("a case's character is no byte"))
                .collect()
        };
        let mut fields: Vec<(String, Vec<u8>)> = self
            .headers
            .iter()
            .map(|(name, value)| (name.clone(), bytes(value)))
            .collect();
        if let Some(token) = &self.token {
            fields.push((
                "authorization".to_owned(),
                format!("Bearer {}", token.mint(now)).into_bytes(),
            ));
        }
        fields
    }
}

/// All cases.
pub fn cases() -> Vec<Case> {
    serde_json::from_str(include_str!("../first_crossing.json")).expect("tests/cases/first_crossing.json")
}

/// The filter's configuration that the cases are written for, with the key set in line.
pub fn filter_config() -> Value {
    json!({
        "providers": [{
            "name": "pool", "preset": "cognito", "issuer": ISSUER, "audiences": ["orders-api"],
            "max_lifetime": "1h", "clock_skew": "30s", "jwks": {"inline": jwks()},
        }],
        "claims_to_headers": [
            {"claim": "sub", "header": "x-user"},
            {"claim": ["cognito:groups"], "header": "x-groups", "format": "csv"},
        ],
        "roles": [
            {
                "name": "metrics-reader", "credential": "azure/reader",
                "holders": [{"provider": "pool", "claim": ["cognito:groups"], "any": ["readers"]}],
                "allow": [{"methods": ["GET"], "paths": ["/metrics/**"]}],
            },
            {
                "name": "operator", "credential": "azure/operator",
                "holders": [{"provider": "pool", "claim": ["cognito:groups"], "any": ["operators"]}],
                "allow": [
                    {"methods": ["GET"], "paths": ["/metrics/**"]},
                    {"methods": ["*"], "paths": ["/storage/**"]},
                ],
                "deny": [{"methods": ["DELETE"], "paths": ["/storage/locked/**"]}],
            },
        ],
    })
}

#[cfg(target_arch = "wasm32")]
#[allow(unsafe_code, reason = "the registration macro exports a C symbol")]
mod randomness {
    // Signing with PKCS #1 v1.5 takes no randomness; the rsa crate links a source all the same.
    fn refuse(_buffer: &mut [u8]) -> Result<(), getrandom::Error> {
        Err(getrandom::Error::UNSUPPORTED)
    }

    getrandom::register_custom_getrandom!(refuse);
}
