//! Many callers at the same time.

use std::{
    collections::BTreeMap,
    sync::{
        atomic::{AtomicBool, AtomicU64, Ordering},
        Arc,
    },
};

use isthmus_local_cloud::stack::Stack;
use serde_json::Value;
use tokio::task::JoinSet;

/// An answer of the bridge, as its caller sees it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The reason code of a refusal; empty where there is none.
    pub(crate) reason: String,
    pub(crate) retry_after: Option<String>,
}

/// Where callers go.
#[derive(Clone)]
pub(crate) struct Caller {
    client: reqwest::Client,
    url: String,
}

impl Caller {
    pub(crate) fn new(stack: &Stack) -> Self {
        Self {
            client: stack.client(),
            url: format!("{}/metrics/cpu", stack.bridge_url()),
        }
    }

    /// A GET that a reader may do.
    pub(crate) async fn ask(&self, token: &str) -> Answer {
        let answer = self.client.get(&self.url).bearer_auth(token).send().await;
        let answer = answer.expect("the bridge answers");
        let status = answer.status().as_u16();
        let retry_after = answer.headers().get("retry-after");
        let retry_after = retry_after
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned);
        let body = answer.bytes().await.expect("a whole answer");
        // The echo of the application has no reason.
        let problem: Value = serde_json::from_slice(&body).unwrap_or_default();
        Answer {
            status,
            reason: problem["reason"].as_str().unwrap_or_default().to_owned(),
            retry_after,
        }
    }

    /// One request with each of these tokens, all at the same time. Gives the answers in the order in which they
    /// came.
    pub(crate) async fn ask_at_once(&self, tokens: impl IntoIterator<Item = String>) -> Vec<Answer> {
        let mut requests = JoinSet::new();
        for token in tokens {
            let caller = self.clone();
            requests.spawn(async move { caller.ask(&token).await });
        }
        let mut answers = Vec::new();
        while let Some(answer) = requests.join_next().await {
            answers.push(answer.expect("no caller panics"));
        }
        answers
    }
}

/// How often each status and reason was answered.
pub(crate) type Tally = BTreeMap<(u16, String), u64>;

pub(crate) fn tally(answers: impl IntoIterator<Item = Answer>) -> Tally {
    let mut tally = Tally::new();
    for answer in answers {
        *tally.entry((answer.status, answer.reason)).or_default() += 1;
    }
    tally
}

/// Callers that send one request after the other until they are stopped.
pub(crate) struct Load {
    callers: JoinSet<Tally>,
    answered: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl Load {
    /// Each caller has a connection of its own as long as all of them wait for an answer, and takes the tokens in
    /// turn.
    pub(crate) fn start(stack: &Stack, callers: usize, tokens: Vec<String>) -> Self {
        let mut load = Self {
            callers: JoinSet::new(),
            answered: Arc::default(),
            stop: Arc::default(),
        };
        let caller = Caller::new(stack);
        let tokens: Arc<[String]> = tokens.into();
        for place in 0..callers {
            let (caller, tokens) = (caller.clone(), Arc::clone(&tokens));
            let (answered, stop) = (Arc::clone(&load.answered), Arc::clone(&load.stop));
            load.callers.spawn(async move {
                let mut answers = Tally::new();
                for token in tokens.iter().cycle().skip(place) {
                    let answer = caller.ask(token).await;
                    *answers.entry((answer.status, answer.reason)).or_default() += 1;
                    answered.fetch_add(1, Ordering::Relaxed);
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                }
                answers
            });
        }
        load
    }

    /// How many requests have been answered so far.
    pub(crate) fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Lets every caller end with its answer; gives all of them.
    pub(crate) async fn stop(mut self) -> Tally {
        self.stop.store(true, Ordering::Relaxed);
        let mut total = Tally::new();
        while let Some(tally) = self.callers.join_next().await {
            for (answer, count) in tally.expect("no caller panics") {
                *total.entry(answer).or_default() += count;
            }
        }
        total
    }
}

/// Fails unless every request was allowed and there were some.
pub(crate) fn assert_all_allowed(tally: &Tally, stack: &Stack) {
    let only_allowed = tally.keys().all(|(status, _)| *status == 200);
    assert!(
        only_allowed && !tally.is_empty(),
        "{tally:?}\n{}",
        stack.bridge_log()
    );
}
