//! `headers`: whole requests.
//!
//! Each line of an input is a header field, `name: value`. `{reader}` and the like in a value stand for tokens, see
//! [`TOKENS`]. A line that starts with `@` is none: `@1` and `@2` pick another of [`CONFIGURATIONS`], and `@address`,
//! `@uri_san` and `@sha256` are the peer.
//!
//! - Nothing panics, and the audit event is one line of JSON without token and query.
//! - A request passes with a genuine token or as a public one, and its role covers it; in shadow mode it passes
//!   without a role.
//! - Of a request that passes, every field is taken away that only the filter may set or that carries a credential,
//!   in every spelling that a backend could read as the same name.

mod fixtures;

use std::borrow::Cow;

use isthmus_engine::{Allowed, Decision, Engine, Headers, Peer, Reason, Request, UnixMillis};

use self::fixtures::{Token, CERTIFICATE, CONFIGURATIONS, GATEWAY, TOKENS};
use super::{event, keys};

const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

/// Which of the configurations enforces nothing.
const SHADOW: usize = 2;
/// Names that only the filter may set, besides those that start with `x-isthmus-`.
const OURS: [&str; 2] = ["x-user", "x-groups"];
/// Places of credentials under each configuration. `Authorization` is one even where no provider looks there.
const CREDENTIAL_FIELDS: [&[&str]; 3] = [
    &["authorization"],
    &["authorization", "x-token", "x-key", "x-fwd"],
    &[],
];
const PARAMETERS: [&[&str]; 3] = [&[], &["access_token", "t"], &[]];
const COOKIES: [&[&str]; 3] = [&[], &["id", "s"], &[]];

/// Runs one input.
pub fn run(input: &[u8]) {
    let mut fields: Vec<(&[u8], Cow<'_, [u8]>)> = Vec::new();
    let mut peer = Peer::default();
    let mut place = 0;
    for line in input.split(|byte| *byte == b'\n') {
        // A name may start with a colon: that of a pseudo-header does.
        let colon = line
            .iter()
            .skip(1)
            .position(|byte| *byte == b':')
            .map(|at| at + 1);
        let (name, value) = colon.map_or((line, &b""[..]), |at| (&line[..at], &line[at + 1..]));
        let value = value.strip_prefix(b" ").unwrap_or(value);
        let text = std::str::from_utf8(value).ok();
        match name {
            b"" => {}
            b"@1" => place = 1,
            b"@2" => place = 2,
            b"@address" => peer.address = text,
            b"@uri_san" => peer.uri_san = text,
            b"@sha256" => peer.certificate_sha256 = text,
            _ => fields.push((name, with_tokens(value))),
        }
    }
    let fields: Vec<(&[u8], &[u8])> = fields.iter().map(|(name, value)| (*name, &**value)).collect();
    let request = Request {
        headers: Headers(&fields),
        peer,
    };
    Run { request, place }.check();
}

/// Puts tokens in the place of their marks.
fn with_tokens(value: &[u8]) -> Cow<'_, [u8]> {
    let Some(text) = std::str::from_utf8(value).ok().filter(|text| text.contains('{')) else {
        return value.into();
    };
    let replaced = TOKENS.iter().fold(text.to_owned(), |text, token| {
        text.replace(token.mark, &token.text)
    });
    replaced.into_bytes().into()
}

/// One request, and the configuration that it is decided under.
struct Run<'r> {
    request: Request<'r>,
    place: usize,
}

