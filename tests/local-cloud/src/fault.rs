//! Faults, switched on and off while the cloud runs.

use std::{
    io,
    pin::Pin,
    sync::{
        atomic::{AtomicU64, Ordering},
        Arc, Mutex, PoisonError,
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{to_bytes, Body, Bytes, HttpBody},
    extract::{Request, State},
    http::{header, StatusCode},
    middleware::{from_fn_with_state, Next},
    response::{IntoResponse, Response},
    routing::MethodRouter,
};
use hyper::body::{Frame, SizeHint};

/// What goes wrong. Every kind but [`Fault::Delay`], [`Fault::TruncatedBody`] and [`Fault::CutOff`] answers without
/// doing the work.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Fault {
    /// Nothing.
    #[default]
    Healthy,
    /// This status with a short text body; 429 and 503 also say `Retry-After: 1`.
    Status(u16),
    /// The right answer, late.
    Delay(Duration),
    /// 200 with no body.
    EmptyBody,
    /// 200 with the first half of the right body. HTTP is intact (the length fits), the JSON is not: the
    /// harder case.
    TruncatedBody,
    /// 200 with the first half of the right body, after which the connection is closed.
    CutOff,
    /// 200, `application/json`, and bytes that are neither JSON nor UTF-8.
    Garbage,
    /// 200, `application/json`, and this.
    Body(Bytes),
    /// The connection is closed without an answer.
    Drop,
    /// The request is taken and never answered.
    Hang,
}

/// Decides what an endpoint does with the requests that reach it, and counts them. Clones share one state.
#[derive(Debug, Clone, Default)]
pub struct FaultSwitch(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    fault: Mutex<Fault>,
    requests: AtomicU64,
}

impl FaultSwitch {
    pub(crate) fn new(fault: Fault) -> Self {
        let switch = Self::default();
        switch.set(fault);
        switch
    }

    /// From the next request on, this goes wrong.
    pub fn set(&self, fault: Fault) {
        *self.0.fault.lock().unwrap_or_else(PoisonError::into_inner) = fault;
    }

    /// Back to health.
    pub fn heal(&self) {
        self.set(Fault::Healthy);
    }

    /// How many requests have come, whatever became of them.
    pub fn requests(&self) -> u64 {
        self.0.requests.load(Ordering::Relaxed)
    }

    /// Puts the switch in front of `route`.
    pub(crate) fn guard(&self, route: MethodRouter) -> MethodRouter {
        route.layer(from_fn_with_state(self.clone(), inject))
    }

    fn current(&self) -> Fault {
        self.0
            .fault
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// Marks a response that must not be sent: the server closes the connection in its place.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DropConnection;

async fn inject(State(switch): State<FaultSwitch>, request: Request, next: Next) -> Response {
    switch.0.requests.fetch_add(1, Ordering::Relaxed);
    const JSON: [(header::HeaderName, &str); 1] = [(header::CONTENT_TYPE, "application/json")];
    match switch.current() {
        Fault::Healthy => next.run(request).await,
        Fault::Status(status) => failure(status),
        Fault::Delay(delay) => {
            tokio::time::sleep(delay).await;
            next.run(request).await
        }
        Fault::EmptyBody => (JSON, Body::empty()).into_response(),
        Fault::TruncatedBody => {
            let body = whole_body(next.run(request).await).await;
            (JSON, body.slice(..body.len() / 2)).into_response()
        }
        Fault::CutOff => {
            let body = whole_body(next.run(request).await).await;
            (JSON, Body::new(CutOffBody::new(&body))).into_response()
        }
        Fault::Garbage => (JSON, &b"\xff\xfe{]\0 not json"[..]).into_response(),
        Fault::Body(body) => (JSON, body).into_response(),
        Fault::Drop => {
            let mut response = Response::default();
            response.extensions_mut().insert(DropConnection);
            response
        }
        Fault::Hang => std::future::pending().await,
    }
}

async fn whole_body(response: Response) -> Bytes {
    to_bytes(response.into_body(), usize::MAX)
        .await
        .unwrap_or_default()
}

/// The first half of a body of which the whole length was promised.
struct CutOffBody {
    promised: u64,
    half: Option<Bytes>,
    sent: bool,
}

impl CutOffBody {
    fn new(whole: &Bytes) -> Self {
        Self {
            promised: whole.len() as u64,
            half: Some(whole.slice(..whole.len() / 2)),
            sent: false,
        }
    }
}

impl HttpBody for CutOffBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if let Some(half) = self.half.take() {
            return Poll::Ready(Some(Ok(Frame::data(half))));
        }
        if !self.sent {
            // While it waits for more, the server sends what it has.
            self.sent = true;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Some(Err(io::ErrorKind::ConnectionReset.into())))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.promised)
    }
}

fn failure(status: u16) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (status, format!("fault injected: {status}\n")).into_response();
    if matches!(
        status,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
    ) {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
    }
    response
}

#[cfg(test)]
mod tests {
    use axum::{routing::get, Json, Router};
    use serde_json::json;

    use super::*;
    use crate::server::Server;

    #[tokio::test]
    async fn each_fault_does_what_it_says_and_heals() {
        let switch = FaultSwitch::default();
        let route = switch.guard(get(|| async { Json(json!({"a": "right answer"})) }));
        let server = Server::start(Router::new().route("/", route), None)
            .await
            .unwrap();
        let url = format!("http://{}/", server.address());
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let ask = || async { client.get(&url).send().await };

        let whole = ask().await.unwrap().bytes().await.unwrap();

        switch.set(Fault::Status(429));
        let answer = ask().await.unwrap();
        assert_eq!(
            (
                answer.status().as_u16(),
                answer.headers()["retry-after"].as_bytes()
            ),
            (429, &b"1"[..])
        );

        switch.set(Fault::EmptyBody);
        assert!(ask().await.unwrap().bytes().await.unwrap().is_empty());

        switch.set(Fault::TruncatedBody);
        let half = ask().await.unwrap().bytes().await.unwrap();
        assert!(half.len() < whole.len() && whole.starts_with(&half));

        switch.set(Fault::CutOff);
        let answer = ask().await.unwrap();
        assert_eq!(answer.content_length(), Some(whole.len() as u64));
        assert!(answer.bytes().await.is_err());

        switch.set(Fault::Garbage);
        assert!(std::str::from_utf8(&ask().await.unwrap().bytes().await.unwrap()).is_err());

        switch.set(Fault::Body("<html>".into()));
        assert_eq!(ask().await.unwrap().bytes().await.unwrap(), "<html>");

        switch.set(Fault::Delay(Duration::from_millis(20)));
        let start = tokio::time::Instant::now();
        assert_eq!(ask().await.unwrap().bytes().await.unwrap(), whole);
        assert!(start.elapsed() >= Duration::from_millis(20));

        switch.set(Fault::Drop);
        assert!(ask().await.is_err());

        switch.set(Fault::Hang);
        assert!(tokio::time::timeout(Duration::from_millis(50), ask())
            .await
            .is_err());

        switch.heal();
        assert_eq!(ask().await.unwrap().bytes().await.unwrap(), whole);
    }
}
