use serde_json::{json, Value};
use wasm_bindgen_test::wasm_bindgen_test;

use super::*;

const N: &str = "xAE7eB6qugXyCAG3yhh7pkDkT65pHymX-P7KfIupjf59vsdo91bSP9C8H07pSAGQO1MV_xFj9VswgsCg4R6otmg5PV2He95lZdHtOcU5DXIg_pbhLdKXbi66GlVeK6ABZOUW3WYtnNHD-91gVuoeJT_DwtGGcp4ignkgXfkiEm4sw-4sfb4qdt5oLbyVpmW6x9cfa7vs2WTfURiCrBoUqgBo_-4WTiULmmHSGZHOjzwa8WtrtOQGsAFjIbno85jp6MnGGGZPYZbDAa_b3y5u-YpW7ypZrvD8BgtKVjgtQgZhLAGezMt0ua3DRrWnKqTZ0BJ_EyxOGuHJrLsn00fnMQ";
const ID: KeySourceId = KeySourceId(0);

fn body(kid: &str) -> Vec<u8> {
    format!(r#"{{"keys":[{{"kty":"RSA","kid":"{kid}","n":"{N}","e":"AQAB"}}]}}"#).into_bytes()
}

fn source(config: Value) -> Result<KeySource, ConfigError> {
    let config: JwksConfig = serde_json::from_value(config).unwrap();
    KeySource::compile(config, vec!["https://idp.example".into()], "jwks")
}

fn remote() -> KeySource {
    source(json!({"uri": "https://idp.example/keys?x=1", "cluster": "idp"})).unwrap()
}

fn discovered() -> KeySource {
    source(json!({
        "discovery": "https://idp.example/.well-known/openid-configuration", "cluster": "idp", "keys_cluster": "cdn"
    }))
    .unwrap()
}

fn at(seconds: u64) -> UnixMillis {
    UnixMillis(seconds * 1000)
}

fn answer(body: &[u8]) -> Result<Fetched<'_>, FetchError> {
    Ok(Fetched {
        body,
        cache_control: None,
    })
}

/// A source that has fetched the key `kid` at the time `now`.
fn ready(kid: &str, now: UnixMillis) -> KeySource {
    let mut source = remote();
    source.start_fetch(ID, now).unwrap();
    source.finish_fetch(answer(&body(kid)), now).unwrap();
    source
}

/// The seconds from `now` until the next fetch is due.
fn due_in(source: &KeySource, now: u64) -> u64 {
    (0..).find(|wait| source.due(at(now + wait))).unwrap()
}

#[wasm_bindgen_test(unsupported = test)]
fn fetches_before_the_first_request_and_again_before_the_keys_are_stale() {
    let mut source = remote();
    assert!(matches!(source.keys(at(100)), Keys::Coming));
    let fetch = source.start_fetch(ID, at(100)).unwrap();
    assert_eq!(
        (
            fetch.cluster.as_str(),
            fetch.authority.as_str(),
            fetch.path.as_str()
        ),
        ("idp", "idp.example", "/keys?x=1")
    );
    assert_eq!(source.start_fetch(ID, at(101)), None, "one fetch at a time");
    assert_eq!(
        source.finish_fetch(answer(&body("a")), at(101)),
        Ok(Progress::Changed)
    );
    assert!(matches!(source.keys(at(102)), Keys::Ready(_)));
    assert_eq!(source.start_fetch(ID, at(102)), None);
    let due = due_in(&source, 102);
    assert!((223..=284).contains(&due), "{due}");
    assert!(source.start_fetch(ID, at(102 + due)).is_some());
    assert_eq!(
        source.finish_fetch(answer(&body("a")), at(103 + due)),
        Ok(Progress::Unchanged),
        "the same keys are no change"
    );
}

