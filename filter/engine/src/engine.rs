//! The engine: configuration and state of one worker.

mod walk;

use std::{collections::HashMap, rc::Rc, time::Duration};

use self::walk::Refusal;
use crate::{
    audit,
    cache::TokenCache,
    config::{compile_each, Config, ConfigError, CryptoMode, Mode},
    credential::Source,
    decision::{Caller, Decision, Denied},
    forward::{Forwarding, Keep},
    holders::Holders,
    key_source::{Fetch, FetchError, Fetched, KeySource, KeySourceId, Progress},
    provider::Provider,
    role::Role,
    rule::Rule,
    signature::{HostCrypto, TestedHost},
    steps::Silent,
    time::UnixMillis,
    Answer, Headers, Reason, Request,
};

/// Verified tokens that one worker remembers.
const VERIFIED_CAPACITY: usize = 1024;
/// Refused tokens that one worker remembers: 2 MiB if all are as long as tokens may be.
const REFUSED_CAPACITY: usize = 128;

/// Decides about requests. One engine belongs to one worker and is not shared.
#[derive(Debug)]
pub struct Engine {
    providers: Vec<Provider>,
    /// The key source of each provider, in the same order.
    key_sources: Vec<KeySource>,
    by_issuer: HashMap<String, usize>,
    /// Every place in which a token of some provider may lie.
    token_sources: Vec<Source>,
    roles: Vec<Role>,
    holders: Holders,
    public: Vec<Rule>,
    forwarding: Forwarding,
    mode: Mode,
    cors_preflight: bool,
    details: bool,
    crypto: CryptoMode,
    host: Option<TestedHost>,
    verified: TokenCache<Caller>,
    refused: TokenCache<Refusal>,
    cache_counts: CacheCounts,
}

/// How often a token was looked for among those that were seen before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheCounts {
    /// It had been verified.
    pub verified: u32,
    /// It had been refused for good.
    pub refused: u32,
    /// It had to be verified.
    pub missed: u32,
}

/// The keys of one provider, as they stand.
#[derive(Clone, Debug)]
pub struct KeyStatus<'e> {
    /// The key source.
    pub source: KeySourceId,
    /// The provider's name.
    pub provider: &'e str,
    /// The address that the keys are fetched from, as a name under which workers may share them; nothing where they
    /// are in line.
    pub address: Option<String>,
    /// When the fetch began that brought the keys; nothing while there was none.
    pub fetched_at: Option<UnixMillis>,
}

impl KeyStatus<'_> {
    /// How old the keys are.
    pub fn age(&self, now: UnixMillis) -> Option<Duration> {
        self.fetched_at.map(|fetched_at| now.since(fetched_at))
    }
}

impl Engine {
    /// Compiles a configuration (JSON). An error names the path of what is wrong and what was expected there.
    pub fn new(configuration: &[u8]) -> Result<Self, ConfigError> {
        let config = Config::parse(configuration)?;
        let mut providers: Vec<Provider> = Vec::new();
        let mut key_sources = Vec::new();
        let mut by_issuer = HashMap::new();
        let mut token_sources: Vec<Source> = Vec::new();
        for (place, mut provider) in config.providers.into_iter().enumerate() {
            let at = format!("providers[{place}]");
            let jwks = std::mem::take(&mut provider.jwks);
            let provider = Provider::compile(provider, jwks.inline.is_some(), &at)?;
            if providers.iter().any(|other| other.name == provider.name) {
                return Err(ConfigError::at(
                    format_args!("{at}.name"),
                    "another provider has this name",
                ));
            }
            for issuer in provider.issuers() {
                if by_issuer.insert(issuer, place).is_some() {
                    return Err(ConfigError::at(
                        format_args!("{at}.issuer"),
                        "another provider has this issuer",
                    ));
                }
            }
            for source in &provider.sources {
                if !token_sources.contains(source) {
                    token_sources.push(source.clone());
                }
            }
            key_sources.push(KeySource::compile(
                jwks,
                provider.discovery_issuers(),
                &format!("{at}.jwks"),
            )?);
            providers.push(provider);
        }
        if providers.is_empty() {
            return Err(ConfigError::at("providers", "expected at least one provider"));
        }
        let mut roles: Vec<Role> = Vec::new();
        let mut holders = Holders::default();
        for (place, role) in config.roles.into_iter().enumerate() {
            let at = format!("roles[{place}]");
            if roles.iter().any(|other| other.name == role.name) {
                return Err(ConfigError::at(
                    format_args!("{at}.name"),
                    "another role has this name",
                ));
            }
            holders.add(place, role.holders, &providers, &format!("{at}.holders"))?;
            roles.push(Role::compile(
                role.name,
                role.credential,
                role.allow,
                role.deny,
                &at,
            )?);
        }
        Ok(Self {
            providers,
            key_sources,
            by_issuer,
            token_sources,
            roles,
            holders,
            public: compile_each(config.public, "public", Rule::compile)?,
            forwarding: Forwarding::compile(config.claims_to_headers)?,
            mode: config.mode,
            cors_preflight: config.cors_preflight,
            details: config.details,
            crypto: config.crypto,
            host: None,
            verified: TokenCache::new(VERIFIED_CAPACITY),
            refused: TokenCache::new(REFUSED_CAPACITY),
            cache_counts: CacheCounts::default(),
        })
    }

