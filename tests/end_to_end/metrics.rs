//! What operators can watch, as Prometheus reads it.

use isthmus_local_cloud::openid::READER;

use crate::support::{eventually, get, options, stack, HOUR};

#[tokio::test(flavor = "multi_thread")]
async fn decisions_keys_and_cached_tokens_are_counted_with_labels() {
    let stack = stack(options()).await;
    let token = stack.cloud().openid.access_token(READER, &["readers"], HOUR);
    for _ in 0..3 {
        assert_eq!(get(&stack, "/metrics/cpu", &token).await, 200);
    }
    assert_eq!(get(&stack, "/storage/1", &token).await, 403);
    for _ in 0..2 {
        assert_eq!(
            get(&stack, "/metrics/cpu", "not-a-token.at-all.but-long-enough").await,
            401
        );
    }
    let decisions = "isthmus_decisions";
    for (name, labels, value) in [
        (
            decisions,
            "outcome=allow reason=allowed provider=cognito role=metrics-reader",
            3,
        ),
        (
            decisions,
            "outcome=deny reason=not_allowed provider=cognito role=none",
            1,
        ),
        (
            decisions,
            "outcome=deny reason=malformed_token provider=none role=none",
            2,
        ),
        ("isthmus_token_cache", "result=verified", 3),
        ("isthmus_token_cache", "result=refused", 1),
        ("isthmus_token_cache", "result=missed", 2),
        ("isthmus_key_fetches", "provider=cognito outcome=ok", 1),
    ] {
        eventually(&format!("{name} {labels} {value}"), async || {
            let text = stack.bridge_prometheus().await.expect("statistics");
            let counted = text.lines().any(|line| {
                line.starts_with(&format!("{name}{{"))
                    && line.ends_with(&format!("}} {value}"))
                    && labels.split(' ').all(|label| {
                        let (name, value) = label.split_once('=').expect("a label");
                        line.contains(&format!("isthmus_{name}=\"{value}\""))
                    })
            });
            counted.then_some(())
        })
        .await;
    }
}
