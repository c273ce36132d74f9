//! One reading of a request's path, shared by every rule, and the patterns that rules match it with.
//!
//! Envoy normalises before the filter runs (`normalize_path`, `merge_slashes`, escaped slashes refused). What still has
//! two readings after that, because a backend might decode once more or know `..;`, is refused rather than guessed at.

use thiserror::Error;

/// The path can be read in more than one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the path can be read in more than one way")]
pub(crate) struct AmbiguousPath;

/// A request path without its query, split at `/` and percent-decoded once (RFC 3986, section 2.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NormalPath {
    segments: Vec<Vec<u8>>,
}

impl NormalPath {
    /// Reads the target of a request, `/path?query`.
    pub(crate) fn parse(target: &str) -> Result<Self, AmbiguousPath> {
        let path = without_query(target);
        let rooted = path.strip_prefix('/').ok_or(AmbiguousPath)?;
        let mut raw = rooted.split('/').peekable();
        let mut segments = Vec::new();
        while let Some(segment) = raw.next() {
            if segment.is_empty() && raw.peek().is_some() {
                return Err(AmbiguousPath);
            }
            segments.push(decode(segment)?);
        }
        Ok(Self { segments })
    }

    /// The path as the most generous backend could read it: letters in one case, segments without parameters (`;x`)
    /// and without the dots and spaces at their end that some file systems drop, no slash at the end. What is denied
    /// is denied in all of these spellings.
    pub(crate) fn folded(&self) -> Self {
        let mut segments: Vec<Vec<u8>> = self.segments.iter().map(|segment| fold(segment)).collect();
        segments.pop_if(|last| last.is_empty());
        Self { segments }
    }
}

fn fold(segment: &[u8]) -> Vec<u8> {
    let name = segment.split(|byte| *byte == b';').next().unwrap_or_default();
    let end = name.iter().rposition(|byte| !matches!(byte, b'.' | b' '));
    let kept = name.get(..end.map_or(0, |last| last + 1)).unwrap_or_default();
    kept.to_ascii_lowercase()
}

/// The part of a target before its query: what audit events may show.
pub(crate) fn without_query(target: &str) -> &str {
    target.split_once('?').map_or(target, |(path, _)| path)
}

fn decode(segment: &str) -> Result<Vec<u8>, AmbiguousPath> {
    let mut decoded = Vec::with_capacity(segment.len());
    let mut bytes = segment.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => escaped(bytes.next(), bytes.next())?,
            0x21..=0x7e if byte != b'\\' && byte != b'#' => byte,
            _ => return Err(AmbiguousPath),
        });
    }
    let would_decode_again = decoded
        .windows(3)
        .any(|w| matches!(w, [b'%', a, b] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit()));
    let name = decoded.split(|byte| *byte == b';').next();
    let is_text = std::str::from_utf8(&decoded).is_ok();
    if would_decode_again || !is_text || matches!(name, Some(b"." | b"..")) {
        return Err(AmbiguousPath);
    }
    Ok(decoded)
}

fn escaped(high: Option<u8>, low: Option<u8>) -> Result<u8, AmbiguousPath> {
    let digit = |byte: Option<u8>| byte.and_then(|b| char::from(b).to_digit(16));
    let (Some(high), Some(low)) = (digit(high), digit(low)) else {
        return Err(AmbiguousPath);
    };
    match u8::try_from(high * 16 + low) {
        Ok(b'/' | b'\\' | 0x00..=0x1f | 0x7f) | Err(_) => Err(AmbiguousPath),
        Ok(byte) => Ok(byte),
    }
}

/// A path pattern: literal segments, `*` for exactly one segment, and at the end `**` for any number of them, none
/// included, so that `/metrics/**` covers `/metrics`, `/metrics/` and all below.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PathPattern {
    segments: Vec<Segment>,
    open_ended: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Literal(Vec<u8>),
    Any,
}

