//! The configuration as it is written: JSON, every field known, no name twice. [`Config::parse`] only reads it; the
//! modules that own an idea (provider, role …) compile their part into valid types and name the path of what is wrong.
//!
//! What may hold a key has no `Debug`: key sets in line may be symmetric.
//!
//! The descriptions here are those of the JSON Schema that `isthmus schema filter` prints.

use std::fmt;

use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;

use crate::{
    claims::{ClaimPath, Format},
    signature::Algorithm,
    strict_json,
    time::Span,
};

/// What is wrong with a configuration, and where.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{path}: {problem}")]
pub struct ConfigError {
    /// The JSON path of the offending value, as in `providers[0].jwks.uri`; `.` for the document itself.
    pub path: String,
    /// What was found or expected there.
    pub problem: String,
}

impl ConfigError {
    /// An error at `path`: `problem` says what was expected.
    pub(crate) fn at(path: impl fmt::Display, problem: impl fmt::Display) -> Self {
        Self {
            path: path.to_string(),
            problem: problem.to_string(),
        }
    }
}

/// The configuration of the Isthmus filter: Envoy's `configuration`, Istio's `pluginConfig`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub(crate) struct Config {
    /// Whose tokens are taken. A token goes to the provider whose issuer equals its `iss`.
    pub(crate) providers: Vec<ProviderConfig>,
    /// Claims that the backend is told.
    #[serde(default)]
    pub(crate) claims_to_headers: Vec<ClaimToHeaderConfig>,
    /// Who may do what. A request runs under the first role that its caller holds and that allows it.
    #[serde(default)]
    pub(crate) roles: Vec<RoleConfig>,
    /// What passes without a credential.
    #[serde(default)]
    pub(crate) public: Vec<RuleConfig>,
    /// What is done with decisions.
    #[serde(default)]
    pub(crate) mode: Mode,
    /// Whether CORS preflight requests pass without a credential, which they never have (Fetch, section 4.8).
    #[serde(default = "yes")]
    pub(crate) cors_preflight: bool,
    /// Whether refusals name their reason.
    #[serde(default = "yes")]
    pub(crate) details: bool,
    /// Who verifies RSA (PKCS #1 v1.5) and ECDSA signatures.
    #[serde(default)]
    pub(crate) crypto: CryptoMode,
}

impl Config {
    pub(crate) fn parse(text: &[u8]) -> Result<Self, ConfigError> {
        let document = strict_json::parse(text).map_err(|error| ConfigError::at(".", error))?;
        serde_path_to_error::deserialize(document).map_err(|error| match error.path().to_string() {
            path if path.is_empty() => ConfigError::at(".", error.inner()),
            path => ConfigError::at(path, error.inner()),
        })
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub(crate) enum Mode {
    /// What is refused does not pass.
    #[default]
    Enforce,
    /// Everything passes, with its credential; what would be refused is counted and audited as such.
    Shadow,
}

fn yes() -> bool {
    true
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub(crate) enum CryptoMode {
    /// The host where it has `verify_signature` and passes a self-test at start, else the module itself.
    #[default]
    Auto,
    /// The host; a host that does not pass the self-test is an error at start.
    Host,
    /// The module itself, always.
    Rust,
}

/// An identity provider.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub(crate) struct ProviderConfig {
    /// The name by which roles, audit events and metrics speak of it.
    pub(crate) name: String,
    /// What is known of the identity system that issues its tokens.
    pub(crate) preset: Preset,
    /// The exact `iss` of its tokens. `entra` derives it from `tenants`; there, a sovereign cloud's may be given, with
    /// `{tenantid}` in the place of the tenant.
    pub(crate) issuer: Option<String>,
    /// `entra`: the ids of the tenants whose tokens are taken.
    #[serde(default)]
    pub(crate) tenants: Vec<String>,
    /// The audiences of which a token must name one, exactly.
    pub(crate) audiences: Vec<String>,
    /// The signature algorithms that are taken; RS256 alone where nothing is said (`aws-sts`: RS256 and ES384).
    pub(crate) algorithms: Option<Vec<Algorithm>>,
    /// Where its keys come from.
    pub(crate) jwks: JwksConfig,
    /// Where its tokens may lie in a request; the `Authorization` header with `Bearer` where nothing is said.
    pub(crate) token_from: Option<Vec<SourceConfig>>,
    /// What must hold of a token's claims besides.
    #[serde(default)]
    pub(crate) require: Vec<RequireConfig>,
    /// The longest `exp` − `iat` that is taken. `iat` is then required.
    pub(crate) max_lifetime: Option<Span>,
    /// How far the provider's clock may be off; 30 s where nothing is said, at most 5 m.
    pub(crate) clock_skew: Option<Span>,
    /// Whether the caller's own token is left in the forwarded request.
    #[serde(default)]
    pub(crate) forward: bool,
}

/// What is known of an identity system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub(crate) enum Preset {
    /// Any OpenID provider.
    Oidc,
    /// Amazon Cognito user pools: access tokens by `client_id`, ID tokens by `aud`.
    Cognito,
    /// Microsoft Entra ID, v1 and v2 tokens.
    Entra,
    /// Okta custom authorization servers.
    Okta,
    /// AWS outbound identity federation (`sts:GetWebIdentityToken`).
    AwsSts,
}

/// Where the keys come from: `inline`, or `cluster` with one of `uri` and `discovery`.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub(crate) struct JwksConfig {
    /// The address of the key set.
    pub(crate) uri: Option<String>,
    /// The address of the provider's discovery document (OpenID Connect Discovery 1.0, RFC 8414), which names that of
    /// the key set.
    pub(crate) discovery: Option<String>,
    /// The Envoy cluster that reaches the address.
    pub(crate) cluster: Option<String>,
    /// With `discovery`: the Envoy cluster that reaches the key set, where that is another one.
    pub(crate) keys_cluster: Option<String>,
    /// The key set itself (RFC 7517). The only place for symmetric keys.
    pub(crate) inline: Option<Value>,
    /// How old fetched keys become before they are fetched again. Where nothing is said it is the answer's `Cache-Control`
    /// `max-age`, between 1 m and 12 h, and 5 m without one.
    pub(crate) refresh: Option<Span>,
    /// How old keys may become that the provider does not confirm; 24 h where nothing is said. They are refreshed before half
    /// of it, so that at least the other half is there for an outage.
    pub(crate) max_stale: Option<Span>,
}