#[wasm_bindgen_test(unsupported = test)]
fn refreshes_ahead_of_what_the_answer_or_the_configuration_says() {
    let wait = |config: Value, cache_control: Option<&str>| {
        let mut settings = json!({"uri": "https://idp.example/keys", "cluster": "idp"});
        settings
            .as_object_mut()
            .unwrap()
            .extend(config.as_object().unwrap().clone());
        let mut source = source(settings).unwrap();
        source.start_fetch(ID, at(100)).unwrap();
        let body = body("a");
        source
            .finish_fetch(
                Ok(Fetched {
                    body: &body,
                    cache_control,
                }),
                at(100),
            )
            .unwrap();
        due_in(&source, 100)
    };
    let is_ahead_of = |wait: u64, age: u64| (age * 75 / 100..=age * 95 / 100 + 1).contains(&wait);
    for (cache_control, age) in [
        (None, 300),
        (Some("public, max-age=600, must-revalidate"), 600),
        (Some("max-age=\"600\""), 600),
        (Some("MAX-AGE=1"), 60),
        (Some("no-store"), 60),
        (Some("max-age=x"), 300),
        (Some("s-maxage=9000"), 300),
        (Some("max-age=99999999999"), 43_200),
    ] {
        let wait = wait(json!({}), cache_control);
        assert!(is_ahead_of(wait, age), "{cache_control:?}: {wait}");
    }
    assert!(is_ahead_of(
        wait(json!({"refresh": "10s"}), Some("max-age=600")),
        10
    ));
}

#[wasm_bindgen_test(unsupported = test)]
fn refreshes_are_spread() {
    let waits: std::collections::BTreeSet<Duration> = (0..100)
        .map(|step| ahead_of(Duration::from_secs(300), UnixMillis(1_800_000_000_000 + step)))
        .collect();
    assert!(waits.len() > 90);
    assert!(waits
        .iter()
        .all(|wait| (225.0..=285.0).contains(&wait.as_secs_f64())));
}

#[wasm_bindgen_test(unsupported = test)]
fn keeps_its_keys_while_refreshing_fails_and_backs_off() {
    let mut source = ready("a", at(0));
    let mut now = due_in(&source, 0);
    for wait in [1, 2, 4, 8, 10, 10] {
        assert!(source.start_fetch(ID, at(now)).is_some(), "due at {now}");
        assert_eq!(
            source.finish_fetch(Err(FetchError::Status(500)), at(now)),
            Err(FetchError::Status(500))
        );
        assert!(matches!(source.keys(at(now)), Keys::Ready(_)));
        assert_eq!(source.start_fetch(ID, UnixMillis((now + wait) * 1000 - 1)), None);
        now += wait;
    }
}

#[wasm_bindgen_test(unsupported = test)]
fn keys_that_the_provider_has_not_confirmed_for_too_long_are_not_used() {
    let mut source =
        source(json!({"uri": "https://idp.example/keys", "cluster": "idp", "max_stale": "1h"})).unwrap();
    source.start_fetch(ID, at(0)).unwrap();
    source.finish_fetch(answer(&body("a")), at(0)).unwrap();
    source.start_fetch(ID, at(3600)).unwrap();
    source
        .finish_fetch(Err(FetchError::Unreachable), at(3600))
        .unwrap_err();
    assert!(matches!(source.keys(at(3600)), Keys::Ready(_)));
    assert!(matches!(source.keys(UnixMillis(3_600_500)), Keys::Unavailable));
    assert_eq!(source.fetched_at(), Some(at(0)));
}

#[wasm_bindgen_test(unsupported = test)]
fn without_keys_a_failed_fetch_means_unavailable_until_the_next_is_due() {
    let mut source = remote();
    source.start_fetch(ID, at(10)).unwrap();
    for unusable in [
        &b"<html>"[..],
        b"",
        br#"{"keys":[]}"#,
        br#"{"keys":[{"kty":"oct","k":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}]}"#,
    ] {
        assert!(source.finish_fetch(answer(unusable), at(10)).is_err());
    }
    assert!(matches!(source.keys(at(10)), Keys::Unavailable));
    assert!(matches!(source.keys(at(20)), Keys::Coming));
}

