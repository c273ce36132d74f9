//! The table of cases through Envoy: the same rows that the engine's own tests run natively and as WebAssembly.

use isthmus_cases::{tables, Case, Table};
use isthmus_local_cloud::{app::Seen, stack::Stack};
use serde_json::Value;

use crate::{
    raw::RawClient,
    support::{assert_filter_never_failed, options, stack, DEADLINE},
};

#[tokio::test(flavor = "multi_thread")]
async fn every_case_ends_through_envoy_as_its_table_says() {
    let runs = futures::future::join_all(tables().into_iter().map(run_table)).await;
    let failures: Vec<String> = runs.into_iter().flatten().collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// The cases that did not end as they should.
async fn run_table(table: Table) -> Vec<String> {
    let stack = stack({
        let mut options = options();
        options.filter_config = Some(table.config);
        options
    })
    .await;
    let client = RawClient::new(&stack);
    let mut failures = Vec::new();
    for (place, case) in table.cases.iter().enumerate() {
        if let Err(failure) = run(&stack, &client, case, place).await {
            failures.push(format!("{}: {}: {failure}", table.name, case.name));
        }
    }
    assert_filter_never_failed(&stack).await;
    failures
}

async fn run(stack: &Stack, client: &RawClient, case: &Case, place: usize) -> Result<(), String> {
    let expect = case.envoy.as_ref().unwrap_or(&case.expect);
    let trace_id = format!("{:032x}", place + 1);
    let prepared = case.prepare(now());
    let mut fields = prepared.headers;
    fields.push((
        "traceparent".to_owned(),
        format!("00-{trace_id}-00000000000000ff-01").into_bytes(),
    ));

    let before = stack.cloud().app.requests();
    let answer = client
        .request(&case.method, prepared.path.as_bytes(), &fields)
        .await
        .map_err(|error| error.to_string())?;
    let seen = (stack.cloud().app.requests() > before)
        .then(|| stack.cloud().app.seen().pop())
        .flatten();
    if answer.status != expect.status {
        return Err(format!("status {}, expected {}", answer.status, expect.status));
    }
    if seen.is_some() != (expect.status == 200) {
        return Err(format!(
            "status {}, reached the VM: {}",
            answer.status,
            seen.is_some()
        ));
    }
    if let Some(reason) = &expect.reason {
        let event = audit_event(stack, &trace_id).await?;
        if event["status_detail"] != **reason {
            return Err(format!(
                "audited as {}, expected {reason}",
                event["status_detail"]
            ));
        }
        if answer.status != 200 {
            let body: Value = serde_json::from_slice(&answer.body).map_err(|error| error.to_string())?;
            if body["reason"] != **reason {
                return Err(format!("answered {body}, expected {reason}"));
            }
        }
        if prepared
            .token
            .is_some_and(|token| event.to_string().contains(&token))
        {
            return Err("the audit event holds the token".to_owned());
        }
    }
    seen.map_or(Ok(()), |seen| check_upstream(case, &seen))
}

async fn audit_event(stack: &Stack, trace_id: &str) -> Result<Value, String> {
    stack
        .wait_for_audit(DEADLINE, |event| {
            event["metadata"]["correlation_uid"] == *trace_id
        })
        .await
        .map_err(|error| error.to_string())
}

fn check_upstream(case: &Case, seen: &Seen) -> Result<(), String> {
    let expect = case.envoy.as_ref().unwrap_or(&case.expect);
    for (name, value) in &expect.upstream {
        let target = [seen.path.clone()];
        let values = match name.as_str() {
            ":path" => &target[..],
            name => seen.headers.get(name).map(Vec::as_slice).unwrap_or_default(),
        };
        if values != [value.clone()] {
            return Err(format!("upstream {name}: {values:?}, expected {value:?}"));
        }
    }
    match expect.absent.iter().find(|name| seen.headers.contains_key(*name)) {
        Some(name) => Err(format!("{name} reached the VM")),
        None => Ok(()),
    }
}

fn now() -> u64 {
    let elapsed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    elapsed.expect("a clock after 1970").as_secs()
}
