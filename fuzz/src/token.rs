//! `token`: what the engine takes for a token.
//!
//! An input is a token as it is. One with a line break is also a header and claims, which are encoded and signed so
//! that what lies behind the encoding and the signature is reached.
//!
//! - Nothing panics.
//! - A token is taken or refused alike on first and second sight, and by an engine that never saw it.
//! - What is taken has three parts with one reading, an algorithm that its provider allows, no extensions, an end, and
//!   a signature that holds by itself.
//! - What claims become is fit for a header field, and the audit event does not hold the token.

use std::sync::LazyLock;

use base64::{engine::general_purpose::URL_SAFE_NO_PAD, Engine as _};
use isthmus_engine::{Decision, Engine, Headers, Peer, Reason, Request, SignatureVerifier, UnixMillis};
use jsonwebtoken::Algorithm;
use serde_json::{json, Value};

use super::{event, json, keys};

const NOW: UnixMillis = UnixMillis(1_800_000_000_000);
/// Long enough for every token here that expires soon.
const LATER: UnixMillis = UnixMillis(NOW.0 + 3_600_000);
/// What the configuration allows.
const ALGORITHMS: [&str; 6] = ["HS256", "HS384", "HS512", "RS256", "ES256", "EdDSA"];
const CERTIFICATE: &str = "4242424242424242424242424242424242424242424242424242424242424242";

/// The keys of the recorded tokens among the seeds.
static RECORDED: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("../seeds/jwks/recorded_tokens")).expect("a key set"));

/// One provider of each preset, and one for the recorded tokens.
static CONFIGURATION: LazyLock<String> = LazyLock::new(|| {
    let provider = |name: &str, issuer: &str, more: Value| {
        let mut provider = json!({
            "name": name, "preset": name, "issuer": issuer, "audiences": ["api"],
            "algorithms": ["HS256", "HS384", "HS512"], "jwks": {"inline": {"keys": [keys::secret_jwk()]}},
        });
        if let (Some(provider), Value::Object(more)) = (provider.as_object_mut(), more) {
            provider.extend(more);
            provider.retain(|_, value| !value.is_null());
        }
        provider
    };
    json!({
        "providers": [
            provider("oidc", "https://idp.example", json!({})),
            provider("cognito", "https://pool.example", json!({"max_lifetime": "1h", "clock_skew": "0s"})),
            provider("okta", "https://okta.example/oauth2/default", json!({"require": [{"claim": "ver", "any": ["1"]}]})),
            provider("aws-sts", "https://sts.example", json!({"require": [{"claim": ["https://sts.amazonaws.com/", "org"]}]})),
            provider("entra", "", json!({"issuer": null, "tenants": ["72f988bf-86f1-41af-91ab-2d7cd011db47"]})),
            provider("recorded", "test-issuer-1@istio.io", json!({
                "preset": "oidc", "audiences": ["foo"], "algorithms": ["RS256", "ES256", "EdDSA"], "jwks": {"inline": *RECORDED},
            })),
        ],
        "claims_to_headers": [
            {"claim": "sub", "header": "x-plain"},
            {"claim": ["cognito:groups"], "header": "x-csv", "format": "csv"},
            {"claim": ["a", "b"], "header": "x-json", "format": "json"},
            {"claim": "roles", "header": "x-base64url", "format": "base64url"},
        ],
        "roles": [
            {
                "name": "reader", "credential": "azure/reader",
                "holders": [{"provider": "cognito", "claim": ["cognito:groups"], "any": ["readers"]}],
                "allow": [{"methods": ["GET"], "paths": ["/**"]}],
            },
            {
                "name": "anyone", "holders": [{"provider": "oidc"}, {"provider": "entra"}, {"provider": "recorded"}],
                "allow": [{"methods": ["GET"], "paths": ["/**"]}],
            },
        ],
    })
    .to_string()
});

/// Every key of the configuration.
static SET: LazyLock<Value> = LazyLock::new(|| {
    let mut set = RECORDED.clone();
    if let Some(keys) = set["keys"].as_array_mut() {
        keys.push(keys::secret_jwk());
    }
    set
});

/// Runs one input.
pub fn run(input: &[u8]) {
    let mut engine = engine();
    if let Ok(token) = std::str::from_utf8(input) {
        check(&mut engine, token);
    }
    let mut lines = input.splitn(2, |byte| *byte == b'\n');
    if let (Some(header), Some(claims)) = (lines.next(), lines.next()) {
        check(&mut engine, &keys::sign(algorithm(header), header, claims));
    }
}

