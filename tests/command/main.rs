//! The command as a user runs it: what it reads, what it writes, and how it ends.

mod example;
mod observability;
mod reference;

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use isthmus_cases::{filter_config, jwks, TokenSpec, ISSUER};
use serde_json::{json, Value};

const NOW: u64 = 1_800_000_000;

/// A directory with the files of one test.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary directory"))
    }

    fn write(&self, name: &str, contents: impl ToString) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, contents.to_string()).expect("a file in it");
        path
    }
}

fn isthmus(arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_isthmus"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command starts");
    let mut stdin = child.stdin.take().expect("its input");
    // A command that ends early does not read everything.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    child.wait_with_output().expect("the command ends")
}

fn lines(output: &Output) -> Vec<Value> {
    let text = String::from_utf8(output.stdout.clone()).expect("text");
    text.lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

fn token(spec: Value) -> String {
    let spec: TokenSpec = serde_json::from_value(spec).expect("a token's description");
    spec.mint(NOW)
}

#[test]
fn verify_answers_each_token_in_order() {
    let files = Files::new();
    let config = files.write("filter.json", filter_config());
    let good = token(json!({"claims": {"cognito:groups": ["readers"]}}));
    let input = [
        json!({"id": 1, "jwt": good, "more": "is ignored"}).to_string(),
        json!({"id": "two", "jwt": token(json!({"claims": {"exp": "now-60"}}))}).to_string(),
        json!({"id": null, "jwt": {"payload": "e30"}}).to_string(),
        r#"{"id": 12345678901234567890123, "jwt": 1, "jwt": 2}"#.to_owned(),
        r#"["array", "token"]"#.to_owned(),
        r#"{"id": 1e2}"#.to_owned(),
        String::new(),
        "{\"id\": 4, \"jwt\": \"secret-token".to_owned(),
        json!({"id": 5, "jwt": good}).to_string(),
    ];
    let now = NOW.to_string();
    let output = isthmus(
        &["verify", "--config", path(&config), "--now", &now],
        &input.join("\n"),
    );
    assert_eq!(
        lines(&output),
        [
            json!({"id": 1, "verdict": "accept", "reason": null}),
            json!({"id": "two", "verdict": "reject", "reason": "expired"}),
            json!({"id": null, "verdict": "reject", "reason": "malformed_token"}),
            json!({"id": null, "verdict": "reject", "reason": "malformed_line"}),
            json!({"id": null, "verdict": "reject", "reason": "malformed_line"}),
            json!({"id": 100.0, "verdict": "reject", "reason": "malformed_line"}),
            json!({"id": null, "verdict": "reject", "reason": "malformed_line"}),
            json!({"id": 5, "verdict": "accept", "reason": null}),
        ]
    );
    assert_eq!(output.status.code(), Some(1), "a line could not be read");
    let said = text(&output.stderr);
    assert!(
        said.contains("line 5") && !said.contains("secret-token"),
        "{said}"
    );
}

#[test]
fn verify_takes_the_keys_of_a_provider_from_a_file() {
    let files = Files::new();
    let mut config = filter_config();
    config["providers"][0]["jwks"] = json!({"uri": format!("{ISSUER}/keys"), "cluster": "idp"});
    let config = files.write("filter.json", config);
    let keys = format!("pool={}", path(&files.write("keys.json", jwks())));
    let input = json!({"id": 1, "jwt": token(json!({}))}).to_string();
    let verdict = |more: &[&str]| {
        let output = isthmus(
            &[
                &[
                    "verify",
                    "--config",
                    path(&config),
                    "--now",
                    "2027-01-15T08:00:00Z",
                ],
                more,
            ]
            .concat(),
            &input,
        );
        (lines(&output), output.status.code(), text(&output.stderr))
    };
    let accepted = json!({"id": 1, "verdict": "accept", "reason": null});
    let unavailable = json!({"id": 1, "verdict": "reject", "reason": "keys_unavailable"});
    assert_eq!(
        verdict(&["--jwks", &keys]),
        (vec![accepted], Some(0), String::new())
    );
    assert_eq!(verdict(&[]), (vec![unavailable], Some(0), String::new()));

    let unusable = format!("pool={}", path(&files.write("junk.json", "<html>")));
    for (keys, problem) in [
        ("nobody=x", "nobody=x"),
        ("pool=/does/not/exist", "/does/not/exist"),
        (unusable.as_str(), "malformed"),
        ("pool", "PROVIDER=FILE"),
    ] {
        let (answers, code, said) = verdict(&["--jwks", keys]);
        assert_eq!((answers, code), (vec![], Some(2)), "{keys}");
        assert!(said.contains(problem), "{said}");
    }
}

#[test]
fn verify_checks_signatures_alone() {
    // RFC 8037, appendix A.4; its key has no id, and its payload is no JSON.
    let jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"});
    let jws = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
    // RFC 8032, section 7.1, test 2.
    let raw = json!({"kty": "OKP", "crv": "Ed25519", "x": "PUAXw-hDiVqStwqnTRt-vJyYLM8uxJaMwM1V8Sr0Zgw"});
    let signature = "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00";
    let input = [
        json!({"id": "jwk", "jws": jws, "jwk": jwk}),
        json!({"id": "jwks", "jws": jws, "jwks": {"keys": [jwk]}}),
        json!({"id": "no key", "jws": jws}),
        json!({"id": "wrong key", "jws": jws, "jwk": raw}),
        json!({"id": "raw", "alg": "EdDSA", "jwk": raw, "msg": "72", "sig": signature}),
        json!({"id": "other message", "alg": "EdDSA", "jwk": raw, "msg": "73", "sig": signature}),
        json!({"id": "other algorithm", "alg": "ES256", "jwk": raw, "msg": "72", "sig": signature}),
        json!({"id": "both", "jws": jws, "jwk": jwk, "alg": "EdDSA", "msg": "72", "sig": signature}),
        json!({"id": "no hex", "alg": "EdDSA", "jwk": raw, "msg": "7", "sig": signature}),
        json!({"id": "no algorithm", "alg": "none", "jwk": raw, "msg": "72", "sig": ""}),
    ];
    let input: Vec<String> = input.iter().map(Value::to_string).collect();
    let output = isthmus(&["verify", "--jws"], &input.join("\n"));
    let answers: Vec<Value> = lines(&output)
        .into_iter()
        .map(|line| line["reason"].clone())
        .collect();
    assert_eq!(
        answers,
        [
            json!(null),
            json!(null),
            json!("unknown_key"),
            json!("bad_signature"),
            json!(null),
            json!("bad_signature"),
            json!("key_mismatch"),
            json!("malformed_line"),
            json!("malformed_line"),
            json!("algorithm_not_allowed"),
        ]
    );
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn explain_says_what_the_filter_would_do() {
    let files = Files::new();
    let config = files.write("filter.json", filter_config());
    let bearer = format!(
        "Bearer {}",
        token(json!({"claims": {"cognito:groups": ["readers"]}}))
    );
    let request = |id: u64, method: &str, headers: Value| json!({"id": id, "method": method, "path": "/metrics/cpu?x=1", "host": "h", "headers": headers, "peer": {"uri_san": "spiffe://x"}});
    let input = [
        request(
            1,
            "GET",
            json!([["Authorization", bearer], ["x-user", "mallory"]]),
        ),
        request(2, "DELETE", json!([["authorization", bearer]])),
        request(3, "GET", json!([])),
    ];
    let input: Vec<String> = input.iter().map(Value::to_string).collect();
    let now = NOW.to_string();
    let arguments = ["explain", "--config", path(&config), "--now", &now];
    let output = isthmus(&[&arguments[..], &["--json"]].concat(), &input.join("\n"));
    assert_eq!(
        lines(&output),
        [
            json!({
                "id": 1, "decision": "allow", "status": 200, "reason": "allowed", "role": "metrics-reader",
                "credential": "azure/reader",
                "headers": {
                    "x-user": "alice", "x-groups": "readers", "x-isthmus-role": "metrics-reader",
                    "x-isthmus-credential": "azure/reader",
                },
            }),
            json!({
                "id": 2, "decision": "deny", "status": 403, "reason": "not_allowed", "role": null, "credential": null,
                "headers": {},
            }),
            json!({
                "id": 3, "decision": "deny", "status": 401, "reason": "missing_token", "role": null, "credential": null,
                "headers": {},
            }),
        ]
    );

    let file = files.write("request.json", &input[0]);
    let output = isthmus(&[&arguments[..], &["--request", path(&file)]].concat(), "");
    let said = text(&output.stdout);
    for part in [
        "1: allow 200 allowed",
        "the provider \"pool\"",
        "the role \"metrics-reader\"",
        "the request loses x-user",
        "the backend gets x-user: alice",
    ] {
        assert!(said.contains(part), "{part:?} is not in:\n{said}");
    }
    assert!(
        !said.contains(&bearer["Bearer ".len()..]),
        "the token is in:\n{said}"
    );
}

#[test]
fn check_tells_good_from_wide_from_wrong() {
    let files = Files::new();
    let mut wide = filter_config();
    wide["roles"][0]["allow"][0] = json!({"methods": ["*"], "paths": ["/**"]});
    let mut wrong = filter_config();
    wrong["providers"][0]["audience"] = json!("orders-api");
    for (config, code, said) in [
        (filter_config(), 0, "good"),
        (wide, 1, "roles[0].allow[0]"),
        (wrong, 2, "providers[0]"),
        (json!([]), 2, "."),
    ] {
        let file = files.write("filter.json", &config);
        let output = isthmus(&["check", path(&file)], "");
        assert_eq!(output.status.code(), Some(code), "{config}");
        let all = text(&[output.stdout, output.stderr].concat());
        assert!(all.contains(said), "{said:?} is not in {all}");
    }
    assert_eq!(isthmus(&["check", "/does/not/exist"], "").status.code(), Some(2));
}

#[test]
fn check_names_credentials_that_no_route_of_envoy_serves() {
    let files = Files::new();
    let bridge = concat!(env!("CARGO_MANIFEST_DIR"), "/envoy/bridge.yaml");
    let shipped = isthmus_local_cloud::stack::config::shipped_filter_config().expect("bridge.yaml");
    let mut other = shipped.clone();
    other["roles"][1]["credential"] = json!("azure/nobody");
    for (config, code, said) in [(shipped, 0, "good"), (other, 1, "roles[1].credential: no route")] {
        let file = files.write("filter.json", &config);
        let output = isthmus(&["check", path(&file), "--envoy", bridge], "");
        let all = text(&[output.stdout, output.stderr].concat());
        assert_eq!(output.status.code(), Some(code), "{all}");
        assert!(all.contains(said), "{said:?} is not in {all}");
    }
    let file = files.write("filter.json", filter_config());
    let junk = files.write("envoy.yaml", "a: [");
    assert_eq!(
        isthmus(&["check", path(&file), "--envoy", path(&junk)], "")
            .status
            .code(),
        Some(2)
    );
}

#[test]
fn the_schema_takes_what_the_compiler_takes_and_refuses_unknown_fields() {
    let output = isthmus(&["schema", "filter"], "");
    let schema: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let validator = jsonschema::validator_for(&schema).expect("a JSON Schema");
    let shipped = isthmus_local_cloud::stack::config::shipped_filter_config().expect("bridge.yaml");
    for good in [filter_config(), shipped] {
        let problems: Vec<String> = validator
            .iter_errors(&good)
            .map(|error| error.to_string())
            .collect();
        assert!(problems.is_empty(), "{problems:?}");
    }
    for change in [
        json!({"provider": []}),
        json!({"mode": "off"}),
        json!({"crypto": "openssl"}),
        json!({"claims_to_headers": [{"claim": [], "header": "x"}]}),
        json!({"roles": [{"name": "r"}]}),
    ] {
        let mut wrong = filter_config();
        wrong
            .as_object_mut()
            .expect("an object")
            .extend(change.as_object().expect("an object").clone());
        assert!(!validator.is_valid(&wrong), "{change}");
    }
}
