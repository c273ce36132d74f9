//! What a refused caller is told: RFC 9457 problem details, and RFC 6750 challenges.

use serde_json::json;

use crate::{decision::Denied, Reason};

/// How long a caller may wait before trying again when keys are not to be had, in seconds.
const RETRY_AFTER_SECONDS: &str = "5";

/// A reply that the proxy gives by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Header fields.
    pub headers: Vec<(&'static str, String)>,
    /// Body, `application/problem+json`.
    pub body: String,
}

impl Answer {
    /// The reply to a refused request. It holds the request id, with `details` the reason's code, and nothing further.
    pub fn to_denied(denied: &Denied, request_id: Option<&str>, details: bool) -> Self {
        let reason = denied.reason;
        let mut headers = vec![
            ("content-type", "application/problem+json".to_owned()),
            ("cache-control", "no-store".to_owned()),
        ];
        match reason.status() {
            401 | 403 => headers.push(("www-authenticate", challenge(reason, details).to_owned())),
            503 => headers.push(("retry-after", RETRY_AFTER_SECONDS.to_owned())),
            _ => {}
        }
        let mut problem = json!({
            "type": "about:blank",
            "title": title(reason.status()),
            "status": reason.status(),
        });
        let reason_code = details.then(|| reason.code());
        for (name, value) in [("reason", reason_code), ("request_id", request_id)] {
            if let (Some(members), Some(value)) = (problem.as_object_mut(), value) {
                members.insert(name.to_owned(), value.into());
            }
        }
        Self {
            status: reason.status(),
            headers,
            body: problem.to_string(),
        }
    }
}

/// RFC 6750, section 3: without a credential the challenge names no error.
fn challenge(reason: Reason, details: bool) -> &'static str {
    match reason {
        Reason::MissingToken => "Bearer realm=\"isthmus\"",
        _ if !details => "Bearer realm=\"isthmus\"",
        _ if reason.status() == 403 => "Bearer realm=\"isthmus\", error=\"insufficient_scope\"",
        Reason::AmbiguousToken => "Bearer realm=\"isthmus\", error=\"invalid_request\"",
        _ => "Bearer realm=\"isthmus\", error=\"invalid_token\"",
    }
}

fn title(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        _ => "Service Unavailable",
    }
}

#[cfg(test)]
mod tests {
    use wasm_bindgen_test::wasm_bindgen_test;

    use super::*;

    #[wasm_bindgen_test(unsupported = test)]
    fn every_refusal_says_its_reason_and_how_to_come_back() {
        for reason in Reason::ALL
            .iter()
            .copied()
            .filter(|reason| reason.status() >= 400)
        {
            let answer = Answer::to_denied(&Denied::new(reason), Some("id\"1"), true);
            let body: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
            assert_eq!(body["reason"], reason.code());
            assert_eq!(body["status"], answer.status);
            assert_eq!(body["request_id"], "id\"1");
            let names: Vec<_> = answer.headers.iter().map(|(name, _)| *name).collect();
            assert_eq!(
                names.contains(&"www-authenticate"),
                matches!(answer.status, 401 | 403),
                "{reason}"
            );
            assert_eq!(names.contains(&"retry-after"), answer.status == 503, "{reason}");

            let terse = Answer::to_denied(&Denied::new(reason), None, false);
            assert_eq!(terse.status, answer.status);
            let all = format!("{:?} {}", terse.headers, terse.body);
            assert!(!all.contains(reason.code()) && !all.contains("error="), "{all}");
        }
    }
}
