use std::{collections::VecDeque, sync::Mutex};

use async_trait::async_trait;
use tokio::task::JoinHandle;

use super::*;
use crate::{clock::testing::TestClock, secret::Value, source::Refusal, store::State, token::Token};

/// One step of a scripted source.
enum Step {
    /// A token that lives for so many seconds.
    Token(&'static str, u64),
    Fail(SourceError),
    Panic,
    /// An attempt that takes so long and then fails.
    Hang(Duration),
}

/// Plays its steps one by one and repeats the last one. Notes when it was asked.
struct Script {
    steps: Mutex<VecDeque<Step>>,
    asked: Mutex<Vec<Duration>>,
    started: Instant,
    clock: Arc<TestClock>,
}

#[async_trait]
impl Source for Script {
    async fn obtain(&self) -> Result<Obtained, SourceError> {
        self.asked.lock().unwrap().push(self.started.elapsed());
        let step = {
            let mut steps = self.steps.lock().unwrap();
            match steps.len() {
                1 => repeat(&steps[0]),
                _ => steps.pop_front().unwrap(),
            }
        };
        match step {
            Step::Token(text, seconds) => Ok(Obtained {
                value: Value::Token(Token::parse(text).unwrap()),
                expires_at: self.clock.now() + Duration::from_secs(seconds),
            }),
            Step::Fail(error) => Err(error),
            Step::Panic => panic!("scripted"),
            Step::Hang(time) => {
                tokio::time::sleep(time).await;
                Err(SourceError::Timeout(time))
            }
        }
    }
}

fn repeat(step: &Step) -> Step {
    match step {
        Step::Token(text, seconds) => Step::Token(text, *seconds),
        Step::Fail(error) => Step::Fail(error.clone()),
        Step::Panic => Step::Panic,
        Step::Hang(time) => Step::Hang(*time),
    }
}

/// A refresher over a script, in paused time.
struct Stage {
    script: Arc<Script>,
    clock: Arc<TestClock>,
    cell: Arc<Cell>,
    task: JoinHandle<()>,
}

impl Stage {
    fn play(steps: impl IntoIterator<Item = Step>) -> Self {
        let clock = Arc::new(TestClock::start());
        let script = Arc::new(Script {
            steps: Mutex::new(steps.into_iter().collect()),
            asked: Mutex::default(),
            started: Instant::now(),
            clock: clock.clone(),
        });
        let cell = Arc::new(Cell::new());
        let name = SecretName::try_from("azure/reader".to_owned()).unwrap();
        // No chance: full backoff, refresh at the latest moment of the jitter.
        let refresher = Refresher::new(name, script.clone(), cell.clone(), clock.clone(), || 1.0);
        let task = tokio::spawn(refresher.run());
        Self {
            script,
            clock,
            cell,
            task,
        }
    }

    /// Lets time pass. Tokio's paused clock runs every timer on the way in its order.
    async fn pass(&self, seconds: f64) {
        tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
    }

    fn served(&self) -> Option<String> {
        let current = self.cell.current()?;
        let Value::Token(token) = current.value() else {
            panic!("a token")
        };
        Some(String::from_utf8(token.expose().to_vec()).unwrap())
    }

    /// When the source was asked, in milliseconds.
    fn asked(&self) -> Vec<u128> {
        self.script
            .asked
            .lock()
            .unwrap()
            .iter()
            .map(Duration::as_millis)
            .collect()
    }