    /// Offers the host's cryptography. It is used where the configuration wants it and it passes a self-test; says
    /// whether it is. An error if the configuration insists on a host that fails.
    pub fn offer_host_crypto(&mut self, host: Rc<dyn HostCrypto>) -> Result<bool, ConfigError> {
        self.host = match self.crypto {
            CryptoMode::Rust => None,
            CryptoMode::Auto | CryptoMode::Host => TestedHost::try_new(host),
        };
        if self.crypto == CryptoMode::Host && self.host.is_none() {
            let problem = "the host did not verify the signatures of the self-test";
            return Err(ConfigError::at("crypto", problem));
        }
        Ok(self.host.is_some())
    }

    /// Decides about one request at the time `now`.
    pub fn decide(&mut self, request: &Request<'_>, now: UnixMillis) -> Decision {
        self.walk(request, now, &mut Silent)
    }

    /// As [`Engine::decide`], and says what led to the decision, one line for each step.
    pub fn explain(&mut self, request: &Request<'_>, now: UnixMillis) -> (Decision, Vec<String>) {
        let mut steps = Vec::new();
        let decision = self.walk(request, now, &mut steps);
        (decision, steps)
    }

    /// Refuses a request for a reason that lies outside of the engine, such as [`Reason::Overloaded`].
    pub fn refuse(&self, request: &Request<'_>, reason: Reason) -> Decision {
        self.deny(request, reason, None, &mut Silent)
    }

    /// The reply to a refused request.
    pub fn answer(&self, denied: &Denied, request: &Request<'_>) -> Answer {
        Answer::to_denied(denied, request.request_id(), self.details)
    }

    /// The audit event of a decision: one line of JSON (OCSF 1.8).
    pub fn audit_event(&self, decision: &Decision, request: &Request<'_>, now: UnixMillis) -> String {
        audit::event(decision, &self.providers, request, now)
    }

    /// The fetches to start now: before the first request, when keys grow stale, and when a request waits for them.
    /// Each is listed once; it ends with a call of [`Engine::fetched`] or [`Engine::share_keys`].
    pub fn due_fetches(&mut self, now: UnixMillis) -> Vec<Fetch> {
        self.key_sources
            .iter_mut()
            .enumerate()
            .filter_map(|(place, source)| source.start_fetch(KeySourceId(place), now))
            .collect()
    }

    /// Takes the outcome of a fetch: an answer with status 200, or what went wrong. An error tells why no keys came
    /// of it; keys that were there before stay in use. Afterwards a fetch may be due again: the keys follow a
    /// discovery document.
    pub fn fetched(
        &mut self,
        source: KeySourceId,
        outcome: Result<Fetched<'_>, FetchError>,
        now: UnixMillis,
    ) -> Result<Progress, FetchError> {
        let Some(source) = self.key_sources.get_mut(source.0) else {
            return Ok(Progress::Unchanged);
        };
        let progress = source.finish_fetch(outcome, now);
        self.forget_if_changed(progress)
    }

    /// Takes a key set whose fetch another worker began at the time `at`; one that is no newer than the own is left.
    pub fn share_keys(
        &mut self,
        source: KeySourceId,
        fetched: Fetched<'_>,
        at: UnixMillis,
        now: UnixMillis,
    ) -> Result<Progress, FetchError> {
        let Some(source) = self.key_sources.get_mut(source.0) else {
            return Ok(Progress::Unchanged);
        };
        let progress = source.share(fetched, at, now);
        self.forget_if_changed(progress)
    }

    /// Gives a provider these keys (a JWK set) for good, in the place of those that would be fetched.
    pub fn fix_keys(&mut self, source: KeySourceId, set: &[u8]) -> Result<(), FetchError> {
        self.verified.clear();
        self.refused.clear();
        match self.key_sources.get_mut(source.0) {
            Some(source) => source.fix(set),
            None => Ok(()),
        }
    }

    /// How the keys of each provider stand.
    pub fn key_status(&self) -> impl Iterator<Item = KeyStatus<'_>> {
        (0..self.providers.len()).filter_map(|place| self.key_status_of(KeySourceId(place)))
    }

    /// How the keys of one provider stand; nothing if the source is not this engine's.
    pub fn key_status_of(&self, source: KeySourceId) -> Option<KeyStatus<'_>> {
        let keys = self.key_sources.get(source.0)?;
        Some(KeyStatus {
            source,
            provider: &self.providers.get(source.0)?.name,
            address: keys.address(),
            fetched_at: keys.fetched_at(),
        })
    }

    /// The name of the provider at this place.
    pub fn provider_name(&self, place: usize) -> Option<&str> {
        self.providers.get(place).map(|provider| provider.name.as_str())
    }

    /// The name of the role at this place.
    pub fn role_name(&self, place: usize) -> Option<&str> {
        self.roles.get(place).map(|role| role.name.as_str())
    }

    /// How often tokens were looked for since the last call.
    pub fn take_cache_counts(&mut self) -> CacheCounts {
        std::mem::take(&mut self.cache_counts)
    }

    /// The names among `trailers` that only this filter may set, as they stand there: they are taken away from a
    /// request that passes, as they are from its header. An error if one cannot be taken away: the request may not go on.
    pub fn forged_trailers(&self, trailers: Headers<'_>) -> Result<Vec<String>, Reason> {
        if !trailers.have_plain_names() {
            return Err(Reason::MalformedRequest);
        }
        Ok(self
            .forwarding
            .forged(trailers, &self.token_sources, Keep::Nothing))
    }

    /// A key may have been taken away because it was stolen, or have come that a refused token was signed with: all
    /// of them must be looked at again.
    fn forget_if_changed(&mut self, progress: Result<Progress, FetchError>) -> Result<Progress, FetchError> {
        if progress == Ok(Progress::Changed) {
            self.verified.clear();
            self.refused.clear();
        }
        progress
    }
}