impl Run<'_> {
    fn check(&self) {
        let configuration = CONFIGURATIONS[self.place].as_bytes();
        let mut engine = Engine::new(configuration).expect("a configuration of this target");
        let decision = engine.decide(&self.request, NOW);
        self.check_records(&mut engine, &decision);
        // What has a name that cannot be taken away does not go on at all.
        if let Ok(trailers) = engine.forged_trailers(self.request.headers) {
            for (name, _) in self.request.headers.iter() {
                let ours = self.is_ours(name) || self.carries_credential(name);
                let shown = String::from_utf8_lossy(name);
                assert!(!ours || names(&trailers, name), "the trailer {shown:?} stays");
            }
        }
        match decision {
            Decision::Allow(allowed) => {
                self.check_right(&allowed);
                self.check_upstream(&allowed);
            }
            Decision::Deny(denied) => {
                let enforced = self.place != SHADOW || denied.reason == Reason::MalformedRequest;
                assert!(enforced, "refused in shadow mode: {}", denied.reason);
            }
            Decision::Wait => panic!("waits, though the keys are in line"),
        }
    }

    /// Neither the audit event nor an explanation holds a token, unless the caller put it where no token belongs.
    fn check_records(&self, engine: &mut Engine, decision: &Decision) {
        let event = event::checked(engine, decision, &self.request, NOW);
        let (again, steps) = engine.explain(&self.request, NOW);
        assert_eq!(
            format!("{again:?}"),
            format!("{decision:?}"),
            "another decision on second sight"
        );
        let target = self.request.path_and_query().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let shown = [
            self.request.method(),
            Some(path),
            self.request.authority(),
            self.request.request_id(),
            self.request.trace_id(),
            self.request.peer.address,
            self.request.peer.uri_san,
            self.request.peer.certificate_sha256,
        ]
        .map(Option::unwrap_or_default)
        .join("\n");
        for token in TOKENS.iter().filter(|token| !shown.contains(token.signature())) {
            assert!(
                !event.contains(token.signature()),
                "the audit event holds the token {}",
                token.mark
            );
        }
        for token in TOKENS.iter() {
            let told = steps.iter().any(|step| step.contains(token.signature()));
            assert!(!told, "a step holds the token {}", token.mark);
        }
        if query.len() >= 24 && !shown.contains(query) {
            assert!(!event.contains(query), "the audit event holds the query");
        }
    }

    /// Why it may pass.
    fn check_right(&self, allowed: &Allowed) {
        if allowed.reason.status() >= 400 {
            assert_eq!(self.place, SHADOW, "passes, though {}", allowed.reason);
            assert_eq!(allowed.role(), None);
            return;
        }
        let method = self.request.method().expect("a method");
        let target = self.request.path_and_query().expect("a path");
        let path = decoded(target.split('?').next().unwrap_or_default());
        let below = |root: &str| path == root || path.starts_with(&format!("{root}/"));
        let inside = ["//", "/../", "/./", "\\", "\0", "%2e", "%2f"]
            .iter()
            .any(|part| path.contains(part));
        assert!(
            !inside && !path.ends_with("/..") && !path.ends_with("/."),
            "a path with two readings passed: {path:?}"
        );
        let right = match allowed.reason {
            Reason::Public => method == "GET" && (path == "/healthz" || below("/public")),
            Reason::Preflight => {
                let has = |name| self.request.headers.all(name).next().is_some();
                method == "OPTIONS" && has("origin") && has("access-control-request-method")
            }
            Reason::Allowed => self.covers(allowed.role().unwrap_or_default(), method, &path),
            _ => false,
        };
        assert!(
            right,
            "{method} {path} passed: {}, {:?}",
            allowed.reason,
            allowed.role()
        );
    }

    /// Whether the request comes from a holder of the role and is one that the role allows.
    fn covers(&self, role: &str, method: &str, path: &str) -> bool {
        let below = |root: &str| path == root || path.starts_with(&format!("{root}/"));
        let has = |mark: &str| {
            let mut tokens = TOKENS.iter().filter(|token| token.genuine && token.mark == mark);
            tokens.any(|token| self.holds(token))
        };
        let authority = self.request.authority().unwrap_or_default().to_ascii_lowercase();
        let host = authority.rsplit('@').next().unwrap_or_default();
        let host = host.split(':').next().unwrap_or_default().trim_end_matches('.');
        let asked_for = self.request.headers.all("x-isthmus-assume-role").next();
        let asked = asked_for.is_none_or(|asked| asked == role.as_bytes());
        asked
            && match role {
                "reader" => {
                    let bound = self.request.peer.certificate_sha256 == Some(CERTIFICATE);
                    (has("{reader}") || bound && has("{bound}")) && method == "GET" && below("/metrics")
                }
                "operator" => {
                    let folded = path.to_ascii_lowercase();
                    let locked = folded == "/storage/locked" || folded.starts_with("/storage/locked/");
                    // Without a host it could be any.
                    let no_host = host.is_empty() || host == "vault.example";
                    let denied = method.eq_ignore_ascii_case("DELETE") && locked || no_host;
                    has("{operator}") && below("/storage") && !denied
                }
                "partner" => has("{partner}") && ["GET", "POST"].contains(&method) && below("/partner"),
                "gateway" => {
                    let through = self.request.peer.uri_san == Some(GATEWAY) && host.ends_with(".vm.example");
                    has("{partner}") && through && method == "GET" && below("/gateway")
                }
                _ => false,
            }
    }

    /// What is left of it.
    fn check_upstream(&self, allowed: &Allowed) {
        let kept = self
            .request
            .headers
            .iter()
            .filter(|(name, _)| !names(&allowed.remove, name))
            .filter(|(name, _)| !allowed.set.iter().any(|(set, _)| set.as_bytes() == *name));
        for (name, value) in kept {
            let shown = String::from_utf8_lossy(name);
            assert!(name.is_ascii(), "a name that is no token passes: {shown:?}");
            assert!(!self.is_ours(name), "{shown:?} stays");
            assert!(
                !self.leaks(allowed, name, value),
                "a credential stays in {shown:?}"
            );
        }
        for (name, value) in &allowed.set {
            let leaks = self.leaks(allowed, name.as_bytes(), value.as_bytes());
            assert!(!leaks, "a credential is put into {name}");
            let fits = !value.chars().any(char::is_control) || name == ":path" || name == "cookie";
            assert!(fits, "{name} would carry {value:?}");
            let same = allowed.set.iter().filter(|(other, _)| other == name).count();
            assert_eq!(same, 1, "{name} is set twice");
        }
    }

    /// Whether a field that reaches the backend carries a credential. What a provider with `forward` leaves, it
    /// leaves where it was found.
    fn leaks(&self, allowed: &Allowed, name: &[u8], value: &[u8]) -> bool {
        let partner = matches!(allowed.role(), Some("partner" | "gateway"));
        let token = TOKENS.iter().find(|token| token.mark == "{partner}");
        let forwarded = |text: &str| partner && token.is_some_and(|token| text.contains(&token.text));
        let text = String::from_utf8_lossy(value);
        match name {
            b"cookie" => text.split([';', ',']).any(|pair| {
                let folded = folded(key(pair));
                COOKIES[self.place].contains(&folded.as_str()) && !forwarded(pair)
            }),
            b":path" => text.split_once('?').is_some_and(|(_, query)| {
                query.split(['&', ';']).any(|pair| {
                    let folded = folded(key(pair));
                    PARAMETERS[self.place].contains(&folded.as_str()) && !forwarded(pair)
                })
            }),
            _ => self.carries_credential(name) && !forwarded(&text),
        }
    }

    fn holds(&self, token: &Token) -> bool {
        let contains = |value: &[u8]| String::from_utf8_lossy(value).contains(&token.text);
        self.request.headers.iter().any(|(_, value)| contains(value))
    }

    fn is_ours(&self, name: &[u8]) -> bool {
        canonical(name).is_some_and(|name| name.starts_with("x-isthmus-") || OURS.contains(&name.as_str()))
    }

    fn carries_credential(&self, name: &[u8]) -> bool {
        canonical(name).is_some_and(|name| CREDENTIAL_FIELDS[self.place].contains(&name.as_str()))
    }
}

