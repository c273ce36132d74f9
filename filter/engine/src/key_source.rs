//! The life of one provider's key set: fetched before the first request, refreshed before it is stale, kept while
//! refreshing fails, asked for again when a token names a key that it does not hold.

mod remote;

use std::{collections::VecDeque, time::Duration};

use thiserror::Error;

use crate::{
    config::{ConfigError, JwksConfig},
    jwks::{KeySet, KeySetError},
    time::UnixMillis,
};
use remote::Remote;

/// How long a key set is used before it is fetched again, where neither the configuration nor the answer says.
const REFRESH: Duration = Duration::from_secs(300);
/// The bounds of what an answer may say.
const REFRESH_FLOOR: Duration = Duration::from_secs(60);
const REFRESH_CEILING: Duration = Duration::from_secs(12 * 3600);
/// How long keys are used while the provider cannot be reached.
const MAX_STALE: Duration = Duration::from_secs(24 * 3600);
/// The first wait after a failed fetch; it doubles with each further one.
const BACKOFF_START: Duration = Duration::from_secs(1);
const BACKOFF_CEILING: Duration = Duration::from_secs(10);
/// The least time between two fetches that unknown key ids cause: the rate at which a stranger can make us fetch.
const MISS_INTERVAL: Duration = Duration::from_secs(2);
/// How long a key id that the provider did not have is unknown without asking again.
const MISS_MEMORY: Duration = Duration::from_secs(10);
const MAX_MISSES: usize = 64;
/// The longest key id that is asked for, in bytes.
const MAX_KID: usize = 256;
/// How long the provider may take to answer.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);

/// Names one key source of an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KeySourceId(pub(crate) usize);

/// A GET request that the caller of the engine is to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetch {
    /// To be given back with the answer.
    pub source: KeySourceId,
    /// The Envoy cluster that reaches the provider.
    pub cluster: String,
    /// `:authority` of the request.
    pub authority: String,
    /// `:path` of the request.
    pub path: String,
    /// `:scheme` of the request.
    pub scheme: &'static str,
    /// How long to wait for the answer.
    pub timeout: Duration,
}

/// A provider's answer with status 200.
#[derive(Clone, Copy, Debug)]
pub struct Fetched<'b> {
    /// The body.
    pub body: &'b [u8],
    /// The `Cache-Control` field (RFC 9111, section 5.2), if there is one.
    pub cache_control: Option<&'b str>,
}

/// Why a fetch brought no keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FetchError {
    /// The cluster is unknown, refused the connection, reset it or did not answer in time.
    #[error("no answer from the provider")]
    Unreachable,
    /// The provider answered with another status than 200.
    #[error("the provider answered with status {0}")]
    Status(u16),
    /// The answer is no usable key set.
    #[error("the provider's answer is no key set: {0}")]
    Unusable(&'static str),
    /// The answer is no usable discovery document.
    #[error("the provider's answer is no discovery document: {0}")]
    Undiscovered(&'static str),
    /// The fetch of another worker, for which this one waited, failed.
    #[error("another worker's fetch failed")]
    Elsewhere,
}

/// What came of a fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The discovery document came. The keys are due at once.
    Discovered,
    /// The keys came and are those from before.
    Unchanged,
    /// Other keys than before came.
    Changed,
}

/// What a key source can say to a request.
pub(crate) enum Keys<'s> {
    Ready(&'s KeySet),
    /// A fetch is under way or due: wait for it.
    Coming,
    Unavailable,
}

/// What is to be done about a key that the set does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Miss {
    /// A fetch that may bring it is under way or comes soon.
    Wait,
    /// The provider was asked and does not have it.
    Unknown,
    /// The provider cannot be asked at present.
    Unavailable,
}

#[derive(Debug)]
pub(crate) struct KeySource {
    remote: Option<Remote>,
    refresh: Option<Duration>,
    max_stale: Duration,
    keys: Option<KeySet>,
    /// When the fetch was started that brought the keys.
    fetched_at: UnixMillis,
    in_flight_since: Option<UnixMillis>,
    last_attempt: Option<UnixMillis>,
    next_attempt: UnixMillis,
    failures: u32,
    /// Keys that requests asked for in vain, and since when.
    misses: VecDeque<(String, UnixMillis)>,
}

