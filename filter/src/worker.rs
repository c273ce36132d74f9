//! What one Envoy worker keeps between requests: the engine, the fetches under way and the requests that wait for them.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    rc::Rc,
    time::Duration,
};

use isthmus_engine::{Decision, Engine, FetchError, KeySourceId};
use proxy_wasm::{
    traits::{Context, HttpContext, RootContext},
    types::{Action, ContextType, LogLevel},
};

use crate::{
    host::{self, HeaderBuffer, HostError, PeerFacts},
    http::{apply, refuse_blindly, HttpFilter},
};

/// How often due fetches are looked for.
const TICK: Duration = Duration::from_millis(500);
/// As soon as possible: fetches are started from the root context, so that their answers find it even when the request
/// that needed them is gone.
const AT_ONCE: Duration = Duration::from_millis(1);
/// Requests that may wait for keys at the same time, per worker.
const MAX_HELD: usize = 256;
/// More than any key set may have: what is longer reaches the engine as too long.
const MAX_BODY: usize = 512 * 1024;

/// A request that waits for keys.
pub(crate) struct Held {
    pub(crate) headers: HeaderBuffer,
    pub(crate) peer: PeerFacts,
}

#[derive(Default)]
pub(crate) struct Worker {
    engine: Option<Engine>,
    /// Ordered, so that those who came first are let go first.
    held: BTreeMap<u32, Held>,
    fetches: HashMap<u32, KeySourceId>,
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

    pub(crate) fn is_held(&self, context_id: u32) -> bool {
        self.held.contains_key(&context_id)
    }

    pub(crate) fn release(&mut self, context_id: u32) {
        self.held.remove(&context_id);
    }

    fn start_due_fetches(&mut self) -> Result<(), HostError> {
        let now = host::now();
        for fetch in self.engine()?.due_fetches(now) {
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
        outcome: Result<&[u8], FetchError>,
    ) -> Result<(), HostError> {
        let now = host::now();
        let engine = self.engine()?;
        if let Err(error) = engine.fetched(source, outcome, now) {
            let provider = engine.provider_name(source);
            host::log(
                LogLevel::Warn,
                &format!("isthmus: keys of provider {provider}: {error}"),
            );
        }
        self.decide_held();
        Ok(())
    }

    /// Asks again for every request that waits. Those that must wait on stay.
    fn decide_held(&mut self) {
        let waiting = std::mem::take(&mut self.held);
        for (context_id, request) in waiting {
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
    }

    fn decide_one(&mut self, held: &Held) -> Result<Decision, HostError> {
        let engine = self.engine()?;
        let fields = held.headers.fields()?;
        let request = host::request(&fields, &held.peer);
        let decision = engine.decide(&request, host::now());
        if !matches!(decision, Decision::Wait) && apply(engine, &decision, &request)? == Action::Continue {
            host::resume_request()?;
        }
        Ok(decision)
    }
}

/// The root context: one per worker and configuration.
pub(crate) struct Root {
    context_id: u32,
    worker: Rc<RefCell<Worker>>,
}

impl Root {
    pub(crate) fn new(context_id: u32) -> Self {
        Self {
            context_id,
            worker: Rc::default(),
        }
    }

    fn configure(&self) -> Result<(), HostError> {
        match Engine::new(&host::configuration()) {
            Ok(engine) => {
                self.worker.try_borrow_mut().map_err(|_| HostError)?.engine = Some(engine);
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
        let body;
        let outcome = match host::response_status() {
            Some(200) => {
                body = host::response_body(body_size.min(MAX_BODY));
                Ok(body.as_slice())
            }
            Some(status) => Err(FetchError::Status(status)),
            None => Err(FetchError::Unreachable),
        };
        // Without an engine no request is held and nothing is lost.
        let _ = worker.finish_fetch(source, outcome);
        let _ = host::speak_of(self.context_id);
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
        let started = worker.start_due_fetches();
        let _ = host::speak_of(self.context_id);
        if started.is_err() || host::set_tick_period(TICK).is_err() {
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
