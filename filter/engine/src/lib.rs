//! The decisions of Isthmus: who is the caller, which least-privileged role do they hold, is this request within it,
//! and what is the backend told.
//!
//! The engine is *sans-I/O*: it has no socket, no clock and no host. A caller hands it a [`Request`] and the time and
//! gets a [`Decision`]; when keys must be fetched first the decision is [`Decision::Wait`], the caller performs what
//! [`Engine::due_fetches`] lists, hands the answers to [`Engine::fetched`] and asks again. So the same code, and the
//! same table of cases, runs natively, as WebAssembly under Node and inside Envoy.
//!
//! Nothing here panics on input: what callers, identity providers and operators write is parsed into types or refused
//! with a [`Reason`] or a [`ConfigError`].

#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unwrap_used
    )
)]

mod answer;
mod audit;
mod cache;
mod claims;
mod config;
mod credential;
mod decision;
mod engine;
mod forward;
mod holders;
mod jwks;
mod jws;
mod key_source;
mod lint;
mod path;
mod provider;
mod reason;
mod request;
mod role;
mod rule;
mod signature;
mod steps;
mod strict_json;
mod time;
mod token;

#[cfg(feature = "schema")]
pub use config::schema;

pub use answer::Answer;
pub use config::ConfigError;
pub use decision::{Allowed, Decision, Denied, Labels};
pub use engine::{CacheCounts, Engine, KeyStatus};
pub use jws::SignatureVerifier;
pub use key_source::{Fetch, FetchError, Fetched, KeySourceId, Progress};
pub use lint::warnings;
pub use reason::Reason;
pub use request::{Headers, Peer, Request};
pub use signature::{HostCrypto, HostHash};
pub use strict_json::parse as parse_json;
pub use time::UnixMillis;