impl PathPattern {
    /// Reads a pattern; on failure says what was expected.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        let rooted = text
            .strip_prefix('/')
            .ok_or("a path pattern that starts with \"/\"")?;
        let (rooted, open_ended) = match rooted.strip_suffix("**") {
            Some("") => {
                return Ok(Self {
                    segments: Vec::new(),
                    open_ended: true,
                })
            }
            Some(head) => (
                head.strip_suffix('/').ok_or("\"**\" as a segment of its own")?,
                true,
            ),
            None => (rooted, false),
        };
        let literal = |segment: &str| match segment {
            "*" => Ok(Segment::Any),
            _ if segment.contains('*') => Err("\"*\" as a segment of its own, \"**\" as the last"),
            _ if segment.contains(['%', '?']) => Err("a decoded path without a query"),
            _ => Ok(Segment::Literal(segment.as_bytes().to_vec())),
        };
        let segments = rooted.split('/').map(literal).collect::<Result<_, _>>()?;
        NormalPath::parse(text).map_err(|_| "a path without empty, \".\" or \"..\" segments")?;
        Ok(Self { segments, open_ended })
    }

    /// The pattern that covers the folded form of what this one covers.
    pub(crate) fn folded(&self) -> Self {
        let folded = |segment: &Segment| match segment {
            Segment::Literal(literal) => Segment::Literal(fold(literal)),
            Segment::Any => Segment::Any,
        };
        let mut segments: Vec<Segment> = self.segments.iter().map(folded).collect();
        segments.pop_if(|last| matches!(last, Segment::Literal(literal) if literal.is_empty()));
        Self {
            segments,
            open_ended: self.open_ended,
        }
    }

    /// Whether this pattern covers every path that the other one covers.
    pub(crate) fn contains(&self, other: &Self) -> bool {
        let long_enough = match (self.open_ended, other.open_ended) {
            (true, _) => other.segments.len() >= self.segments.len(),
            (false, true) => false,
            (false, false) => other.segments.len() == self.segments.len(),
        };
        let covers = |(own, other): (&Segment, &Segment)| match (own, other) {
            (Segment::Any, Segment::Literal(literal)) => !literal.is_empty(),
            (Segment::Any, Segment::Any) => true,
            (own, other) => own == other,
        };
        long_enough && self.segments.iter().zip(&other.segments).all(covers)
    }

    /// Whether this pattern covers `path`.
    pub(crate) fn matches(&self, path: &NormalPath) -> bool {
        let fixed = self.segments.len();
        let Some(head) = path.segments.get(..fixed) else {
            return false;
        };
        (self.open_ended || path.segments.len() == fixed)
            && self
                .segments
                .iter()
                .zip(head)
                .all(|(pattern, segment)| match pattern {
                    Segment::Literal(literal) => literal == segment,
                    Segment::Any => !segment.is_empty(),
                })
    }
}

#[cfg(test)]
mod tests {
    use wasm_bindgen_test::wasm_bindgen_test;

    use super::*;

