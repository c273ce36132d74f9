//! Compiles the filter to `wasm32-unknown-unknown` and hands the module's path to the command and to the tests as
//! `ISTHMUS_WASM`. The module lies at `target/isthmus.wasm`, its SHA-256 beside it, whoever asked for it.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use sha2::{Digest as _, Sha256};

fn main() {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR").expect("set by cargo"));
    for input in [
        "filter",
        "tools/cargo-wasm",
        "Cargo.lock",
        "Cargo.toml",
        "rust-toolchain.toml",
    ] {
        println!("cargo::rerun-if-changed={}", root.join(input).display());
    }
    println!("cargo::rerun-if-env-changed=CARGO_TARGET_DIR");

    let target = env::var("CARGO_TARGET_DIR").map_or_else(|_| root.join("target"), |dir| root.join(dir));
    // A target directory of its own: the outer cargo holds the lock of the other one.
    let wasm_target = target.join("wasm");
    let status = Command::new(root.join("tools/cargo-wasm"))
        .args([
            "build",
            "--locked",
            "--profile",
            "wasm",
            "-p",
            "isthmus-filter",
            "--target-dir",
        ])
        .arg(&wasm_target)
        .current_dir(&root)
        .status();
    match status {
        Ok(status) if status.success() => {}
        Ok(_) => panic!("the filter could not be compiled to WebAssembly; the reason stands above"),
        Err(error) => panic!("tools/cargo-wasm could not be started: {error}"),
    }

    let built = wasm_target.join("wasm32-unknown-unknown/wasm/isthmus_filter.wasm");
    let module = fs::read(&built).unwrap_or_else(|error| panic!("{}: {error}", built.display()));
    let installed = target.join("isthmus.wasm");
    install(&installed, &module);
    let digest: String = Sha256::digest(&module)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    install(
        &target.join("isthmus.wasm.sha256"),
        format!("{digest}  isthmus.wasm\n").as_bytes(),
    );
    println!("cargo::rustc-env=ISTHMUS_WASM={}", installed.display());
}

/// By rename, so that a running Envoy never reads half a module.
fn install(path: &Path, contents: &[u8]) {
    let partial = path.with_extension(format!("partial-{}", std::process::id()));
    fs::write(&partial, contents)
        .and_then(|()| fs::rename(&partial, path))
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}
