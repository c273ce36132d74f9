//! The rotation service keeps Azure credentials and certificates fresh and hands them to Envoy over SDS.
//!
//! ```text
//! rotation.yaml ─▶ config ─▶ source (Entra, local CA) ─▶ refresh ─▶ store ─▶ sds ─▶ Envoy
//! ```
//!
//! Start it with [`run`], or with [`Service::start`] to learn the addresses it took.

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )
)]

pub mod clock;
pub mod config;
pub mod local_ca;
pub mod schedule;
pub mod secret;
pub mod source;
pub mod store;
pub mod token;

mod admin;
mod refresh;
mod sds;
mod service;

pub use config::{Config, ConfigError};
pub use sds::{socket::SocketError, MAX_NAMES, TYPE_URL};
pub use service::{run, Service, ServiceError};
pub use source::entra::CloudError;
