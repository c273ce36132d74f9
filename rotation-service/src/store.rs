//! The current value of every secret, and who waits for the next one.
//!
//! Each secret has its own watch channel: a subscriber wakes for its own names only, and one that is slow sees the newest
//! value rather than a queue of old ones.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU32, Ordering},
    sync::Arc,
    time::SystemTime,
};

use tokio::sync::watch;

use crate::{
    config::SecretName,
    secret::{Fingerprint, Value},
};

/// A published value.
#[derive(Clone, Debug)]
pub struct Versioned {
    value: Value,
    version: Fingerprint,
    expires_at: SystemTime,
    fails_closed: bool,
}

impl Versioned {
    /// A good value that expires at `expires_at`.
    pub(crate) fn fresh(value: Value, expires_at: SystemTime) -> Self {
        Self {
            version: value.fingerprint(),
            value,
            expires_at,
            fails_closed: false,
        }
    }

    /// What is served in the place of a value that expired at `expires_at`.
    fn expired(value: Value, expires_at: SystemTime) -> Self {
        Self {
            fails_closed: true,
            ..Self::fresh(value, expires_at)
        }
    }

    /// The value to serve.
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// Its version: different exactly if the value is.
    pub fn version(&self) -> Fingerprint {
        self.version
    }

    /// When it expires, or when the value that it replaces did.
    pub fn expires_at(&self) -> SystemTime {
        self.expires_at
    }
}

/// How a secret is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It has never had a value.
    Pending,
    /// Its value is good.
    Fresh,
    /// Its last good value has expired and no newer one came.
    Expired,
}

/// All secrets of one service, by name. The names are fixed when it is made.
#[derive(Debug)]
pub struct Store {
    cells: BTreeMap<SecretName, Arc<Cell>>,
}

/// One secret's place in the store.
#[derive(Debug)]
pub(crate) struct Cell {
    current: watch::Sender<Option<Arc<Versioned>>>,
    failures: AtomicU32,
}

impl Store {
    /// A store with a place for each name and no values yet.
    pub fn new(names: impl IntoIterator<Item = SecretName>) -> Self {
        let cell = |name| (name, Arc::new(Cell::new()));
        Self {
            cells: names.into_iter().map(cell).collect(),
        }
    }

    /// The names and how each of them is doing at `now`.
    pub fn states(&self, now: SystemTime) -> impl Iterator<Item = (&SecretName, State)> {
        self.cells.iter().map(move |(name, cell)| (name, cell.state(now)))
    }

    /// The place of one secret, if the service has one of that name.
    pub(crate) fn cell(&self, name: &str) -> Option<&Arc<Cell>> {
        let name = SecretName::try_from(name.to_owned()).ok()?;
        self.cells.get(&name)
    }
}

impl Cell {
    pub(crate) fn new() -> Self {
        Self {
            current: watch::Sender::new(None),
            failures: AtomicU32::new(0),
        }
    }

    /// The value now, if there has been one.
    pub(crate) fn current(&self) -> Option<Arc<Versioned>> {
        self.current.borrow().clone()
    }

    /// Wakes at every value published after this call.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Option<Arc<Versioned>>> {
        self.current.subscribe()
    }

    #[cfg(test)]
    pub(crate) fn subscribers(&self) -> usize {
        self.current.receiver_count()
    }

    /// How many attempts in a row have failed.
    pub(crate) fn failures(&self) -> u32 {
        self.failures.load(Ordering::Relaxed)
    }

    pub(crate) fn publish(&self, versioned: Versioned) {
        self.failures.store(0, Ordering::Relaxed);
        self.current.send_replace(Some(Arc::new(versioned)));
    }

    /// Counts a failed attempt and tells how many there were in a row.
    pub(crate) fn count_failure(&self) -> u32 {
        let before = self.failures.fetch_add(1, Ordering::Relaxed);
        before.saturating_add(1)
    }

    /// Overwrites a value that has expired by one that fails closed. True if there was a good value to overwrite.
    pub(crate) fn expire(&self) -> bool {
        self.current.send_if_modified(|current| {
            let Some(good) = current.as_ref().filter(|current| !current.fails_closed) else {
                return false;
            };
            let value = good.value.once_expired().unwrap_or_else(|| good.value.clone());
            *current = Some(Arc::new(Versioned::expired(value, good.expires_at)));
            true
        })
    }

    /// When the value that is served now expires, if it is a good one.
    pub(crate) fn last_good_until(&self) -> Option<SystemTime> {
        let current = self.current.borrow();
        let good = current.as_ref().filter(|current| !current.fails_closed)?;
        Some(good.expires_at)
    }

    pub(crate) fn state(&self, now: SystemTime) -> State {
        match (self.current.borrow().is_some(), self.last_good_until()) {
            (false, _) => State::Pending,
            (true, Some(expires_at)) if now < expires_at => State::Fresh,
            (true, _) => State::Expired,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::token::Token;

    fn token(text: &str, expires_at: SystemTime) -> Versioned {
        Versioned::fresh(Value::Token(Token::parse(text).unwrap()), expires_at)
    }

    fn name(text: &str) -> SecretName {
        SecretName::try_from(text.to_owned()).unwrap()
    }

    #[test]
    fn a_secret_goes_from_pending_to_fresh_to_expired_and_back() {
        let store = Store::new([name("a")]);
        let cell = store.cell("a").unwrap();
        let start = SystemTime::UNIX_EPOCH;
        let later = start + Duration::from_secs(10);
        let state = |now| store.states(now).next().unwrap().1;

        assert_eq!(state(start), State::Pending);
        assert!(!cell.expire(), "nothing to expire yet");
        cell.publish(token("good", later));
        assert_eq!((state(start), state(later)), (State::Fresh, State::Expired));
        assert!(cell.expire());
        assert!(!cell.expire(), "only once");
        assert_eq!(state(start), State::Expired);
        assert_eq!(cell.current().unwrap().value(), &Value::Token(Token::expired()));
        cell.publish(token("new", later));
        assert_eq!(state(start), State::Fresh);
    }

    #[test]
    fn a_subscriber_wakes_for_its_own_secret_only() {
        let store = Store::new([name("a"), name("b")]);
        let (a, b) = (store.cell("a").unwrap(), store.cell("b").unwrap());
        let watching_a = a.subscribe();
        b.publish(token("x", SystemTime::UNIX_EPOCH));
        assert!(!watching_a.has_changed().unwrap());
        a.publish(token("x", SystemTime::UNIX_EPOCH));
        assert!(watching_a.has_changed().unwrap());
    }

    #[test]
    fn an_unknown_name_has_no_place() {
        let store = Store::new([name("a")]);
        for unknown in ["b", "", "a b", "A"] {
            assert!(store.cell(unknown).is_none(), "{unknown}");
        }
    }

    #[test]
    fn a_success_ends_a_row_of_failures() {
        let cell = Cell::new();
        assert_eq!((cell.count_failure(), cell.count_failure()), (1, 2));
        cell.publish(token("x", SystemTime::UNIX_EPOCH));
        assert_eq!(cell.count_failure(), 1);
    }
}
