//! Identity providers: whose tokens are taken, and what must be true of their claims (RFC 7519, section 4.1; RFC 8725).

use base64::{engine::general_purpose::URL_SAFE_NO_PAD, Engine as _};
use serde_json::Value;

use crate::{
    claims::Claims,
    config::{ConfigError, Preset, ProviderConfig},
    jwks::Algorithm,
    time::UnixMillis,
    Reason,
};

const DEFAULT_CLOCK_SKEW_SECONDS: f64 = 30.0;
const MAX_CLOCK_SKEW_SECONDS: f64 = 300.0;

/// One identity provider.
#[derive(Debug)]
pub(crate) struct Provider {
    pub(crate) name: String,
    pub(crate) issuer: String,
    /// Whether the caller's own credential is left in the forwarded request.
    pub(crate) forward: bool,
    preset: Preset,
    audiences: Vec<String>,
    algorithms: Vec<Algorithm>,
    clock_skew: f64,
    max_lifetime: Option<f64>,
}

/// Who a verified token speaks of.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Identity {
    pub(crate) subject: Option<String>,
    pub(crate) token_id: Option<String>,
    /// The last second at which the token is taken, clock skew included (POSIX time).
    pub(crate) valid_until: f64,
    /// SHA-256 of the client certificate that the token is bound to, in lower-case hexadecimal (RFC 8705, section 3.1).
    pub(crate) bound_to: Option<String>,
}

impl Provider {
    pub(crate) fn compile(config: ProviderConfig, at: &str) -> Result<Self, ConfigError> {
        let required = |text: &str, field: &str| {
            if text.is_empty() {
                return Err(ConfigError::at(
                    format_args!("{at}.{field}"),
                    "expected a text that is not empty",
                ));
            }
            Ok(())
        };
        required(&config.name, "name")?;
        required(&config.issuer, "issuer")?;
        if config.audiences.is_empty() || config.audiences.iter().any(String::is_empty) {
            let problem = "expected the audiences that tokens must name, at least one and none empty";
            return Err(ConfigError::at(format_args!("{at}.audiences"), problem));
        }
        let algorithms = config.algorithms.unwrap_or_else(|| vec![Algorithm::Rs256]);
        if algorithms.is_empty() {
            return Err(ConfigError::at(
                format_args!("{at}.algorithms"),
                "expected at least one algorithm",
            ));
        }
        let clock_skew = config
            .clock_skew
            .map_or(DEFAULT_CLOCK_SKEW_SECONDS, |span| span.0.as_secs_f64());
        if clock_skew > MAX_CLOCK_SKEW_SECONDS {
            return Err(ConfigError::at(
                format_args!("{at}.clock_skew"),
                "expected at most \"5m\"",
            ));
        }
        Ok(Self {
            name: config.name,
            issuer: config.issuer,
            forward: config.forward,
            preset: config.preset,
            audiences: config.audiences,
            algorithms,
            clock_skew,
            max_lifetime: config.max_lifetime.map(|span| span.0.as_secs_f64()),
        })
    }

    pub(crate) fn allows_algorithm(&self, algorithm: Algorithm) -> bool {
        self.algorithms.contains(&algorithm)
    }

    /// Checks the claims of a token whose signature and issuer are this provider's.
    pub(crate) fn accept(&self, claims: &Claims, now: UnixMillis) -> Result<Identity, Reason> {
        let expires = self.check_times(claims, now)?;
        self.check_audience(claims)?;
        Ok(Identity {
            subject: text(claims, "sub")?.map(str::to_owned),
            token_id: text(claims, "jti")?.map(str::to_owned),
            valid_until: expires + self.clock_skew,
            bound_to: bound_certificate(claims)?,
        })
    }

