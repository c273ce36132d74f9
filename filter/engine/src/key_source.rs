//! The life of one provider's key set: fetched before the first request, refreshed, kept while refreshing fails.

use std::time::Duration;

use thiserror::Error;

use crate::{
    config::{ConfigError, JwksConfig},
    jwks::{KeySet, KeySetError},
    time::UnixMillis,
};

/// How long a key set is used before it is fetched again.
const REFRESH: Duration = Duration::from_secs(300);
/// The first wait after a failed fetch; it doubles with each further one.
const BACKOFF_START: Duration = Duration::from_secs(1);
const BACKOFF_CEILING: Duration = Duration::from_secs(60);
/// The least time between two fetches that unknown key ids cause: the rate at which a stranger can make us fetch.
const MISS_INTERVAL: Duration = Duration::from_secs(5);
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
}

/// What a key source can say to a request.
pub(crate) enum Keys<'s> {
    Ready(&'s KeySet),
    /// A fetch is under way or due: wait for it.
    Coming,
    Unavailable,
}

#[derive(Debug)]
pub(crate) struct KeySource {
    remote: Option<Remote>,
    keys: Option<KeySet>,
    in_flight_since: Option<UnixMillis>,
    last_attempt: Option<UnixMillis>,
    next_attempt: UnixMillis,
    failures: u32,
}

#[derive(Debug)]
struct Remote {
    cluster: String,
    scheme: &'static str,
    authority: String,
    path: String,
}

impl KeySource {
    pub(crate) fn compile(config: JwksConfig, at: &str) -> Result<Self, ConfigError> {
        let (remote, keys) = match (config.uri, config.cluster, config.inline) {
            (Some(uri), Some(cluster), None) => (Some(Remote::compile(&uri, cluster, at)?), None),
            (None, None, Some(set)) => {
                let keys = KeySet::from_value(&set)
                    .map_err(|error| ConfigError::at(format_args!("{at}.inline"), error))?;
                (None, Some(keys))
            }
            (Some(_), None, None) => {
                let problem = "missing: the name of the Envoy cluster that reaches the provider";
                return Err(ConfigError::at(format_args!("{at}.cluster"), problem));
            }
            _ => {
                return Err(ConfigError::at(
                    at,
                    "expected either \"uri\" and \"cluster\", or \"inline\"",
                ))
            }
        };
        Ok(Self {
            remote,
            keys,
            in_flight_since: None,
            last_attempt: None,
            next_attempt: UnixMillis::default(),
            failures: 0,
        })
    }

    pub(crate) fn keys(&self, now: UnixMillis) -> Keys<'_> {
        match &self.keys {
            Some(keys) => Keys::Ready(keys),
            None if self.in_flight(now) || self.due(now) => Keys::Coming,
            None => Keys::Unavailable,
        }
    }

    /// A key id was asked for that the set does not hold. True if a fetch that may bring it is under way or now due.
    pub(crate) fn refetch_for_unknown_key(&mut self, now: UnixMillis) -> bool {
        if self.remote.is_none() {
            return false;
        }
        if self.in_flight(now) {
            return true;
        }
        let rested = self
            .last_attempt
            .is_none_or(|last| now.since(last) >= MISS_INTERVAL);
        if rested {
            self.next_attempt = now;
        }
        rested
    }

    /// The fetch to start now, if one is due. It counts as under way from here on.
    pub(crate) fn start_fetch(&mut self, id: KeySourceId, now: UnixMillis) -> Option<Fetch> {
        if self.in_flight(now) || !self.due(now) {
            return None;
        }
        let remote = self.remote.as_ref()?;
        self.in_flight_since = Some(now);
        self.last_attempt = Some(now);
        Some(Fetch {
            source: id,
            cluster: remote.cluster.clone(),
            authority: remote.authority.clone(),
            path: remote.path.clone(),
            scheme: remote.scheme,
            timeout: FETCH_TIMEOUT,
        })
    }

    /// Takes a fetch's outcome. True if the keys are others than before. A failure keeps the keys that are there.
    pub(crate) fn finish_fetch(
        &mut self,
        outcome: Result<&[u8], FetchError>,
        now: UnixMillis,
    ) -> Result<bool, FetchError> {
        self.in_flight_since = None;
        // Counted from its end: a fetch that ran into its time-out is not to be repeated at once.
        self.last_attempt = Some(now);
        match outcome.and_then(|body| KeySet::parse(body).map_err(unusable)) {
            Ok(keys) => {
                self.failures = 0;
                self.next_attempt = now.saturating_add(REFRESH);
                let changed = self.keys.as_ref() != Some(&keys);
                self.keys = Some(keys);
                Ok(changed)
            }
            Err(error) => {
                let backoff = BACKOFF_START
                    .saturating_mul(1 << self.failures.min(10))
                    .min(BACKOFF_CEILING);
                self.failures = self.failures.saturating_add(1);
                self.next_attempt = now.saturating_add(backoff);
                Err(error)
            }
        }
    }

    fn due(&self, now: UnixMillis) -> bool {
        // A wait that reaches further than any of ours means that the clock was set back.
        let clock_went_back = self.next_attempt > now.saturating_add(REFRESH);
        self.remote.is_some() && (self.next_attempt <= now || clock_went_back)
    }

    /// An answer that never came stops counting as under way, so that a lost callback cannot stop fetching for good.
    fn in_flight(&self, now: UnixMillis) -> bool {
        self.in_flight_since
            .is_some_and(|since| since <= now && now.since(since) < FETCH_TIMEOUT * 2)
    }
}

