//! Test data that nobody here wrote (`tests/corpus`), natively, natively with a host's cryptography in front, and as
//! WebAssembly under Node; the end-to-end tests send the requests among it through Envoy. The score is zero false accepts and
//! zero false rejects.

#[cfg(not(target_arch = "wasm32"))]
mod host;

use std::{
    collections::{BTreeMap, HashMap},
    rc::Rc,
};

use isthmus_cases::corpus::{rows, Check, Credential, Request, Row, Set, Verdict};
use isthmus_engine::{
    Decision, Engine, Headers, HostCrypto, Peer, Reason, Request as EngineRequest, SignatureVerifier,
    UnixMillis,
};
use wasm_bindgen_test::wasm_bindgen_test;

/// The time of rows that set none, in seconds since 1970.
const TODAY: u64 = 1_800_000_000;

#[wasm_bindgen_test(unsupported = test)]
fn every_row_of_every_set_is_judged_rightly() {
    let rows = rows();
    let mut judge = Judge::default();
    let score = judge.score(&rows);
    score.assert_perfect();
    score.assert_complete();
}

/// The engine's public faces, with one engine for each configuration: what one row leaves behind must not change the next.
#[derive(Default)]
struct Judge {
    verifier: SignatureVerifier,
    host: Option<Rc<dyn HostCrypto>>,
    engines: HashMap<String, Engine>,
}

/// What came of the rows.
#[derive(Default)]
struct Score {
    /// How many rows were run, by set and kind as they are written.
    run: BTreeMap<(Set, String), usize>,
    false_accepts: Vec<String>,
    false_rejects: Vec<String>,
    /// Rightly refused for the wrong reason, or rightly taken with the wrong headers.
    other: Vec<String>,
}

// === impl Judge ===

impl Judge {
    fn score(&mut self, rows: &[Row]) -> Score {
        let mut score = Score::default();
        for row in rows {
            self.run(row, &mut score);
        }
        score
    }

    fn run(&mut self, row: &Row, score: &mut Score) {
        *score.run.entry((row.set, row.kind().to_string())).or_default() += 1;
        for (way, outcome) in self.judge(row, &mut score.other) {
            score.note(row, way, outcome);
        }
    }

    /// The outcome of each way in which the row can be verified.
    fn judge(&mut self, row: &Row, faults: &mut Vec<String>) -> Vec<(&'static str, Result<(), Reason>)> {
        let verifier = &self.verifier;
        match &row.check {
            Check::JwsWithSet { jws, jwks } => vec![("with a set", verifier.verify_with_set(jws, jwks))],
            Check::JwsWithKey { jws, jwk } => vec![("with a key", verifier.verify_with_key(jws, jwk))],
            Check::Raw {
                algorithm,
                jwk,
                message,
                signature,
            } => vec![("raw", verifier.verify_raw(algorithm, jwk, message, signature))],
            Check::Request(request) => {
                let now = UnixMillis(request.now.unwrap_or(TODAY) * 1000);
                let engine = self.engine(&request.filter_config.to_string());
                let mut outcomes = Vec::new();
                if let Credential::Bearer(token) = &request.credential {
                    outcomes.push(("as a token", engine.verify_token(token, now)));
                }
                outcomes.push(("in a request", decide(engine, request, now, &row.id, faults)));
                if !engine.due_fetches(now).is_empty() {
                    faults.push(format!("{}: something is to be fetched", row.id));
                }
                outcomes
            }
        }
    }

    fn engine(&mut self, config: &str) -> &mut Engine {
        self.engines.entry(config.to_owned()).or_insert_with(|| {
            let mut engine = Engine::new(config.as_bytes()).expect("the row's configuration");
            if let Some(host) = &self.host {
                assert_eq!(engine.offer_host_crypto(Rc::clone(host)), Ok(true));
            }
            engine
        })
    }
}

fn decide(
    engine: &mut Engine,
    request: &Request,
    now: UnixMillis,
    id: &str,
    faults: &mut Vec<String>,
) -> Result<(), Reason> {
    let mut fields = vec![
        (":method".to_owned(), b"GET".to_vec()),
        (":path".to_owned(), b"/".to_vec()),
        (":authority".to_owned(), b"bridge.example".to_vec()),
    ];
    fields.extend(request.header_fields());
    let borrowed: Vec<(&[u8], &[u8])> = fields
        .iter()
        .map(|(name, value)| (name.as_bytes(), value.as_slice()))
        .collect();
    let headers = Headers(&borrowed);
    let peer = Peer::default();
    match engine.decide(&EngineRequest { headers, peer }, now) {
        Decision::Allow(allowed) => {
            let set = |name: &String| allowed.set.iter().find(|(set, _)| set == name);
            for field in &request.upstream {
                if set(&field.0) != Some(field) {
                    faults.push(format!("{id}: {field:?} is not set"));
                }
            }
            for name in request.absent.iter().filter(|name| set(name).is_some()) {
                faults.push(format!("{id}: {name} is set"));
            }
            Ok(())
        }
        Decision::Deny(denied) => {
            if denied.reason.status() != 401 {
                faults.push(format!("{id}: answered with {}", denied.reason.status()));
            }
            Err(denied.reason)
        }
        Decision::Wait => panic!("{id}: waits, though the keys are in line"),
    }
}

// === impl Score ===

impl Score {
    fn note(&mut self, row: &Row, way: &str, outcome: Result<(), Reason>) {
        let id = &row.id;
        match (row.verdict(), outcome) {
            (Verdict::Accept, Ok(())) => {}
            (Verdict::Accept, Err(reason)) => self.false_rejects.push(format!("{id} {way}: {reason}")),
            (Verdict::Reject, Ok(())) => self.false_accepts.push(format!("{id} {way}")),
            (Verdict::Reject, Err(reason)) => {
                if let Some(expected) = row.reason().filter(|expected| *expected != reason.code()) {
                    self.other
                        .push(format!("{id} {way}: {reason}, expected {expected}"));
                }
            }
        }
    }

    fn assert_perfect(&self) {
        assert!(
            self.false_accepts.is_empty() && self.false_rejects.is_empty() && self.other.is_empty(),
            "false accepts: {:#?}\nfalse rejects: {:#?}\nother: {:#?}",
            self.false_accepts,
            self.false_rejects,
            self.other
        );
    }

    /// Every case of the files was run in every way that there is for it.
    fn assert_complete(&self) {
        let expected: BTreeMap<(Set, String), usize> = Set::ALL
            .into_iter()
            .flat_map(|set| {
                set.kinds()
                    .iter()
                    .map(move |kind| ((set, kind.to_string()), set.cases()))
            })
            .collect();
        assert_eq!(self.run, expected);
    }
}
