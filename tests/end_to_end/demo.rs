//! `isthmus demo --once`, as a person runs it.

use std::process::Stdio;

use tokio::process::Command;

fn demo() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_isthmus"));
    command.arg("demo").stdin(Stdio::null()).kill_on_drop(true);
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tour_is_as_promised() {
    let output = demo()
        .args(["--once", "--azure-token-lifetime", "5"])
        .output()
        .await
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{errors}");
    assert_eq!(text.matches("✓ as promised").count(), 8, "{text}");
    assert!(!text.contains("eyJ"), "a token on the screen:\n{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_is_named_with_its_remedy() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    for (arguments, envoy, expected) in [
        (vec!["--port", &port], None, vec!["port", port.as_str(), "in use"]),
        (
            vec!["--wasm", "/nowhere/isthmus.wasm"],
            None,
            vec!["/nowhere/isthmus.wasm", "make wasm"],
        ),
        (
            vec![],
            Some("/nowhere/envoy"),
            vec!["/nowhere/envoy", "make tools"],
        ),
    ] {
        let mut command = demo();
        command.arg("--once").args(&arguments);
        if let Some(envoy) = envoy {
            command.env("ENVOY_BIN", envoy);
        }
        let output = command.output().await.unwrap();
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{message}");
        for part in expected {
            assert!(message.contains(part), "{part} is not in: {message}");
        }
    }
}
