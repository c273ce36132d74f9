//! Workers share the keys: one of them fetches, and what it learns holds for all.

use std::sync::Arc;

use isthmus_local_cloud::{openid::READER, stack::Stack};
use serde_json::json;
use tokio::task::JoinSet;

use super::{fetches, options_with};
use crate::{
    load::{assert_all_allowed, Load},
    raw::RawClient,
    support::{assert_filter_never_failed, eventually, options, stack, HOUR},
};

/// How many connections each worker of the bridge has taken so far.
async fn connections(stack: &Stack) -> Vec<u64> {
    let counters = stack
        .bridge_stats(r"^listener\..*\.worker_\d+\.downstream_cx_total$")
        .await;
    counters
        .expect("statistics")
        .into_iter()
        .map(|(_, count)| count)
        .collect()
}

/// Sends requests over connections of their own until every worker has got one; gives the statuses.
async fn ask_every_worker(stack: &Stack, token: &str) -> Vec<u16> {
    let client = Arc::new(RawClient::new(stack));
    let before = connections(stack).await;
    assert_eq!(before.len(), 4, "workers");
    let mut statuses = Vec::new();
    // Which worker takes a connection is the kernel's choice; that one of four gets none of 200 is out of the
    // question.
    while statuses.len() < 200 {
        let mut requests = JoinSet::new();
        for _ in 0..20 {
            let (client, authorization) = (Arc::clone(&client), format!("Bearer {token}"));
            requests.spawn(async move {
                let fields = [("authorization", authorization)];
                client.request("GET", b"/metrics/cpu", &fields).await
            });
        }
        for answer in requests.join_all().await {
            statuses.push(answer.expect("the bridge answers").status);
        }
        let now = connections(stack).await;
        if before.iter().zip(now).all(|(before, now)| now > *before) {
            return statuses;
        }
    }
    panic!("a worker takes no connections: {:?}", connections(stack).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_fetched_once_and_good_on_every_worker() {
    let mut options = options();
    options.concurrency = 4;
    let stack = stack(options).await;
    let openid = &stack.cloud().openid;
    let token = openid.access_token(READER, &["readers"], HOUR);
    let statuses = ask_every_worker(&stack, &token).await;
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    assert_eq!(openid.jwks_fault().requests(), 1);
    assert_filter_never_failed(&stack).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_a_removed_key_are_refused_by_every_worker_after_the_next_refresh() {
    let mut options = options_with(json!({"refresh": "1s"}));
    options.concurrency = 4;
    let stack = stack(options).await;
    let openid = &stack.cloud().openid;
    let stolen = openid.access_token(READER, &["readers"], HOUR);
    // From here on every worker remembers it as verified.
    let statuses = ask_every_worker(&stack, &stolen).await;
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    openid.rotate_key(false).await.unwrap();
    eventually("no worker takes the old key's token", async || {
        let statuses = ask_every_worker(&stack, &stolen).await;
        statuses.iter().all(|status| *status == 401).then_some(())
    })
    .await;
    let fresh = openid.access_token(READER, &["readers"], HOUR);
    let statuses = ask_every_worker(&stack, &fresh).await;
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    assert_filter_never_failed(&stack).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_with_overlap_under_load_fails_no_request() {
    const ROTATIONS: u64 = 3;
    let mut options = options();
    options.concurrency = 2;
    let stack = stack(options).await;
    let openid = &stack.cloud().openid;
    // More than one token, so that signatures are verified all the time and not only remembered.
    let tokens = || -> Vec<String> {
        let token = |_| openid.access_token(READER, &["readers"], HOUR);
        (0..50).map(token).collect()
    };
    let mut loads = vec![Load::start(&stack, 6, tokens())];
    for _ in 0..ROTATIONS {
        let before = openid.jwks_fault().requests();
        openid.rotate_key(true).await.unwrap();
        // The first of these come at workers that have never heard of the key.
        let newest = Load::start(&stack, 6, tokens());
        eventually("the new key's tokens pass", async || {
            (newest.answered() > 200).then_some(())
        })
        .await;
        loads.push(newest);
        // One fetch is enough; a second one is made where a worker looks for keys in the instant in which another
        // gets them.
        let asked = openid.jwks_fault().requests() - before;
        assert!((1..=2).contains(&asked), "the provider was asked {asked} times");
    }
    for load in loads {
        assert_all_allowed(&load.stop().await, &stack);
    }
    assert_eq!(fetches(&stack, "failed").await, 0);
    assert_filter_never_failed(&stack).await;
}
