//! A discovery document leads to the keys, if it is the issuer's own.

use isthmus_local_cloud::{
    openid::{ISSUER, READER},
    stack::StackOptions,
    Fault,
};
use serde_json::{json, Value};

use super::options_with;
use crate::{
    load::Caller,
    support::{assert_filter_never_failed, eventually, stack, HOUR},
};

fn discovering() -> StackOptions {
    let document = format!("{ISSUER}/.well-known/openid-configuration");
    options_with(json!({"uri": Value::Null, "discovery": document, "cluster": "cognito"}))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_discovery_document_leads_to_the_keys_before_the_first_request() {
    let mut options = discovering();
    options.concurrency = 2;
    let stack = stack(options).await;
    let openid = &stack.cloud().openid;
    eventually("keys are fetched", async || {
        (openid.jwks_fault().requests() > 0).then_some(())
    })
    .await;
    let token = openid.access_token(READER, &["readers"], HOUR);
    let answers = Caller::new(&stack).ask_at_once(vec![token; 20]).await;
    assert!(answers.iter().all(|answer| answer.status == 200), "{answers:?}");
    let asked = (
        openid.discovery_fault().requests(),
        openid.jwks_fault().requests(),
    );
    assert_eq!(asked, (1, 1), "once for all workers");
    assert_filter_never_failed(&stack).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_that_names_another_issuer_leads_to_no_keys() {
    let mut options = discovering();
    let foreign = json!({
        "issuer": format!("{ISSUER}2"),
        "jwks_uri": format!("{ISSUER}/.well-known/jwks.json"),
    });
    options.cloud.discovery_fault = Fault::Body(foreign.to_string().into());
    let stack = stack(options).await;
    let openid = &stack.cloud().openid;
    let token = openid.access_token(READER, &["readers"], HOUR);
    let caller = Caller::new(&stack);
    eventually("the document is read again", async || {
        let answer = caller.ask(&token).await;
        assert_eq!((answer.status, &*answer.reason), (503, "keys_unavailable"));
        (openid.discovery_fault().requests() >= 2).then_some(())
    })
    .await;
    assert_eq!(openid.jwks_fault().requests(), 0, "where it leads nobody goes");

    openid.discovery_fault().heal();
    eventually("the issuer's own document leads to the keys", async || {
        (caller.ask(&token).await.status == 200).then_some(())
    })
    .await;
    assert_filter_never_failed(&stack).await;
}

/// Keys that providers have in common are fetched once. But whose they are, the document says.
#[tokio::test(flavor = "multi_thread")]
async fn the_document_of_one_issuer_leads_to_no_keys_of_another_provider() {
    const OTHER: &str = "https://other.example";
    let mut options = discovering();
    let providers = &mut options.filter_config.as_mut().unwrap()["providers"];
    let mut other = providers[0].clone();
    other["name"] = "other".into();
    other["issuer"] = OTHER.into();
    providers.as_array_mut().unwrap().push(other);
    let stack = stack(options).await;
    let openid = &stack.cloud().openid;
    let caller = Caller::new(&stack);
    let claims = openid.access_claims(READER, &["readers"], HOUR);
    eventually("the document's own issuer has keys", async || {
        (caller.ask(&openid.mint(&claims)).await.status == 200).then_some(())
    })
    .await;
    let mut others = claims;
    others["iss"] = OTHER.into();
    let answer = caller.ask(&openid.mint(&others)).await;
    assert_eq!((answer.status, &*answer.reason), (503, "keys_unavailable"));
}
