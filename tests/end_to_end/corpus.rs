//! The foreign test data through Envoy: every request among its rows, and every JWS as a bearer token, once verified by Envoy's
//! cryptography and once by the module's own.

use std::collections::BTreeMap;

use isthmus_cases::corpus::{filter_config, rows, Check, Kind, Request, Set, Verdict};
use isthmus_local_cloud::stack::Stack;
use serde_json::{json, Value};

use crate::{
    raw::RawClient,
    support::{assert_filter_never_failed, options, stack},
};

#[tokio::test(flavor = "multi_thread")]
async fn every_foreign_token_is_judged_rightly_where_envoy_verifies_signatures() {
    every_foreign_token_is_judged_rightly("host").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_foreign_token_is_judged_rightly_where_the_module_verifies_signatures() {
    every_foreign_token_is_judged_rightly("rust").await;
}

/// What came of the rows.
#[derive(Default)]
struct Score {
    run: usize,
    taken: u64,
    false_accepts: Vec<String>,
    false_rejects: Vec<String>,
    other: Vec<String>,
}

async fn every_foreign_token_is_judged_rightly(crypto: &str) {
    let mut config = filter_config();
    // With "host" the bridge does not start if Envoy's cryptography fails the self-test.
    config["crypto"] = json!(crypto);
    let stack = stack({
        let mut options = options();
        options.filter_config = Some(config);
        options
    })
    .await;
    let client = RawClient::new(&stack);
    let mut score = Score::default();
    for row in rows() {
        if let Check::Request(request) = &row.check {
            score.run += 1;
            run(&stack, &client, &row.id, row.verdict(), request, &mut score).await;
        }
    }
    assert!(
        score.false_accepts.is_empty() && score.false_rejects.is_empty() && score.other.is_empty(),
        "false accepts: {:#?}\nfalse rejects: {:#?}\nother: {:#?}",
        score.false_accepts,
        score.false_rejects,
        score.other
    );
    assert_eq!(
        stack.cloud().app.requests(),
        score.taken,
        "something else reached the VM"
    );
    // Every key is in line, and what a token names as its key's address is nobody's to call.
    assert_eq!(
        stack.cloud().openid.jwks_fault().requests(),
        0,
        "something was fetched"
    );
    assert_filter_never_failed(&stack).await;
    let cases: usize = Set::ALL
        .into_iter()
        .filter(|set| set.kinds().contains(&Kind::Bearer))
        .map(Set::cases)
        .sum();
    assert_eq!(score.run, cases);
}

/// One provider stands for all: the tokens of other ones are refused by it, too.
async fn run(
    stack: &Stack,
    client: &RawClient,
    id: &str,
    verdict: Verdict,
    request: &Request,
    score: &mut Score,
) {
    let app = &stack.cloud().app;
    let before = app.requests();
    let answer = match client.request("GET", b"/", &request.header_fields()).await {
        Ok(answer) => answer,
        Err(error) => return score.other.push(format!("{id}: {error}")),
    };
    let reached = app.requests() > before;
    match (verdict, answer.status, reached) {
        (Verdict::Accept, 200, true) => {
            score.taken += 1;
            let seen = app.seen().pop().expect("the request that reached it");
            check_upstream(id, request, &seen.headers, score);
        }
        (Verdict::Accept, status, _) => score.false_rejects.push(format!("{id}: {status}")),
        (Verdict::Reject, 401, false) => {
            let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
            if !body["reason"].is_string() {
                score.other.push(format!("{id}: 401 not by the filter"));
            }
        }
        // Envoy itself refuses what is no HTTP.
        (Verdict::Reject, 400, false) => {}
        (Verdict::Reject, status, false) => score.other.push(format!("{id}: {status}")),
        (Verdict::Reject, status, true) => score.false_accepts.push(format!("{id}: {status}")),
    }
}

fn check_upstream(id: &str, request: &Request, seen: &BTreeMap<String, Vec<String>>, score: &mut Score) {
    for (name, value) in &request.upstream {
        if seen.get(name) != Some(&vec![value.clone()]) {
            score.other.push(format!("{id}: {name} is {:?}", seen.get(name)));
        }
    }
    for name in request.absent.iter().filter(|name| seen.contains_key(*name)) {
        score.other.push(format!("{id}: {name} reached the VM"));
    }
}
