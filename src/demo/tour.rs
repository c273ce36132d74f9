//! The tour: what the bridge promises, step by step.

use std::time::Duration;

use isthmus_local_cloud::{
    entra,
    openid::{OpenId, OPERATOR, READER},
    stack::{Stack, StackError},
};
use serde_json::Value;

use super::{
    report,
    step::{AtTheVm, Promise, Step},
};

const HOUR: Duration = Duration::from_secs(3600);
/// Azure tokens that the last step waits to see.
const ROTATIONS: usize = 3;

/// Walks all steps; true if every one was as promised.
pub(crate) async fn walk(stack: &Stack, azure_token_lifetime: Duration) -> Result<bool, StackError> {
    let steps = steps(&stack.cloud().openid);
    let mut as_promised = true;
    for (place, step) in steps.iter().enumerate() {
        let outcome = step.run(stack).await?;
        as_promised &= outcome.broken.is_empty();
        report::step(place + 1, step, &outcome);
    }
    let traffic = rotation_under_traffic(stack, azure_token_lifetime).await;
    as_promised &= traffic.as_promised();
    report::rotation(steps.len() + 1, &traffic);
    report::verdict(as_promised);
    Ok(as_promised)
}

fn steps(openid: &OpenId) -> Vec<Step> {
    let reader = openid.access_claims(READER, &["readers"], HOUR);
    let operator = openid.access_claims(OPERATOR, &["operators"], HOUR);
    let bearer = |claims: &Value| ("authorization", format!("Bearer {}", openid.mint(claims)));
    let changed = |name: &str, value: Value| {
        let mut claims = reader.clone();
        claims[name] = value;
        claims
    };
    let long_ago = reader["iat"].as_u64().unwrap_or_default().saturating_sub(7200);
    let reader_at_the_vm = || AtTheVm {
        azure_application: entra::READER.client_id,
        headers: vec![
            ("x-user", text(&reader["sub"])),
            ("x-groups", "readers".to_owned()),
            ("x-isthmus-role", "metrics-reader".to_owned()),
        ],
    };
    let refused = |status, reason| Promise {
        status,
        reason,
        at_the_vm: None,
    };
    vec![
        Step {
            title: "no token",
            method: "GET",
            path: "/metrics/cpu",
            headers: vec![],
            token_note: "",
            promise: refused(401, "missing_token"),
        },
        Step {
            title: "an expired token",
            method: "GET",
            path: "/metrics/cpu",
            headers: vec![bearer(&changed("exp", (long_ago + 3600).into()))],
            token_note: "a reader's, expired an hour ago",
            promise: refused(401, "expired"),
        },
        Step {
            title: "a token for somebody else",
            method: "GET",
            path: "/metrics/cpu",
            headers: vec![bearer(&changed("client_id", "billing-api".into()))],
            token_note: "a reader's, for another API",
            promise: refused(401, "wrong_audience"),
        },
        Step {
            title: "forged identity headers",
            method: "GET",
            path: "/metrics/cpu",
            headers: vec![
                bearer(&reader),
                ("x-user", "mallory".to_owned()),
                ("x-groups", "operators".to_owned()),
                ("x-isthmus-role", "operator".to_owned()),
                ("x-isthmus-credential", "azure/operator".to_owned()),
            ],
            token_note: "a reader's",
            promise: Promise {
                status: 200,
                reason: "allowed",
                at_the_vm: Some(reader_at_the_vm()),
            },
        },
        Step {
            title: "a reader reads metrics, with the reader's Azure token",
            method: "GET",
            path: "/metrics/cpu?window=5m",
            headers: vec![bearer(&reader)],
            token_note: "a reader's",
            promise: Promise {
                status: 200,
                reason: "allowed",
                at_the_vm: Some(reader_at_the_vm()),
            },
        },
        Step {
            title: "a reader tries to delete",
            method: "DELETE",
            path: "/storage/orders",
            headers: vec![bearer(&reader)],
            token_note: "a reader's",
            promise: refused(403, "not_allowed"),
        },
        Step {
            title: "an operator deletes, with the operator's Azure token",
            method: "DELETE",
            path: "/storage/orders",
            headers: vec![bearer(&operator)],
            token_note: "an operator's",
            promise: Promise {
                status: 200,
                reason: "allowed",
                at_the_vm: Some(AtTheVm {
                    azure_application: entra::OPERATOR.client_id,
                    headers: vec![
                        ("x-user", text(&operator["sub"])),
                        ("x-isthmus-role", "operator".to_owned()),
                    ],
                }),
            },
        },
    ]
}

fn text(claim: &Value) -> String {
    claim.as_str().unwrap_or_default().to_owned()
}

/// What came of requests without a pause, while the Azure token changed.
pub(crate) struct Traffic {
    pub(crate) requests: u64,
    pub(crate) failed: u64,
    /// Different valid Azure tokens that the application saw.
    pub(crate) tokens: usize,
    pub(crate) duration: Duration,
}

impl Traffic {
    pub(crate) fn as_promised(&self) -> bool {
        self.failed == 0 && self.tokens >= ROTATIONS
    }
}

/// Sends a reader's requests until the VM has seen some Azure tokens come and go, or should have long since. The
/// application refuses a token in the second it expires, so a late rotation is a failed request.
async fn rotation_under_traffic(stack: &Stack, azure_token_lifetime: Duration) -> Traffic {
    let app = &stack.cloud().app;
    let tokens_before = app.tokens_seen(entra::READER.client_id);
    let token = stack.cloud().openid.access_token(READER, &["readers"], HOUR);
    let client = stack.client();
    let url = format!("{}/metrics/cpu", stack.bridge_url());
    let rotations = u32::try_from(ROTATIONS).unwrap_or(u32::MAX);
    let patience = azure_token_lifetime.saturating_mul(rotations);
    report::rotation_begins(azure_token_lifetime);
    let started = std::time::Instant::now();
    let mut traffic = Traffic {
        requests: 0,
        failed: 0,
        tokens: 0,
        duration: Duration::ZERO,
    };
    while traffic.tokens < ROTATIONS && started.elapsed() < patience {
        let answer = client.get(&url).bearer_auth(&token).send().await;
        traffic.requests += 1;
        traffic.failed += u64::from(!answer.is_ok_and(|answer| answer.status().is_success()));
        traffic.tokens = 1 + app.tokens_seen(entra::READER.client_id) - tokens_before;
    }
    traffic.duration = started.elapsed();
    traffic
}
