//! The table of cases, natively and as WebAssembly under Node; the end-to-end tests send the same table through Envoy.

use isthmus_cases::{filter_config, tables, Case, Expect, PEER};
use isthmus_engine::{Decision, Engine, Headers, Peer, Request, UnixMillis};
use wasm_bindgen_test::wasm_bindgen_test;

const NOW: u64 = 1_800_000_000;

#[wasm_bindgen_test(unsupported = test)]
fn every_case_is_decided_as_its_table_says() {
    let mut failures = Vec::new();
    for table in tables() {
        // One engine for all: what one request leaves behind must not change the next.
        let mut engine = Engine::new(table.config.to_string().as_bytes()).expect("a table's configuration");
        for _ in 0..2 {
            for case in &table.cases {
                if let Err(failure) = run(&mut engine, case) {
                    failures.push(format!("{}: {}: {failure}", table.name, case.name));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn run(engine: &mut Engine, case: &Case) -> Result<(), String> {
    let prepared = case.prepare(NOW);
    let mut fields = vec![
        (":method".to_owned(), case.method.clone().into_bytes()),
        (":path".to_owned(), prepared.path.into_bytes()),
        (":authority".to_owned(), b"bridge.example".to_vec()),
    ];
    fields.extend(prepared.headers);
    let borrowed: Vec<(&[u8], &[u8])> = fields
        .iter()
        .map(|(name, value)| (name.as_bytes(), value.as_slice()))
        .collect();
    let request = Request {
        headers: Headers(&borrowed),
        peer: Peer {
            uri_san: Some(PEER),
            ..Peer::default()
        },
    };
    let now = UnixMillis(NOW * 1000);
    let decision = engine.decide(&request, now);
    let event = engine.audit_event(&decision, &request, now);
    if prepared.token.is_some_and(|token| event.contains(&token)) {
        return Err("the audit event holds the token".to_owned());
    }
    let (reason, upstream) = match decision {
        Decision::Allow(allowed) => {
            fields.retain(|(name, _)| {
                !allowed.remove.contains(name) && !allowed.set.iter().any(|(set, _)| set == name)
            });
            fields.extend(
                allowed
                    .set
                    .into_iter()
                    .map(|(name, value)| (name, value.into_bytes())),
            );
            (allowed.reason, fields)
        }
        Decision::Deny(denied) => (denied.reason, Vec::new()),
        Decision::Wait => return Err("waits, though the keys are in line".to_owned()),
    };
    check(&case.expect, reason.status(), reason.code(), &upstream)
}

fn check(expect: &Expect, status: u16, reason: &str, upstream: &[(String, Vec<u8>)]) -> Result<(), String> {
    if (status, Some(reason)) != (expect.status, expect.reason.as_deref()) {
        return Err(format!(
            "{status} {reason}, expected {} {:?}",
            expect.status, expect.reason
        ));
    }
    for (name, value) in &expect.upstream {
        let values: Vec<_> = upstream
            .iter()
            .filter(|(other, _)| other == name)
            .map(|(_, value)| value)
            .collect();
        if values != [value.as_bytes()] {
            return Err(format!("upstream {name}: {values:?}, expected {value:?}"));
        }
    }
    match expect
        .absent
        .iter()
        .find(|name| upstream.iter().any(|(other, _)| other == *name))
    {
        Some(name) => Err(format!("{name} reached upstream")),
        None => Ok(()),
    }
}

#[wasm_bindgen_test(unsupported = test)]
fn trailers_lose_the_names_that_headers_lose() {
    let engine = Engine::new(filter_config().to_string().as_bytes()).expect("the cases' configuration");
    let trailers: [(&[u8], &[u8]); 4] = [
        (b"x-user", b"mallory"),
        (b"x_isthmus_role", b"operator"),
        (b"authorization", b"Bearer x"),
        (b"x-checksum", b"1"),
    ];
    let forged = engine.forged_trailers(Headers(&trailers)).expect("plain names");
    assert_eq!(forged, ["authorization", "x-user", "x_isthmus_role"]);
    let hidden: [(&[u8], &[u8]); 1] = [(b"x-user\xff", b"mallory")];
    assert!(
        engine.forged_trailers(Headers(&hidden)).is_err(),
        "what cannot be taken away"
    );
}
