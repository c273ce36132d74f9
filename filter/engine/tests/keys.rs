//! The engine and the life of a provider's keys: what a request gets while they come, stay, go and cannot be had.

use isthmus_cases::{filter_config, jwks, TokenSpec, ISSUER};
use isthmus_engine::{Decision, Engine, FetchError, Fetched, Headers, Peer, Progress, Request, UnixMillis};
use serde_json::{json, Value};
use wasm_bindgen_test::wasm_bindgen_test;

const START: u64 = 1_800_000_000;

fn engine(jwks: Value) -> Engine {
    let mut config = filter_config();
    config["providers"][0]["jwks"] = jwks;
    Engine::new(config.to_string().as_bytes()).expect("a configuration")
}

fn remote(more: Value) -> Engine {
    let mut jwks = json!({"uri": format!("{ISSUER}/keys"), "cluster": "idp"});
    jwks.as_object_mut()
        .expect("an object")
        .extend(more.as_object().expect("an object").clone());
    engine(jwks)
}

fn at(seconds: u64) -> UnixMillis {
    UnixMillis((START + seconds) * 1000)
}

fn token(spec: Value) -> String {
    let spec: TokenSpec = serde_json::from_value(spec).expect("a token's description");
    spec.mint(START)
}

fn reader() -> Value {
    json!({"claims": {"cognito:groups": ["readers"], "exp": "now+3000"}})
}

/// What becomes of a request with this token.
fn ask(engine: &mut Engine, token: &str, now: UnixMillis) -> String {
    let bearer = format!("Bearer {token}");
    let fields: [(&[u8], &[u8]); 3] = [
        (b":method", b"GET"),
        (b":path", b"/metrics/cpu"),
        (b"authorization", bearer.as_bytes()),
    ];
    let request = Request {
        headers: Headers(&fields),
        peer: Peer::default(),
    };
    match engine.decide(&request, now) {
        Decision::Allow(allowed) => allowed.reason.to_string(),
        Decision::Deny(denied) => denied.reason.to_string(),
        Decision::Wait => "wait".to_owned(),
    }
}

fn fetch(
    engine: &mut Engine,
    outcome: Result<&str, FetchError>,
    now: UnixMillis,
) -> Result<Progress, FetchError> {
    let fetches = engine.due_fetches(now);
    assert_eq!(fetches.len(), 1, "a fetch is due");
    let outcome = outcome.map(|body| Fetched {
        body: body.as_bytes(),
        cache_control: None,
    });
    engine.fetched(fetches[0].source, outcome, now)
}

#[wasm_bindgen_test(unsupported = test)]
fn a_request_waits_for_the_first_keys_and_gets_503_where_there_are_none() {
    let mut engine = remote(json!({}));
    let token = token(reader());
    assert_eq!(ask(&mut engine, &token, at(0)), "wait");
    assert_eq!(
        fetch(&mut engine, Err(FetchError::Unreachable), at(0)),
        Err(FetchError::Unreachable)
    );
    assert_eq!(ask(&mut engine, &token, at(0)), "keys_unavailable");
    assert_eq!(ask(&mut engine, &token, at(1)), "wait");
    assert_eq!(
        fetch(&mut engine, Ok(&jwks().to_string()), at(1)),
        Ok(Progress::Changed)
    );
    assert_eq!(ask(&mut engine, &token, at(1)), "allowed");
}

#[wasm_bindgen_test(unsupported = test)]
fn keys_beyond_their_ceiling_are_not_used_for_tokens_verified_before_either() {
    let mut engine = remote(json!({"refresh": "10s", "max_stale": "1m"}));
    let token = token(reader());
    fetch(&mut engine, Ok(&jwks().to_string()), at(0)).expect("keys");
    assert_eq!(ask(&mut engine, &token, at(0)), "allowed");
    fetch(&mut engine, Err(FetchError::Status(500)), at(60)).expect_err("a failure");
    assert_eq!(ask(&mut engine, &token, at(60)), "allowed");
    assert_eq!(
        ask(&mut engine, &token, UnixMillis(at(60).0 + 1)),
        "keys_unavailable"
    );
    fetch(&mut engine, Ok(&jwks().to_string()), at(70)).expect("keys");
    assert_eq!(ask(&mut engine, &token, at(70)), "allowed");
}

#[wasm_bindgen_test(unsupported = test)]
fn a_key_that_is_taken_away_takes_its_tokens_with_it() {
    let mut engine = remote(json!({"refresh": "10s"}));
    let good = token(reader());
    let rogue = token(json!({"key": "rogue"}));
    fetch(&mut engine, Ok(&jwks().to_string()), at(0)).expect("keys");
    assert_eq!(ask(&mut engine, &good, at(0)), "allowed");
    assert_eq!(ask(&mut engine, &rogue, at(0)), "bad_signature");

    let mut others = jwks();
    others["keys"][0]["kid"] = json!("another");
    fetch(&mut engine, Ok(&others.to_string()), at(20)).expect("keys");
    assert_eq!(ask(&mut engine, &good, at(20)), "wait");
    fetch(&mut engine, Ok(&others.to_string()), at(22)).expect("keys");
    assert_eq!(ask(&mut engine, &good, at(22)), "unknown_key");
    assert_eq!(
        ask(&mut engine, &rogue, at(22)),
        "unknown_key",
        "asked for with the same key id"
    );
}

#[wasm_bindgen_test(unsupported = test)]
fn a_token_that_was_verified_is_refused_when_it_has_expired_and_refused_ones_may_become_good() {
    let mut engine = engine(json!({"inline": jwks()}));
    let token = token(json!({"claims": {"cognito:groups": ["readers"]}}));
    assert_eq!(ask(&mut engine, &token, at(0)), "allowed");
    assert_eq!(ask(&mut engine, &token, at(329)), "allowed", "within the skew");
    assert_eq!(ask(&mut engine, &token, at(330)), "expired");
    assert_eq!(ask(&mut engine, &token, at(331)), "expired");
    assert_eq!(
        ask(&mut engine, &token, at(100)),
        "allowed",
        "the clock was set back"
    );
}

#[wasm_bindgen_test(unsupported = test)]
fn the_status_of_keys_says_how_old_they_are() {
    let mut engine = remote(json!({}));
    fetch(&mut engine, Ok(&jwks().to_string()), at(0)).expect("keys");
    let status = engine.key_status().next().expect("one provider");
    assert_eq!((status.provider, status.fetched_at), ("pool", Some(at(0))));
    assert_eq!(status.age(at(90)).map(|age| age.as_secs()), Some(90));
    assert!(status
        .address
        .as_deref()
        .is_some_and(|address| address.contains("idp")));
}
