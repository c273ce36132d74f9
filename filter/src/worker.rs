//! What one Envoy worker keeps between requests: the engine, the fetches under way and the requests that wait for them.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap, HashSet},
    rc::Rc,
    time::Duration,
};

use isthmus_engine::{
    Decision, Engine, FetchError, Fetched, KeySourceId, KeyStatus, Progress, Reason, Request, UnixMillis,
};
use proxy_wasm::{
    traits::{Context, HttpContext, RootContext},
    types::{Action, ContextType, LogLevel},
};

use crate::{
    crypto::EnvoyCrypto,
    host::{self, HeaderBuffer, HostError, PeerFacts, ResponseHead},
    http::{apply, refuse_blindly, HttpFilter, Passed},
    metrics::Metrics,
    sharing::{self, Claim, News},
};

/// How often due fetches and the other workers' keys are looked for.
const TICK: Duration = Duration::from_millis(500);
/// The same while requests wait.
const TICK_WHILE_HELD: Duration = Duration::from_millis(20);
/// As soon as possible: fetches are started from the root context, so that their answers find it even when the request
/// that needed them is gone.
const AT_ONCE: Duration = Duration::from_millis(1);
/// Requests that may wait for keys at the same time, per worker.
const MAX_HELD: usize = 256;
/// How long a request may wait for keys.
const MAX_WAIT: Duration = Duration::from_secs(10);
/// More than any key set may have: what is longer reaches the engine as too long.
const MAX_BODY: usize = 512 * 1024;

/// A request that waits for keys.
pub(crate) struct Held {
    pub(crate) headers: HeaderBuffer,
    pub(crate) peer: PeerFacts,
    pub(crate) since: UnixMillis,
    pub(crate) passed: Passed,
}

#[derive(Default)]
pub(crate) struct Worker {
    root_context_id: u32,
    engine: Option<Engine>,
    metrics: Metrics,
    /// Ordered, so that those who came first are let go first.
    held: BTreeMap<u32, Held>,
    fetches: HashMap<u32, KeySourceId>,
    /// The sources that this worker fetches for all.
    claimed: HashSet<KeySourceId>,
    /// The sources that another worker fetches and this one waits for.
    awaited: HashSet<KeySourceId>,
}

impl Worker {
    /// The engine; there is one as soon as a configuration was taken, and Envoy sends no request before.
    pub(crate) fn engine(&mut self) -> Result<&mut Engine, HostError> {
        self.engine.as_mut().ok_or(HostError)
    }

    pub(crate) fn has_room_to_hold(&self) -> bool {
        self.held.len() < MAX_HELD
    }

    pub(crate) fn hold(&mut self, context_id: u32, request: Held) -> Result<(), HostError> {
        host::set_tick_period(AT_ONCE)?;
        self.held.insert(context_id, request);
        Ok(())
    }

    pub(crate) fn release(&mut self, context_id: u32) {
        self.held.remove(&context_id);
    }

