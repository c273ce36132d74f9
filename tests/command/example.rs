//! docs/roles.md: the worked example is compiled, and decides as it says.

use isthmus_cases::{jwks, TokenSpec, ISSUER};
use serde_json::{json, Value};

use crate::{isthmus, lines, path, Files, NOW};

const PAGE: &str = include_str!("../../docs/roles.md");

/// The page's only block of JSON.
fn configuration() -> Value {
    let (_, rest) = PAGE.split_once("```json\n").expect("a block of JSON");
    let (block, rest) = rest.split_once("```").expect("its end");
    assert!(!rest.contains("```json"), "one block");
    serde_json::from_str(block).expect("JSON")
}

#[test]
fn three_groups_lead_to_three_roles_and_three_identities() {
    let files = Files::new();
    let mut config = configuration();
    let given = files.write("given.json", &config);
    assert_eq!(
        isthmus(&["check", path(&given)], "").status.code(),
        Some(0),
        "good, and nothing wide"
    );

    // The example's pool, with the tables' keys.
    config["providers"][0]["issuer"] = json!(ISSUER);
    let config = files.write("filter.json", &config);
    let keys = format!("cognito={}", path(&files.write("keys.json", jwks())));
    let bearer = |groups: Value| {
        let token: TokenSpec =
            serde_json::from_value(json!({"claims": {"cognito:groups": groups}})).expect("a token");
        format!("Bearer {}", token.mint(NOW))
    };
    let (viewers, clerks, admins) = (
        bearer(json!(["viewers"])),
        bearer(json!(["viewers", "clerks"])),
        bearer(json!(["admins"])),
    );
    // As the page's table has them.
    let rows = [
        (
            &viewers,
            "GET",
            "/orders/7",
            "allow",
            json!("orders-viewer"),
            json!("azure/viewer"),
        ),
        (&viewers, "POST", "/orders", "deny", json!(null), json!(null)),
        (
            &clerks,
            "GET",
            "/orders/7",
            "allow",
            json!("orders-viewer"),
            json!("azure/viewer"),
        ),
        (
            &clerks,
            "POST",
            "/orders",
            "allow",
            json!("orders-clerk"),
            json!("azure/clerk"),
        ),
        (&clerks, "DELETE", "/orders/7", "deny", json!(null), json!(null)),
        (
            &admins,
            "DELETE",
            "/orders/7",
            "allow",
            json!("orders-admin"),
            json!("azure/admin"),
        ),
        (
            &admins,
            "DELETE",
            "/orders/archive/7",
            "deny",
            json!(null),
            json!(null),
        ),
    ];
    let input: Vec<String> = rows
        .iter()
        .map(|(bearer, method, path, ..)| {
            json!({"method": method, "path": path, "headers": [["authorization", bearer]]}).to_string()
        })
        .collect();
    let now = NOW.to_string();
    let arguments = [
        "explain",
        "--json",
        "--config",
        path(&config),
        "--jwks",
        &keys,
        "--now",
        &now,
    ];
    let answers = lines(&isthmus(&arguments, &input.join("\n")));
    assert_eq!(answers.len(), rows.len());
    for ((_, method, target, decision, role, credential), answer) in rows.iter().zip(answers) {
        assert_eq!(
            (&answer["decision"], &answer["role"], &answer["credential"]),
            (&json!(decision), role, credential),
            "{method} {target}"
        );
        let credential = credential.as_str().unwrap_or("-");
        let row = PAGE
            .lines()
            .any(|line| line.contains(&format!("`{method} {target}`")) && line.contains(credential));
        assert!(row, "the page has no row for {method} {target}");
    }
}