    fn state(&self) -> State {
        self.cell.state(self.clock.now())
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn refused() -> SourceError {
    SourceError::Refused(Refusal {
        status: 500,
        aadsts: None,
        oauth: None,
        retry_after: None,
    })
}

#[tokio::test(start_paused = true)]
async fn a_ten_second_token_is_replaced_well_before_it_expires() {
    let stage = Stage::play([
        Step::Token("one", 10),
        Step::Token("two", 10),
        Step::Token("three", 10),
    ]);
    stage.pass(1.0).await;
    assert_eq!(stage.served().as_deref(), Some("one"));
    stage.pass(6.5).await;
    assert_eq!(stage.served().as_deref(), Some("two"));
    stage.pass(52.0).await;
    assert_eq!(stage.asked().len(), 9, "every 7.3 s: {:?}", stage.asked());
    assert_eq!(stage.state(), State::Fresh);
}

#[tokio::test(start_paused = true)]
async fn the_last_good_value_is_served_while_refreshing_fails() {
    let stage = Stage::play([Step::Token("good", 10), Step::Fail(refused())]);
    stage.pass(9.9).await;
    assert!(stage.asked().len() > 2, "it keeps trying: {:?}", stage.asked());
    assert_eq!(stage.served().as_deref(), Some("good"));
    assert_eq!(stage.state(), State::Fresh);
}

#[tokio::test(start_paused = true)]
async fn an_expired_value_is_overwritten_and_comes_back() {
    let mut steps = vec![Step::Token("good", 10)];
    steps.extend((0..6).map(|_| Step::Fail(refused())));
    steps.push(Step::Token("new", 100));
    let stage = Stage::play(steps);
    stage.pass(10.1).await;
    assert_eq!(stage.served().as_deref(), Some("isthmus-expired"));
    assert_eq!(stage.state(), State::Expired);
    stage.pass(30.0).await;
    assert_eq!(stage.served().as_deref(), Some("new"));
    assert_eq!(stage.state(), State::Fresh);
}

#[tokio::test(start_paused = true)]
async fn a_value_that_expires_during_an_attempt_is_overwritten_at_once() {
    let stage = Stage::play([Step::Token("good", 10), Step::Hang(Duration::from_secs(60))]);
    stage.pass(10.1).await;
    assert_eq!(stage.served().as_deref(), Some("isthmus-expired"));
}

#[tokio::test(start_paused = true)]
async fn backoff_grows_while_there_is_no_value() {
    let stage = Stage::play([Step::Fail(refused())]);
    stage.pass(100.0).await;
    assert_eq!(
        stage.asked(),
        [0, 250, 750, 1_750, 3_750, 7_750, 15_750, 31_750, 61_750, 91_750]
    );
    assert_eq!(stage.state(), State::Pending);
    assert_eq!(stage.served(), None, "there is nothing to serve");
}

#[tokio::test(start_paused = true)]
async fn one_more_try_is_made_before_the_value_is_lost() {
    let throttled = SourceError::Refused(Refusal {
        status: 429,
        aadsts: None,
        oauth: None,
        retry_after: Some(Duration::from_secs(60)),
    });
    let stage = Stage::play([
        Step::Token("good", 30),
        Step::Fail(throttled),
        Step::Token("new", 30),
    ]);
    stage.pass(29.0).await;
    assert_eq!(stage.asked(), [0, 22_000, 28_000]);
    assert_eq!(stage.served().as_deref(), Some("new"));
}

#[tokio::test(start_paused = true)]
async fn a_value_that_has_already_expired_is_not_published() {
    let stage = Stage::play([Step::Token("good", 10), Step::Token("dead", 0)]);
    stage.pass(9.0).await;
    assert!(stage.asked().len() > 1);
    assert_eq!(stage.served().as_deref(), Some("good"));
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_panics_is_a_failure_like_any_other() {
    let stage = Stage::play([Step::Panic, Step::Token("good", 10)]);
    stage.pass(1.0).await;
    assert_eq!(stage.served().as_deref(), Some("good"));
}

#[tokio::test(start_paused = true)]
async fn one_secrets_failure_does_not_touch_another() {
    let broken = Stage::play([Step::Hang(Duration::from_secs(3_600))]);
    let panicking = Stage::play([Step::Panic]);
    let healthy = Stage::play([Step::Token("good", 10)]);
    healthy.pass(60.0).await;
    assert_eq!(
        (broken.state(), panicking.state()),
        (State::Pending, State::Pending)
    );
    assert_eq!(healthy.state(), State::Fresh);
    assert_eq!(healthy.asked().len(), 9);
}

#[tokio::test(start_paused = true)]
async fn only_one_attempt_is_in_flight() {
    let stage = Stage::play([Step::Token("good", 10), Step::Hang(Duration::from_secs(60))]);
    stage.pass(60.0).await;
    assert_eq!(stage.asked().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_jumps_ahead_is_noticed_within_half_a_minute() {
    let stage = Stage::play([Step::Token("good", 3_600), Step::Token("new", 3_600)]);
    stage.pass(60.0).await;
    // The machine slept: timers stood still, the token did not.
    stage.clock.jump_forward(Duration::from_secs(3_000));
    stage.pass(31.0).await;
    assert_eq!(stage.served().as_deref(), Some("new"));
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_back_does_not_delay_the_refresh() {
    let stage = Stage::play([Step::Token("good", 300), Step::Token("new", 300)]);
    stage.pass(10.0).await;
    stage.clock.jump_back(Duration::from_secs(86_400));
    stage.pass(220.0).await;
    assert_eq!(stage.served().as_deref(), Some("new"));
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_back_does_not_lengthen_the_life_of_a_value() {
    let stage = Stage::play([Step::Token("good", 300), Step::Fail(refused())]);
    stage.pass(10.0).await;
    stage.clock.jump_back(Duration::from_secs(86_400));
    stage.pass(300.0).await;
    assert_eq!(stage.served().as_deref(), Some("isthmus-expired"));
}
