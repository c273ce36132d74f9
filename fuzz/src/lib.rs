//! What the fuzz targets assert: one module per target, each with a function `run` that takes an input and panics if
//! the engine does what it must not.
//!
//! The engine's own tests include this file and run every seed through it (`filter/engine/tests/seeds.rs`), so that a
//! seed that once was a finding stays one on a stable compiler too. An input is text as far as it can be: seeds are
//! read and written by people.

pub mod config;
pub mod differential;
pub mod headers;
pub mod jwks;
pub mod token;

mod event;
mod json;
mod keys;