    #[wasm_bindgen_test(unsupported = test)]
    fn refuses_paths_with_two_readings() {
        for target in [
            "",
            "metrics",
            "*",
            "http://h/x",
            "/a//b",
            "//a",
            "/a/../b",
            "/a/.",
            "/./a",
            "/a/%2e%2e/b",
            "/a/.%2E/b",
            "/a%2fb",
            "/a%2Fb",
            "/a%5cb",
            "/a\\b",
            "/a%00",
            "/a%0d",
            "/a%7f",
            "/a%252fb",
            "/a%252e",
            "/a%",
            "/a%2",
            "/a%zz",
            "/a/..;/b",
            "/a/..;x=1/b",
            "/a/.;/b",
            "/a b",
            "/a\tb",
            "/a#b",
            "/é",
        ] {
            assert_eq!(NormalPath::parse(target), Err(AmbiguousPath), "{target}");
        }
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn the_query_and_one_layer_of_encoding_do_not_change_what_a_path_is() {
        let plain = NormalPath::parse("/a/metrics").unwrap();
        for target in ["/a/metrics?x=/../y", "/%61/metric%73", "/a/metrics?"] {
            assert_eq!(NormalPath::parse(target).unwrap(), plain, "{target}");
        }
        assert!(NormalPath::parse("/100%25").is_ok());
        assert!(NormalPath::parse("/a;v=1/b").is_ok());
        assert!(NormalPath::parse("/%c3%a9").is_ok());
        assert_eq!(NormalPath::parse("/%ff"), Err(AmbiguousPath), "no text");
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn patterns_match_whole_segments() {
        let cases = [
            ("/metrics", "/metrics", true),
            ("/metrics", "/metrics/", false),
            ("/metrics", "/metricsx", false),
            ("/metrics/**", "/metrics", true),
            ("/metrics/**", "/metrics/", true),
            ("/metrics/**", "/metrics/a/b", true),
            ("/metrics/**", "/metricsx/a", false),
            ("/metrics/**", "/Metrics/a", false),
            ("/**", "/", true),
            ("/**", "/a/b/c", true),
            ("/", "/", true),
            ("/", "/a", false),
            ("/a/*/c", "/a/b/c", true),
            ("/a/*/c", "/a//c", false),
            ("/a/*", "/a/", false),
            ("/a/*", "/a/b/c", false),
            ("/a/*/**", "/a", false),
            ("/a/*/**", "/a/b", true),
        ];
        for (pattern, target, expected) in cases {
            let pattern = PathPattern::parse(pattern).unwrap();
            let matched = NormalPath::parse(target).is_ok_and(|path| pattern.matches(&path));
            assert_eq!(matched, expected, "{pattern:?} {target}");
        }
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn refuses_patterns_that_mean_less_than_they_seem_to() {
        for pattern in [
            "", "metrics", "/a*", "/**/a", "/a**", "/a//b", "/a/../b", "/a%20b", "/a?b",
        ] {
            assert!(PathPattern::parse(pattern).is_err(), "{pattern}");
        }
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn a_folded_pattern_covers_every_spelling_that_some_backend_takes_for_the_same() {
        let folded = |pattern: &str, path: &str| {
            let path = NormalPath::parse(path).unwrap();
            PathPattern::parse(pattern)
                .unwrap()
                .folded()
                .matches(&path.folded())
        };
        for path in [
            "/Admin",
            "/admin/",
            "/admin;x=1",
            "/admin.",
            "/admin%20",
            "/ADMIN..;y",
        ] {
            assert!(folded("/admin", path), "{path}");
            assert!(folded("/Admin/", path), "{path}");
            assert!(folded("/admin/**", path), "{path}");
        }
        for path in ["/administrator", "/admin/x", "/x/admin", "/.admin"] {
            assert!(!folded("/admin", path), "{path}");
        }
        assert!(folded("/a/*/c", "/A/b;/C."));
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn a_pattern_contains_what_covers_no_more() {
        let contains = |outer: &str, inner: &str| {
            PathPattern::parse(outer)
                .unwrap()
                .contains(&PathPattern::parse(inner).unwrap())
        };
        for (outer, inner) in [
            ("/**", "/a/*/b"),
            ("/**", "/**"),
            ("/a/**", "/a"),
            ("/a/**", "/a/b/**"),
            ("/a/*", "/a/b"),
            ("/*/b", "/*/b"),
            ("/a", "/a"),
        ] {
            assert!(contains(outer, inner), "{outer} {inner}");
        }
        for (outer, inner) in [
            ("/a/**", "/**"),
            ("/a/**", "/b"),
            ("/a/*", "/a/**"),
            ("/a/*", "/a/"),
            ("/a/b", "/a/*"),
            ("/a", "/a/**"),
            ("/a/b/**", "/a/**"),
        ] {
            assert!(!contains(outer, inner), "{outer} {inner}");
        }
    }
}
