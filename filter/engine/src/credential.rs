//! Where a caller's credential lies in a request (RFC 6750, section 2).

use std::fmt;

use crate::{
    config::{ConfigError, SourceConfig},
    Reason, Request,
};

/// The header field of RFC 6750, section 2.1.
pub(crate) const AUTHORIZATION: &str = "authorization";
pub(crate) const COOKIE: &str = "cookie";

/// A place in which a token may lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A header field, and what stands before the token there, in any case.
    Header { name: String, prefix: String },
    /// A parameter of the query.
    Query(String),
    /// A cookie (RFC 6265).
    Cookie(String),
}

impl Source {
    /// `Authorization: Bearer …`.
    pub(crate) fn bearer() -> Self {
        Self::Header {
            name: AUTHORIZATION.to_owned(),
            prefix: "Bearer ".to_owned(),
        }
    }

    pub(crate) fn compile(config: SourceConfig, at: &str) -> Result<Self, ConfigError> {
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~!#$%&'*+^`|".contains(&byte);
        let named = |name: String, field: &str| {
            if name.is_empty() || !name.bytes().all(token) {
                return Err(ConfigError::at(format_args!("{at}.{field}"), "expected a name"));
            }
            Ok(name)
        };
        match (config.header, config.query, config.cookie) {
            (Some(header), None, None) => {
                let name = named(header, "header")?;
                let problem = if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
                    "expected a name in lower case"
                } else if matches!(name.as_str(), COOKIE | "host" | "x-request-id")
                    || name.starts_with("x-isthmus-")
                {
                    "expected a header that carries a token and nothing else"
                } else {
                    let prefix = config.prefix.unwrap_or_else(|| match name.as_str() {
                        AUTHORIZATION => "Bearer ".to_owned(),
                        _ => String::new(),
                    });
                    return Ok(Self::Header { name, prefix });
                };
                Err(ConfigError::at(format_args!("{at}.header"), problem))
            }
            (None, Some(query), None) if config.prefix.is_none() => named(query, "query").map(Self::Query),
            (None, None, Some(cookie)) if config.prefix.is_none() => {
                named(cookie, "cookie").map(Self::Cookie)
            }
            _ => Err(ConfigError::at(
                at,
                "expected one of \"header\" (with or without \"prefix\"), \"query\" and \"cookie\"",
            )),
        }
    }

    /// The header field's name, if the place is a header field of its own.
    pub(crate) fn header_name(&self) -> Option<&str> {
        match self {
            Self::Header { name, .. } => Some(name),
            Self::Query(_) | Self::Cookie(_) => None,
        }
    }

    /// What lies in this place, each as often as it is there. An error says that the place holds something that can be read in
    /// two ways.
    fn candidates<'a>(&self, request: &Request<'a>) -> Result<Vec<Candidate<'a>>, Reason> {
        match self {
            Self::Header { name, prefix } => header(request, name, prefix),
            Self::Query(name) => {
                let target = request.path_and_query().unwrap_or_default();
                let query = target.split_once('?').map_or("", |(_, query)| query);
                Ok(split_query(query.as_bytes())
                    .filter_map(|pair| Candidate::of(pair, name))
                    .collect())
            }
            Self::Cookie(name) => Ok(request
                .headers
                .all(COOKIE)
                .flat_map(split_cookies)
                .filter_map(|pair| Candidate::of(pair, name))
                .collect()),
        }
    }
}

/// What may be a token.
struct Candidate<'a> {
    value: &'a [u8],
    /// Whether it is there under the very name that is configured, not under one that only some backends take for it.
    exact: bool,
}

impl<'a> Candidate<'a> {
    /// The value of a `name=value` pair, if it is of that name in some spelling.
    fn of(pair: &'a [u8], name: &str) -> Option<Self> {
        let (candidate, value) = split_pair(pair);
        is_spelling_of(candidate, name).then(|| Self {
            value: value.trim_ascii(),
            exact: decoded(candidate) == name.as_bytes(),
        })
    }
}

/// The pairs of a query. Some backends separate them by `;` too.
pub(crate) fn split_query(query: &[u8]) -> impl Iterator<Item = &[u8]> {
    query.split(|byte| matches!(byte, b'&' | b';'))
}

/// The pairs of a `Cookie` field. Some backends separate them by `,` too (RFC 2109, section 4.4).
pub(crate) fn split_cookies(field: &[u8]) -> impl Iterator<Item = &[u8]> {
    field.split(|byte| matches!(byte, b';' | b','))
}

/// Name and value of a pair, without white space around the name.
pub(crate) fn split_pair(pair: &[u8]) -> (&[u8], &[u8]) {
    let end = pair.iter().position(|byte| *byte == b'=');
    let (name, value) = pair
        .split_at_checked(end.unwrap_or(pair.len()))
        .unwrap_or((pair, b""));
    (name.trim_ascii(), value.get(1..).unwrap_or_default())
}