/// A name as a backend may read it: letters in one case, all other signs alike. Nothing for one that is no token
/// (RFC 9110, section 5.1): no request passes with it.
fn canonical(name: &[u8]) -> Option<String> {
    let folded = |sign: char| match sign {
        sign if sign.is_ascii_alphanumeric() => sign.to_ascii_lowercase(),
        _ => '-',
    };
    let name = std::str::from_utf8(name).ok().filter(|name| name.is_ascii())?;
    Some(name.chars().map(folded).collect())
}

fn names(list: &[String], name: &[u8]) -> bool {
    list.iter().any(|listed| listed.as_bytes() == name)
}

/// The name in `name=value`.
fn key(pair: &str) -> &str {
    pair.split('=').next().unwrap_or_default()
}

/// A parameter's or cookie's name as the most lenient backend reads it, PHP's variable names included.
fn folded(name: &str) -> String {
    let name = decoded(name).replace('+', " ").to_ascii_lowercase();
    let end = name.find(['[', '\0']).unwrap_or(name.len());
    let name = name[..end].trim_matches(|sign: char| sign.is_ascii_whitespace());
    name.replace(['.', '-', ' '], "_")
}

/// Percent-decoded once; what is no UTF-8 then is replaced.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        // `from_str_radix` takes a sign, an escape has none.
        let escaped = digits.filter(|digits| *first == b'%' && !digits.contains('+'));
        match escaped.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
