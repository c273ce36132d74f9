//! What the tests share.

use std::{path::PathBuf, time::Duration};

use isthmus_local_cloud::stack::{Stack, StackOptions};
use tokio::time::Instant;

use crate::ocsf;

/// How long anything may take that is waited for.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);
/// Longer than any test runs.
pub(crate) const HOUR: Duration = Duration::from_secs(3600);

/// The shipped configuration with the module and the daemon of this build.
pub(crate) fn options() -> StackOptions {
    let command = PathBuf::from(env!("CARGO_BIN_EXE_isthmus"));
    StackOptions::new(env!("ISTHMUS_WASM"), command.with_file_name("isthmus-rotation"))
}

pub(crate) async fn stack(options: StackOptions) -> Stack {
    Stack::start(options)
        .await
        .unwrap_or_else(|error| panic!("{error}"))
}

/// Tries until `attempt` gives something.
pub(crate) async fn eventually<T>(what: &str, mut attempt: impl AsyncFnMut() -> Option<T>) -> T {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(value) = attempt().await {
            return value;
        }
        assert!(Instant::now() < end, "not within {DEADLINE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A GET with a bearer token; gives the status.
pub(crate) async fn get(stack: &Stack, path: &str, token: &str) -> u16 {
    let url = format!("{}{path}", stack.bridge_url());
    let answer = stack.client().get(url).bearer_auth(token).send().await;
    answer.expect("the bridge answers").status().as_u16()
}

/// Fails if the filter's VM died at any time, or Envoy did, or an audit event is none by its schema.
pub(crate) async fn assert_filter_never_failed(stack: &Stack) {
    assert!(stack.bridge_is_alive(), "Envoy ended:\n{}", stack.bridge_log());
    let mut reloads = stack
        .bridge_stats("vm_reload|wasm.*(fail|crash)")
        .await
        .expect("statistics");
    // What the filter itself counts is no failure of the filter.
    reloads.retain(|(name, _)| !name.starts_with("wasmcustom."));
    for (name, value) in reloads {
        assert_eq!(value, 0, "{name}\n{}", stack.bridge_log());
    }
    for event in stack.audit_events().expect("the bridge's access log") {
        let problems = ocsf::problems(&event);
        assert!(problems.is_empty(), "{problems:#?}\n{event:#}");
    }
}
