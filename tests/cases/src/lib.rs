//! The tables of cases (`tests/cases/*.json`) and what they need to be run: the filter's configurations, the keys, and
//! tokens minted at the time of the run. Three runners use them: the engine natively, the engine as WebAssembly under
//! Node, and a real Envoy with the shipped module.
//!
//! Development code with published keys.

mod config;
pub mod corpus;
mod key;
mod token;

use serde::Deserialize;
use serde_json::Value;

pub use config::{filter_config, jwks, providers_config, ISSUER, PEER};
pub use token::TokenSpec;

/// Cases that are run against one configuration, in their order and by one engine.
#[derive(Clone, Debug)]
pub struct Table {
    /// What they are about.
    pub name: &'static str,
    /// The filter's configuration.
    pub config: Value,
    /// The cases.
    pub cases: Vec<Case>,
}

/// One case of a table.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// What must hold.
    pub name: String,
    /// Request method.
    #[serde(default = "get")]
    pub method: String,
    /// Request target. `{token}` stands for the token.
    pub path: String,
    /// Token to mint. It is sent as `Authorization: Bearer` unless the target or a header field says `{token}`.
    pub token: Option<TokenSpec>,
    /// Further header fields. Every character stands for the byte of its number, up to U+00FF; `{token}` for the token.
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
    /// Header fields that the backend must see, each exactly once and with this value. `:path` is the target.
    #[serde(default)]
    pub upstream: Vec<(String, String)>,
    /// Header fields that must not reach the backend.
    #[serde(default)]
    pub absent: Vec<String>,
}

/// A case's request for a run at one time.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// Request target.
    pub path: String,
    /// Header fields, token included.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The token, to look for where it must not be.
    pub token: Option<String>,
}

fn get() -> String {
    "GET".to_owned()
}

impl Case {
    /// The request for a run at `now` (seconds since 1970).
    pub fn prepare(&self, now: u64) -> Prepared {
        const TOKEN: &str = "{token}";
        let token = self.token.as_ref().map(|token| token.mint(now));
        let filled = |text: &str| match &token {
            Some(token) => text.replace(TOKEN, token),
            None => text.to_owned(),
        };
        let bytes = |text: String| {
            text.chars()
                .map(|c| u8::try_from(c).expect("a case's character is no byte"))
                .collect()
        };
        let placed = self.path.contains(TOKEN) || self.headers.iter().any(|(_, value)| value.contains(TOKEN));
        let mut headers: Vec<(String, Vec<u8>)> = self
            .headers
            .iter()
            .map(|(name, value)| (name.clone(), bytes(filled(value))))
            .collect();
        if let Some(token) = token.as_ref().filter(|_| !placed) {
            headers.push(("authorization".to_owned(), format!("Bearer {token}").into_bytes()));
        }
        Prepared {
            path: filled(&self.path),
            headers,
            token,
        }
    }
}

/// All tables. Who verifies signatures must change nothing, so the one about tokens is there twice.
pub fn tables() -> Vec<Table> {
    let first = || parse(include_str!("../first_crossing.json"));
    let tokens = || parse(include_str!("../tokens.json"));
    vec![
        Table {
            name: "the first crossing",
            config: filter_config(),
            cases: first(),
        },
        Table {
            name: "tokens, verified by the host where it can",
            config: providers_config("auto"),
            cases: tokens(),
        },
        Table {
            name: "tokens, verified by the module",
            config: providers_config("rust"),
            cases: tokens(),
        },
    ]
}

fn parse(table: &str) -> Vec<Case> {
    serde_json::from_str(table).expect("a table of tests/cases")
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
