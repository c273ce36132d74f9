//! `differential`: the engine against an independent library, `jsonwebtoken` on aws-lc, with the same keys, issuer,
//! audience, algorithms and leeway.
//!
//! An input is a token, or three lines: a header, claims, and how they are signed. That is the algorithm whose key
//! signs, then nothing, or after a space bytes that are XORed onto the signature (and lengthen it), or after ` =` a
//! signature as it is.
//!
//! - What the engine takes, the library takes, but for [`library_is_stricter`].
//! - What the library takes, the engine takes, but for [`Stricter`].
//! - Where both take a token, they read the same claims.

use std::{borrow::Cow, sync::LazyLock};

use base64::{engine::general_purpose::URL_SAFE_NO_PAD, Engine as _};
use isthmus_engine::{Decision, Engine, Headers, Peer, Reason, Request, UnixMillis};
use jsonwebtoken::{decode, decode_header, jwk::Jwk, Algorithm, Validation};
use serde_json::{json, Map, Value};

use super::{
    json::{shape, Shape},
    keys,
};

const NOW: u64 = 1_800_000_000;
const LEEWAY: f64 = 30.0;
const ISSUER: &str = "https://idp.example";
const AUDIENCE: &str = "api";
const ALGORITHMS: [(&str, Algorithm); 6] = [
    ("HS256", Algorithm::HS256),
    ("HS384", Algorithm::HS384),
    ("HS512", Algorithm::HS512),
    ("RS256", Algorithm::RS256),
    ("ES256", Algorithm::ES256),
    ("EdDSA", Algorithm::EdDSA),
];

static CONFIGURATION: LazyLock<String> = LazyLock::new(|| {
    json!({
        "providers": [{
            "name": "idp", "preset": "oidc", "issuer": ISSUER, "audiences": [AUDIENCE],
            "algorithms": ALGORITHMS.map(|(name, _)| name), "jwks": {"inline": keys::set()},
        }],
        "claims_to_headers": [
            {"claim": "sub", "header": "x-user"}, {"claim": "data", "header": "x-data", "format": "base64url"},
        ],
        "roles": [
            {"name": "anyone", "holders": [{"provider": "idp"}], "allow": [{"methods": ["*"], "paths": ["/**"]}]},
        ],
    })
    .to_string()
});

/// The ways in which the engine is stricter than the library, by design (filter.md, "Token rules").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stricter {
    /// A token is at most 16 KiB: work and memory per request are bounded.
    Length,
    /// No object has a name twice: two readers of one token could see two values.
    DuplicateName,
    /// Arrays and objects nest at most 16 deep: work is bounded.
    Nesting,
    /// `kid` and `typ` are text or absent; the library takes null for absent.
    HeaderNull,
    /// Any `crit` is refused, for no extension is understood (RFC 7515, section 4.1.11); the library does not look at
    /// it.
    Critical,
    /// `b64` other than true changes what is signed (RFC 7797); the library does not know it.
    Unencoded,
    /// `typ` is absent, `JWT` or `at+jwt`, so that no other kind of token is taken for one (RFC 8725, section 3.11).
    Type,
    /// `kid` names the key; the library is handed one whatever `kid` says.
    KeyId,
    /// `iss` is one text (RFC 7519, section 4.1.1); the library takes a list with the issuer in it.
    IssuerList,
    /// `nbf` and `iat` are numbers where they are there, null is none; the library does not look at `iat`.
    TimeType,
    /// `sub`, `jti`, `client_id` and `azp` are text where they are there; the library leaves that to its caller.
    TextType,
    /// `iat` does not lie ahead.
    IssuedAhead,
    /// A token that is bound to a key (`cnf`) is no bearer token (RFC 7800); the library does not look at it.
    Binding,
}

/// Runs one input.
pub fn run(input: &[u8]) {
    if let Ok(token) = std::str::from_utf8(input) {
        compare(token);
    }
    let mut lines = input.splitn(3, |byte| *byte == b'\n');
    if let (Some(header), Some(claims)) = (lines.next(), lines.next()) {
        compare(&signed(header, claims, lines.next().unwrap_or_default()));
    }
}

