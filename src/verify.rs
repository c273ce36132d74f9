//! `isthmus verify`: tokens, or signatures by themselves, held against the engine.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;
use isthmus_engine::{Reason, SignatureVerifier};
use serde::Deserialize;
use serde_json::{json, Value};

use crate::{
    engine::Circumstances,
    lines::{answer_each, Id, MALFORMED_LINE},
};

/// Verify tokens, or signatures by themselves, one per line of JSON on standard input.
///
/// For each line, `{"id", "verdict", "reason"}` is written, in the same order. The verdict is `accept` or `reject`; the
/// reason is null for what is accepted.
///
/// With `--config`, lines are `{"id", "jwt"}`: tokens as they stand after `Bearer `. With `--jws`, they are `{"id", "jws"}`
/// with a key as `jwk` or `jwks`, or `{"id", "alg", "jwk", "msg", "sig"}` with message and signature in hexadecimal.
///
/// Exit status: 0, 1 if a line could not be read, 2 if the configuration could not.
#[derive(Args)]
pub(crate) struct Options {
    /// The filter's configuration, JSON.
    #[arg(long, required_unless_present = "jws", conflicts_with = "jws")]
    config: Option<PathBuf>,
    /// Check signatures alone, over any payload.
    #[arg(long, conflicts_with_all = ["keys", "now"])]
    jws: bool,
    #[command(flatten)]
    circumstances: Circumstances,
}

#[derive(Deserialize)]
struct TokenLine {
    id: Id,
    jwt: Value,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum SignatureLine {
    Jws {
        id: Id,
        jws: Value,
        jwk: Option<Value>,
        jwks: Option<Value>,
    },
    Raw {
        id: Id,
        alg: String,
        jwk: Value,
        msg: Hex,
        sig: Hex,
    },
}

struct Hex(Vec<u8>);

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        hex::decode(text).map(Self).map_err(serde::de::Error::custom)
    }
}

pub(crate) fn run(options: &Options) -> ExitCode {
    let unreadable = || verdict(None, Err(MALFORMED_LINE));
    let answered = match &options.config {
        Some(config) => {
            let now = options.circumstances.now();
            let mut engine = match options.circumstances.engine(config) {
                Ok(engine) => engine,
                Err(failure) => {
                    eprintln!("{failure}");
                    return ExitCode::from(2);
                }
            };
            let mut check = |line: &TokenLine| engine.verify_token(compact(&line.jwt)?, now);
            answer_each(
                |line: TokenLine| {
                    let outcome = check(&line);
                    verdict(line.id, outcome.map_err(Reason::code))
                },
                unreadable,
            )
        }
        None => {
            let verifier = SignatureVerifier::default();
            answer_each(|line| check_signature(&verifier, line), unreadable)
        }
    };
    match answered {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(1)
        }
    }
}

fn check_signature(verifier: &SignatureVerifier, line: SignatureLine) -> String {
    let (id, outcome) = match line {
        SignatureLine::Jws { id, jws, jwk, jwks } => {
            let outcome = compact(&jws).and_then(|jws| match (jwk, jwks) {
                (Some(jwk), None) => verifier.verify_with_key(jws, &jwk),
                (None, Some(jwks)) => verifier.verify_with_set(jws, &jwks),
                // No key, or two answers to the question which one.
                _ => verifier.verify_with_set(jws, &json!({"keys": []})),
            });
            (id, outcome)
        }
        SignatureLine::Raw {
            id,
            alg,
            jwk,
            msg,
            sig,
        } => (id, verifier.verify_raw(&alg, &jwk, &msg.0, &sig.0)),
    };
    verdict(id, outcome.map_err(Reason::code))
}

/// A token in compact form is text; the JSON serialization of RFC 7515, section 7.2, is none.
fn compact(token: &Value) -> Result<&str, Reason> {
    token.as_str().ok_or(Reason::MalformedToken)
}

fn verdict(id: Id, outcome: Result<(), &str>) -> String {
    let verdict = if outcome.is_ok() { "accept" } else { "reject" };
    json!({"id": id, "verdict": verdict, "reason": outcome.err()}).to_string()
}
