//! `isthmus explain`: the decision about a request, and how it came about.

use std::{fs, path::PathBuf, process::ExitCode};

use clap::Args;
use isthmus_engine::{Decision, Engine, Headers, Peer, Reason, Request, UnixMillis};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    engine::EngineOptions,
    lines::{answer_each, parse, to_line, write_out, Id, MALFORMED_LINE},
};

/// Say what the filter would decide about requests, and each step that leads there.
///
/// A request is `{"id", "method", "path", "host", "headers": [["name", "value"]], "peer": {"uri_san", "sha256"}}`. Nothing
/// is fetched: a provider whose keys are neither in line nor given with `--jwks` has none.
///
/// Exit status: 0, 1 if a request could not be read, 2 if the configuration could not.
#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    engine: EngineOptions,
    /// A file with one request. Without it, JSON Lines on standard input.
    #[arg(long)]
    request: Option<PathBuf>,
    /// One line of JSON for each request: `{"id", "decision", "status", "reason", "role", "credential", "headers"}`.
    /// The headers are those that the backend gets besides the caller's own.
    #[arg(long)]
    json: bool,
}

#[derive(Deserialize)]
struct RequestLine {
    id: Id,
    #[serde(default = "get")]
    method: String,
    #[serde(default = "root")]
    path: String,
    #[serde(default)]
    host: String,
    #[serde(default)]
    headers: Vec<(String, String)>,
    #[serde(default)]
    peer: PeerLine,
}

#[derive(Default, Deserialize)]
struct PeerLine {
    uri_san: Option<String>,
    sha256: Option<String>,
}

fn get() -> String {
    "GET".to_owned()
}

fn root() -> String {
    "/".to_owned()
}

pub(crate) fn run(options: &Options) -> ExitCode {
    let circumstances = &options.engine.rest;
    let now = circumstances.now();
    let mut engine = match circumstances.engine(&options.engine.config) {
        Ok(engine) => engine,
        Err(failure) => {
            eprintln!("{failure}");
            return ExitCode::from(2);
        }
    };
    let mut answer = |line: RequestLine| explain(&mut engine, line, now, options.json);
    let unreadable = || {
        if options.json {
            to_line(&Line::refused(MALFORMED_LINE, 400))
        } else {
            format!("no request: {MALFORMED_LINE}")
        }
    };
    let outcome = match &options.request {
        Some(file) => fs::read(file)
            .map_err(|error| error.to_string())
            .and_then(|text| parse(&text))
            .map_err(|problem| format!("{}: {problem}", file.display()))
            .and_then(|request| write_out(answer(request)).map_err(|error| error.to_string()))
            .map(|_| true),
        None => answer_each(answer, unreadable).map_err(|error| error.to_string()),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::from(1)
        }
    }
}

fn explain(engine: &mut Engine, line: RequestLine, now: UnixMillis, as_json: bool) -> String {
    // Envoy hands the filter names in lower case.
    let names: Vec<String> = line
        .headers
        .iter()
        .map(|(name, _)| name.to_ascii_lowercase())
        .collect();
    let mut fields: Vec<(&[u8], &[u8])> = vec![
        (b":method", line.method.as_bytes()),
        (b":path", line.path.as_bytes()),
        (b":authority", line.host.as_bytes()),
    ];
    let values = line.headers.iter().map(|(_, value)| value.as_bytes());
    fields.extend(names.iter().map(String::as_bytes).zip(values));
    let request = Request {
        headers: Headers(&fields),
        peer: Peer {
            address: None,
            uri_san: line.peer.uri_san.as_deref(),
            certificate_sha256: line.peer.sha256.as_deref(),
        },
    };
    let (decision, steps) = engine.explain(&request, now);
    let outcome = Outcome::of(&decision);
    if as_json {
        outcome.to_json(line.id)
    } else {
        outcome.to_text(line.id, &steps)
    }
}

/// What `--json` writes about a request.
#[derive(Serialize)]
struct Line<'d> {
    id: Id,
    decision: &'static str,
    status: u16,
    reason: &'static str,
    role: Option<&'d str>,
    credential: Option<&'d str>,
    headers: Map<String, Value>,
}

impl Line<'_> {
    fn refused(reason: &'static str, status: u16) -> Self {
        Self {
            id: None,
            decision: "deny",
            status,
            reason,
            role: None,
            credential: None,
            headers: Map::new(),
        }
    }
}

/// What a decision comes to.
struct Outcome<'d> {
    reason: Reason,
    role: Option<&'d str>,
    credential: Option<&'d str>,
    headers: &'d [(String, String)],
    removed: &'d [String],
}

impl<'d> Outcome<'d> {
    fn of(decision: &'d Decision) -> Self {
        let refused = |reason| Self {
            reason,
            role: None,
            credential: None,
            headers: &[],
            removed: &[],
        };
        match decision {
            Decision::Allow(allowed) => Self {
                reason: allowed.reason,
                role: allowed.role(),
                credential: allowed.credential(),
                headers: &allowed.set,
                removed: &allowed.remove,
            },
            Decision::Deny(denied) => refused(denied.reason),
            // The filter would fetch the keys; here nobody does.
            Decision::Wait => refused(Reason::KeysUnavailable),
        }
    }

    fn verb(&self) -> &'static str {
        if self.reason.status() == 200 {
            "allow"
        } else {
            "deny"
        }
    }

    fn to_json(&self, id: Id) -> String {
        let headers = self
            .headers
            .iter()
            .map(|(name, value)| (name.clone(), value.as_str().into()));
        to_line(&Line {
            id,
            decision: self.verb(),
            status: self.reason.status(),
            reason: self.reason.code(),
            role: self.role,
            credential: self.credential,
            headers: headers.collect(),
        })
    }

    fn to_text(&self, id: Id, steps: &[String]) -> String {
        let name = match id.as_deref().map(|id| id.get()) {
            None | Some("null") => "request",
            Some(id) => id.trim_matches('"'),
        };
        let mut text = format!(
            "{name}: {} {} {}",
            self.verb(),
            self.reason.status(),
            self.reason.code()
        );
        let steps = steps.iter().map(|step| format!("\n  - {step}"));
        let removed = self
            .removed
            .iter()
            .map(|name| format!("\n  the request loses {name}"));
        let set = self
            .headers
            .iter()
            .map(|(name, value)| format!("\n  the backend gets {name}: {value}"));
        text.extend(steps.chain(removed).chain(set));
        text
    }
}
