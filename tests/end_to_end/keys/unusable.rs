//! What the provider gives in the place of its key set is refused as a whole, and the keys from before stay.

use isthmus_local_cloud::{openid::READER, stack::Stack, Fault};
use serde_json::{json, Value};

use super::{fetches, options_with};
use crate::{
    load::Caller,
    support::{assert_filter_never_failed, eventually, stack, HOUR},
};

/// A sound RSA key that signs nobody's tokens (RFC 7515, appendix A.2).
const N: &str = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ";

fn strangers(count: usize) -> Value {
    let key = |place| json!({"kty": "RSA", "kid": format!("stranger-{place}"), "n": N, "e": "AQAB"});
    json!({"keys": (0..count).map(key).collect::<Vec<_>>()})
}

fn padded(bytes: usize) -> Fault {
    Fault::Body(format!("{}{}", strangers(1), " ".repeat(bytes)).into())
}

/// The provider answers so until the filter has tried and failed. Then it is as before.
async fn the_old_keys_stay_through(stack: &Stack, name: &str, fault: Fault) {
    let openid = &stack.cloud().openid;
    let caller = Caller::new(stack);
    let fetched = fetches(stack, "ok").await;
    eventually("the keys are fetched", async || {
        (fetches(stack, "ok").await > fetched).then_some(())
    })
    .await;
    let failed = fetches(stack, "failed").await;
    openid.jwks_fault().set(fault);
    eventually(name, async || {
        let token = openid.access_token(READER, &["readers"], HOUR);
        let answer = caller.ask(&token).await;
        assert_eq!(answer.status, 200, "{name}: {answer:?}\n{}", stack.bridge_log());
        (fetches(stack, "failed").await > failed).then_some(())
    })
    .await;
    openid.jwks_fault().heal();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_key_set_or_is_too_large_is_refused_and_the_old_keys_stay() {
    let stack = stack(options_with(json!({"refresh": "1s"}))).await;
    for (name, fault) in [
        ("too large", padded(256 * 1024)),
        // More than Envoy buffers for the connection, and than the filter takes from it.
        ("much too large", padded(8 * 1024 * 1024)),
        ("too many keys", Fault::Body(strangers(65).to_string().into())),
        (
            "HTML",
            Fault::Body("<!doctype html><title>Maintenance</title>".into()),
        ),
        ("nothing", Fault::EmptyBody),
    ] {
        the_old_keys_stay_through(&stack, name, fault).await;
    }
    assert_filter_never_failed(&stack).await;
}

/// Envoy reports these in another way than an answer of any kind.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_breaks_off_or_never_ends_does_not_take_the_filter_along() {
    let stack = stack(options_with(json!({"refresh": "1s"}))).await;
    for (name, fault) in [
        ("broken off", Fault::CutOff),
        // More than Envoy takes for any call of a filter.
        ("endless", padded(40 * 1024 * 1024)),
    ] {
        the_old_keys_stay_through(&stack, name, fault).await;
        assert_filter_never_failed(&stack).await;
    }
}