/// A place in a request: exactly one of `header`, `query` and `cookie`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub(crate) struct SourceConfig {
    /// A header field's name.
    pub(crate) header: Option<String>,
    /// With `header`: what stands before the token, as in `"Bearer "`.
    pub(crate) prefix: Option<String>,
    /// A query parameter's name.
    pub(crate) query: Option<String>,
    /// A cookie's name.
    pub(crate) cookie: Option<String>,
}

/// A claim that must be there and, with `any`, must be or contain one of these values.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub(crate) struct RequireConfig {
    /// The claim.
    pub(crate) claim: ClaimPath,
    /// The values of which it must be or contain one.
    pub(crate) any: Option<Vec<String>>,
}

/// A claim and the header that it is written to.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub(crate) struct ClaimToHeaderConfig {
    /// The claim.
    pub(crate) claim: ClaimPath,
    /// The header's name, in lower case.
    pub(crate) header: String,
    /// How it is written; `plain` where nothing is said.
    #[serde(default)]
    pub(crate) format: Format,
}

/// A role: who holds it and what it may do.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub(crate) struct RoleConfig {
    /// The name by which headers, audit events and metrics speak of it.
    pub(crate) name: String,
    /// The name of the Azure credential that its requests get.
    pub(crate) credential: Option<String>,
    /// Who holds it: whom one of these describes.
    pub(crate) holders: Vec<HolderConfig>,
    /// What it may do.
    pub(crate) allow: Vec<RuleConfig>,
    /// What it may not do although it is allowed.
    #[serde(default)]
    pub(crate) deny: Vec<RuleConfig>,
}

/// Callers of a provider. All that is given must hold.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub(crate) struct HolderConfig {
    /// The provider's name.
    pub(crate) provider: String,
    /// A claim that is or contains one of the values `any`.
    pub(crate) claim: Option<ClaimPath>,
    /// The values of which the claim must be or contain one.
    pub(crate) any: Option<Vec<String>>,
    /// The ARNs of which the caller's must be one. `*` stands for any signs but `:` and `/`.
    pub(crate) arns: Option<Vec<String>>,
    /// The SPIFFE IDs of which the peer's certificate must have one; with `/*` at its end, one below it.
    pub(crate) spiffe_ids: Option<Vec<String>>,
}

/// Methods (`*`: any), hosts and path patterns (`*`: one segment, `**` at the end: everything below).
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub(crate) struct RuleConfig {
    /// Methods in upper case, or `*`.
    pub(crate) methods: Vec<String>,
    /// The hosts that it speaks of, in lower case and without ports; `*.example.org` for all below. Any host where
    /// nothing is said.
    pub(crate) hosts: Option<Vec<String>>,
    /// Path patterns, decoded and without a query.
    pub(crate) paths: Vec<String>,
}

/// Compiles a list, telling each element's path.
pub(crate) fn compile_each<C, T>(
    list: Vec<C>,
    at: &str,
    compile: impl Fn(C, &str) -> Result<T, ConfigError>,
) -> Result<Vec<T>, ConfigError> {
    list.into_iter()
        .enumerate()
        .map(|(place, element)| compile(element, &format!("{at}[{place}]")))
        .collect()
}

/// The JSON Schema (2020-12) of the configuration.
#[cfg(feature = "schema")]
pub fn schema() -> Value {
    schemars::schema_for!(Config).to_value()
}