impl Remote {
    fn compile(uri: &str, cluster: String, at: &str) -> Result<Self, ConfigError> {
        let parsed = split_uri(uri).ok_or_else(|| {
            ConfigError::at(
                format_args!("{at}.uri"),
                "expected an absolute https:// or http:// URI",
            )
        })?;
        if cluster.is_empty() {
            return Err(ConfigError::at(
                format_args!("{at}.cluster"),
                "expected the name of an Envoy cluster",
            ));
        }
        let (scheme, authority, path) = parsed;
        Ok(Self {
            cluster,
            scheme,
            authority,
            path,
        })
    }
}

/// Scheme, authority and path of a URI whose characters are all visible ASCII; fragments and user information have no
/// place in a key set's address.
fn split_uri(uri: &str) -> Option<(&'static str, String, String)> {
    let (scheme, rest) = match uri.split_once("://")? {
        ("https", rest) => ("https", rest),
        ("http", rest) => ("http", rest),
        _ => return None,
    };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let clean =
        rest.bytes().all(|b| b.is_ascii_graphic() && b != b'#') && !authority.contains(['@', '?', '\\']);
    (clean && !authority.is_empty()).then(|| {
        let path = if path.is_empty() { "/" } else { path };
        (scheme, authority.to_owned(), path.to_owned())
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
mod tests {
    use wasm_bindgen_test::wasm_bindgen_test;

    use super::*;

    const N: &str = "xAE7eB6qugXyCAG3yhh7pkDkT65pHymX-P7KfIupjf59vsdo91bSP9C8H07pSAGQO1MV_xFj9VswgsCg4R6otmg5PV2He95lZdHtOcU5DXIg_pbhLdKXbi66GlVeK6ABZOUW3WYtnNHD-91gVuoeJT_DwtGGcp4ignkgXfkiEm4sw-4sfb4qdt5oLbyVpmW6x9cfa7vs2WTfURiCrBoUqgBo_-4WTiULmmHSGZHOjzwa8WtrtOQGsAFjIbno85jp6MnGGGZPYZbDAa_b3y5u-YpW7ypZrvD8BgtKVjgtQgZhLAGezMt0ua3DRrWnKqTZ0BJ_EyxOGuHJrLsn00fnMQ";
    const ID: KeySourceId = KeySourceId(0);

    fn body(kid: &str) -> Vec<u8> {
        format!(r#"{{"keys":[{{"kty":"RSA","kid":"{kid}","n":"{N}","e":"AQAB"}}]}}"#).into_bytes()
    }

    fn remote() -> KeySource {
        let config = JwksConfig {
            uri: Some("https://idp.example/keys?x=1".into()),
            cluster: Some("idp".into()),
            inline: None,
        };
        KeySource::compile(config, "jwks").unwrap()
    }

    fn at(seconds: u64) -> UnixMillis {
        UnixMillis(seconds * 1000)
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn fetches_before_the_first_request_and_again_when_stale() {
        let mut source = remote();
        assert!(matches!(source.keys(at(100)), Keys::Coming));
        let fetch = source.start_fetch(ID, at(100)).unwrap();
        assert_eq!(
            (fetch.authority.as_str(), fetch.path.as_str()),
            ("idp.example", "/keys?x=1")
        );
        assert_eq!(source.start_fetch(ID, at(101)), None, "one fetch at a time");
        assert_eq!(source.finish_fetch(Ok(&body("a")), at(101)), Ok(true));
        assert!(matches!(source.keys(at(102)), Keys::Ready(_)));
        assert_eq!(source.start_fetch(ID, at(102)), None);
        assert!(source.start_fetch(ID, at(401)).is_some());
        assert_eq!(
            source.finish_fetch(Ok(&body("a")), at(402)),
            Ok(false),
            "the same keys are no change"
        );
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn keeps_its_keys_while_refreshing_fails_and_backs_off() {
        let mut source = remote();
        source.start_fetch(ID, at(0)).unwrap();
        source.finish_fetch(Ok(&body("a")), at(0)).unwrap();
        let mut now = 300;
        for wait in [1, 2, 4, 8, 16, 32, 60, 60] {
            assert!(source.start_fetch(ID, at(now)).is_some(), "due at {now}");
            assert_eq!(
                source.finish_fetch(Err(FetchError::Status(500)), at(now)),
                Err(FetchError::Status(500))
            );
            assert!(matches!(source.keys(at(now)), Keys::Ready(_)));
            assert_eq!(source.start_fetch(ID, UnixMillis((now + wait) * 1000 - 1)), None);
            now += wait;
        }
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn without_keys_a_failed_fetch_means_unavailable_until_the_next_is_due() {
        let mut source = remote();
        source.start_fetch(ID, at(10)).unwrap();
        for unusable in [&b"<html>"[..], b"", br#"{"keys":[]}"#] {
            assert!(source.finish_fetch(Ok(unusable), at(10)).is_err());
        }
        assert!(matches!(source.keys(at(10)), Keys::Unavailable));
        assert!(matches!(source.keys(at(20)), Keys::Coming));
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn unknown_keys_cause_fetches_at_a_bounded_rate() {
        let mut source = remote();
        source.start_fetch(ID, at(0)).unwrap();
        assert!(
            source.refetch_for_unknown_key(at(1)),
            "the one under way may bring it"
        );
        source.finish_fetch(Ok(&body("a")), at(1)).unwrap();
        assert!(!source.refetch_for_unknown_key(at(4)));
        assert!(source.refetch_for_unknown_key(at(6)));
        assert!(source.start_fetch(ID, at(6)).is_some());
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn a_fetch_that_timed_out_is_not_repeated_at_once_for_the_same_request() {
        let mut source = remote();
        source.start_fetch(ID, at(0)).unwrap();
        source.finish_fetch(Ok(&body("a")), at(0)).unwrap();
        assert!(source.refetch_for_unknown_key(at(10)));
        source.start_fetch(ID, at(10)).unwrap();
        source
            .finish_fetch(Err(FetchError::Unreachable), at(15))
            .unwrap_err();
        assert!(!source.refetch_for_unknown_key(at(15)));
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn a_lost_answer_or_a_clock_set_back_does_not_stop_fetching() {
        let mut source = remote();
        source.start_fetch(ID, at(1000)).unwrap();
        assert_eq!(source.start_fetch(ID, at(1009)), None);
        assert!(source.start_fetch(ID, at(1010)).is_some());
        source.finish_fetch(Ok(&body("a")), at(1010)).unwrap();
        assert!(source.start_fetch(ID, at(10)).is_some());
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn inline_keys_are_never_fetched() {
        let set: serde_json::Value = serde_json::from_slice(&body("a")).unwrap();
        let config = JwksConfig {
            uri: None,
            cluster: None,
            inline: Some(set),
        };
        let mut source = KeySource::compile(config, "jwks").unwrap();
        assert!(!source.refetch_for_unknown_key(at(100)));
        assert_eq!(source.start_fetch(ID, at(100)), None);
        assert!(matches!(source.keys(at(100)), Keys::Ready(_)));
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn addresses_of_key_sets_are_read_strictly() {
        assert_eq!(
            split_uri("https://h:8443"),
            Some(("https", "h:8443".into(), "/".into()))
        );
        for uri in [
            "",
            "h/x",
            "ftp://h/x",
            "https://",
            "https:///x",
            "https://u@h/x",
            "https://h/x#f",
            "https://h/a b",
            "https://h\\x",
        ] {
            assert_eq!(split_uri(uri), None, "{uri}");
        }
    }
}
