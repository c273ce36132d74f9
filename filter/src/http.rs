//! One HTTP request in Envoy.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use isthmus_engine::{Answer, Decision, Denied, Engine, Headers, Reason, Request};
use proxy_wasm::{
    traits::{Context, HttpContext},
    types::{Action, LogLevel},
};

use crate::{
    host::{self, HeaderBuffer, HostError, PeerFacts},
    worker::{Held, Worker},
};

/// The stream context of a request.
pub(crate) struct HttpFilter {
    context_id: u32,
    worker: Rc<RefCell<Worker>>,
    /// Whether the request may go on. Its body waits until it may.
    passed: Passed,
}

/// Whether a request may go on, for those who decide and the one who holds its body back.
pub(crate) type Passed = Rc<Cell<bool>>;

impl HttpFilter {
    pub(crate) fn new(context_id: u32, worker: Rc<RefCell<Worker>>) -> Self {
        Self {
            context_id,
            worker,
            passed: Passed::default(),
        }
    }

    fn on_request(&self) -> Result<Action, HostError> {
        let headers = HeaderBuffer::of_request()?;
        let peer = PeerFacts::of_request();
        let mut worker = self.worker.try_borrow_mut().map_err(|_| HostError)?;
        let now = host::now();
        let fields = headers.fields()?;
        let request = host::request(&fields, &peer);
        let mut decision = worker.engine()?.decide(&request, now);
        if matches!(decision, Decision::Wait) {
            if worker.has_room_to_hold() {
                drop(fields);
                let passed = Rc::clone(&self.passed);
                worker.hold(
                    self.context_id,
                    Held {
                        headers,
                        peer,
                        since: now,
                        passed,
                    },
                )?;
                return Ok(Action::Pause);
            }
            decision = worker.engine()?.refuse(&request, Reason::Overloaded);
        }
        worker.apply(&decision, &request, &self.passed)
    }

    /// Backends may merge trailers into headers, so what may not stand in one may not stand in the other.
    fn on_trailers(&self) -> Result<Action, HostError> {
        if !self.passed.get() {
            return Ok(Action::Pause);
        }
        let mut worker = self.worker.try_borrow_mut().map_err(|_| HostError)?;
        let trailers = HeaderBuffer::of_trailers()?;
        let fields = trailers.fields()?;
        let forged = worker.engine()?.forged_trailers(Headers(&fields));
        for name in forged.map_err(|_| HostError)? {
            host::remove_request_trailer(&name)?;
        }
        Ok(Action::Continue)
    }
}

impl Context for HttpFilter {}

impl HttpContext for HttpFilter {
    fn on_http_request_headers(&mut self, _count: usize, _end_of_stream: bool) -> Action {
        self.on_request().unwrap_or_else(|_| refuse_blindly())
    }

    fn on_http_request_body(&mut self, _size: usize, _end_of_stream: bool) -> Action {
        // A body must not carry a request past the filter that is held, refused or was never decided about.
        if self.passed.get() {
            Action::Continue
        } else {
            Action::Pause
        }
    }

    fn on_http_request_trailers(&mut self, _count: usize) -> Action {
        // A request whose trailers cannot be cleaned stops here and runs into its time-out.
        self.on_trailers().unwrap_or(Action::Pause)
    }
}

impl Drop for HttpFilter {
    fn drop(&mut self) {
        if let Ok(mut worker) = self.worker.try_borrow_mut() {
            worker.release(self.context_id);
        }
    }
}

/// Carries a decision out on the stream that the host currently speaks of. The audit event comes first: nothing passes
/// that is not on record.
pub(crate) fn apply(
    engine: &Engine,
    decision: &Decision,
    request: &Request<'_>,
    passed: &Passed,
) -> Result<Action, HostError> {
    host::set_audit_event(&engine.audit_event(decision, request, host::now()))?;
    match decision {
        Decision::Allow(allowed) => {
            for name in &allowed.remove {
                host::remove_request_header(name)?;
            }
            for (name, value) in &allowed.set {
                host::set_request_header(name, value)?;
            }
            passed.set(true);
            Ok(Action::Continue)
        }
        Decision::Deny(denied) => {
            send(&engine.answer(denied, request))?;
            Ok(Action::Pause)
        }
        Decision::Wait => Ok(Action::Pause),
    }
}

/// The host failed while a request was looked at: whatever is known of it by now, it does not pass.
pub(crate) fn refuse_blindly() -> Action {
    let answer = Answer::to_denied(&Denied::new(Reason::HostFailure), None, true);
    if send(&answer).is_err() {
        host::log(
            LogLevel::Error,
            "isthmus: a request could neither be decided nor answered",
        );
    }
    Action::Pause
}

fn send(answer: &Answer) -> Result<(), HostError> {
    let headers: Vec<(&str, &str)> = answer
        .headers
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    host::send_response(answer.status, &headers, &answer.body)
}
