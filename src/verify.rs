//! `isthmus verify`: tokens, or signatures by themselves, held against the engine.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;
use isthmus_engine::{Reason, SignatureVerifier};
use serde::{Deserialize, Serialize};
use serde_json::{json, Value};

use crate::{
    engine::Circumstances,
    lines::{answer_each, to_line, Id, MALFORMED_LINE},
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
    jwt: Option<Value>,
}

/// A JWS with a key, or a signature over a message with a key.
#[derive(Deserialize)]
struct SignatureLine {
    id: Id,
    jws: Option<Value>,
    jwk: Option<Value>,
    jwks: Option<Value>,
    alg: Option<String>,
    msg: Option<String>,
    sig: Option<String>,
}

#[derive(Serialize)]
struct Verdict {
    id: Id,
    verdict: &'static str,
    reason: Option<&'static str>,
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
            let check = |line: TokenLine| {
                let outcome = match &line.jwt {
                    Some(jwt) => compact(jwt)
                        .and_then(|jwt| engine.verify_token(jwt, now))
                        .map_err(Reason::code),
                    None => Err(MALFORMED_LINE),
                };
                verdict(line.id, outcome)
            };
            answer_each(check, unreadable)
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
    let SignatureLine {
        id,
        jws,
        jwk,
        jwks,
        alg,
        msg,
        sig,
    } = line;
    let raw = (alg, msg.map(hex::decode), sig.map(hex::decode));
    let outcome = match (jws, jwk, jwks, raw) {
        (Some(jws), jwk, jwks, (_, None, None)) => compact(&jws).and_then(|jws| match (jwk, jwks) {
            (Some(jwk), None) => verifier.verify_with_key(jws, &jwk),
            (None, Some(jwks)) => verifier.verify_with_set(jws, &jwks),
            // No key, or two answers to the question which one.
            _ => verifier.verify_with_set(jws, &json!({"keys": []})),
        }),
        (None, Some(jwk), None, (Some(alg), Some(Ok(msg)), Some(Ok(sig)))) => {
            verifier.verify_raw(&alg, &jwk, &msg, &sig)
        }
        _ => return verdict(id, Err(MALFORMED_LINE)),
    };
    verdict(id, outcome.map_err(Reason::code))
}

/// A token in compact form is text; the JSON serialization of RFC 7515, section 7.2, is none.
fn compact(token: &Value) -> Result<&str, Reason> {
    token.as_str().ok_or(Reason::MalformedToken)
}

fn verdict(id: Id, outcome: Result<(), &'static str>) -> String {
    to_line(&Verdict {
        id,
        verdict: if outcome.is_ok() { "accept" } else { "reject" },
        reason: outcome.err(),
    })
}