#[wasm_bindgen_test(unsupported = test)]
fn an_unknown_key_waits_for_one_fetch_and_is_then_unknown_for_a_while() {
    let mut source = ready("a", at(100));
    assert_eq!(source.miss(Some("b"), at(101)), Miss::Wait);
    assert_eq!(
        source.start_fetch(ID, at(101)),
        None,
        "fetches for unknown keys rest"
    );
    assert_eq!(source.miss(Some("c"), at(101)), Miss::Wait);
    assert!(source.start_fetch(ID, at(102)).is_some());
    assert_eq!(
        source.miss(Some("d"), at(103)),
        Miss::Wait,
        "asked for after the fetch began"
    );
    source.finish_fetch(answer(&body("a")), at(103)).unwrap();
    assert_eq!(source.miss(Some("b"), at(103)), Miss::Unknown);
    assert_eq!(source.miss(Some("c"), at(103)), Miss::Unknown);
    assert_eq!(source.miss(Some("d"), at(103)), Miss::Wait);
    assert_eq!(source.start_fetch(ID, at(104)), None);
    assert!(source.start_fetch(ID, at(105)).is_some());
    source.finish_fetch(answer(&body("a")), at(105)).unwrap();
    assert_eq!(source.miss(Some("d"), at(105)), Miss::Unknown);
    assert_eq!(
        source.start_fetch(ID, at(110)),
        None,
        "no fetch for keys that are known to be unknown"
    );
    assert_eq!(
        source.miss(Some("b"), at(111)),
        Miss::Wait,
        "asked for again after a while"
    );
    assert!(source.start_fetch(ID, at(111)).is_some());
}

#[wasm_bindgen_test(unsupported = test)]
fn unknown_keys_cause_fetches_at_a_bounded_rate_and_are_remembered_in_a_bounded_number() {
    let mut source = ready("a", at(100));
    let mut fetches = 0;
    for millisecond in 0..10_000 {
        let now = UnixMillis(100_000 + millisecond);
        source.miss(Some(&format!("random-{millisecond}")), now);
        assert!(source.misses.len() <= MAX_MISSES);
        if source.start_fetch(ID, now).is_some() {
            fetches += 1;
            source.finish_fetch(answer(&body("a")), now).unwrap();
        }
    }
    assert!((1..=5).contains(&fetches), "{fetches}");
    assert_eq!(
        source.miss(Some(&"k".repeat(MAX_KID + 1)), at(120)),
        Miss::Unknown
    );
}

#[wasm_bindgen_test(unsupported = test)]
fn invented_key_ids_do_not_keep_a_new_one_from_being_asked_for() {
    let mut source = ready("a", at(100));
    for number in 0..MAX_MISSES {
        assert_eq!(
            source.miss(Some(&format!("invented-{number}")), at(103)),
            Miss::Wait
        );
    }
    assert_eq!(
        source.miss(Some("b"), at(103)),
        Miss::Unavailable,
        "all of them wait"
    );
    source.start_fetch(ID, at(103)).unwrap();
    source.finish_fetch(answer(&body("a")), at(103)).unwrap();
    assert_eq!(source.miss(Some("b"), at(104)), Miss::Wait);
    assert!(source.start_fetch(ID, at(105)).is_some());
}

#[wasm_bindgen_test(unsupported = test)]
fn keys_are_fetched_again_before_they_reach_their_ceiling() {
    let mut source =
        source(json!({"uri": "https://idp.example/keys", "cluster": "idp", "max_stale": "10m"})).unwrap();
    source.start_fetch(ID, at(100)).unwrap();
    let body = body("a");
    let cache_control = Some("max-age=86400");
    source
        .finish_fetch(
            Ok(Fetched {
                body: &body,
                cache_control,
            }),
            at(100),
        )
        .unwrap();
    assert!(due_in(&source, 100) < 300, "with half of it to spare");
}

#[wasm_bindgen_test(unsupported = test)]
fn providers_share_a_discovered_set_only_with_those_of_the_same_issuer() {
    let address = |issuer: &str| {
        let config: JwksConfig =
            serde_json::from_value(json!({"discovery": "https://idp.example/d", "cluster": "idp"})).unwrap();
        KeySource::compile(config, vec![issuer.into()], "jwks")
            .unwrap()
            .address()
    };
    assert_eq!(address("https://a"), address("https://a"));
    assert_ne!(address("https://a"), address("https://b"));
}