fn signed(header: &[u8], claims: &[u8], how: &[u8]) -> String {
    let mut words = how.splitn(2, |byte| *byte == b' ');
    let signer = words.next().unwrap_or_default();
    let known = ALGORITHMS.iter().find(|(name, _)| name.as_bytes() == signer);
    let algorithm = known.map(|(_, algorithm)| *algorithm).unwrap_or_default();
    let token = keys::sign(algorithm, header, claims);
    let Some(edit) = words.next() else {
        return token;
    };
    let (signed, signature) = token.rsplit_once('.').expect("a token");
    let signature: Cow<'_, str> = match edit.strip_prefix(b"=") {
        Some(text) => String::from_utf8_lossy(text),
        None => {
            let mut bytes = URL_SAFE_NO_PAD.decode(signature).expect("a signature");
            bytes.resize(bytes.len().max(edit.len()), 0);
            bytes.iter_mut().zip(edit).for_each(|(byte, edit)| *byte ^= edit);
            URL_SAFE_NO_PAD.encode(bytes).into()
        }
    };
    format!("{signed}.{signature}")
}

fn compare(token: &str) {
    let mut engine = Engine::new(CONFIGURATION.as_bytes()).expect("the configuration of this target");
    let verdict = engine.verify_token(token, UnixMillis(NOW * 1000));
    match (verdict, by_library(token)) {
        (Err(_), Err(_)) => {}
        (Ok(()), Ok(claims)) => same_claims(&mut engine, token, &claims),
        (Ok(()), Err(problem)) => {
            assert!(
                library_is_stricter(token),
                "the engine takes what the library refuses: {problem}"
            );
        }
        (Err(reason), Ok(_)) => {
            let stricter = engine_is_stricter(reason, token);
            assert!(
                stricter.is_some(),
                "the library takes what the engine refuses: {reason}"
            );
        }
    }
}

/// The claims of a token that the library takes. Its clock is the wall's, so its checks of time are off and made
/// here.
fn by_library(token: &str) -> Result<Map<String, Value>, String> {
    let text = |error: jsonwebtoken::errors::Error| error.to_string();
    let algorithm = decode_header(token).map_err(text)?.alg;
    let key = keys::decoding(algorithm).ok_or("no key for the algorithm")?;
    let mut validation = Validation::new(algorithm);
    validation.validate_exp = false;
    validation.set_issuer(&[ISSUER]);
    validation.set_audience(&[AUDIENCE]);
    validation.set_required_spec_claims(&["exp", "iss", "aud"]);
    let claims = decode::<Map<String, Value>>(token, key, &validation)
        .map_err(text)?
        .claims;
    let time = |name: &str| claims.get(name).and_then(Value::as_f64);
    if time("exp").is_none_or(|exp| NOW as f64 >= exp + LEEWAY) {
        return Err("expired".to_owned());
    }
    if time("nbf").is_some_and(|nbf| nbf > NOW as f64 + LEEWAY) {
        return Err("not yet valid".to_owned());
    }
    Ok(claims)
}

/// The JSON texts of a token that the library took.
fn parts(token: &str) -> [String; 2] {
    let mut parts = token
        .split('.')
        .map(|part| String::from_utf8(URL_SAFE_NO_PAD.decode(part).expect("base64url")).expect("UTF-8"));
    [parts.next().expect("a header"), parts.next().expect("claims")]
}

