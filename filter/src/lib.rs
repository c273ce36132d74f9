//! Isthmus as a proxy-wasm filter: the thin shell between Envoy and [`isthmus_engine`]. It reads requests, performs the
//! fetches that the engine asks for, and applies its decisions. It decides nothing by itself.

#![allow(
    missing_docs,
    reason = "nothing here is for Rust callers; the entry macro makes a public function"
)]
#![deny(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

mod crypto;
mod host;
mod http;
mod metrics;
mod randomness;
mod sharing;
mod worker;

use proxy_wasm::types::LogLevel;

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Info);
    proxy_wasm::set_root_context(|id| Box::new(worker::Root::new(id)));
}}
