//! The provider is down: what is known stays in use, up to a ceiling, and it shows.

use isthmus_local_cloud::{openid::READER, stack::Stack, Fault};
use serde_json::json;

use super::{fetches, key_age, options_with};
use crate::{
    load::{Answer, Caller},
    support::{assert_filter_never_failed, eventually, stack, HOUR},
};

/// A token that no worker has seen, so that the keys themselves are used.
fn fresh_token(stack: &Stack) -> String {
    stack.cloud().openid.access_token(READER, &["readers"], HOUR)
}

/// Asks with a token that was seen before and with one that was not until `done`; every request must succeed.
async fn traffic_until(stack: &Stack, seen: &str, what: &str, mut done: impl AsyncFnMut() -> bool) {
    let caller = Caller::new(stack);
    eventually(what, async || {
        for token in [seen, &fresh_token(stack)] {
            let answer = caller.ask(token).await;
            assert_eq!(
                answer.status,
                200,
                "until {what}: {answer:?}\n{}",
                stack.bridge_log()
            );
        }
        done().await.then_some(())
    })
    .await;
}

fn keys_unavailable(answer: &Answer) -> bool {
    answer.status == 503 && answer.reason == "keys_unavailable" && answer.retry_after.is_some()
}

#[tokio::test(flavor = "multi_thread")]
async fn known_keys_serve_through_an_outage_and_their_age_shows() {
    let stack = stack(options_with(json!({"refresh": "1s"}))).await;
    let provider = stack.cloud().openid.jwks_fault();
    let seen = fresh_token(&stack);
    traffic_until(&stack, &seen, "the age of the keys is known", async || {
        key_age(&stack).await.is_some()
    })
    .await;

    provider.set(Fault::Status(500));
    traffic_until(
        &stack,
        &seen,
        "two fetches fail and the keys grow old",
        async || fetches(&stack, "failed").await >= 2 && key_age(&stack).await >= Some(3),
    )
    .await;
    let failed = fetches(&stack, "failed").await;
    provider.set(Fault::Drop);
    traffic_until(&stack, &seen, "a fetch meets a closed connection", async || {
        fetches(&stack, "failed").await > failed
    })
    .await;

    let (fetched, age) = (fetches(&stack, "ok").await, key_age(&stack).await);
    provider.heal();
    traffic_until(&stack, &seen, "the keys are young again", async || {
        fetches(&stack, "ok").await > fetched && key_age(&stack).await < age
    })
    .await;
    assert_filter_never_failed(&stack).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_beyond_the_ceiling_are_not_used_until_the_provider_is_back() {
    let stack = stack(options_with(json!({"refresh": "1s", "max_stale": "2s"}))).await;
    let provider = stack.cloud().openid.jwks_fault();
    let caller = Caller::new(&stack);
    eventually("tokens pass", async || {
        (caller.ask(&fresh_token(&stack)).await.status == 200).then_some(())
    })
    .await;

    provider.set(Fault::Status(500));
    eventually("the keys are too old", async || {
        let answer = caller.ask(&fresh_token(&stack)).await;
        assert!(answer.status == 200 || keys_unavailable(&answer), "{answer:?}");
        (answer.status == 503).then_some(())
    })
    .await;
    // Once they are, no request passes any more, whatever it waits for.
    let failed = fetches(&stack, "failed").await;
    eventually("another fetch fails", async || {
        let answer = caller.ask(&fresh_token(&stack)).await;
        assert!(keys_unavailable(&answer), "{answer:?}");
        (fetches(&stack, "failed").await > failed).then_some(())
    })
    .await;

    provider.heal();
    eventually("tokens pass again", async || {
        (caller.ask(&fresh_token(&stack)).await.status == 200).then_some(())
    })
    .await;
    assert_filter_never_failed(&stack).await;
}

/// The ceiling is for keys that were taken away while nobody could be told. It would be none if it left out the
/// tokens that were seen before.
#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_were_verified_before_do_not_outlive_the_ceiling() {
    let stack = stack(options_with(json!({"refresh": "1s", "max_stale": "2s"}))).await;
    let caller = Caller::new(&stack);
    let seen = fresh_token(&stack);
    eventually("the token passes", async || {
        (caller.ask(&seen).await.status == 200).then_some(())
    })
    .await;
    stack.cloud().openid.jwks_fault().set(Fault::Status(500));
    eventually("the keys are too old", async || {
        caller.ask(&seen).await;
        keys_unavailable(&caller.ask(&fresh_token(&stack)).await).then_some(())
    })
    .await;
    let answer = caller.ask(&seen).await;
    assert!(keys_unavailable(&answer), "{answer:?}");
}

/// The provider says that its keys are good for a day (`Cache-Control`), the operator that they are not to be used
/// for longer than two seconds without word from the provider.
#[tokio::test(flavor = "multi_thread")]
async fn keys_of_a_healthy_provider_never_reach_the_ceiling() {
    let stack = stack(options_with(json!({"max_stale": "2s"}))).await;
    let seen = fresh_token(&stack);
    traffic_until(&stack, &seen, "fetches go on", async || {
        fetches(&stack, "ok").await >= 3
    })
    .await;
    assert_filter_never_failed(&stack).await;
}
