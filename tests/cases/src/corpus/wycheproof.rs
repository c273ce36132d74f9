//! Wycheproof: JSON Web Signatures, and HS256, RS256, ES256 and EdDSA over plain messages.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::Value;

use super::{bearer, filter_config, lines, Check, Label, Row, Set};

pub(super) const JWS: &str = include_str!("../../../corpus/wycheproof/jws_cases.dev.jsonl");
pub(super) const RAW: &str = include_str!("../../../corpus/wycheproof/prim_cases.dev.jsonl");
const KEYS: &str = include_str!("../../../corpus/wycheproof/prim_keys.dev.json");

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(
    dead_code,
    reason = "every member is named, so that one with a meaning of its own is noticed"
)]
struct JwsCase {
    id: String,
    src: String,
    group: String,
    comment: String,
    flags: Vec<String>,
    upstream: String,
    expect_jws: Label,
    payload_is_json_object: bool,
    jwks: Value,
    jws: Serialization,
    duplicate_of: Option<String>,
    note: Option<String>,
}

/// A JWS as it is written.
#[derive(Deserialize)]
#[serde(untagged)]
enum Serialization {
    Compact(String),
    /// RFC 7515, section 7.2, which no bearer token has.
    Json(serde_json::Map<String, Value>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(
    dead_code,
    reason = "every member is named, so that one with a meaning of its own is noticed"
)]
struct RawCase {
    id: String,
    alg: String,
    key: Option<String>,
    jwk: Option<Value>,
    msg: String,
    sig: String,
    expect: Label,
    flags: Option<Vec<String>>,
    comment: Option<String>,
    note: Option<String>,
}

/// The JWS rows: each by its signature and as a bearer token.
pub(super) fn jws() -> Vec<Row> {
    let cases: Vec<JwsCase> = lines(JWS, "jws_cases.dev.jsonl");
    cases.into_iter().flat_map(jws_rows).collect()
}

fn jws_rows(case: JwsCase) -> [Row; 2] {
    let jws = match case.jws {
        Serialization::Compact(text) => text,
        Serialization::Json(members) => Value::Object(members).to_string(),
    };
    // As a bearer token it is refused because of that, whatever its signature is worth. A claims set would need a label of its own.
    assert!(!case.payload_is_json_object, "{}: a payload of claims", case.id);
    let row = |id, check, label| Row {
        set: Set::WycheproofJws,
        id,
        check,
        label,
        reason: None,
    };
    let id = format!("{}/{}", Set::WycheproofJws, case.id);
    let as_bearer = row(
        format!("{id}/bearer"),
        bearer(&jws, filter_config(), None),
        Label::Reject,
    );
    let check = Check::JwsWithSet { jws, jwks: case.jwks };
    [row(id, check, case.expect_jws), as_bearer]
}

/// The rows over plain messages.
pub(super) fn raw() -> Vec<Row> {
    let keys: HashMap<String, Value> = serde_json::from_str(KEYS).expect("prim_keys.dev.json");
    let cases: Vec<RawCase> = lines(RAW, "prim_cases.dev.jsonl");
    cases.into_iter().map(|case| raw_row(case, &keys)).collect()
}

fn raw_row(case: RawCase, keys: &HashMap<String, Value>) -> Row {
    let jwk = match (case.key, case.jwk) {
        (Some(name), None) => keys.get(&name).expect("a key of prim_keys.dev.json").clone(),
        (None, Some(jwk)) => jwk,
        _ => panic!("{}: not exactly one key", case.id),
    };
    // All else about them is right, but for keys that are too short to be looked at.
    let only_the_signature = case.comment.as_deref() != Some("short key");
    Row {
        set: Set::WycheproofRaw,
        id: format!("{}/{}", Set::WycheproofRaw, case.id),
        check: Check::Raw {
            algorithm: case.alg,
            jwk,
            message: unhex(&case.msg),
            signature: unhex(&case.sig),
        },
        label: case.expect,
        reason: (case.expect == Label::Reject && only_the_signature).then_some("bad_signature"),
    }
}

fn unhex(text: &str) -> Vec<u8> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).expect("a hexadecimal digit") as u8;
    let pairs = text.as_bytes().chunks_exact(2);
    assert!(pairs.remainder().is_empty(), "an odd number of digits");
    pairs.map(|pair| digit(&pair[0]) << 4 | digit(&pair[1])).collect()
}
