//! What the forwarded request loses and gains: the caller's credential and every field that only the filter may set
//! go, the caller's claims come.

use crate::{
    claims::{ClaimPath, Claims, Format},
    config::{ClaimToHeaderConfig, ConfigError},
    credential::{is_spelling_of, split_cookies, split_pair, split_query, Source, AUTHORIZATION, COOKIE},
    Headers,
};

/// All header names that are ours alone.
const OWN_PREFIX: &[u8] = b"x-isthmus-";

/// The rules of forwarding.
#[derive(Debug)]
pub(crate) struct Forwarding {
    claim_headers: Vec<ClaimHeader>,
}

#[derive(Debug)]
struct ClaimHeader {
    claim: ClaimPath,
    header: String,
    format: Format,
}

/// Which credentials of a request stay in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep<'s> {
    Nothing,
    /// The one in this place, where its provider wants it forwarded.
    Only(&'s Source),
    /// All of them, where nothing is enforced.
    All,
}

/// What must be done to a request before it is forwarded.
#[derive(Debug, Default)]
pub(crate) struct Stripped {
    /// The header fields that go.
    pub(crate) remove: Vec<String>,
    /// The header fields that stay in part.
    pub(crate) set: Vec<(String, String)>,
}

impl Forwarding {
    pub(crate) fn compile(config: Vec<ClaimToHeaderConfig>) -> Result<Self, ConfigError> {
        Ok(Self {
            claim_headers: compile_claim_headers(config)?,
        })
    }

    /// The header fields that these claims become.
    pub(crate) fn claim_fields(&self, claims: &Claims) -> Vec<(String, String)> {
        let field = |rule: &ClaimHeader| {
            let value = rule.format.header_value(rule.claim.find(claims)?)?;
            Some((rule.header.clone(), value))
        };
        self.claim_headers.iter().filter_map(field).collect()
    }

    /// What must be done to a request so that it carries no credential in any of these places, but for those in
    /// `keep`, and no field that only the filter may set.
    pub(crate) fn strip(&self, headers: Headers<'_>, sources: &[Source], keep: Keep<'_>) -> Stripped {
        let goes =
            |source: &&Source| keep == Keep::Nothing || matches!(keep, Keep::Only(kept) if kept != *source);
        let others: Vec<&Source> = sources.iter().filter(goes).collect();
        let mut stripped = Stripped::of_shared_fields(headers, &others);
        stripped.remove.extend(self.forged(headers, sources, keep));
        stripped
    }

    /// The names, as they stand there, of every field that only the filter may set, in any spelling that a backend
    /// could read as the same name, and of every field that carries a credential, but for those in `keep`. The fields'
    /// names must be plain.
    pub(crate) fn forged(&self, headers: Headers<'_>, sources: &[Source], keep: Keep<'_>) -> Vec<String> {
        let is_forged = |name: &[u8]| {
            let spelt = canonical(name);
            let is = |own: &str| canonical(own.as_bytes()) == spelt;
            let is_credential = is(AUTHORIZATION) || sources.iter().filter_map(Source::header_name).any(is);
            // Kept in that spelling alone: another one could be read as a second credential.
            let is_kept = match keep {
                Keep::Nothing => false,
                Keep::Only(source) => source.header_name().is_some_and(|kept| kept.as_bytes() == name),
                Keep::All => true,
            };
            spelt.starts_with(OWN_PREFIX)
                || self.claim_headers.iter().any(|rule| is(&rule.header))
                || (is_credential && !is_kept)
        };
        let mut names: Vec<String> = headers
            .iter()
            .filter(|(name, _)| is_forged(name))
            .filter_map(|(name, _)| String::from_utf8(name.to_vec()).ok())
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

/// A field's name as gateway interfaces may read it: they turn `-` into `_` (RFC 3875, section 4.1.18), some of them
/// every other sign too.
fn canonical(name: &[u8]) -> Vec<u8> {
    let folded = |byte: &u8| match byte {
        byte if byte.is_ascii_alphanumeric() => byte.to_ascii_lowercase(),
        _ => b'-',
    };
    name.iter().map(folded).collect()
}

impl Stripped {
    /// Takes the credentials out of fields that hold other things too.
    fn of_shared_fields(headers: Headers<'_>, sources: &[&Source]) -> Self {
        let mut stripped = Self::default();
        let named = |name: for<'s> fn(&'s Source) -> Option<&'s str>| -> Vec<&str> {
            sources.iter().filter_map(|source| name(source)).collect()
        };
        let cookies = named(|source| match source {
            Source::Cookie(name) => Some(name),
            _ => None,
        });
        let parameters = named(|source| match source {
            Source::Query(name) => Some(name),
            _ => None,
        });
        if !cookies.is_empty() {
            stripped.strip_cookies(headers, &cookies);
        }
        if !parameters.is_empty() {
            stripped.strip_parameters(headers, &parameters);
        }
        stripped
    }

