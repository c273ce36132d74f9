//! What a decision costs with 10, 100 and 1,000 roles of which one applies: `cargo bench -p isthmus-engine`.
//!
//! "warm" decides about a token that was verified before; "first sight" verifies it too (RS256 in Rust) and finds the roles that
//! its caller holds. The rounds are interleaved, so that whatever else the machine does falls on all of them alike.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use isthmus_cases::{filter_config, TokenSpec};
use isthmus_engine::{Decision, Engine, Headers, Peer, Request, UnixMillis};
use serde_json::json;

const NOW: u64 = 1_800_000_000;
const ROLES: [usize; 3] = [10, 100, 1000];
const ROUNDS: usize = 31;

fn engine(roles: usize) -> Engine {
    let mut config = filter_config();
    let others = (1..roles).map(|number| {
        json!({
            "name": format!("role-{number}"), "credential": format!("azure/{number}"),
            "holders": [{"provider": "pool", "claim": ["cognito:groups"], "any": [format!("group-{number}")]}],
            "allow": [{"methods": ["GET"], "paths": [format!("/area-{number}/**")]}],
        })
    });
    // The one that applies comes last.
    let last = config["roles"][0].clone();
    config["roles"] = others.chain([last]).collect();
    Engine::new(config.to_string().as_bytes()).expect("a configuration")
}

/// The time of one decision, over so many.
fn time(engine: &mut Engine, bearers: &[String]) -> Duration {
    let started = Instant::now();
    for bearer in bearers {
        let fields: [(&[u8], &[u8]); 3] = [
            (b":method", b"GET"),
            (b":path", b"/metrics/cpu"),
            (b"authorization", bearer.as_bytes()),
        ];
        let request = Request {
            headers: Headers(&fields),
            peer: Peer::default(),
        };
        let decision = black_box(engine.decide(&request, UnixMillis(NOW * 1000)));
        assert!(matches!(decision, Decision::Allow(_)));
    }
    started.elapsed() / u32::try_from(bearers.len()).unwrap_or(u32::MAX)
}

fn main() {
    let bearer = |subject: String| {
        let token: TokenSpec =
            serde_json::from_value(json!({"claims": {"cognito:groups": ["readers"], "sub": subject}}))
                .expect("a token");
        format!("Bearer {}", token.mint(NOW))
    };
    let repeated = vec![bearer("alice".to_owned()); 2000];
    let mut engines = ROLES.map(engine);
    let mut warm = ROLES.map(|_| Vec::new());
    let mut first = ROLES.map(|_| Vec::new());
    for round in 0..ROUNDS {
        let fresh: Vec<String> = (0..10)
            .map(|number| bearer(format!("caller-{round}-{number}")))
            .collect();
        for (place, engine) in engines.iter_mut().enumerate() {
            first[place].push(time(engine, &fresh));
            warm[place].push(time(engine, &repeated));
        }
    }
    println!("{ROUNDS} interleaved rounds; median and the middle half, per decision");
    println!("{:>6}  {:>34}  {:>34}", "roles", "warm", "first sight");
    for (place, roles) in ROLES.iter().enumerate() {
        println!(
            "{roles:>6}  {:>34}  {:>34}",
            summary(&mut warm[place]),
            summary(&mut first[place])
        );
    }
}

fn summary(times: &mut [Duration]) -> String {
    times.sort_unstable();
    let at = |quarter: usize| times[times.len() * quarter / 4];
    format!("{:.2?} ({:.2?} to {:.2?})", at(2), at(1), at(3))
}
