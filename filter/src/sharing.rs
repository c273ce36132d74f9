//! Key sets that workers share: one of them fetches, the others take what it got. Everything lies in the host's
//! shared data, under the address of the keys.

use std::time::Duration;

use isthmus_engine::{Fetched, UnixMillis};

use crate::host::{self, HostError};

/// How long a worker may take for one fetch before another one tries: longer than the provider may take to answer, and shorter
/// than another worker waits.
const LEASE: Duration = Duration::from_secs(6);
/// How long workers take a failure for their own.
const FAILURE: Duration = Duration::from_secs(1);

/// What the workers know about one address.
#[derive(Clone, Copy, Default)]
struct State {
    phase: Phase,
    /// The phase is over at this time.
    until: UnixMillis,
    /// When the fetch began that brought the shared keys; zero while there are none.
    fetched_at: UnixMillis,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Idle = 0,
    Fetching = 1,
    Failed = 2,
}

/// What came of trying to be the worker that fetches.
pub(crate) enum Claim {
    /// This worker is.
    Granted,
    /// Another one is.
    Elsewhere,
    /// Another one was, moments ago and in vain.
    FailedElsewhere,
}

/// Tries to become the worker that fetches from this address.
pub(crate) fn claim(address: &str, now: UnixMillis) -> Result<Claim, HostError> {
    let (state, version) = read_state(address)?;
    match state.phase {
        Phase::Fetching if state.lasts(now) => return Ok(Claim::Elsewhere),
        Phase::Failed if state.lasts(now) => return Ok(Claim::FailedElsewhere),
        _ => {}
    }
    let claimed = State {
        phase: Phase::Fetching,
        until: after(now, LEASE),
        ..state
    };
    let won = host::set_shared_if(&state_key(address), &claimed.encode(), version)?;
    Ok(if won { Claim::Granted } else { Claim::Elsewhere })
}

/// Stays the worker that fetches from this address, for one fetch more.
pub(crate) fn renew(address: &str, now: UnixMillis) -> Result<(), HostError> {
    let renewed = State {
        phase: Phase::Fetching,
        until: after(now, LEASE),
        ..read_state(address)?.0
    };
    host::set_shared(&state_key(address), &renewed.encode())
}

/// Tells the others that the fetch brought nothing.
pub(crate) fn report_failure(address: &str, now: UnixMillis) -> Result<(), HostError> {
    let failed = State {
        phase: Phase::Failed,
        until: after(now, FAILURE),
        ..read_state(address)?.0
    };
    host::set_shared(&state_key(address), &failed.encode())
}

/// Hands the others an answer whose fetch began at the time `fetched_at`.
pub(crate) fn publish(address: &str, fetched: Fetched<'_>, fetched_at: UnixMillis) -> Result<(), HostError> {
    let cache_control = fetched.cache_control.unwrap_or_default().as_bytes();
    let length = u32::try_from(cache_control.len()).map_err(|_| HostError)?;
    let record = [
        &fetched_at.0.to_le_bytes()[..],
        &length.to_le_bytes(),
        cache_control,
        fetched.body,
    ]
    .concat();
    host::set_shared(&keys_key(address), &record)?;
    let state = State {
        phase: Phase::Idle,
        until: fetched_at,
        fetched_at,
    };
    host::set_shared(&state_key(address), &state.encode())
}

/// What the other workers have to say about an address.
pub(crate) enum News {
    Nothing,
    /// A fetch failed moments ago.
    Failure,
    /// One of them has newer keys.
    Keys(SharedKeys),
}

/// An answer that another worker got.
pub(crate) struct SharedKeys {
    /// When the fetch began.
    pub(crate) fetched_at: UnixMillis,
    cache_control: String,
    body: Vec<u8>,
}

impl SharedKeys {
    pub(crate) fn fetched(&self) -> Fetched<'_> {
        Fetched {
            body: &self.body,
            cache_control: Some(self.cache_control.as_str()).filter(|text| !text.is_empty()),
        }
    }

    fn decode(record: &[u8]) -> Option<Self> {
        let (fetched_at, rest) = record.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        let (cache_control, body) = rest.split_at_checked(length)?;
        Some(Self {
            fetched_at: UnixMillis(u64::from_le_bytes(*fetched_at)),
            cache_control: String::from_utf8(cache_control.to_vec()).ok()?,
            body: body.to_vec(),
        })
    }
}

/// Looks whether another worker has newer keys than those of the time `known`, or has failed.
pub(crate) fn news(address: &str, known: Option<UnixMillis>, now: UnixMillis) -> Result<News, HostError> {
    let (state, _) = read_state(address)?;
    // What was fetched in the future was fetched before the clock was set back: taken each time anew, it would be fetched anew
    // each time, too.
    if state.fetched_at > known.unwrap_or_default() && state.fetched_at <= now {
        let record = host::shared(&keys_key(address))?.0.ok_or(HostError)?;
        return SharedKeys::decode(&record).map(News::Keys).ok_or(HostError);
    }
    Ok(if state.phase == Phase::Failed && state.lasts(now) {
        News::Failure
    } else {
        News::Nothing
    })
}

fn read_state(address: &str) -> Result<(State, Option<u32>), HostError> {
    let (bytes, version) = host::shared(&state_key(address))?;
    let state = match bytes {
        Some(bytes) => State::decode(&bytes).ok_or(HostError)?,
        None => State::default(),
    };
    Ok((state, version))
}

impl State {
    fn lasts(self, now: UnixMillis) -> bool {
        // A time further ahead than any phase lasts was written before the clock was set back.
        self.until > now && self.until <= after(now, LEASE)
    }

    fn encode(self) -> Vec<u8> {
        [
            &[self.phase as u8][..],
            &self.until.0.to_le_bytes(),
            &self.fetched_at.0.to_le_bytes(),
        ]
        .concat()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (phase, rest) = bytes.split_first()?;
        let (until, rest) = rest.split_first_chunk()?;
        let (fetched_at, rest) = rest.split_first_chunk()?;
        let phase = match phase {
            0 => Phase::Idle,
            1 => Phase::Fetching,
            2 => Phase::Failed,
            _ => return None,
        };
        rest.is_empty().then(|| Self {
            phase,
            until: UnixMillis(u64::from_le_bytes(*until)),
            fetched_at: UnixMillis(u64::from_le_bytes(*fetched_at)),
        })
    }
}

fn state_key(address: &str) -> String {
    format!("isthmus.jwks.state {address}")
}

fn keys_key(address: &str) -> String {
    format!("isthmus.jwks.keys {address}")
}

fn after(now: UnixMillis, duration: Duration) -> UnixMillis {
    UnixMillis(
        now.0
            .saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)),
    )
}