/// Whether a parameter or cookie has this name to some backend: letters in any case, percent-encoded, cut at a NUL or `[`, with
/// `.`, `-`, `+` or a space for `_` (PHP's variable names).
pub(crate) fn is_spelling_of(candidate: &[u8], name: &str) -> bool {
    fold_name(&decoded(candidate)) == fold_name(name.as_bytes())
}

fn fold_name(name: &[u8]) -> Vec<u8> {
    let end = name.iter().position(|byte| matches!(byte, 0 | b'['));
    let kept = name.get(..end.unwrap_or(name.len())).unwrap_or_default();
    let spaced: Vec<u8> = kept
        .iter()
        .map(|byte| if *byte == b'+' { b' ' } else { *byte })
        .collect();
    let folded = |byte: &u8| match byte {
        b'.' | b'-' | b' ' => b'_',
        byte => byte.to_ascii_lowercase(),
    };
    spaced.trim_ascii().iter().map(folded).collect()
}

/// Percent-decoded once; what is no escape stays (RFC 3986, section 2.1).
fn decoded(text: &[u8]) -> Vec<u8> {
    let digit = |byte: &u8| {
        char::from(*byte)
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
    };
    let mut left = text;
    let mut bytes = Vec::with_capacity(text.len());
    while let Some((first, rest)) = left.split_first() {
        let escaped = match rest {
            [high, low, ..] if *first == b'%' => digit(high).zip(digit(low)),
            _ => None,
        };
        bytes.push(escaped.map_or(*first, |(high, low)| high << 4 | low));
        left = rest
            .get(if escaped.is_some() { 2 } else { 0 }..)
            .unwrap_or_default();
    }
    bytes
}

impl fmt::Display for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header { name, .. } => write!(formatter, "in the header {name}"),
            Self::Query(name) => write!(formatter, "in the query parameter {name}"),
            Self::Cookie(name) => write!(formatter, "in the cookie {name}"),
        }
    }
}

/// The token of a request, and its place among `sources`. Two candidates are no credential, nor is one under another name than
/// the configured one: a proxy and a backend could each take another one.
pub(crate) fn find<'a>(request: &Request<'a>, sources: &[Source]) -> Result<(&'a str, usize), Reason> {
    let mut found = None;
    for (place, source) in sources.iter().enumerate() {
        for candidate in source.candidates(request)? {
            if !candidate.exact || found.replace((candidate.value, place)).is_some() {
                return Err(Reason::AmbiguousToken);
            }
        }
    }
    let (token, place) = found.ok_or(Reason::MissingToken)?;
    let token = std::str::from_utf8(token).map_err(|_| Reason::MalformedToken)?;
    Ok((token, place))
}