    fn key_status(&mut self, source: KeySourceId) -> Result<KeyStatus<'_>, HostError> {
        self.engine()?.key_status_of(source).ok_or(HostError)
    }

    /// Takes what came of the other workers' fetches since the last time.
    fn take_shared_keys(&mut self, now: UnixMillis) -> Result<(), HostError> {
        let engine = self.engine()?;
        let known: Vec<_> = engine
            .key_status()
            .filter_map(|status| Some((status.source, status.address?, status.fetched_at)))
            .collect();
        for (source, address, fetched_at) in known {
            // What cannot be read is fetched by each worker.
            match sharing::news(&address, fetched_at, now) {
                Ok(News::Keys(keys)) => {
                    let taken = self
                        .engine()?
                        .share_keys(source, keys.fetched(), keys.fetched_at, now);
                    if taken.is_ok() {
                        self.awaited.remove(&source);
                        self.decide_held();
                    }
                }
                Ok(News::Failure) if self.awaited.remove(&source) => {
                    self.finish_fetch(source, Err(FetchError::Elsewhere))?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn start_due_fetches(&mut self) -> Result<(), HostError> {
        let now = host::now();
        for fetch in self.engine()?.due_fetches(now) {
            let address = self.key_status(fetch.source)?.address.ok_or(HostError)?;
            if self.claimed.contains(&fetch.source) {
                // What cannot be shared is fetched by each worker.
                let _ = sharing::renew(&address, now);
            } else {
                // Without shared data every worker fetches for itself.
                match sharing::claim(&address, now).unwrap_or(Claim::Granted) {
                    Claim::Granted => {
                        self.claimed.insert(fetch.source);
                    }
                    Claim::Elsewhere => {
                        self.awaited.insert(fetch.source);
                        continue;
                    }
                    Claim::FailedElsewhere => {
                        self.finish_fetch(fetch.source, Err(FetchError::Elsewhere))?;
                        continue;
                    }
                }
            }
            match host::dispatch(&fetch) {
                Ok(token) => {
                    self.fetches.insert(token, fetch.source);
                }
                Err(HostError) => self.finish_fetch(fetch.source, Err(FetchError::Unreachable))?,
            }
        }
        Ok(())
    }

    fn finish_fetch(
        &mut self,
        source: KeySourceId,
        outcome: Result<Fetched<'_>, FetchError>,
    ) -> Result<(), HostError> {
        let now = host::now();
        let progress = self.engine()?.fetched(source, outcome, now);
        match progress {
            // That worker has said why.
            Ok(_) | Err(FetchError::Elsewhere) => {}
            Err(error) => {
                let provider = self.key_status(source)?.provider;
                let message = format!("isthmus: keys of provider {provider}: {error}");
                host::log(LogLevel::Warn, &message);
            }
        }
        self.metrics.count_fetch(source, progress);
        // The keys follow a discovery document at once, and by the same worker.
        if progress != Ok(Progress::Discovered) && self.claimed.remove(&source) {
            // What cannot be shared is fetched by each worker.
            let _ = self.tell_others(source, outcome.ok().filter(|_| progress.is_ok()), now);
        }
        self.decide_held();
        Ok(())
    }

    fn tell_others(
        &mut self,
        source: KeySourceId,
        keys: Option<Fetched<'_>>,
        now: UnixMillis,
    ) -> Result<(), HostError> {
        let status = self.key_status(source)?;
        let fetched_at = status.fetched_at;
        let address = status.address.ok_or(HostError)?;
        match keys.zip(fetched_at) {
            Some((keys, fetched_at)) => sharing::publish(&address, keys, fetched_at),
            None => sharing::report_failure(&address, now),
        }
    }

    /// Asks again for every request that waits. Those that must wait on stay. Afterwards the host speaks of the root
    /// context again, from which all fetches are made.
    fn decide_held(&mut self) {
        for (context_id, request) in std::mem::take(&mut self.held) {
            if host::speak_of(context_id).is_err() {
                continue;
            }
            match self.decide_one(&request) {
                Ok(Decision::Wait) => {
                    self.held.insert(context_id, request);
                }
                Ok(_) => {}
                Err(HostError) => {
                    refuse_blindly();
                }
            }
        }
        let _ = host::speak_of(self.root_context_id);
    }

    /// Carries a decision out, and counts it.
    pub(crate) fn apply(
        &mut self,
        decision: &Decision,
        request: &Request<'_>,
        passed: &Passed,
    ) -> Result<Action, HostError> {
        self.metrics.count_decision(decision);
        apply(self.engine()?, decision, request, passed)
    }

    fn decide_one(&mut self, held: &Held) -> Result<Decision, HostError> {
        let engine = self.engine()?;
        let fields = held.headers.fields()?;
        let request = host::request(&fields, &held.peer);
        let now = host::now();
        let mut decision = engine.decide(&request, now);
        if matches!(decision, Decision::Wait) && now.since(held.since) >= MAX_WAIT {
            decision = engine.refuse(&request, Reason::KeysUnavailable);
        }
        let waits = matches!(decision, Decision::Wait);
        if !waits && self.apply(&decision, &request, &held.passed)? == Action::Continue {
            host::resume_request()?;
        }
        Ok(decision)
    }

    fn has_waited_too_long(&self, now: UnixMillis) -> bool {
        self.held.values().any(|held| now.since(held.since) >= MAX_WAIT)
    }

    fn tick(&mut self) -> Result<(), HostError> {
        let now = host::now();
        self.take_shared_keys(now)?;
        self.start_due_fetches()?;
        if self.has_waited_too_long(now) {
            self.decide_held();
        }
        if let Some(engine) = &mut self.engine {
            self.metrics.flush(engine, now);
        }
        Ok(())
    }
}

/// The root context: one per worker and configuration.
pub(crate) struct Root {
    worker: Rc<RefCell<Worker>>,
}

impl Root {
    pub(crate) fn new(context_id: u32) -> Self {
        let worker = Worker {
            root_context_id: context_id,
            ..Worker::default()
        };
        Self {
            worker: Rc::new(RefCell::new(worker)),
        }
    }

    fn configure(&self) -> Result<(), HostError> {
        let configured = Engine::new(&host::configuration()).and_then(|mut engine| {
            let by_host = engine.offer_host_crypto(Rc::new(EnvoyCrypto))?;
            Ok((engine, by_host))
        });
        match configured {
            Ok((engine, by_host)) => {
                let crypto = if by_host { "host" } else { "rust" };
                host::log(
                    LogLevel::Debug,
                    &format!("isthmus: signatures are verified by: {crypto}"),
                );
                let mut worker = self.worker.try_borrow_mut().map_err(|_| HostError)?;
                worker.metrics = Metrics::define(&engine);
                worker.engine = Some(engine);
                host::set_tick_period(AT_ONCE)
            }
            Err(error) => {
                host::log(LogLevel::Error, &format!("isthmus: wrong configuration: {error}"));
                Err(HostError)
            }
        }
    }
}

impl Context for Root {
    fn on_http_call_response(&mut self, token_id: u32, _headers: usize, body_size: usize, _trailers: usize) {
        let Ok(mut worker) = self.worker.try_borrow_mut() else {
            return;
        };
        let Some(source) = worker.fetches.remove(&token_id) else {
            return;
        };
        let head = ResponseHead::of_answer();
        let body;
        let outcome = match &head {
            Some(head) if head.status == 200 => {
                body = host::response_body(body_size.min(MAX_BODY));
                Ok(Fetched {
                    body: &body,
                    cache_control: head.cache_control.as_deref(),
                })
            }
            Some(head) => Err(FetchError::Status(head.status)),
            None => Err(FetchError::Unreachable),
        };
        // Keys follow a discovery document at once.
        let started = worker
            .finish_fetch(source, outcome)
            .and_then(|()| worker.start_due_fetches());
        if started.is_err() {
            host::log(LogLevel::Error, "isthmus: the host refused a fetch of keys");
        }
    }
}

impl RootContext for Root {
    fn on_configure(&mut self, _size: usize) -> bool {
        self.configure().is_ok()
    }

    fn on_tick(&mut self) {
        let Ok(mut worker) = self.worker.try_borrow_mut() else {
            return;
        };
        let ticked = worker.tick();
        let period = if worker.held.is_empty() {
            TICK
        } else {
            TICK_WHILE_HELD
        };
        if ticked.is_err() || host::set_tick_period(period).is_err() {
            host::log(
                LogLevel::Error,
                "isthmus: the host refused to schedule the fetching of keys",
            );
        }
    }

    fn create_http_context(&self, context_id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(HttpFilter::new(context_id, Rc::clone(&self.worker))))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}
