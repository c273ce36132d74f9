//! The seeds of the fuzz targets, each put through everything that its target asserts (`fuzz/src`): what was a
//! finding once is one on a stable compiler too.

#![cfg(not(target_arch = "wasm32"))]

use std::{fs, path::Path};

#[path = "../../../fuzz/src/lib.rs"]
#[allow(unreachable_pub, reason = "under cargo fuzz it is a crate of its own")]
mod targets;

fn replay(target: &str, run: fn(&[u8])) {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fuzz/seeds")
        .join(target);
    let mut count = 0;
    for seed in fs::read_dir(seeds).expect("the seeds of a target") {
        let seed = seed.expect("a seed").path();
        // Shown if the seed fails.
        println!("{}", seed.display());
        run(&fs::read(seed).expect("a seed"));
        count += 1;
    }
    assert!(count > 0, "no seeds");
}

#[test]
fn tokens() {
    replay("token", targets::token::run);
}

#[test]
fn key_sets() {
    replay("jwks", targets::jwks::run);
}

#[test]
fn configurations() {
    replay("config", targets::config::run);
}

#[test]
fn requests() {
    replay("headers", targets::headers::run);
}

#[test]
fn tokens_and_an_independent_library() {
    replay("differential", targets::differential::run);
}
