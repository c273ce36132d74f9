//! What a supervisor asks: is the process alive, and has every secret a good value. Names and states, never values.

use std::sync::Arc;

use axum::{extract::State as Shared, http::StatusCode, response::IntoResponse, routing::get, Json, Router};
use serde::Serialize;

use crate::{
    clock::Clock,
    store::{State, Store},
};

#[derive(Clone)]
struct Watched {
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
}

/// One line of `/readyz`.
#[derive(Serialize)]
struct Line<'a> {
    name: &'a str,
    state: State,
}

/// `GET /healthz` and `GET /readyz`.
pub(crate) fn router(store: Arc<Store>, clock: Arc<dyn Clock>) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .with_state(Watched { store, clock })
}

async fn ready(Shared(watched): Shared<Watched>) -> impl IntoResponse {
    let lines: Vec<Line<'_>> = watched
        .store
        .states(watched.clock.now())
        .map(|(name, state)| Line {
            name: name.as_str(),
            state,
        })
        .collect();
    let all_fresh = lines.iter().all(|line| line.state == State::Fresh);
    let status = match all_fresh {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, Json(serde_json::json!(lines)))
}
