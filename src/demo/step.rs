//! One step of the tour: a request, what is promised of it, and what came of it.

use std::time::Duration;

use isthmus_local_cloud::{
    app::Seen,
    stack::{Stack, StackError},
};
use serde_json::Value;

/// How long Envoy may take to write a line of its access log.
const AUDIT_DEADLINE: Duration = Duration::from_secs(5);

/// A request and what is promised of it.
pub(crate) struct Step {
    pub(crate) title: &'static str,
    pub(crate) method: &'static str,
    pub(crate) path: &'static str,
    pub(crate) headers: Vec<(&'static str, String)>,
    /// What stands for the token on the screen.
    pub(crate) token_note: &'static str,
    pub(crate) promise: Promise,
}

/// What is promised of a request.
pub(crate) struct Promise {
    pub(crate) status: u16,
    pub(crate) reason: &'static str,
    /// What the VM's application must see; nothing if the request must never reach it.
    pub(crate) at_the_vm: Option<AtTheVm>,
}

/// What the VM's application must see.
pub(crate) struct AtTheVm {
    /// The Azure application whose token comes with the request.
    pub(crate) azure_application: &'static str,
    /// Header fields, each exactly once and with this value.
    pub(crate) headers: Vec<(&'static str, String)>,
}

/// What came of a request.
pub(crate) struct Outcome {
    pub(crate) status: u16,
    pub(crate) reason: String,
    pub(crate) seen: Option<Seen>,
    pub(crate) audit: Value,
    /// In which points it was not as promised.
    pub(crate) broken: Vec<String>,
}

impl Step {
    /// Sends the request and compares.
    pub(crate) async fn run(&self, stack: &Stack) -> Result<Outcome, StackError> {
        let before = stack.cloud().app.requests();
        let method = self.method.parse().unwrap_or(reqwest::Method::GET);
        let mut request = stack
            .client()
            .request(method, format!("{}{}", stack.bridge_url(), self.path));
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        let answer = request.send().await?;
        let status = answer.status().as_u16();
        let id = answer
            .headers()
            .get("x-request-id")
            .and_then(|id| id.to_str().ok())
            .unwrap_or_default()
            .to_owned();
        let audit = stack
            .wait_for_audit(AUDIT_DEADLINE, |event| event["http_request"]["uid"] == *id)
            .await?;
        let app = &stack.cloud().app;
        let seen = (app.requests() > before).then(|| app.seen().pop()).flatten();
        let reason = audit["status_detail"].as_str().unwrap_or_default().to_owned();
        let broken = self.promise.broken_by(status, &reason, seen.as_ref());
        Ok(Outcome {
            status,
            reason,
            seen,
            audit,
            broken,
        })
    }
}

impl Promise {
    fn broken_by(&self, status: u16, reason: &str, seen: Option<&Seen>) -> Vec<String> {
        let mut broken = Vec::new();
        if status != self.status {
            broken.push(format!("status {status} instead of {}", self.status));
        }
        if reason != self.reason {
            broken.push(format!("reason {reason} instead of {}", self.reason));
        }
        match (&self.at_the_vm, seen) {
            (None, None) => {}
            (None, Some(_)) => broken.push("it reached the VM".to_owned()),
            (Some(_), None) => broken.push("it did not reach the VM".to_owned()),
            (Some(promised), Some(seen)) => broken.extend(promised.broken_by(seen)),
        }
        broken
    }
}

impl AtTheVm {
    fn broken_by(&self, seen: &Seen) -> Vec<String> {
        let mut broken = Vec::new();
        let application = seen.azure.appid();
        if application != Some(self.azure_application) {
            broken.push(format!(
                "Azure application {application:?} instead of {}",
                self.azure_application
            ));
        }
        for (name, value) in &self.headers {
            let values = seen.headers.get(*name).map(Vec::as_slice).unwrap_or_default();
            if values != [value.clone()] {
                broken.push(format!("{name}: {values:?} instead of {value:?}"));
            }
        }
        broken
    }
}