    /// `exp` is required; the token is good before it, not at it (RFC 7519, section 4.1.4).
    fn check_times(&self, claims: &Claims, now: UnixMillis) -> Result<f64, Reason> {
        let now = now.as_seconds();
        let expires = instant(claims, "exp")?.ok_or(Reason::InvalidClaim)?;
        let issued = instant(claims, "iat")?;
        let not_before = instant(claims, "nbf")?;
        if now >= expires + self.clock_skew {
            return Err(Reason::Expired);
        }
        let ahead = |instant: Option<f64>| instant.is_some_and(|instant| instant > now + self.clock_skew);
        if ahead(not_before) || ahead(issued) {
            return Err(Reason::NotYetValid);
        }
        if let Some(longest) = self.max_lifetime {
            let issued = issued.ok_or(Reason::InvalidClaim)?;
            if expires - issued > longest {
                return Err(Reason::LifetimeTooLong);
            }
        }
        Ok(expires)
    }

    fn check_audience(&self, claims: &Claims) -> Result<(), Reason> {
        let ours = |audience: &Value| {
            audience
                .as_str()
                .is_some_and(|audience| self.audiences.iter().any(|own| own == audience))
        };
        let claim = match self.preset {
            Preset::Oidc => "aud",
            // An access token of Cognito names its client in `client_id` and has no `aud`; an ID token has `aud`.
            Preset::Cognito => match text(claims, "token_use")? {
                Some("access") => "client_id",
                Some("id") => "aud",
                _ => return Err(Reason::WrongTokenUse),
            },
        };
        let addressed_to_us = match claims.get(claim) {
            Some(Value::Array(audiences)) if claim == "aud" => audiences.iter().any(ours),
            Some(audience) => ours(audience),
            None => false,
        };
        addressed_to_us.then_some(()).ok_or(Reason::WrongAudience)
    }
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
mod tests {
    use serde_json::json;
    use wasm_bindgen_test::wasm_bindgen_test;

    use super::*;

    const NOW: UnixMillis = UnixMillis(1_700_000_000_000);

    fn provider(extra: Value) -> Result<Provider, ConfigError> {
        let mut config = json!({
            "name": "idp", "preset": "oidc", "issuer": "https://idp.example", "audiences": ["api", "api-2"],
            "jwks": {"inline": {"keys": []}},
        });
        if let (Some(members), Some(extra)) = (config.as_object_mut(), extra.as_object()) {
            members.extend(extra.clone());
        }
        Provider::compile(serde_json::from_value(config).unwrap(), "providers[0]")
    }