    fn strip_cookies(&mut self, headers: Headers<'_>, names: &[&str]) {
        let is_one = |pair: &[u8]| names.iter().any(|name| is_spelling_of(split_pair(pair).0, name));
        if !headers.all(COOKIE).flat_map(split_cookies).any(is_one) {
            return;
        }
        let others = headers
            .all(COOKIE)
            .flat_map(|field| field.split(|byte| *byte == b';'))
            .filter(|pair| !split_cookies(pair).any(is_one))
            .map(<[u8]>::trim_ascii)
            .filter(|pair| !pair.is_empty());
        let kept: Vec<&[u8]> = others.collect();
        match String::from_utf8(kept.join(&b"; "[..])) {
            Ok(cookies) if !cookies.is_empty() => self.set.push((COOKIE.to_owned(), cookies)),
            // Nothing is left, or what cannot be written as text.
            _ => self.remove.push(COOKIE.to_owned()),
        }
    }

    fn strip_parameters(&mut self, headers: Headers<'_>, names: &[&str]) {
        let target = headers
            .only_text(":path")
            .and_then(|target| target.split_once('?'));
        let Some((path, query)) = target else {
            return;
        };
        let is_one = |pair: &[u8]| names.iter().any(|name| is_spelling_of(split_pair(pair).0, name));
        if !split_query(query.as_bytes()).any(is_one) {
            return;
        }
        let others = query
            .split('&')
            .filter(|pair| !split_query(pair.as_bytes()).any(is_one));
        let kept: Vec<&str> = others.collect();
        let target = if kept.is_empty() {
            path.to_owned()
        } else {
            format!("{path}?{}", kept.join("&"))
        };
        self.set.push((":path".to_owned(), target));
    }
}

fn compile_claim_headers(config: Vec<ClaimToHeaderConfig>) -> Result<Vec<ClaimHeader>, ConfigError> {
    let mut rules: Vec<ClaimHeader> = Vec::new();
    for (place, rule) in config.into_iter().enumerate() {
        let at = format!("claims_to_headers[{place}].header");
        if !is_settable(&rule.header) {
            let problem = "expected a header name in lower case with \"-\" between words, none that HTTP or Isthmus uses";
            return Err(ConfigError::at(at, problem));
        }
        if rules.iter().any(|other| other.header == rule.header) {
            return Err(ConfigError::at(at, "another claim has this header"));
        }
        rules.push(ClaimHeader {
            claim: rule.claim,
            header: rule.header,
            format: rule.format,
        });
    }
    Ok(rules)
}

/// Names that a claim may be written to: not those that steer HTTP itself, the bridge's own, or the credential.
fn is_settable(name: &str) -> bool {
    const TAKEN: [&str; 20] = [
        "authorization",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "cookie",
        "date",
        "expect",
        "forwarded",
        "host",
        "keep-alive",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "traceparent",
        "tracestate",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "via",
    ];
    (1..=128).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && name.bytes().any(|b| b != b'-')
        && !TAKEN.contains(&name)
        && !name.as_bytes().starts_with(OWN_PREFIX)
        && !name.starts_with("x-envoy-")
        && !name.starts_with("x-forwarded-")
        && !matches!(
            name,
            "x-request-id" | "x-http-method" | "x-http-method-override" | "x-method-override"
        )
}