/// Envoy joins repeated fields by commas for some readers, so a comma counts as two.
fn header<'a>(request: &Request<'a>, name: &str, prefix: &str) -> Result<Vec<Candidate<'a>>, Reason> {
    let mut fields = request
        .headers
        .iter()
        .filter(|(field, _)| *field == name.as_bytes())
        .map(|(_, value)| value);
    let Some(field) = fields.next() else {
        return Ok(Vec::new());
    };
    if fields.next().is_some() || field.contains(&b',') {
        return Err(Reason::AmbiguousToken);
    }
    let token = field
        .split_at_checked(prefix.len())
        .filter(|(start, _)| start.eq_ignore_ascii_case(prefix.as_bytes()))
        .map(|(_, value)| Candidate { value, exact: true });
    Ok(token.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use serde_json::{json, Value};
    use wasm_bindgen_test::wasm_bindgen_test;

    use super::*;
    use crate::{Headers, Peer};

    fn sources(config: Value) -> Vec<Source> {
        let config: Vec<SourceConfig> = serde_json::from_value(config).unwrap();
        config
            .into_iter()
            .map(|source| Source::compile(source, "s").unwrap())
            .collect()
    }

    fn token(fields: &[(&str, &[u8])], sources: &[Source]) -> Result<(String, usize), Reason> {
        let fields: Vec<(&[u8], &[u8])> = fields
            .iter()
            .map(|(name, value)| (name.as_bytes(), *value))
            .collect();
        let request = Request {
            headers: Headers(&fields),
            peer: Peer::default(),
        };
        find(&request, sources).map(|(token, place)| (token.to_owned(), place))
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn takes_one_bearer_token_and_nothing_that_could_be_two() {
        let bearer = |fields: &[&[u8]]| {
            let fields: Vec<(&str, &[u8])> = fields.iter().map(|value| ("authorization", *value)).collect();
            token(&fields, &[Source::bearer()]).map(|(token, _)| token)
        };
        assert_eq!(bearer(&[b"Bearer abc"]), Ok("abc".into()));
        assert_eq!(bearer(&[b"bEARER abc"]), Ok("abc".into()));
        assert_eq!(bearer(&[]), Err(Reason::MissingToken));
        assert_eq!(bearer(&[b""]), Err(Reason::MissingToken));
        assert_eq!(bearer(&[b"Bearer"]), Err(Reason::MissingToken));
        assert_eq!(bearer(&[b"Basic YTpi"]), Err(Reason::MissingToken));
        assert_eq!(bearer(&[b"Bearer a", b"Bearer a"]), Err(Reason::AmbiguousToken));
        assert_eq!(bearer(&[b"Bearer a", b"Basic YTpi"]), Err(Reason::AmbiguousToken));
        assert_eq!(bearer(&[b"Bearer a,Bearer b"]), Err(Reason::AmbiguousToken));
        assert_eq!(bearer(&[b"Bearer \xff"]), Err(Reason::MalformedToken));
        assert_eq!(bearer(&["B\u{e9}arer a".as_bytes()]), Err(Reason::MissingToken));
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn tokens_lie_where_the_configuration_says_and_in_one_place_only() {
        let sources = sources(
            json!([{"header": "x-token"}, {"query": "access_token"}, {"cookie": "id"}, {"header": "x-amz", "prefix": "JWT "}]),
        );
        for (fields, expected) in [
            (&[("x-token", &b"abc"[..])][..], Ok(("abc".into(), 0))),
            (&[(":path", b"/p?x=1&access_token=abc")], Ok(("abc".into(), 1))),
            (&[(":path", b"/p?access%5Ftoken=abc")], Ok(("abc".into(), 1))),
            (&[(":path", b"/p?access_token=")], Ok((String::new(), 1))),
            (&[(":path", b"/access_token=abc")], Err(Reason::MissingToken)),
            (
                &[(":path", b"/p?a=1"), ("cookie", b"a=b; id=abc;c=d")],
                Ok(("abc".into(), 2)),
            ),
            (&[("cookie", b"aid=abc")], Err(Reason::MissingToken)),
            (&[("cookie", b"id=\xff")], Err(Reason::MalformedToken)),
            (&[("cookie", b"name=Jos\xe9; id=abc")], Ok(("abc".into(), 2))),
            (&[("x-amz", b"jwt abc")], Ok(("abc".into(), 3))),
            (&[("x-amz", b"Bearer abc")], Err(Reason::MissingToken)),
            (&[("authorization", b"Bearer abc")], Err(Reason::MissingToken)),
            (
                &[("x-token", b"abc"), ("cookie", b"id=abc")],
                Err(Reason::AmbiguousToken),
            ),
            (
                &[(":path", b"/p?access_token=a&access%5ftoken=b")],
                Err(Reason::AmbiguousToken),
            ),
            (
                &[("cookie", b"id=a"), ("cookie", b"id=a")],
                Err(Reason::AmbiguousToken),
            ),
            (
                &[("x-token", b"a"), ("x-token", b"a")],
                Err(Reason::AmbiguousToken),
            ),
        ] {
            assert_eq!(token(fields, &sources), expected, "{fields:?}");
        }
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn a_token_under_a_name_that_some_backends_take_for_the_configured_one_is_ambiguous() {
        let sources = sources(json!([{"header": "x-token"}, {"query": "access_token"}, {"cookie": "id"}]));
        for field in [
            (":path", &b"/p?Access_Token=x"[..]),
            (":path", b"/p?a=1;access_token=x"),
            (":path", b"/p?access.token=x"),
            (":path", b"/p?+access-token=x"),
            (":path", b"/p?access_token[]=x"),
            (":path", b"/p?access_token%00y=x"),
            ("cookie", b"a=b, id=x"),
            ("cookie", b"ID=x"),
            ("cookie", b"i%64=x"),
        ] {
            assert_eq!(
                token(&[("x-token", b"abc"), field], &sources),
                Err(Reason::AmbiguousToken),
                "{field:?}"
            );
        }
        for field in [
            (":path", &b"/p?myaccess_token=x"[..]),
            (":path", b"/p?access_token2=x"),
            ("cookie", b"idx=x; xid=y; a=id"),
        ] {
            assert_eq!(
                token(&[("x-token", b"abc"), field], &sources),
                Ok(("abc".into(), 0)),
                "{field:?}"
            );
        }
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn a_source_is_one_named_place() {
        for (config, path) in [
            (json!({}), "s"),
            (json!({"header": "a", "query": "b"}), "s"),
            (json!({"query": "b", "prefix": "x"}), "s"),
            (json!({"header": ""}), "s.header"),
            (json!({"header": "X-Token"}), "s.header"),
            (json!({"header": "cookie"}), "s.header"),
            (json!({"header": "x-isthmus-role"}), "s.header"),
            (json!({"cookie": "a=b"}), "s.cookie"),
            (json!({"query": "a b"}), "s.query"),
        ] {
            let source: SourceConfig = serde_json::from_value(config.clone()).unwrap();
            assert_eq!(Source::compile(source, "s").unwrap_err().path, path, "{config}");
        }
    }
}