/// That of HS256, HS384 and HS512 which the header names.
fn algorithm(header: &[u8]) -> Algorithm {
    let header: Value = serde_json::from_slice(header).unwrap_or_default();
    match header["alg"].as_str() {
        Some("HS384") => Algorithm::HS384,
        Some("HS512") => Algorithm::HS512,
        _ => Algorithm::HS256,
    }
}

fn engine() -> Engine {
    Engine::new(CONFIGURATION.as_bytes()).expect("the configuration of this target")
}

fn check(engine: &mut Engine, token: &str) {
    let signature = SignatureVerifier::default().verify_with_set(token, &SET);
    let verdict = engine.verify_token(token, NOW);
    assert_eq!(
        engine.verify_token(token, NOW),
        verdict,
        "another verdict on second sight"
    );
    if verdict.is_ok() || verdict == Err(Reason::UnprovenBinding) {
        taken(token);
    }
    if verdict.is_ok() {
        assert_eq!(signature, Ok(()), "a token was taken, its signature is not");
    }
    allowed(engine, token, verdict);
    // What is found out again, with the time that passed, must not differ from what is remembered.
    if !matches!(verdict, Err(Reason::MalformedToken | Reason::TokenTooLarge)) {
        let remembered = engine.verify_token(token, LATER);
        let fresh = self::engine().verify_token(token, LATER);
        assert_eq!(
            remembered.is_ok(),
            fresh.is_ok(),
            "{remembered:?} from memory, else {fresh:?}"
        );
    }
}

/// What must be true of any token that was believed.
fn taken(token: &str) {
    assert!(token.len() <= 16 * 1024, "a token of {} bytes", token.len());
    let parts: Vec<Vec<u8>> = token
        .split('.')
        .map(|part| {
            URL_SAFE_NO_PAD
                .decode(part)
                .expect("a part that is not base64url")
        })
        .collect();
    assert_eq!(parts.len(), 3, "a token of {} parts", parts.len());
    let [header, claims] = [&parts[0], &parts[1]].map(|part| {
        let text = std::str::from_utf8(part).expect("a part that is no text");
        let shape = json::shape(text);
        assert!(
            !shape.duplicates && shape.depth <= 16,
            "two readings, or nested deeply: {text}"
        );
        serde_json::from_str::<Value>(text).expect("a part that is no JSON")
    });
    let algorithm = header["alg"].as_str().expect("a header without an algorithm");
    assert!(ALGORITHMS.contains(&algorithm), "the algorithm {algorithm}");
    assert!(header.get("crit").is_none(), "extensions that nobody here knows");
    assert!(
        header.get("b64").is_none_or(|b64| b64 == true),
        "a payload that is not encoded"
    );
    let exp = claims["exp"].as_f64().expect("a token that never expires");
    assert!(exp + 30.0 > NOW.0 as f64 / 1000.0, "a token that has expired");
}

/// A request with the token is decided as the token itself is.
fn allowed(engine: &mut Engine, token: &str, verdict: Result<(), Reason>) {
    let credential = format!("Bearer {token}");
    let fields: [(&[u8], &[u8]); 4] = [
        (b":method", b"GET"),
        (b":path", b"/orders"),
        (b":authority", b"bridge.example"),
        (b"authorization", credential.as_bytes()),
    ];
    let request = Request {
        headers: Headers(&fields),
        peer: Peer {
            certificate_sha256: Some(CERTIFICATE),
            ..Peer::default()
        },
    };
    let decision = engine.decide(&request, NOW);
    let event = event::checked(engine, &decision, &request, NOW);
    if let Some((_, signature)) = token
        .rsplit_once('.')
        .filter(|(_, signature)| signature.len() >= 43)
    {
        assert!(!event.contains(signature), "the audit event holds the token");
    }
    if let Decision::Allow(allowed) = decision {
        let bound = verdict == Err(Reason::UnprovenBinding);
        assert!(
            verdict.is_ok() || bound,
            "a request passed with a token that was refused: {verdict:?}"
        );
        assert_eq!(allowed.remove, ["authorization"]);
        for (name, value) in allowed.set {
            let fits = !value.chars().any(char::is_control) && value.trim() == value;
            assert!(fits, "{name} would carry {value:?}");
        }
    }
}