#[wasm_bindgen_test(unsupported = test)]
fn an_unknown_key_is_unavailable_rather_than_unknown_while_the_provider_is_down() {
    let mut source = ready("a", at(100));
    assert_eq!(source.miss(Some("b"), at(110)), Miss::Wait);
    source.start_fetch(ID, at(110)).unwrap();
    source
        .finish_fetch(Err(FetchError::Unreachable), at(115))
        .unwrap_err();
    assert_eq!(
        source.miss(Some("b"), at(115)),
        Miss::Unavailable,
        "not repeated at once"
    );
    assert_eq!(
        source.miss(Some("b"), at(117)),
        Miss::Wait,
        "the next attempt is due"
    );
}

#[wasm_bindgen_test(unsupported = test)]
fn a_lost_answer_or_a_clock_set_back_does_not_stop_fetching() {
    let mut source = remote();
    source.start_fetch(ID, at(1000)).unwrap();
    assert_eq!(source.start_fetch(ID, at(1009)), None);
    assert!(source.start_fetch(ID, at(1010)).is_some());
    source.finish_fetch(answer(&body("a")), at(1010)).unwrap();
    assert!(source.start_fetch(ID, at(10)).is_some());
    source
        .finish_fetch(Err(FetchError::Unreachable), at(10))
        .unwrap_err();
    let fetches = (10_000..11_000).filter(|ms| source.start_fetch(ID, UnixMillis(*ms)).is_some());
    assert_eq!(fetches.count(), 0, "and does not make it forget to back off");
}

#[wasm_bindgen_test(unsupported = test)]
fn what_another_worker_fetched_counts_as_fetched() {
    let mut source = ready("a", at(100));
    let shared = |kid: &str| Fetched {
        body: body(kid).leak(),
        cache_control: Some("max-age=600"),
    };
    assert_eq!(
        source.share(shared("b"), at(99), at(101)),
        Ok(Progress::Unchanged),
        "older"
    );
    assert_eq!(source.miss(Some("b"), at(101)), Miss::Wait);
    assert_eq!(source.share(shared("b"), at(102), at(103)), Ok(Progress::Changed));
    assert_eq!(source.fetched_at(), Some(at(102)));
    assert_eq!(source.start_fetch(ID, at(110)), None);
    assert!((450..=572).contains(&due_in(&source, 102)));
    assert!(source
        .share(
            Fetched {
                body: b"junk",
                cache_control: None
            },
            at(200),
            at(200)
        )
        .is_err());
    assert!(matches!(source.keys(at(200)), Keys::Ready(_)));
}

#[wasm_bindgen_test(unsupported = test)]
fn a_discovery_document_leads_to_the_keys() {
    let document = br#"{"issuer":"https://idp.example","jwks_uri":"https://cdn.example/k","x":1}"#;
    let mut source = discovered();
    let fetch = source.start_fetch(ID, at(100)).unwrap();
    assert_eq!(
        (
            fetch.cluster.as_str(),
            fetch.authority.as_str(),
            fetch.path.as_str()
        ),
        ("idp", "idp.example", "/.well-known/openid-configuration")
    );
    assert_eq!(
        source.finish_fetch(answer(document), at(101)),
        Ok(Progress::Discovered)
    );
    assert!(matches!(source.keys(at(101)), Keys::Coming));
    let fetch = source.start_fetch(ID, at(101)).unwrap();
    assert_eq!(
        (
            fetch.cluster.as_str(),
            fetch.authority.as_str(),
            fetch.path.as_str()
        ),
        ("cdn", "cdn.example", "/k")
    );
    assert_eq!(
        source.finish_fetch(answer(&body("a")), at(102)),
        Ok(Progress::Changed)
    );

    // A refetch for an unknown key goes straight to the keys; after an hour, or a failure, the document is read again.
    assert_eq!(source.miss(Some("b"), at(200)), Miss::Wait);
    assert_eq!(source.start_fetch(ID, at(200)).unwrap().cluster, "cdn");
    source
        .finish_fetch(Err(FetchError::Status(404)), at(200))
        .unwrap_err();
    assert_eq!(source.start_fetch(ID, at(201)).unwrap().cluster, "idp");
    source.finish_fetch(answer(document), at(201)).unwrap();
    assert_eq!(source.start_fetch(ID, at(201)).unwrap().cluster, "cdn");
    source.finish_fetch(answer(&body("a")), at(201)).unwrap();
    assert_eq!(source.start_fetch(ID, at(201 + 3600)).unwrap().cluster, "idp");
}

