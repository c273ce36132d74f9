//! Identity providers: whose tokens are taken, and what must be true of their claims (RFC 7519, section 4.1; RFC 8725).

mod preset;

use base64::{engine::general_purpose::URL_SAFE_NO_PAD, Engine as _};
use serde_json::Value;

use crate::{
    claims::Claims,
    config::{compile_each, ConfigError, Preset, ProviderConfig, RequireConfig, SourceConfig},
    credential::Source,
    jwks::Key,
    signature::Algorithm,
    time::UnixMillis,
    Reason,
};
use preset::{has_groups_overage, is_guid, is_key_issuer_of, ENTRA_ISSUERS, TENANT};

const DEFAULT_CLOCK_SKEW_SECONDS: f64 = 30.0;
const MAX_CLOCK_SKEW_SECONDS: f64 = 300.0;

/// One identity provider.
#[derive(Debug)]
pub(crate) struct Provider {
    pub(crate) name: String,
    /// Whether the caller's own credential is left in the forwarded request.
    pub(crate) forward: bool,
    /// Where its tokens may lie.
    pub(crate) sources: Vec<Source>,
    preset: Preset,
    /// The `iss` values of its tokens; Entra's with [`TENANT`] in the tenant's place.
    issuers: Vec<String>,
    tenants: Vec<String>,
    audiences: Vec<String>,
    algorithms: Vec<Algorithm>,
    require: Vec<RequireConfig>,
    clock_skew: f64,
    max_lifetime: Option<f64>,
}

/// Who a verified token speaks of.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Identity {
    pub(crate) issuer: String,
    pub(crate) subject: Option<String>,
    /// The application that the token was issued to.
    pub(crate) client: Option<String>,
    pub(crate) token_id: Option<String>,
    /// When the token is taken, clock skew included (POSIX time): from here …
    pub(crate) valid_from: f64,
    /// … to before this.
    pub(crate) valid_until: f64,
    /// SHA-256 of the client certificate that the token is bound to, in lower-case hexadecimal (RFC 8705, section 3.1).
    pub(crate) bound_to: Option<String>,
}

impl Provider {
    pub(crate) fn compile(config: ProviderConfig, keys_in_line: bool, at: &str) -> Result<Self, ConfigError> {
        let wrong = |field: &str, problem: &str| ConfigError::at(format_args!("{at}.{field}"), problem);
        if config.name.is_empty() || config.name.chars().any(char::is_control) {
            return Err(wrong(
                "name",
                "expected a text that is not empty and has no control characters",
            ));
        }
        let issuers = issuers(&config, wrong)?;
        if config.audiences.is_empty() || config.audiences.iter().any(String::is_empty) {
            let problem = "expected the audiences that tokens must name, at least one and none empty";
            return Err(wrong("audiences", problem));
        }
        let algorithms = config
            .algorithms
            .unwrap_or_else(|| config.preset.default_algorithms());
        if algorithms.is_empty() {
            return Err(wrong("algorithms", "expected at least one algorithm"));
        }
        if algorithms.iter().any(|algorithm| algorithm.is_symmetric()) && !keys_in_line {
            let problem =
                "HS256, HS384 and HS512 need a key that only both ends know: expected it in \"jwks.inline\"";
            return Err(wrong("algorithms", problem));
        }
        let clock_skew = config
            .clock_skew
            .map_or(DEFAULT_CLOCK_SKEW_SECONDS, |span| span.0.as_secs_f64());
        if clock_skew > MAX_CLOCK_SKEW_SECONDS {
            return Err(wrong("clock_skew", "expected at most \"5m\""));
        }
        let max_lifetime = config.max_lifetime.map(|span| span.0.as_secs_f64());
        if max_lifetime == Some(0.0) {
            return Err(wrong("max_lifetime", "expected more than no time"));
        }
        for (place, rule) in config.require.iter().enumerate() {
            if rule.any.as_ref().is_some_and(Vec::is_empty) {
                return Err(wrong(
                    &format!("require[{place}].any"),
                    "expected the values that the claim may have",
                ));
            }
        }
        Ok(Self {
            name: config.name,
            forward: config.forward,
            sources: sources(config.token_from, at)?,
            preset: config.preset,
            issuers,
            tenants: config.tenants,
            audiences: config.audiences,
            algorithms,
            require: config.require,
            clock_skew,
            max_lifetime,
        })
    }