/// Which of the engine's own rules it was. Nothing: none of them, and one of the two is wrong.
fn engine_is_stricter(reason: Reason, token: &str) -> Option<Stricter> {
    if reason == Reason::TokenTooLarge {
        return (token.len() > 16 * 1024).then_some(Stricter::Length);
    }
    let texts = parts(token);
    let shapes = texts.each_ref().map(|text| shape(text));
    let [header, claims]: [Map<String, Value>; 2] = texts
        .each_ref()
        .map(|text| serde_json::from_str(text).expect("an object"));
    let is_null = |name: &str| header.get(name) == Some(&Value::Null);
    let is_not = |names: &[&str], fits: fn(&Value) -> bool| {
        names
            .iter()
            .any(|name| claims.get(*name).is_some_and(|claim| !fits(claim)))
    };
    let typ = header.get("typ").and_then(Value::as_str);
    let own_typ = typ.is_none_or(|typ| ["jwt", "at+jwt"].contains(&typ.to_ascii_lowercase().as_str()));
    let own_kid = header.get("kid").is_none_or(|kid| fits_kid(&header["alg"], kid));
    let ahead = |iat: f64| iat > NOW as f64 + LEEWAY;
    let rules = [
        (
            Reason::MalformedToken,
            Stricter::DuplicateName,
            shapes.iter().any(|shape| shape.duplicates),
        ),
        (
            Reason::MalformedToken,
            Stricter::Nesting,
            shapes.iter().any(|Shape { depth, .. }| *depth > 16),
        ),
        (
            Reason::MalformedToken,
            Stricter::HeaderNull,
            is_null("kid") || is_null("typ"),
        ),
        (
            Reason::UnsupportedHeader,
            Stricter::Critical,
            header.contains_key("crit"),
        ),
        (
            Reason::UnsupportedHeader,
            Stricter::Unencoded,
            header.get("b64").is_some_and(|b64| b64 != true),
        ),
        (Reason::UnsupportedHeader, Stricter::Type, !own_typ),
        (Reason::UnknownKey, Stricter::KeyId, !own_kid),
        (Reason::KeyMismatch, Stricter::KeyId, !own_kid),
        (
            Reason::UnknownIssuer,
            Stricter::IssuerList,
            claims["iss"].is_array(),
        ),
        (
            Reason::InvalidClaim,
            Stricter::TimeType,
            is_not(&["nbf", "iat"], Value::is_number),
        ),
        (
            Reason::InvalidClaim,
            Stricter::TextType,
            is_not(&["sub", "jti", "client_id", "azp"], Value::is_string),
        ),
        (
            Reason::NotYetValid,
            Stricter::IssuedAhead,
            claims.get("iat").and_then(Value::as_f64).is_some_and(ahead),
        ),
        (
            Reason::UnprovenBinding,
            Stricter::Binding,
            claims.contains_key("cnf"),
        ),
    ];
    rules
        .into_iter()
        .find(|(refused, _, holds)| *refused == reason && *holds)
        .map(|(_, stricter, _)| stricter)
}

/// Whether `kid` is that of the key for the algorithm.
fn fits_kid(algorithm: &Value, kid: &Value) -> bool {
    let own = match algorithm.as_str() {
        Some("RS256") => keys::rsa_jwk()["kid"].clone(),
        Some("ES256") => keys::ES_KID.into(),
        Some("EdDSA") => keys::ED_KID.into(),
        _ => keys::HS_KID.into(),
    };
    *kid == own
}

/// Whether the library refuses a token for what the engine by design does not look at: header members that it gives a
/// type and that must not matter (`jku`, `x5c` …: keys come from the configuration alone), and an `exp` beyond its 64
/// bits.
fn library_is_stricter(token: &str) -> bool {
    let [header, claims] = parts(token).map(|text| serde_json::from_str::<Value>(&text).expect("JSON"));
    let text = [
        "cty", "jku", "x5u", "x5t", "x5t#S256", "enc", "zip", "url", "nonce",
    ];
    let no_text = |name: &&str| {
        header
            .get(*name)
            .is_some_and(|value| !value.is_null() && !value.is_string())
    };
    let fits = |name: &str, fits: fn(&Value) -> bool| header[name].is_null() || fits(&header[name]);
    text.iter().any(no_text)
        || !fits("x5c", |chain| {
            chain
                .as_array()
                .is_some_and(|chain| chain.iter().all(Value::is_string))
        })
        || !fits("jwk", |jwk| serde_json::from_value::<Jwk>(jwk.clone()).is_ok())
        || claims["exp"].as_f64().is_some_and(|exp| exp >= u64::MAX as f64)
}

/// What the backend is told are the claims as the library reads them.
fn same_claims(engine: &mut Engine, token: &str, claims: &Map<String, Value>) {
    let credential = format!("Bearer {token}");
    let fields: [(&[u8], &[u8]); 3] = [
        (b":method", b"GET"),
        (b":path", b"/"),
        (b"authorization", credential.as_bytes()),
    ];
    let request = Request {
        headers: Headers(&fields),
        peer: Peer::default(),
    };
    let Decision::Allow(allowed) = engine.decide(&request, UnixMillis(NOW * 1000)) else {
        panic!("a request with a token that is taken does not pass");
    };
    let told = |name: &str| {
        allowed
            .set
            .iter()
            .find(|(set, _)| set == name)
            .map(|(_, value)| value.as_str())
    };
    if let Some(user) = told("x-user") {
        assert_eq!(Some(user), claims["sub"].as_str());
    }
    let data = claims
        .get("data")
        .map(|data| URL_SAFE_NO_PAD.encode(data.to_string()));
    assert_eq!(told("x-data"), data.as_deref());
}