#[wasm_bindgen_test(unsupported = test)]
fn a_discovery_document_of_somebody_else_leads_nowhere() {
    for (document, problem) in [
        ("<html>".to_owned(), "malformed"),
        ("[]".to_owned(), "malformed"),
        (
            r#"{"issuer":"https://idp.example","issuer":"x"}"#.to_owned(),
            "malformed",
        ),
        (
            r#"{"jwks_uri":"https://idp.example/k"}"#.to_owned(),
            "it names no issuer",
        ),
        (
            r#"{"issuer":"https://idp.example/","jwks_uri":"https://idp.example/k"}"#.to_owned(),
            "it names another issuer",
        ),
        (
            r#"{"issuer":"https://idp.example"}"#.to_owned(),
            "it names no address of keys",
        ),
        (
            r#"{"issuer":"https://idp.example","jwks_uri":"/k"}"#.to_owned(),
            "it names no address of keys",
        ),
        (
            r#"{"issuer":"https://idp.example","jwks_uri":"http://idp.example/k"}"#.to_owned(),
            "its keys are not served by https",
        ),
        (" ".repeat(70_000), "too large"),
    ] {
        let mut source = discovered();
        source.start_fetch(ID, at(0)).unwrap();
        let outcome = source.finish_fetch(answer(document.as_bytes()), at(0));
        assert_eq!(outcome, Err(FetchError::Undiscovered(problem)), "{document:.80}");
        assert!(matches!(source.keys(at(0)), Keys::Unavailable));
    }
}

#[wasm_bindgen_test(unsupported = test)]
fn inline_keys_are_never_fetched() {
    let set: Value = serde_json::from_slice(&body("a")).unwrap();
    let mut source = source(json!({ "inline": set })).unwrap();
    assert_eq!(source.miss(Some("b"), at(100)), Miss::Unknown);
    assert_eq!(source.start_fetch(ID, at(100)), None);
    assert!(matches!(source.keys(at(1_000_000)), Keys::Ready(_)));
    assert_eq!((source.fetched_at(), source.address()), (None, None));
}

#[wasm_bindgen_test(unsupported = test)]
fn the_configuration_names_one_way_to_the_keys() {
    let inline: Value = serde_json::from_slice(&body("a")).unwrap();
    for (config, path) in [
        (json!({}), "jwks"),
        (json!({"uri": "https://h/k"}), "jwks.cluster"),
        (json!({"uri": "https://h/k", "cluster": ""}), "jwks.cluster"),
        (json!({"uri": "h/k", "cluster": "c"}), "jwks.uri"),
        (json!({"discovery": "h/k", "cluster": "c"}), "jwks.discovery"),
        (json!({"discovery": "https://h/k"}), "jwks.cluster"),
        (
            json!({"discovery": "https://h/k", "cluster": "c", "keys_cluster": ""}),
            "jwks.keys_cluster",
        ),
        (
            json!({"uri": "https://h/k", "cluster": "c", "keys_cluster": "d"}),
            "jwks",
        ),
        (
            json!({"uri": "https://h/k", "discovery": "https://h/k", "cluster": "c"}),
            "jwks",
        ),
        (json!({"inline": inline, "uri": "https://h/k"}), "jwks"),
        (json!({"inline": inline, "cluster": "c"}), "jwks.cluster"),
        (json!({"inline": inline, "max_stale": "1h"}), "jwks.max_stale"),
        (json!({"inline": {"keys": []}}), "jwks.inline"),
        (
            json!({"uri": "https://h/k", "cluster": "c", "refresh": "0s"}),
            "jwks.refresh",
        ),
        (
            json!({"uri": "https://h/k", "cluster": "c", "max_stale": "0s"}),
            "jwks.max_stale",
        ),
    ] {
        assert_eq!(
            source(config.clone()).err().map(|error| error.path).as_deref(),
            Some(path),
            "{config}"
        );
    }
}