    fn verdict(config: Value, claims: Value) -> Result<Identity, Reason> {
        provider(config).unwrap().accept(claims.as_object().unwrap(), NOW)
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn times_are_checked_with_the_skew_on_both_sides() {
        let now = 1_700_000_000;
        for (claims, expected) in [
            (json!({"exp": now + 1}), None),
            (json!({"exp": now - 29}), None),
            (json!({"exp": now - 30}), Some(Reason::Expired)),
            (json!({"exp": now as f64 - 29.5}), None),
            (json!({"exp": -1}), Some(Reason::Expired)),
            (json!({}), Some(Reason::InvalidClaim)),
            (json!({"exp": null}), Some(Reason::InvalidClaim)),
            (json!({"exp": (now + 60).to_string()}), Some(Reason::InvalidClaim)),
            (json!({"exp": now + 60, "nbf": now + 30}), None),
            (
                json!({"exp": now + 60, "nbf": now + 31}),
                Some(Reason::NotYetValid),
            ),
            (json!({"exp": now + 60, "nbf": true}), Some(Reason::InvalidClaim)),
            (
                json!({"exp": now + 60, "iat": now + 31}),
                Some(Reason::NotYetValid),
            ),
            (json!({"exp": now + 60, "iat": "0"}), Some(Reason::InvalidClaim)),
        ] {
            let mut claims = claims;
            claims["aud"] = json!("api");
            assert_eq!(verdict(json!({}), claims.clone()).err(), expected, "{claims}");
        }
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn short_lifetimes_are_a_rule_where_configured() {
        let limited = json!({"max_lifetime": "1h"});
        let now = 1_700_000_000;
        for (iat, exp, expected) in [
            (json!(now), now + 3600, None),
            (json!(now), now + 3601, Some(Reason::LifetimeTooLong)),
            (Value::Null, now + 60, Some(Reason::InvalidClaim)),
        ] {
            let mut claims = json!({"aud": "api", "exp": exp, "iat": iat});
            if claims["iat"].is_null() {
                claims.as_object_mut().unwrap().remove("iat");
            }
            assert_eq!(verdict(limited.clone(), claims).err(), expected);
        }
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn the_audience_is_exact() {
        for (aud, accepted) in [
            (json!("api"), true),
            (json!(["x", "api-2"]), true),
            (json!("api/"), false),
            (json!("API"), false),
            (json!([]), false),
            (json!([["api"]]), false),
            (json!({"api": 1}), false),
            (json!(null), false),
        ] {
            let result = verdict(json!({}), json!({"exp": 1_700_000_060, "aud": aud}));
            assert_eq!(
                result.err(),
                (!accepted).then_some(Reason::WrongAudience),
                "{aud}"
            );
        }
        assert_eq!(
            verdict(json!({}), json!({"exp": 1_700_000_060})).err(),
            Some(Reason::WrongAudience)
        );
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn cognito_tokens_are_told_apart_by_their_use() {
        for (claims, expected) in [
            (json!({"token_use": "access", "client_id": "api"}), None),
            (
                json!({"token_use": "access", "client_id": ["api"]}),
                Some(Reason::WrongAudience),
            ),
            (
                json!({"token_use": "access", "aud": "api"}),
                Some(Reason::WrongAudience),
            ),
            (json!({"token_use": "id", "aud": "api"}), None),
            (
                json!({"token_use": "id", "client_id": "api"}),
                Some(Reason::WrongAudience),
            ),
            (
                json!({"token_use": "refresh", "aud": "api"}),
                Some(Reason::WrongTokenUse),
            ),
            (json!({"aud": "api"}), Some(Reason::WrongTokenUse)),
        ] {
            let mut claims = claims;
            claims["exp"] = json!(1_700_000_060);
            assert_eq!(
                verdict(json!({"preset": "cognito"}), claims.clone()).err(),
                expected,
                "{claims}"
            );
        }
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn a_bound_token_keeps_its_binding_and_an_unknown_binding_is_refused() {
        let digest = URL_SAFE_NO_PAD.encode([0xab; 32]);
        for (cnf, expected) in [
            (json!({"x5t#S256": digest}), Ok(Some("ab".repeat(32)))),
            (json!({"x5t#S256": "qw"}), Err(Reason::UnprovenBinding)),
            (json!({"jkt": digest}), Err(Reason::UnprovenBinding)),
            (
                json!({"x5t#S256": digest, "jkt": digest}),
                Err(Reason::UnprovenBinding),
            ),
            (json!({}), Err(Reason::UnprovenBinding)),
            (json!("x"), Err(Reason::UnprovenBinding)),
        ] {
            let claims = json!({"exp": 1_700_000_060, "aud": "api", "cnf": cnf});
            let result = verdict(json!({}), claims).map(|identity| identity.bound_to);
            assert_eq!(result, expected, "{cnf}");
        }
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn a_provider_without_issuer_or_audience_is_no_provider() {
        for (extra, path) in [
            (json!({"issuer": ""}), "providers[0].issuer"),
            (json!({"name": ""}), "providers[0].name"),
            (json!({"audiences": []}), "providers[0].audiences"),
            (json!({"audiences": ["a", ""]}), "providers[0].audiences"),
            (json!({"algorithms": []}), "providers[0].algorithms"),
            (json!({"clock_skew": "6m"}), "providers[0].clock_skew"),
        ] {
            assert_eq!(
                provider(extra.clone()).err().map(|error| error.path).as_deref(),
                Some(path),
                "{extra}"
            );
        }
    }
}
