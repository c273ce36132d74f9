//! What must hold of every audit event and of every answer.

use isthmus_engine::{Decision, Engine, Request, UnixMillis};
use serde_json::Value;

/// The event of a decision, which must be one line of JSON and say what was decided.
pub(crate) fn checked(
    engine: &Engine,
    decision: &Decision,
    request: &Request<'_>,
    now: UnixMillis,
) -> String {
    let event = engine.audit_event(decision, request, now);
    assert_eq!(event.lines().count(), 1, "an audit event of several lines");
    let parsed: Value = serde_json::from_str(&event).expect("an audit event that is no JSON");
    assert_eq!(parsed["time"], now.0);
    // In shadow mode what is refused passes.
    let granted = matches!(decision, Decision::Allow(allowed) if allowed.reason.status() == 200);
    assert_eq!(parsed["status_id"], if granted { 1 } else { 2 });
    if let Decision::Deny(denied) = decision {
        let answer = engine.answer(denied, request);
        assert!(answer.status >= 400, "a refusal with status {}", answer.status);
        let body: Value = serde_json::from_str(&answer.body).expect("an answer that is no JSON");
        let told = body.get("reason").and_then(Value::as_str);
        assert!(
            told.is_none_or(|told| told == denied.reason.code()),
            "told {told:?}"
        );
    }
    event
}
