//! Tokens that name keys nobody knows: the provider is asked at a bounded rate, whoever comes with them.

use std::time::Instant;

use isthmus_local_cloud::{openid::READER, stack::Stack};
use serde_json::json;

use crate::{
    load::{assert_all_allowed, tally, Caller, Load},
    support::{assert_filter_never_failed, eventually, get, options, stack, HOUR},
};

/// Tokens of the live key, each under an id of its own that the provider does not have.
fn unknown(stack: &Stack, kids: std::ops::Range<u32>) -> Vec<String> {
    let openid = &stack.cloud().openid;
    let claims = openid.access_claims(READER, &["readers"], HOUR);
    let token = |kid| {
        openid.mint_with_header(
            &json!({"alg": "RS256", "kid": format!("stranger-{kid}")}),
            &claims,
        )
    };
    kids.map(token).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn many_unknown_keys_cost_one_fetch_and_are_then_unknown_without_asking() {
    let stack = stack(options()).await;
    let provider = stack.cloud().openid.jwks_fault();
    let good = stack.cloud().openid.access_token(READER, &["readers"], HOUR);
    assert_eq!(get(&stack, "/metrics/cpu", &good).await, 200);
    let strangers = unknown(&stack, 0..50);
    let caller = Caller::new(&stack);
    let refused = [((401, "unknown_key".to_owned()), 50)].into();

    let before = provider.requests();
    assert_eq!(tally(caller.ask_at_once(strangers.clone()).await), refused);
    let asked = provider.requests() - before;
    // One fetch answers for all that came before it began; another one for those that came later.
    assert!((1..=2).contains(&asked), "the provider was asked {asked} times");

    let before = provider.requests();
    assert_eq!(tally(caller.ask_at_once(strangers).await), refused);
    assert_eq!(provider.requests(), before, "the answer was known");
    assert_filter_never_failed(&stack).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_unknown_keys_neither_floods_the_provider_nor_stops_the_others() {
    let mut options = options();
    options.concurrency = 2;
    let stack = stack(options).await;
    let openid = &stack.cloud().openid;
    let good = (0..50)
        .map(|_| openid.access_token(READER, &["readers"], HOUR))
        .collect();
    let good = Load::start(&stack, 4, good);
    eventually("good tokens pass", async || (good.answered() > 0).then_some(())).await;

    let (before, start) = (openid.jwks_fault().requests(), Instant::now());
    let caller = Caller::new(&stack);
    for wave in 0..10 {
        let answers = tally(
            caller
                .ask_at_once(unknown(&stack, wave * 300..(wave + 1) * 300))
                .await,
        );
        for (status, reason) in answers.keys() {
            let refused = [
                (401, "unknown_key"),
                (503, "keys_unavailable"),
                (503, "overloaded"),
            ];
            assert!(refused.contains(&(*status, reason)), "{answers:?}");
        }
    }
    let asked = openid.jwks_fault().requests() - before;
    // One in two seconds, and one at either end.
    let bound = start.elapsed().as_secs() / 2 + 2;
    assert!(
        (1..=bound).contains(&asked),
        "asked {asked} times, at most {bound} expected"
    );
    assert_all_allowed(&good.stop().await, &stack);
    assert_filter_never_failed(&stack).await;
}
