//! `config`: what operators write.
//!
//! - Nothing panics, and an error names a path and a problem.
//! - What is accepted once is accepted again, and an engine of it decides. Without a genuine token nothing passes but
//!   what is public, or everything where the configuration asks for shadow mode.
//! - Each fetch that it wants is complete.
//! - A host that verifies nothing is never believed.

use std::rc::Rc;

use isthmus_engine::{Decision, Engine, Headers, HostCrypto, HostHash, Peer, Reason, Request, UnixMillis};

use serde_json::Value;

use super::event;

const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

/// Requests that every configuration must have an answer to; the tokens of two of them are well-formed and nobody's.
const REQUESTS: [&[(&[u8], &[u8])]; 6] = [
    &[
        (b":method", b"OPTIONS"),
        (b":path", b"/x"),
        (b"origin", b"https://app.example"),
        (b"access-control-request-method", b"PUT"),
    ],
    &[(b":method", b"GET"), (b":path", b"/healthz")],
    &[
        (b":method", b"DELETE"),
        (b":path", b"/a/b/?access_token=x"),
        (b"cookie", b"id=x; y=z"),
    ],
    &[(b":method", b"GET"), (b":path", b"/%2e%2e/x")],
    &[
        (b":method", b"GET"),
        (b":path", b"/metrics"),
        (
            b"authorization",
            b"Bearer eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJodHRwczovL2lkcC5leGFtcGxlIn0.AAAA",
        ),
    ],
    &[
        (b":method", b"POST"),
        (b":path", b"/metrics"),
        (
            b"authorization",
            b"Bearer eyJhbGciOiJIUzI1NiIsImtpZCI6ImsifQ.eyJpc3MiOiJpIiwiYXVkIjoiYSIsImV4cCI6NGU5fQ.AAAA",
        ),
        (b"x-isthmus-role", b"operator"),
    ],
];

/// Runs one input.
pub fn run(input: &[u8]) {
    let mut engine = match Engine::new(input) {
        Ok(engine) => engine,
        Err(error) => {
            assert!(!error.path.is_empty(), "an error without a path");
            assert!(!error.problem.is_empty(), "an error that says nothing");
            assert_eq!(
                Engine::new(input).err(),
                Some(error),
                "another error the second time"
            );
            return;
        }
    };
    assert!(Engine::new(input).is_ok(), "refused the second time");
    assert_ne!(
        engine.offer_host_crypto(Rc::new(Mute)),
        Ok(true),
        "a mute host was believed"
    );
    assert!(engine.key_status().count() > 0, "an engine without providers");
    for fetch in engine.due_fetches(NOW) {
        assert!(
            !fetch.cluster.is_empty() && !fetch.authority.is_empty(),
            "{fetch:?}"
        );
        assert!(fetch.path.starts_with('/'), "{fetch:?}");
        assert!(matches!(fetch.scheme, "https" | "http"), "{fetch:?}");
    }
    for fields in REQUESTS {
        let request = Request {
            headers: Headers(fields),
            peer: Peer::default(),
        };
        let decision = engine.decide(&request, NOW);
        event::checked(&engine, &decision, &request, NOW);
        if let Decision::Allow(allowed) = decision {
            let for_all = matches!(allowed.reason, Reason::Public | Reason::Preflight);
            let shadow =
                || serde_json::from_slice::<Value>(input).is_ok_and(|config| config["mode"] == "shadow");
            assert!(
                for_all || (allowed.reason.status() >= 400 && shadow()),
                "passed without a genuine token: {}",
                allowed.reason
            );
        }
    }
}

/// A host without cryptography.
struct Mute;

impl HostCrypto for Mute {
    fn verify(&self, _: HostHash, _: &[u8], _: &[u8], _: &[u8]) -> Option<bool> {
        None
    }
}
