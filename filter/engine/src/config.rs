//! The configuration as it is written: JSON, every field known, no name twice. [`Config::parse`] only reads it; the
//! modules that own an idea (provider, role …) compile their part into valid types and name the path of what is wrong.

use std::fmt;

use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;

use crate::{
    claims::{ClaimPath, Format},
    jwks::Algorithm,
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

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) providers: Vec<ProviderConfig>,
    #[serde(default)]
    pub(crate) claims_to_headers: Vec<ClaimToHeaderConfig>,
    #[serde(default)]
    pub(crate) roles: Vec<RoleConfig>,
    #[serde(default)]
    pub(crate) public: Vec<RuleConfig>,
    #[serde(default)]
    #[allow(
        dead_code,
        reason = "there is one mode so far; reading the field keeps its spelling checked"
    )]
    pub(crate) mode: Mode,
}

impl Config {
    pub(crate) fn parse(text: &[u8]) -> Result<Self, ConfigError> {
        let document = strict_json::parse(text).map_err(|error| ConfigError::at(".", error))?;
        serde_path_to_error::deserialize(document)
            .map_err(|error| ConfigError::at(error.path(), error.inner()))
    }
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mode {
    #[default]
    Enforce,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProviderConfig {
    pub(crate) name: String,
    pub(crate) preset: Preset,
    pub(crate) issuer: String,
    pub(crate) audiences: Vec<String>,
    pub(crate) algorithms: Option<Vec<Algorithm>>,
    pub(crate) jwks: JwksConfig,
    pub(crate) max_lifetime: Option<Span>,
    pub(crate) clock_skew: Option<Span>,
    #[serde(default)]
    pub(crate) forward: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Preset {
    Oidc,
    Cognito,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct JwksConfig {
    pub(crate) uri: Option<String>,
    pub(crate) cluster: Option<String>,
    pub(crate) inline: Option<Value>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ClaimToHeaderConfig {
    pub(crate) claim: ClaimPath,
    pub(crate) header: String,
    #[serde(default)]
    pub(crate) format: Format,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RoleConfig {
    pub(crate) name: String,
    pub(crate) credential: Option<String>,
    pub(crate) holders: Vec<HolderConfig>,
    pub(crate) allow: Vec<RuleConfig>,
    #[serde(default)]
    pub(crate) deny: Vec<RuleConfig>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HolderConfig {
    pub(crate) provider: String,
    pub(crate) claim: Option<ClaimPath>,
    pub(crate) any: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RuleConfig {
    pub(crate) methods: Vec<String>,
    pub(crate) paths: Vec<String>,
}