    /// Every `iss` whose tokens are this provider's.
    pub(crate) fn issuers(&self) -> Vec<String> {
        match self.preset {
            Preset::Entra => self
                .issuers
                .iter()
                .flat_map(|issuer| self.tenants.iter().map(|tenant| issuer.replace(TENANT, tenant)))
                .collect(),
            _ => self.issuers.clone(),
        }
    }

    /// The issuers that the provider's discovery document may name: Entra's names the template itself or one tenant's.
    pub(crate) fn discovery_issuers(&self) -> Vec<String> {
        let mut issuers = self.issuers();
        issuers.extend(self.issuers.iter().cloned());
        issuers
    }

    pub(crate) fn allows_algorithm(&self, algorithm: Algorithm) -> bool {
        self.algorithms.contains(&algorithm)
    }

    /// Whether a key of the provider's set speaks for the token's tenant: Entra's sets hold keys of other tenants.
    pub(crate) fn allows_key_of(&self, key: &Key, claims: &Claims) -> bool {
        match (self.preset, &key.issuer) {
            (Preset::Entra, Some(issuer)) => {
                claims.get("tid").and_then(Value::as_str).is_some_and(|tenant| {
                    let named = issuer.replace(TENANT, tenant);
                    is_key_issuer_of(tenant, issuer)
                        || self
                            .issuers
                            .iter()
                            .any(|own| own.replace(TENANT, tenant) == named)
                })
            }
            _ => true,
        }
    }

    /// Checks the claims of a token whose signature and issuer are this provider's.
    pub(crate) fn accept(&self, claims: &Claims, now: UnixMillis) -> Result<Identity, Reason> {
        let (valid_from, valid_until) = self.check_times(claims, now)?;
        let issuer = text(claims, "iss")?.ok_or(Reason::UnknownIssuer)?;
        if self.preset == Preset::Entra {
            self.check_tenant(claims, issuer)?;
        }
        self.check_audience(claims)?;
        let bound_to = bound_certificate(claims)?;
        if self.preset == Preset::Entra && has_groups_overage(claims) {
            return Err(Reason::GroupsOverage);
        }
        for rule in &self.require {
            let holds = match &rule.any {
                Some(values) => rule.claim.holds_any(claims, values),
                None => rule.claim.find(claims).is_some_and(|claim| !claim.is_null()),
            };
            if !holds {
                return Err(Reason::RequirementNotMet);
            }
        }
        Ok(Identity {
            issuer: issuer.to_owned(),
            subject: self.preset.subject(claims)?,
            client: self.preset.client(claims)?,
            token_id: text(claims, "jti")?
                .or(self.entra_token_id(claims))
                .map(str::to_owned),
            valid_from,
            valid_until,
            bound_to,
        })
    }

    /// Entra's tokens have no `jti`.
    fn entra_token_id<'c>(&self, claims: &'c Claims) -> Option<&'c str> {
        (self.preset == Preset::Entra)
            .then(|| claims.get("uti")?.as_str())
            .flatten()
    }

    /// `exp` is required; the token is good before it, not at it (RFC 7519, section 4.1.4).
    /// Gives the time in which the token is taken.
    fn check_times(&self, claims: &Claims, now: UnixMillis) -> Result<(f64, f64), Reason> {
        let now = now.as_seconds();
        let expires = instant(claims, "exp")?.ok_or(Reason::InvalidClaim)?;
        let issued = instant(claims, "iat")?;
        let not_before = instant(claims, "nbf")?;
        let begins = [issued, not_before]
            .into_iter()
            .flatten()
            .fold(f64::NEG_INFINITY, f64::max);
        let (valid_from, valid_until) = (begins - self.clock_skew, expires + self.clock_skew);
        if now >= valid_until {
            return Err(Reason::Expired);
        }
        if now < valid_from {
            return Err(Reason::NotYetValid);
        }
        if let Some(longest) = self.max_lifetime {
            let issued = issued.ok_or(Reason::InvalidClaim)?;
            if expires - issued > longest {
                return Err(Reason::LifetimeTooLong);
            }
        }
        Ok((valid_from, valid_until))
    }

    /// The tenant is one of ours, and the issuer is that tenant's.
    fn check_tenant(&self, claims: &Claims, issuer: &str) -> Result<(), Reason> {
        let tenant = text(claims, "tid")?.ok_or(Reason::InvalidClaim)?;
        let ours = self.tenants.iter().any(|own| own == tenant);
        let issued_there = self
            .issuers
            .iter()
            .any(|own| own.replace(TENANT, tenant) == issuer);
        (ours && issued_there).then_some(()).ok_or(Reason::UnknownIssuer)
    }

    fn check_audience(&self, claims: &Claims) -> Result<(), Reason> {
        let ours = |audience: &str| self.audiences.iter().any(|own| own == audience);
        let claim = self.preset.audience_claim(claims)?;
        let addressed_to_us = match claims.get(claim) {
            Some(Value::String(audience)) => ours(audience),
            // All of them text: a list with something else in it is none of RFC 7519, section 4.1.3.
            Some(Value::Array(audiences)) if claim == "aud" => {
                let texts: Option<Vec<&str>> = audiences.iter().map(Value::as_str).collect();
                texts.is_some_and(|texts| texts.into_iter().any(ours))
            }
            _ => false,
        };
        addressed_to_us.then_some(()).ok_or(Reason::WrongAudience)
    }
}

