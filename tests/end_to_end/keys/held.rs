//! Requests that come before the keys wait for them: a bounded number, for a bounded time.

use isthmus_local_cloud::{openid::READER, stack::Stack, Fault, FaultSwitch};
use tokio::task::JoinSet;

use crate::{
    load::Caller,
    support::{assert_filter_never_failed, eventually, options, stack, HOUR},
};

/// How many requests a worker holds.
const HELD: usize = 256;
const MORE: usize = 40;

/// A stack whose provider answers nothing, and a token for it.
async fn before_the_keys() -> (Stack, String) {
    let mut options = options();
    options.cloud.jwks_fault = Fault::Hang;
    let stack = stack(options).await;
    let token = stack.cloud().openid.access_token(READER, &["readers"], HOUR);
    (stack, token)
}

/// Waits for a fetch after the first `begun`.
async fn next_fetch(provider: &FaultSwitch, begun: u64) {
    eventually("a fetch begins", async || {
        (provider.requests() > begun).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn those_beyond_the_bound_are_refused_at_once_and_the_others_in_the_end() {
    let (stack, token) = before_the_keys().await;
    let provider = stack.cloud().openid.jwks_fault();
    let caller = Caller::new(&stack);
    eventually("all requests come while one fetch hangs", async || {
        let begun = provider.requests();
        let answers = caller.ask_at_once(vec![token.clone(); HELD + MORE]).await;
        for answer in &answers {
            assert!(answer.status == 503 && answer.retry_after.is_some(), "{answer:?}");
            assert!(
                ["overloaded", "keys_unavailable"].contains(&&*answer.reason),
                "{answer:?}"
            );
        }
        // Those that may not wait have their answer before those that do.
        let (first, rest) = answers.split_at(MORE);
        let at_once = first.iter().all(|answer| answer.reason == "overloaded");
        let held = rest.iter().all(|answer| answer.reason == "keys_unavailable");
        if at_once && held {
            return Some(());
        }
        // A slow machine: the fetch ended while requests were still coming. At the beginning of the next one they have
        // all of its time.
        next_fetch(provider, begun).await;
        None
    })
    .await;
    assert_eq!(stack.cloud().app.requests(), 0);

    provider.heal();
    eventually("tokens pass", async || {
        (caller.ask(&token).await.status == 200).then_some(())
    })
    .await;
    assert_filter_never_failed(&stack).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_that_give_up_leave_their_places_to_others() {
    let (stack, token) = before_the_keys().await;
    let provider = stack.cloud().openid.jwks_fault();
    let caller = Caller::new(&stack);
    eventually("there is room again while one fetch hangs", async || {
        let begun = provider.requests();
        let mut waiting = JoinSet::new();
        for _ in 0..HELD + 1 {
            let (caller, token) = (caller.clone(), token.clone());
            waiting.spawn(async move { caller.ask(&token).await });
        }
        let first = waiting.join_next().await.unwrap().unwrap();
        waiting.shutdown().await;
        eventually("Envoy knows that nobody waits", async || {
            let active = stack.bridge_stat("http.bridge.downstream_rq_active").await;
            (active.unwrap() == Some(0)).then_some(())
        })
        .await;
        let answer = caller.ask(&token).await;
        let one_fetch = provider.requests() == begun;
        if first.reason == "overloaded" && one_fetch {
            assert_eq!(answer.reason, "keys_unavailable");
            return Some(());
        }
        next_fetch(provider, begun).await;
        None
    })
    .await;

    provider.heal();
    eventually("tokens pass", async || {
        (caller.ask(&token).await.status == 200).then_some(())
    })
    .await;
    assert_filter_never_failed(&stack).await;
}