#[cfg(test)]
mod tests {
    use serde_json::{json, Value};
    use wasm_bindgen_test::wasm_bindgen_test;

    use super::*;

    #[wasm_bindgen_test(unsupported = test)]
    fn the_forwarded_request_holds_no_token_and_everything_else() {
        let sources = [
            &Source::Query("access_token".into()),
            &Source::Cookie("id".into()),
        ];
        for (fields, expected) in [
            (
                &[(":path", &b"/p?access_token=abc"[..])][..],
                json!([[":path", "/p"]]),
            ),
            (
                &[(":path", b"/p?a=1&access%5Ftoken=abc&&b")],
                json!([[":path", "/p?a=1&&b"]]),
            ),
            (&[(":path", b"/p?a=1")], json!([])),
            (&[("cookie", b"a=b; id=abc;c=d")], json!([["cookie", "a=b; c=d"]])),
            (
                &[("cookie", b"a=b"), ("cookie", b"id=abc")],
                json!([["cookie", "a=b"]]),
            ),
            (&[("cookie", b"id=abc")], json!(["cookie"])),
            (&[("cookie", b"a=b;\xff;id=abc")], json!(["cookie"])),
            (&[("cookie", b"a=b")], json!([])),
            (
                &[(":path", b"/p?ACCESS_TOKEN=x&a=1;access.token=y&b=2")],
                json!([[":path", "/p?b=2"]]),
            ),
            (&[("cookie", b"a=b, ID=x; c=d")], json!([["cookie", "c=d"]])),
        ] {
            let headers: Vec<(&[u8], &[u8])> = fields
                .iter()
                .map(|(name, value)| (name.as_bytes(), *value))
                .collect();
            let stripped = Stripped::of_shared_fields(Headers(&headers), &sources);
            let mut changes: Vec<Value> = stripped.remove.into_iter().map(Value::from).collect();
            changes.extend(stripped.set.into_iter().map(|(name, value)| json!([name, value])));
            assert_eq!(Value::Array(changes), expected, "{fields:?}");
        }
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn a_credential_is_kept_in_its_own_spelling_alone() {
        let forwarding = Forwarding::compile(Vec::new()).unwrap();
        let source = |name: &str| Source::Header {
            name: name.into(),
            prefix: String::new(),
        };
        let sources = [source("x-token"), source("x_other")];
        let fields: [(&[u8], &[u8]); 4] = [
            (b"x-token", b"1"),
            (b"x_token", b"2"),
            (b"x-other", b"3"),
            (b"x_other", b"4"),
        ];
        let forged = |keep| forwarding.forged(Headers(&fields), &sources, keep);
        assert!(forged(Keep::All).is_empty());
        assert_eq!(
            forged(Keep::Nothing),
            ["x-other", "x-token", "x_other", "x_token"]
        );
        assert_eq!(forged(Keep::Only(&sources[0])), ["x-other", "x_other", "x_token"]);
        assert_eq!(forged(Keep::Only(&sources[1])), ["x-other", "x-token", "x_token"]);
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn claims_go_to_headers_that_steer_nothing() {
        let compiled = |header: &str| {
            let config = json!([{"claim": "sub", "header": header}]);
            Forwarding::compile(serde_json::from_value(config).unwrap())
        };
        for header in ["x-user", "x-1", "user"] {
            assert!(compiled(header).is_ok(), "{header}");
        }
        for header in [
            "",
            "-",
            "X-User",
            "x_user",
            "x user",
            "host",
            "cookie",
            "forwarded",
            "x-forwarded-for",
            "x-envoy-retry-on",
            "x-request-id",
            "x-isthmus-role",
            "x-http-method-override",
            "proxy-connection",
            "content-encoding",
            "authorization",
        ] {
            assert_eq!(
                compiled(header).unwrap_err().path,
                "claims_to_headers[0].header",
                "{header}"
            );
        }
    }
}
