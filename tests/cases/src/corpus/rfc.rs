//! The examples of RFC 7515, 7520, 7797 and 8037.

use serde::Deserialize;
use serde_json::{json, Map, Value};

use super::{bearer, config_with_provider, filter_config, lines, Check, Label, Row, Set, AUDIENCE};

pub(super) const CASES: &str = include_str!("../../../corpus/rfc-jose/rfc_cases.jsonl");

/// The `iss` of the claims of RFC 7515, appendix A.
const ISSUER: &str = "joe";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(
    dead_code,
    reason = "every member is named, so that one with a meaning of its own is noticed"
)]
struct Case {
    id: String,
    alg: String,
    /// None with a JWE, which must not get as far.
    jwk: Option<Value>,
    jws: String,
    expect_jws: Label,
    expect_jwt: Option<Label>,
    now_for_accept: Option<u64>,
    note: Option<String>,
}

/// Each by its signature and as a bearer token.
pub(super) fn rows() -> Vec<Row> {
    let cases: Vec<Case> = lines(CASES, "rfc_cases.jsonl");
    cases.into_iter().flat_map(case_rows).collect()
}

fn case_rows(case: Case) -> [Row; 2] {
    let is_jwe = case.jwk.is_none();
    let config = case
        .jwk
        .as_ref()
        .map_or_else(filter_config, |jwk| config_for(jwk, &case.alg));
    let request = bearer(&case.jws, config, case.now_for_accept);
    let check = match case.jwk {
        Some(jwk) => Check::JwsWithKey { jws: case.jws, jwk },
        None => Check::JwsWithSet {
            jws: case.jws,
            jwks: filter_config()["providers"][0]["jwks"]["inline"].clone(),
        },
    };
    let row = |id, check, label| Row {
        set: Set::Rfc,
        id,
        check,
        label,
        // Five parts.
        reason: is_jwe.then_some("malformed_token"),
    };
    let id = format!("{}/{}", Set::Rfc, case.id);
    let as_bearer = case.expect_jwt.unwrap_or(Label::Policy);
    [
        row(id.clone(), check, case.expect_jws),
        row(format!("{id}/bearer"), request, as_bearer),
    ]
}

/// A provider with the example's own key, so that nothing but what the token is stands against it.
fn config_for(jwk: &Value, algorithm: &str) -> Value {
    // No provider can be told to take this one.
    let algorithm = match algorithm {
        "none" => "HS256",
        other => other,
    };
    let jwks = json!({"keys": [jwk]});
    config_with_provider(ISSUER, AUDIENCE, &[algorithm.to_owned()], &jwks, &Map::new())
}
