//! Nobody can tell whether an engine remembers a token: a long-lived engine answers as one that has the same keys and
//! the same time and never saw a token before.

#![cfg(not(target_arch = "wasm32"))]

use std::sync::LazyLock;

use isthmus_cases::{providers_config, TokenSpec};
use isthmus_engine::{Engine, Fetched, KeySourceId, Progress, Reason, UnixMillis};
use proptest::{collection, prelude::*, sample};
use serde_json::json;

const START: u64 = 1_800_000_000;

/// Tokens of one issuer. All but one are EdDSA, which is the fastest to verify without optimisation.
static TOKENS: LazyLock<Vec<String>> = LazyLock::new(|| {
    [
        json!({}),
        json!({"claims": {"sub": "bob", "exp": "now+60"}}),
        json!({"claims": {"sub": "carol", "nbf": "now+120", "exp": "now+600"}}),
        json!({"claims": {"sub": "dave", "iat": "now+90", "exp": "now+600"}}),
        json!({"claims": {"aud": "elsewhere"}}),
        json!({"claims": {"exp": "now-3000", "iat": "now-6000"}}),
        json!({"claims": {"sub": 7}}),
        json!({"claims": {"cnf": {"jkt": "x"}}}),
        json!({"header": {"kid": "nobody's"}}),
        json!({"header": {"kid": null}}),
        json!({"header": {"crit": ["exp"]}}),
        json!({"tamper": "payload"}),
        json!({"tamper": "append_part"}),
        json!({"key": "provider"}),
    ]
    .into_iter()
    .map(|mut spec| {
        let members = spec.as_object_mut().expect("an object");
        members.insert("by".to_owned(), "any".into());
        members.entry("key").or_insert("ed25519".into());
        let spec: TokenSpec = serde_json::from_value(spec).expect("a token's description");
        spec.mint(START)
    })
    .collect()
});

/// Key sets: the right keys, other orders and companions of them, others, and another key under the name of the right
/// one.
static SETS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let config = providers_config("rust");
    let known = config["providers"][0]["jwks"]["inline"]["keys"]
        .as_array()
        .expect("keys");
    let named = |kid: &str| known.iter().find(|key| key["kid"] == kid).expect("a key").clone();
    let (right, rsa, companion) = (named("ed25519"), named("provider"), named("p256"));
    // RFC 8037, appendix A.1.
    let other = json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"});
    let mut impostor = other.clone();
    impostor["kid"] = "ed25519".into();
    [
        json!([right]),
        json!([right, rsa]),
        json!([companion, right]),
        json!([right, other]),
        json!([impostor]),
        json!([companion]),
    ]
    .into_iter()
    .map(|keys| json!({ "keys": keys }).to_string())
    .collect()
});

static CONFIGURATION: LazyLock<String> = LazyLock::new(|| {
    json!({
        "crypto": "rust",
        "providers": [{
            "name": "any", "preset": "oidc", "issuer": "https://any.example", "audiences": ["orders-api"],
            "algorithms": ["EdDSA", "RS256"],
            "jwks": {"uri": "https://any.example/keys", "cluster": "any", "max_stale": "5m"},
        }],
    })
    .to_string()
});

#[derive(Clone, Debug)]
enum Step {
    /// A token is seen.
    See(usize),
    /// The clock goes on, in seconds; or back.
    Pass(i64),
    /// Another worker hands over a key set.
    Share(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let seconds = sample::select(vec![1, 29, 31, 59, 61, 90, 120, 301, 600]);
    prop_oneof![
        12 => (0..TOKENS.len()).prop_map(Step::See),
        2 => seconds.clone().prop_map(Step::Pass),
        1 => seconds.prop_map(|seconds: i64| Step::Pass(-seconds)),
        2 => (0..SETS.len()).prop_map(Step::Share),
    ]
}

fn engine() -> (Engine, KeySourceId) {
    let engine = Engine::new(CONFIGURATION.as_bytes()).expect("a configuration");
    let source = engine.key_status().next().expect("a provider").source;
    (engine, source)
}

fn share(
    (engine, source): &mut (Engine, KeySourceId),
    set: usize,
    at: UnixMillis,
    now: UnixMillis,
) -> Progress {
    let fetched = Fetched {
        body: SETS[set].as_bytes(),
        cache_control: None,
    };
    engine.share_keys(*source, fetched, at, now).expect("a key set")
}

/// Whether a caller is taken or refused alike. The reason of a refusal may be that of the first time, though by now
/// the token has expired or the keys are out of reach; and of a key that was asked for before it is known that nobody
/// has it.
fn alike(remembered: Result<(), Reason>, fresh: Result<(), Reason>) -> bool {
    let may_differ = matches!(fresh, Err(Reason::Expired | Reason::KeysUnavailable));
    remembered == fresh || (remembered.is_err() && may_differ)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_an_engine_remembers_cannot_be_told(steps in collection::vec(step(), 1..60)) {
        let mut lived = engine();
        let mut now = UnixMillis(START * 1000);
        let mut keys = (0, now);
        share(&mut lived, keys.0, keys.1, now);
        for step in steps {
            match step {
                Step::Pass(seconds) => now = UnixMillis(now.0.saturating_add_signed(seconds * 1000)),
                Step::Share(set) => {
                    // Only a later set is taken, and the clock may have been set back.
                    keys = (set, UnixMillis(now.0.max(keys.1.0 + 1)));
                    share(&mut lived, keys.0, keys.1, now);
                }
                Step::See(token) => {
                    let mut fresh = engine();
                    share(&mut fresh, keys.0, keys.1, now);
                    let remembered = lived.0.verify_token(&TOKENS[token], now);
                    let fresh = fresh.0.verify_token(&TOKENS[token], now);
                    prop_assert!(
                        alike(remembered, fresh),
                        "token {}: {:?} from memory, else {:?}", token, remembered, fresh
                    );
                }
            }
        }
    }
}
