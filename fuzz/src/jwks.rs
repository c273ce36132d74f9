//! `jwks`: what identity providers answer.
//!
//! The first line of an input is a key set or a discovery document; what follows is a JWS, and a `Cache-Control`
//! field.
//!
//! - Nothing panics.
//! - A set or a document that is refused changes nothing: the keys from before still verify.
//! - A set that is taken verifies what an engine verifies that never had another, and nothing else.
//! - The next fetch comes neither at once nor never. A discovery document is believed for its own issuer and https
//!   alone.

use std::sync::LazyLock;

use isthmus_engine::{
    Engine, FetchError, Fetched, KeySourceId, Progress, Reason, SignatureVerifier, UnixMillis,
};
use jsonwebtoken::Algorithm;
use serde_json::{json, Value};

use super::{json, keys};

const NOW: UnixMillis = UnixMillis(1_800_000_000_000);
const SECOND: u64 = 1000;
const DAY: u64 = 24 * 3600 * SECOND;

const ISSUER: &str = "test-issuer-1@istio.io";
/// The keys of the recorded tokens among the seeds. The Ed25519 key among them is that of [`keys`], too.
const RECORDED: &str = include_str!("../seeds/jwks/recorded_tokens");
/// Two tokens under those keys, one with a key id and one without. Both are EdDSA, which is the fastest to verify
/// here.
static TOKENS: LazyLock<[String; 2]> = LazyLock::new(|| {
    let claims = format!(r#"{{"iss":"{ISSUER}","aud":"foo","exp":4000000000}}"#);
    [r#"{"alg":"EdDSA","kid":"ed-1"}"#, r#"{"alg":"EdDSA"}"#]
        .map(|header| keys::sign(Algorithm::EdDSA, header.as_bytes(), claims.as_bytes()))
});

static BY_URI: LazyLock<String> =
    LazyLock::new(|| configuration(r#"{"uri":"https://idp.example/keys","cluster":"idp"}"#));
static BY_DISCOVERY: LazyLock<String> =
    LazyLock::new(|| configuration(r#"{"discovery":"https://idp.example/openid","cluster":"idp"}"#));

fn configuration(jwks: &str) -> String {
    let algorithms = r#"["RS256","RS384","RS512","PS256","PS384","PS512","ES256","ES384","ES512","EdDSA"]"#;
    format!(
        r#"{{"providers":[{{"name":"p","preset":"oidc","issuer":"{ISSUER}","audiences":["foo"],"algorithms":{algorithms},"jwks":{jwks}}}]}}"#
    )
}

/// Runs one input.
pub fn run(input: &[u8]) {
    let mut lines = input.splitn(2, |byte| *byte == b'\n');
    let document = lines.next().unwrap_or_default();
    let more = std::str::from_utf8(lines.next().unwrap_or_default()).unwrap_or_default();
    let shared = shared(document);
    in_line(document, shared);
    fetched(document, more);
    discovered(document);
    by_itself(document, more);
}

fn engine(configuration: &str) -> (Engine, KeySourceId) {
    let engine = Engine::new(configuration.as_bytes()).expect("a configuration of this target");
    let source = engine.key_status().next().map(|status| status.source);
    (engine, source.expect("a provider"))
}

fn body(body: &[u8]) -> Fetched<'_> {
    Fetched {
        body,
        cache_control: None,
    }
}

fn verdicts(engine: &mut Engine, now: UnixMillis) -> [Result<(), Reason>; 2] {
    TOKENS.each_ref().map(|token| engine.verify_token(token, now))
}

/// Keys that another worker hands over.
fn shared(document: &[u8]) -> bool {
    let (mut engine, source) = engine(&BY_URI);
    let taken = engine.share_keys(source, body(RECORDED.as_bytes()), NOW, NOW);
    assert_eq!(taken, Ok(Progress::Changed));
    // One token is remembered from before, the other is not.
    assert_eq!(engine.verify_token(&TOKENS[0], NOW), Ok(()));
    let older = engine.share_keys(source, body(document), NOW, NOW);
    assert_eq!(
        older,
        Ok(Progress::Unchanged),
        "keys were replaced by keys no newer"
    );
    let later = UnixMillis(NOW.0 + 1);
    let progress = engine.share_keys(source, body(document), later, later);
    let fetched_at = engine.key_status_of(source).and_then(|status| status.fetched_at);
    assert_eq!(fetched_at, Some(if progress.is_ok() { later } else { NOW }));
    let expected = match progress {
        Ok(Progress::Changed) => {
            let (mut fresh, source) = self::engine(&BY_URI);
            let taken = fresh.share_keys(source, body(document), later, later);
            assert_eq!(taken, Ok(Progress::Changed));
            verdicts(&mut fresh, later)
        }
        _ => [Ok(()); 2],
    };
    assert_eq!(verdicts(&mut engine, later), expected, "after {progress:?}");
    progress.is_ok()
}

/// Keys in the configuration: what is good enough for the network is good enough there, if nothing in it has two
/// readings. Over the network such a part is passed over, in a configuration it is an error.
fn in_line(document: &[u8], good: bool) {
    const LEVELS_AROUND: usize = 4;
    let Ok(text) = std::str::from_utf8(document) else {
        return;
    };
    let engine = Engine::new(configuration(&format!(r#"{{"inline":{text}}}"#)).as_bytes());
    if !good || serde_json::from_str::<Value>(text).is_err() {
        return;
    }
    let shape = json::shape(text);
    if !shape.duplicates && shape.depth <= 16 - LEVELS_AROUND {
        assert!(
            engine.is_ok(),
            "fetched keys are taken, the same in line are not: {:?}",
            engine.err()
        );
    }
}

/// Keys that come by a refresh.
fn fetched(document: &[u8], cache_control: &str) {
    let (mut engine, source) = engine(&BY_URI);
    assert_eq!(engine.due_fetches(NOW).len(), 1);
    let taken = engine.fetched(source, Ok(body(RECORDED.as_bytes())), NOW);
    assert_eq!(taken, Ok(Progress::Changed));
    assert_eq!(engine.verify_token(&TOKENS[0], NOW), Ok(()));
    let now = UnixMillis(NOW.0 + 600 * SECOND);
    assert_eq!(engine.due_fetches(now).len(), 1);
    let answer = Fetched {
        body: document,
        cache_control: Some(cache_control),
    };
    let progress = engine.fetched(source, Ok(answer), now);
    let due = |engine: &mut Engine, after: u64| !engine.due_fetches(UnixMillis(now.0 + after)).is_empty();
    if let Ok(Progress::Changed) = progress {
        assert!(
            !due(&mut engine, 44 * SECOND),
            "fetched again before three quarters of a minute"
        );
        assert!(due(&mut engine, DAY), "not fetched again within a day");
        return;
    }
    assert_ne!(progress, Ok(Progress::Discovered));
    assert!(!due(&mut engine, 0), "fetched again at once");
    assert_eq!(verdicts(&mut engine, now), [Ok(()); 2], "after {progress:?}");
    if progress.is_err() {
        assert!(due(&mut engine, SECOND), "not fetched again after a failure");
    }
}

/// A discovery document, and the keys at the place that it names.
fn discovered(document: &[u8]) {
    let (mut engine, source) = engine(&BY_DISCOVERY);
    assert_eq!(engine.due_fetches(NOW).len(), 1);
    let progress = engine.fetched(source, Ok(body(document)), NOW);
    let fetches = engine.due_fetches(NOW);
    match progress {
        Ok(progress) => {
            assert_eq!(progress, Progress::Discovered);
            let document: Value = serde_json::from_slice(document).expect("a document that is no JSON");
            assert_eq!(document["issuer"], ISSUER);
            let [fetch] = &fetches[..] else {
                panic!("no fetch of the keys: {fetches:?}");
            };
            assert_eq!(fetch.scheme, "https");
            let uri = format!("https://{}{}", fetch.authority, fetch.path);
            let named = document["jwks_uri"].as_str().expect("an address");
            assert!(
                uri == named || uri == format!("{named}/"),
                "{uri} instead of {named}"
            );
            let clean = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
            assert!(clean(&uri) && !fetch.authority.contains('@'), "{uri}");
            let taken = engine.fetched(source, Ok(body(RECORDED.as_bytes())), NOW);
            assert_eq!(taken, Ok(Progress::Changed));
            assert_eq!(verdicts(&mut engine, NOW), [Ok(()); 2]);
        }
        Err(error) => {
            assert!(matches!(error, FetchError::Undiscovered(_)), "{error}");
            assert!(fetches.is_empty(), "fetched again at once");
            assert_eq!(verdicts(&mut engine, NOW), [Err(Reason::KeysUnavailable); 2]);
            let again = engine.due_fetches(UnixMillis(NOW.0 + SECOND));
            assert!(again.len() == 1 && again[0].path == "/openid", "{again:?}");
        }
    }
}

/// A signature by itself: the set verifies it if one of its keys does, by each way to ask.
fn by_itself(document: &[u8], jws: &str) {
    let Ok(set) = serde_json::from_slice::<Value>(document) else {
        return;
    };
    let verifier = SignatureVerifier::default();
    let _ = verifier.verify_with_key(jws, &set);
    if verifier.verify_with_set(jws, &set).is_err() {
        return;
    }
    let nothing = json!([]);
    let keys = set
        .get("keys")
        .unwrap_or(&nothing)
        .as_array()
        .expect("an array of keys");
    let one_does = keys.iter().any(|key| verifier.verify_with_key(jws, key).is_ok());
    assert!(one_does, "the set verifies what none of its keys does");
}
