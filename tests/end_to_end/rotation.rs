//! Azure tokens change under traffic, and the rotation service may fail or die without a caller noticing. The VM's
//! application refuses a token in the second it expires, so every late rotation is a failed request.

use std::time::Duration;

use isthmus_local_cloud::{
    entra,
    openid::{OPERATOR, READER},
    stack::Stack,
    Fault,
};

use crate::support::{eventually, get, options, stack, DEADLINE, HOUR};

/// Requests of both roles until `done`; every one must succeed. Gives their number.
async fn traffic_until(stack: &Stack, what: &str, mut done: impl AsyncFnMut() -> bool) -> u64 {
    let openid = &stack.cloud().openid;
    let reader = openid.access_token(READER, &["readers"], HOUR);
    let operator = openid.access_token(OPERATOR, &["operators"], HOUR);
    let end = tokio::time::Instant::now() + DEADLINE * 2;
    let mut sent = 0;
    while !done().await {
        for (path, token) in [("/metrics/cpu", &reader), ("/storage/orders", &operator)] {
            let status = get(stack, path, token).await;
            if status != 200 {
                panic!(
                    "request {sent} until {what}: {status}\n{}",
                    stack.rotation_log().await
                );
            }
            sent += 1;
        }
        assert!(tokio::time::Instant::now() < end, "never: {what}");
    }
    sent
}

fn tokens_seen(stack: &Stack) -> (usize, usize) {
    let app = &stack.cloud().app;
    (
        app.tokens_seen(entra::READER.client_id),
        app.tokens_seen(entra::OPERATOR.client_id),
    )
}

async fn stack_with_tokens_of(lifetime: Duration) -> Stack {
    let mut options = options();
    options.cloud.azure_token_lifetime = lifetime;
    stack(options).await
}

#[tokio::test(flavor = "multi_thread")]
async fn azure_tokens_change_under_traffic_and_no_request_fails() {
    let stack = stack_with_tokens_of(Duration::from_secs(6)).await;
    let sent = traffic_until(&stack, "three tokens of each identity", async || {
        let (reader, operator) = tokens_seen(&stack);
        reader >= 3 && operator >= 3
    })
    .await;
    assert!(sent > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_good_token_serves_while_entra_is_down_and_the_service_says_so() {
    let stack = stack_with_tokens_of(Duration::from_secs(9)).await;
    let entra = stack.cloud().entra.fault();
    entra.set(Fault::Status(500));
    let before = entra.requests();
    traffic_until(&stack, "a refresh fails", async || entra.requests() > before).await;
    eventually("the failure is logged", async || {
        let log = stack.rotation_log().await;
        (log.contains("azure/reader") && log.contains("last_good_lives_s")).then_some(())
    })
    .await;
    entra.heal();
    let (reader, _) = tokens_seen(&stack);
    traffic_until(&stack, "a new token after the outage", async || {
        tokens_seen(&stack).0 > reader
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_of_the_rotation_service_fails_no_request_and_it_recovers() {
    let stack = stack_with_tokens_of(Duration::from_secs(9)).await;
    traffic_until(&stack, "both identities are in use", async || {
        tokens_seen(&stack) >= (1, 1)
    })
    .await;
    stack.rotation_kill9().await.unwrap();
    let mut rounds = 0;
    traffic_until(&stack, "some requests without the service", async || {
        rounds += 1;
        rounds > 20
    })
    .await;
    stack.rotation_restart(DEADLINE).await.unwrap();
    let (reader, operator) = tokens_seen(&stack);
    traffic_until(&stack, "new tokens from the new process", async || {
        let seen = tokens_seen(&stack);
        seen.0 > reader && seen.1 > operator
    })
    .await;
}