impl KeySource {
    /// `issuers` are those that a discovery document may name.
    pub(crate) fn compile(config: JwksConfig, issuers: Vec<String>, at: &str) -> Result<Self, ConfigError> {
        let refresh = config.refresh.map(|span| span.0);
        if refresh.is_some_and(|refresh| refresh < BACKOFF_START) {
            return Err(ConfigError::at(
                format_args!("{at}.refresh"),
                "expected at least \"1s\"",
            ));
        }
        let max_stale = config.max_stale.map_or(MAX_STALE, |span| span.0);
        if max_stale < BACKOFF_START {
            return Err(ConfigError::at(
                format_args!("{at}.max_stale"),
                "expected at least \"1s\"",
            ));
        }
        let keys = config
            .inline
            .as_ref()
            .map(KeySet::from_value)
            .transpose()
            .map_err(|error| ConfigError::at(format_args!("{at}.inline"), error))?;
        Ok(Self {
            refresh,
            max_stale,
            remote: Remote::compile(config, issuers, at)?,
            keys,
            fetched_at: UnixMillis::default(),
            in_flight_since: None,
            last_attempt: None,
            next_attempt: UnixMillis::default(),
            failures: 0,
            misses: VecDeque::new(),
        })
    }

    pub(crate) fn keys(&self, now: UnixMillis) -> Keys<'_> {
        match &self.keys {
            Some(keys) if self.remote.is_none() || now.since(self.fetched_at) <= self.max_stale => {
                Keys::Ready(keys)
            }
            _ if self.in_flight(now) || self.due(now) => Keys::Coming,
            _ => Keys::Unavailable,
        }
    }

    /// When the provider last said that these are its keys; nothing while it never did or where they are in line.
    pub(crate) fn fetched_at(&self) -> Option<UnixMillis> {
        (self.remote.is_some() && self.keys.is_some()).then_some(self.fetched_at)
    }

    /// The address that the keys come from, as a name under which they can be shared.
    pub(crate) fn address(&self) -> Option<String> {
        self.remote.as_ref().map(Remote::name)
    }

    /// A token asks for a key that the set does not hold: by its id, or without one for the only key that fits.
    /// Whoever asks first makes the provider be asked once, after a rest; until then it waits, afterwards the key is
    /// unknown for a while.
    pub(crate) fn miss(&mut self, kid: Option<&str>, now: UnixMillis) -> Miss {
        let kid = kid.unwrap_or_default();
        if self.remote.is_none() || kid.len() > MAX_KID {
            return Miss::Unknown;
        }
        self.misses
            .retain(|(_, since)| *since <= now && now.since(*since) < MISS_MEMORY);
        let fetched_at = self.fetched_at;
        let was_answered = |since: UnixMillis| since <= fetched_at && fetched_at <= now;
        let asked_for = self.misses.iter().find(|(missed, _)| missed == kid);
        if asked_for.is_some_and(|(_, since)| was_answered(*since)) {
            return Miss::Unknown;
        }
        if !self.in_flight(now) && !self.due(now) && self.failures > 0 {
            return Miss::Unavailable;
        }
        let rested = self
            .last_attempt
            .map_or(now, |last| last.saturating_add(MISS_INTERVAL));
        self.next_attempt = self.next_attempt.min(rested);
        if asked_for.is_none() {
            if self.misses.len() >= MAX_MISSES {
                // A stranger's invented key ids make room; those that wait for an answer do not.
                let answered = self.misses.iter().position(|(_, since)| was_answered(*since));
                let Some(place) = answered else {
                    return Miss::Unavailable;
                };
                self.misses.remove(place);
            }
            self.misses.push_back((kid.to_owned(), now));
        }
        Miss::Wait
    }

    /// The fetch to start now, if one is due. It counts as under way from here on.
    pub(crate) fn start_fetch(&mut self, id: KeySourceId, now: UnixMillis) -> Option<Fetch> {
        self.notice_clock(now);
        if self.in_flight(now) || !self.due(now) {
            return None;
        }
        let place = self.remote.as_mut()?.next(now);
        let fetch = Fetch {
            source: id,
            cluster: place.cluster.clone(),
            authority: place.address.authority.clone(),
            path: place.address.path.clone(),
            scheme: place.address.scheme,
            timeout: FETCH_TIMEOUT,
        };
        self.in_flight_since = Some(now);
        self.last_attempt = Some(now);
        Some(fetch)
    }

    /// Takes a fetch's outcome. A failure keeps the keys that are there.
    pub(crate) fn finish_fetch(
        &mut self,
        outcome: Result<Fetched<'_>, FetchError>,
        now: UnixMillis,
    ) -> Result<Progress, FetchError> {
        let started = self.in_flight_since.take().unwrap_or(now);
        // Counted from its end: a fetch that ran into its time-out is not to be repeated at once.
        self.last_attempt = Some(now);
        let discovery = self.remote.as_mut().and_then(Remote::pending_discovery);
        let progress = match (outcome, discovery) {
            (Ok(fetched), Some(discovery)) => match discovery.take(fetched.body, now) {
                Ok(()) => Ok(Progress::Discovered),
                Err(problem) => Err(FetchError::Undiscovered(problem)),
            },
            (Ok(fetched), None) => self.take(fetched, started, now),
            (Err(error), _) => Err(error),
        };
        match progress {
            Ok(Progress::Discovered) => self.next_attempt = now,
            Ok(_) => {}
            Err(_) => {
                let backoff = BACKOFF_START
                    .saturating_mul(1 << self.failures.min(10))
                    .min(BACKOFF_CEILING);
                self.failures = self.failures.saturating_add(1);
                self.next_attempt = now.saturating_add(backoff);
                if let Some(remote) = &mut self.remote {
                    remote.forget_discovery();
                }
            }
        }
        progress
    }

    /// Takes keys in the place of those that would be fetched, for good.
    pub(crate) fn fix(&mut self, set: &[u8]) -> Result<(), FetchError> {
        self.keys = Some(KeySet::parse(set).map_err(unusable)?);
        self.remote = None;
        Ok(())
    }

    /// Takes keys that another worker has fetched, unless they are no newer than those that are here.
    pub(crate) fn share(
        &mut self,
        fetched: Fetched<'_>,
        at: UnixMillis,
        now: UnixMillis,
    ) -> Result<Progress, FetchError> {
        if self.keys.is_some() && at <= self.fetched_at {
            return Ok(Progress::Unchanged);
        }
        let progress = self.take(fetched, at, now)?;
        self.in_flight_since = None;
        self.last_attempt = Some(at);
        Ok(progress)
    }

    fn take(
        &mut self,
        fetched: Fetched<'_>,
        at: UnixMillis,
        now: UnixMillis,
    ) -> Result<Progress, FetchError> {
        let keys = KeySet::parse(fetched.body)
            .and_then(KeySet::without_secrets)
            .map_err(unusable)?;
        let age = self.refresh.unwrap_or_else(|| {
            let said = fetched.cache_control.and_then(max_age);
            said.map_or(REFRESH, |age| age.clamp(REFRESH_FLOOR, REFRESH_CEILING))
        });
        // Keys that reach their ceiling before they are fetched again would be an outage of our own making; half of it is left
        // for an outage of the provider's.
        let age = age.min(self.max_stale / 2);
        self.failures = 0;
        self.fetched_at = at;
        self.next_attempt = at.saturating_add(ahead_of(age, now));
        let changed = self.keys.as_ref() != Some(&keys);
        self.keys = Some(keys);
        Ok(if changed {
            Progress::Changed
        } else {
            Progress::Unchanged
        })
    }

    fn due(&self, now: UnixMillis) -> bool {
        self.remote.is_some() && self.next_attempt <= now
    }

    /// What was done in the future was done before the clock was set back: it counts as done now, and the keys are fetched
    /// again.
    fn notice_clock(&mut self, now: UnixMillis) {
        let ahead = self.fetched_at > now || self.last_attempt.is_some_and(|last| last > now);
        if ahead {
            self.fetched_at = self.fetched_at.min(now);
            self.last_attempt = self.last_attempt.map(|last| last.min(now));
            self.next_attempt = now;
        }
    }

    /// An answer that never came stops counting as under way, so that a lost callback cannot stop fetching for good.
    fn in_flight(&self, now: UnixMillis) -> bool {
        self.in_flight_since
            .is_some_and(|since| since <= now && now.since(since) < FETCH_TIMEOUT * 2)
    }
}

/// Between 75 and 95 % of an age, so that workers and proxies that started together do not stay together. The
/// milliseconds of the clock are as good as random for that.
fn ahead_of(age: Duration, now: UnixMillis) -> Duration {
    let spread = u32::try_from(now.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 44).unwrap_or_default();
    age.mul_f64(0.75 + 0.20 * f64::from(spread) / f64::from(1 << 20))
}

/// `max-age` of a `Cache-Control` field; none of it where the answer is not to be kept.
fn max_age(cache_control: &str) -> Option<Duration> {
    let mut directives = cache_control.split(',').map(str::trim);
    directives.find_map(|directive| {
        let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
        match name.to_ascii_lowercase().as_str() {
            "max-age" => value.trim_matches('"').parse().ok().map(Duration::from_secs),
            "no-store" | "no-cache" => Some(Duration::ZERO),
            _ => None,
        }
    })
}

fn unusable(error: KeySetError) -> FetchError {
    FetchError::Unusable(match error {
        KeySetError::TooLarge => "too large",
        KeySetError::Malformed => "malformed",
        KeySetError::TooManyKeys => "too many keys",
        KeySetError::NoUsableKey => "no usable key",
    })
}

#[cfg(test)]
mod tests;