/// The issuers of a provider, each preset's own rule applied.
fn issuers(
    config: &ProviderConfig,
    wrong: impl Fn(&str, &str) -> ConfigError,
) -> Result<Vec<String>, ConfigError> {
    let given = config.issuer.as_deref().filter(|issuer| !issuer.is_empty());
    if config.preset != Preset::Entra {
        if !config.tenants.is_empty() {
            return Err(wrong("tenants", "only the preset \"entra\" has tenants"));
        }
        let issuer =
            given.ok_or_else(|| wrong("issuer", "expected the exact \"iss\" of the provider's tokens"))?;
        if config.preset == Preset::Okta && !issuer.contains("/oauth2/") {
            let problem = "expected a custom authorization server (\"https://…/oauth2/<id>\"): access tokens of the org server \
                           are opaque by contract";
            return Err(wrong("issuer", problem));
        }
        return Ok(vec![issuer.to_owned()]);
    }
    if config.tenants.is_empty() {
        return Err(wrong(
            "tenants",
            "expected the ids of the tenants whose tokens are taken",
        ));
    }
    if let Some(place) = config.tenants.iter().position(|tenant| !is_guid(tenant)) {
        return Err(wrong(
            &format!("tenants[{place}]"),
            "expected a tenant id: a GUID in lower case",
        ));
    }
    match given {
        None if config.issuer.is_some() => Err(wrong("issuer", "expected a text that is not empty")),
        None => Ok(ENTRA_ISSUERS.map(str::to_owned).to_vec()),
        Some(issuer) if issuer.contains(TENANT) => Ok(vec![issuer.to_owned()]),
        Some(_) => Err(wrong(
            "issuer",
            "expected \"{tenantid}\" in the place of the tenant",
        )),
    }
}

fn sources(config: Option<Vec<SourceConfig>>, at: &str) -> Result<Vec<Source>, ConfigError> {
    let Some(config) = config else {
        return Ok(vec![Source::bearer()]);
    };
    let at = format!("{at}.token_from");
    if config.is_empty() {
        return Err(ConfigError::at(at, "expected at least one place"));
    }
    compile_each(config, &at, Source::compile)
}

/// A NumericDate (RFC 7519, section 2): a JSON number, a fraction allowed.
fn instant(claims: &Claims, name: &str) -> Result<Option<f64>, Reason> {
    claims
        .get(name)
        .map(|value| value.as_f64().ok_or(Reason::InvalidClaim))
        .transpose()
}

fn text<'c>(claims: &'c Claims, name: &str) -> Result<Option<&'c str>, Reason> {
    claims
        .get(name)
        .map(|value| value.as_str().ok_or(Reason::InvalidClaim))
        .transpose()
}

/// The certificate that `cnf` binds the token to. Any other kind of binding is one that nobody here can prove.
fn bound_certificate(claims: &Claims) -> Result<Option<String>, Reason> {
    let Some(confirmation) = claims.get("cnf") else {
        return Ok(None);
    };
    let members = confirmation.as_object().ok_or(Reason::UnprovenBinding)?;
    let thumbprint = match (members.len(), members.get("x5t#S256")) {
        (1, Some(Value::String(text))) => URL_SAFE_NO_PAD.decode(text).ok(),
        _ => None,
    };
    let digest = thumbprint
        .filter(|bytes| bytes.len() == 32)
        .ok_or(Reason::UnprovenBinding)?;
    Ok(Some(digest.iter().map(|byte| format!("{byte:02x}")).collect()))
}

#[cfg(test)]
mod tests;
