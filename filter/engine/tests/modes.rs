//! What the configuration says about refusals: whether they are carried out, and whether they say why.

use isthmus_cases::{filter_config, TokenSpec};
use isthmus_engine::{Decision, Engine, Headers, Peer, Reason, Request, UnixMillis};
use serde_json::{json, Value};
use wasm_bindgen_test::wasm_bindgen_test;

const NOW: u64 = 1_800_000_000;

fn engine(change: Value) -> Engine {
    let mut config = filter_config();
    config
        .as_object_mut()
        .expect("an object")
        .extend(change.as_object().expect("an object").clone());
    Engine::new(config.to_string().as_bytes()).expect("a configuration")
}

fn request<'r>(fields: &'r [(&'r [u8], &'r [u8])]) -> Request<'r> {
    Request {
        headers: Headers(fields),
        peer: Peer::default(),
    }
}

#[wasm_bindgen_test(unsupported = test)]
fn shadow_mode_lets_pass_what_it_says_it_would_refuse() {
    let mut engine = engine(json!({"mode": "shadow"}));
    let token: TokenSpec =
        serde_json::from_value(json!({"claims": {"cognito:groups": ["readers"]}})).expect("a token");
    let bearer = format!("Bearer {}", token.mint(NOW));
    let now = UnixMillis(NOW * 1000);
    for (method, authorization, reason) in [
        ("DELETE", bearer.as_str(), Reason::NotAllowed),
        ("GET", "Bearer junk", Reason::MalformedToken),
    ] {
        let fields: [(&[u8], &[u8]); 5] = [
            (b":method", method.as_bytes()),
            (b":path", b"/metrics/cpu"),
            (b"authorization", authorization.as_bytes()),
            (b"x-user", b"mallory"),
            (b"x-isthmus-role", b"operator"),
        ];
        let request = request(&fields);
        let decision = engine.decide(&request, now);
        let event: Value = serde_json::from_str(&engine.audit_event(&decision, &request, now)).expect("JSON");
        let Decision::Allow(allowed) = decision else {
            panic!("{reason} does not pass");
        };
        assert_eq!(allowed.reason, reason);
        assert_eq!(
            allowed.remove,
            ["x-isthmus-role", "x-user"],
            "identity goes, the credential stays"
        );
        assert_eq!(allowed.role(), None);
        assert!(allowed.set.is_empty());
        assert_eq!(event["status_detail"], reason.code());
        assert_eq!(event["unmapped"]["isthmus"]["decision"], "deny");
        assert_eq!(event["unmapped"]["isthmus"]["mode"], "shadow");
    }
}

#[wasm_bindgen_test(unsupported = test)]
fn shadow_mode_leaves_good_credentials_where_they_are_and_holds_nothing_up() {
    let mut config = filter_config();
    config["providers"][0]["jwks"] = json!({"uri": "https://idp.example/keys", "cluster": "idp"});
    config["mode"] = json!("shadow");
    let mut waiting = Engine::new(config.to_string().as_bytes()).expect("a configuration");
    let mut ready = engine(json!({"mode": "shadow"}));
    let token: TokenSpec =
        serde_json::from_value(json!({"claims": {"cognito:groups": ["readers"]}})).expect("a token");
    let bearer = format!("Bearer {}", token.mint(NOW));
    let fields: [(&[u8], &[u8]); 3] = [
        (b":method", b"GET"),
        (b":path", b"/metrics/cpu"),
        (b"authorization", bearer.as_bytes()),
    ];
    for (engine, reason) in [
        (&mut ready, Reason::Allowed),
        (&mut waiting, Reason::KeysUnavailable),
    ] {
        let Decision::Allow(allowed) = engine.decide(&request(&fields), UnixMillis(NOW * 1000)) else {
            panic!("{reason} does not pass at once");
        };
        assert_eq!((allowed.reason, allowed.remove), (reason, Vec::<String>::new()));
    }
}

#[wasm_bindgen_test(unsupported = test)]
fn a_request_whose_fields_cannot_be_taken_away_does_not_pass_in_any_mode() {
    let mut engine = engine(json!({"mode": "shadow"}));
    let fields: [(&[u8], &[u8]); 3] = [(b":method", b"GET"), (b":path", b"/"), (b"x\xffuser", b"mallory")];
    let decision = engine.decide(&request(&fields), UnixMillis(0));
    assert!(matches!(decision, Decision::Deny(denied) if denied.reason == Reason::MalformedRequest));
}

#[wasm_bindgen_test(unsupported = test)]
fn refusals_say_why_unless_the_configuration_forbids_it() {
    for (details, says) in [(json!({}), true), (json!({"details": false}), false)] {
        let mut engine = engine(details);
        let fields: [(&[u8], &[u8]); 3] = [
            (b":method", b"GET"),
            (b":path", b"/"),
            (b"authorization", b"Bearer junk"),
        ];
        let request = request(&fields);
        let Decision::Deny(denied) = engine.decide(&request, UnixMillis(0)) else {
            panic!("junk passes");
        };
        let answer = engine.answer(&denied, &request);
        assert_eq!(answer.status, 401);
        assert_eq!(answer.body.contains("malformed_token"), says);
    }
}

#[wasm_bindgen_test(unsupported = test)]
fn preflight_requests_pass_unless_the_configuration_forbids_it() {
    let fields: [(&[u8], &[u8]); 4] = [
        (b":method", b"OPTIONS"),
        (b":path", b"/metrics"),
        (b"origin", b"https://app.example"),
        (b"access-control-request-method", b"GET"),
    ];
    for (change, passes) in [(json!({}), true), (json!({"cors_preflight": false}), false)] {
        let decision = engine(change).decide(&request(&fields), UnixMillis(0));
        assert_eq!(matches!(decision, Decision::Allow(_)), passes);
    }
}
