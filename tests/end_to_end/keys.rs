//! The provider's keys: there before the first request, found again after a rotation, kept while the provider
//! is down.

mod discovery;
mod held;
mod ministack;
mod outage;
mod unknown;
mod unusable;
mod workers;

use std::time::Duration;

use isthmus_local_cloud::{
    openid::READER,
    stack::{config::shipped_filter_config, Stack, StackOptions},
    Fault,
};
use serde_json::Value;

use crate::support::{assert_filter_never_failed, eventually, get, options, stack, HOUR};

/// The shipped configuration with these settings of the provider's keys besides, or in place of those with the
/// same name; `null` takes one away.
fn options_with(jwks: Value) -> StackOptions {
    let mut filter = shipped_filter_config().expect("the shipped configuration");
    let shipped = filter["providers"][0]["jwks"].as_object_mut().expect("an object");
    for (name, value) in jwks.as_object().expect("an object") {
        shipped.insert(name.clone(), value.clone());
    }
    shipped.retain(|_, value| !value.is_null());
    let mut options = options();
    options.filter_config = Some(filter);
    options
}

/// How many fetches of the provider's keys ended so: `ok` or `failed`.
async fn fetches(stack: &Stack, outcome: &str) -> u64 {
    let name = format!("wasmcustom.isthmus.key_fetches.provider.cognito.outcome.{outcome}");
    stack
        .bridge_stat(&name)
        .await
        .expect("statistics")
        .expect("the metric is defined")
}

/// How old the filter says that the provider's keys are, in seconds; nothing while it has none.
async fn key_age(stack: &Stack) -> Option<u64> {
    let name = "wasmcustom.isthmus.key_age_seconds.provider.cognito";
    stack.bridge_stat(name).await.expect("statistics")
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_fetched_before_the_first_request() {
    let stack = stack(options()).await;
    let openid = &stack.cloud().openid;
    eventually("keys are fetched", async || {
        (openid.jwks_fault().requests() > 0).then_some(())
    })
    .await;
    let token = openid.access_token(READER, &["readers"], HOUR);
    assert_eq!(get(&stack, "/metrics/cpu", &token).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_with_a_new_key_are_held_until_it_is_fetched() {
    let stack = stack(options()).await;
    let openid = &stack.cloud().openid;
    openid.rotate_key(true).await.unwrap();
    openid.jwks_fault().set(Fault::Delay(Duration::from_millis(500)));
    let token = openid.access_token(READER, &["readers"], HOUR);
    // Fetches for unknown keys are rate-limited, and one has just been made at start.
    let url = format!("{}/storage/orders", stack.bridge_url());
    let post = || {
        stack
            .client()
            .post(&url)
            .bearer_auth(&token)
            .body("a body that waits with its request")
            .send()
    };
    eventually("the new key is known", async || {
        let answers = tokio::join!(post(), post(), post());
        let statuses = [answers.0, answers.1, answers.2].map(|answer| answer.unwrap().status().as_u16());
        // A reader may not post: 403 says that the token was verified.
        (statuses == [403; 3]).then_some(())
    })
    .await;
    assert_eq!(get(&stack, "/metrics/cpu", &token).await, 200);
    assert_filter_never_failed(&stack).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_stay_in_use_while_the_provider_is_down() {
    let stack = stack(options()).await;
    let openid = &stack.cloud().openid;
    let token = openid.access_token(READER, &["readers"], HOUR);
    assert_eq!(get(&stack, "/metrics/cpu", &token).await, 200);
    openid.jwks_fault().set(Fault::Status(500));
    let unknown = openid.mint_with_header(
        &serde_json::json!({"alg": "RS256", "kid": "not-there"}),
        &openid.access_claims(READER, &["readers"], HOUR),
    );
    let before = openid.jwks_fault().requests();
    eventually("the failing fetch is made", async || {
        // Whether the key is good nobody can say before the provider is back.
        assert_eq!(get(&stack, "/metrics/cpu", &unknown).await, 503);
        (openid.jwks_fault().requests() > before).then_some(())
    })
    .await;
    let fresh = openid.access_token(READER, &["readers"], HOUR);
    assert_eq!(get(&stack, "/metrics/cpu", &fresh).await, 200);
}
