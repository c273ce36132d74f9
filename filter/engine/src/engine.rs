//! The engine: configuration and state of one worker, and the walk from request to decision.

use std::{collections::HashMap, rc::Rc, time::Duration};

use crate::{
    audit,
    cache::TokenCache,
    claims::{ClaimPath, Claims, Format},
    config::{ClaimToHeaderConfig, Config, ConfigError, CryptoMode},
    credential::{self, Source, Stripped},
    decision::{Allowed, Caller, Decision, Denied, Grant},
    key_source::{Fetch, FetchError, Fetched, KeySource, KeySourceId, Keys, Miss, Progress},
    path::NormalPath,
    provider::{Identity, Provider},
    role::{compile_each, Role, Rule},
    signature::{HostCrypto, TestedHost},
    steps::{Silent, Steps},
    time::UnixMillis,
    token::UnverifiedToken,
    Headers, Reason, Request,
};

/// Verified tokens that one worker remembers.
const VERIFIED_CAPACITY: usize = 1024;
/// Refused tokens that one worker remembers, and the longest that is remembered, in bytes.
const REFUSED_CAPACITY: usize = 256;
const REFUSED_LENGTH: usize = 4096;

/// The header that names the Azure credential of the request's role; Envoy's routes select the cluster by it.
const CREDENTIAL_HEADER: &str = "x-isthmus-credential";
/// The header that tells the backend the role.
const ROLE_HEADER: &str = "x-isthmus-role";
/// All header names that are ours alone.
const OWN_PREFIX: &[u8] = b"x-isthmus-";

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
    public: Vec<Rule>,
    claim_headers: Vec<ClaimHeader>,
    crypto: CryptoMode,
    host: Option<TestedHost>,
    verified: TokenCache<Caller>,
    refused: TokenCache<Refusal>,
}

/// The keys of one provider, as they stand.
#[derive(Clone, Debug)]
pub struct KeyStatus<'e> {
    /// The key source.
    pub source: KeySourceId,
    /// The provider's name.
    pub provider: &'e str,
    /// The address that the keys are fetched from, as a name under which workers may share them; nothing where they are in line.
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

#[derive(Debug)]
struct ClaimHeader {
    claim: ClaimPath,
    header: String,
    format: Format,
}

/// A token that was refused for good, and when.
#[derive(Debug)]
struct Refusal {
    reason: Reason,
    at: UnixMillis,
}

/// Why the walk from request to decision ends early.
enum Stop {
    Deny(Reason, Option<Rc<Caller>>),
    Wait,
}

impl From<Reason> for Stop {
    fn from(reason: Reason) -> Self {
        Stop::Deny(reason, None)
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
        let roles = compile_each(config.roles, "roles", |role, at| {
            Role::compile(role, &providers, at)
        })?;
        for (place, role) in roles.iter().enumerate() {
            if roles.iter().take(place).any(|other| other.name == role.name) {
                return Err(ConfigError::at(
                    format_args!("roles[{place}].name"),
                    "another role has this name",
                ));
            }
        }
        Ok(Self {
            providers,
            key_sources,
            by_issuer,
            token_sources,
            roles,
            public: compile_each(config.public, "public", Rule::compile)?,
            claim_headers: compile_claim_headers(config.claims_to_headers)?,
            crypto: config.crypto,
            host: None,
            verified: TokenCache::new(VERIFIED_CAPACITY),
            refused: TokenCache::new(REFUSED_CAPACITY),
        })
    }

    /// Offers the host's cryptography. It is used where the configuration wants it and it passes a self-test; says whether it
    /// is. An error if the configuration insists on a host that fails.
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

    /// Whether a token by itself would be taken, whatever request it came with. A token that is bound to a certificate is not:
    /// nobody shows one.
    pub fn verify_token(&mut self, token: &str, now: UnixMillis) -> Result<(), Reason> {
        match self.identify(token, now, &mut Silent) {
            Ok(caller) if caller.identity.bound_to.is_some() => Err(Reason::UnprovenBinding),
            Ok(_) => Ok(()),
            Err(Stop::Deny(reason, _)) => Err(reason),
            Err(Stop::Wait) => Err(Reason::KeysUnavailable),
        }
    }

    /// Refuses a request for a reason that lies outside of the engine, such as [`Reason::Overloaded`].
    pub fn refuse(reason: Reason) -> Decision {
        Decision::Deny(Denied { reason, caller: None })
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

    /// Takes the outcome of a fetch: an answer with status 200, or what went wrong. An error tells why no keys came of it; keys
    /// that were there before stay in use. Afterwards a fetch may be due again: the keys follow a discovery document.
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

    /// The names among `trailers` that only this filter may set, as they stand there: they are taken away from a request that
    /// passes, as they are from its header.
    pub fn forged_trailers(&self, trailers: Headers<'_>) -> Vec<String> {
        self.to_remove(trailers, None)
    }

    /// A key may have been taken away because it was stolen, or have come that a refused token was signed with: all of them must be
    /// looked at again.
    fn forget_if_changed(&mut self, progress: Result<Progress, FetchError>) -> Result<Progress, FetchError> {
        if progress == Ok(Progress::Changed) {
            self.verified.clear();
            self.refused.clear();
        }
        progress
    }

    fn walk(&mut self, request: &Request<'_>, now: UnixMillis, steps: &mut impl Steps) -> Decision {
        match self.allow(request, now, steps) {
            Ok(allowed) => Decision::Allow(allowed),
            Err(Stop::Deny(reason, caller)) => Decision::Deny(Denied { reason, caller }),
            Err(Stop::Wait) => Decision::Wait,
        }
    }

    fn allow(
        &mut self,
        request: &Request<'_>,
        now: UnixMillis,
        steps: &mut impl Steps,
    ) -> Result<Allowed, Stop> {
        let (Some(method), Some(target)) = (request.method(), request.path_and_query()) else {
            steps.note(|| "the request has not exactly one method and one path".to_owned());
            return Err(Reason::AmbiguousPath.into());
        };
        let path = NormalPath::parse(target).map_err(|_| Reason::AmbiguousPath)?;
        steps.note(|| "the path has one reading".to_owned());
        if let Some(place) = self.public.iter().position(|rule| rule.covers(method, &path)) {
            steps.note(|| format!("public[{place}] covers the request"));
            let Stripped { remove, set } = self.strip(request.headers, None);
            return Ok(Allowed {
                reason: Reason::Public,
                remove,
                set,
                caller: None,
                grant: None,
            });
        }
        let (caller, place) = self.authenticate(request, now, steps)?;
        let mut granted = None;
        for held in &caller.roles {
            let Some(role) = self.roles.get(*held) else {
                continue;
            };
            let rule = role.allows(method, &path);
            steps.note(|| match rule {
                Some(rule) => format!(
                    "the caller holds the role {:?}; its allow[{rule}] covers the request",
                    role.name
                ),
                None => format!(
                    "the caller holds the role {:?}; it does not allow the request",
                    role.name
                ),
            });
            if let Some(rule) = rule {
                granted = Some((role, rule));
                break;
            }
        }
        let Some((role, rule)) = granted else {
            let reason = if caller.roles.is_empty() {
                steps.note(|| "the caller holds no role".to_owned());
                Reason::NoRole
            } else {
                Reason::NotAllowed
            };
            return Err(Stop::Deny(reason, Some(caller)));
        };
        let provider = self.providers.get(caller.provider);
        let kept = provider
            .filter(|provider| provider.forward)
            .and_then(|_| self.token_sources.get(place));
        let Stripped { remove, mut set } = self.strip(request.headers, kept);
        set.extend(caller.headers.iter().cloned());
        set.push((ROLE_HEADER.to_owned(), role.name.clone()));
        if let Some(credential) = &role.credential {
            set.push((CREDENTIAL_HEADER.to_owned(), credential.clone()));
        }
        Ok(Allowed {
            reason: Reason::Allowed,
            remove,
            set,
            grant: Some(Grant {
                role: role.name.clone(),
                credential: role.credential.clone(),
                rule,
            }),
            caller: Some(caller),
        })
    }

    /// The caller, and the place among `token_sources` in which their token lay.
    fn authenticate(
        &mut self,
        request: &Request<'_>,
        now: UnixMillis,
        steps: &mut impl Steps,
    ) -> Result<(Rc<Caller>, usize), Stop> {
        let (token, place) = credential::find(request, &self.token_sources)?;
        let source = self.token_sources.get(place);
        steps.note(|| source.map_or(String::new(), |source| format!("one token, {source}")));
        let caller = self.identify(token, now, steps)?;
        let provider = self.providers.get(caller.provider);
        let expected = provider.zip(self.token_sources.get(place));
        if !expected.is_some_and(|(provider, source)| provider.sources.contains(source)) {
            steps.note(|| "the provider's tokens may not lie there".to_owned());
            return Err(Reason::WrongSource.into());
        }
        match caller.identity.bound_to.as_deref() {
            Some(certificate) if request.peer.certificate_sha256 != Some(certificate) => {
                steps.note(|| "the token is bound to a certificate that the peer did not show".to_owned());
                Err(Reason::UnprovenBinding.into())
            }
            _ => Ok((caller, place)),
        }
    }

    /// Who a token speaks of. What was found out about the very same token before is not found out again.
    fn identify(&mut self, token: &str, now: UnixMillis, steps: &mut impl Steps) -> Result<Rc<Caller>, Stop> {
        let verified = self.verified.get(token);
        let still_holds = |caller: &Rc<Caller>| {
            let keys = self
                .key_sources
                .get(caller.provider)
                .map(|source| source.keys(now));
            now.as_seconds() < caller.identity.valid_until && matches!(keys, Some(Keys::Ready(_)))
        };
        if let Some(caller) = verified.filter(still_holds) {
            steps.note(|| "the token was verified before".to_owned());
            return Ok(caller);
        }
        // Before that instant means that the clock was set back, and what had expired may be valid again.
        if let Some(refusal) = self.refused.get(token).filter(|refusal| refusal.at <= now) {
            steps.note(|| "the token was refused before".to_owned());
            return Err(refusal.reason.into());
        }
        match self.verify(token, now, steps) {
            Ok(caller) => {
                let caller = Rc::new(caller);
                self.verified.insert(token, Rc::clone(&caller));
                Ok(caller)
            }
            Err(Stop::Deny(reason, caller)) => {
                if reason.is_final() && token.len() <= REFUSED_LENGTH {
                    self.refused.insert(token, Rc::new(Refusal { reason, at: now }));
                }
                Err(Stop::Deny(reason, caller))
            }
            Err(Stop::Wait) => Err(Stop::Wait),
        }
    }

    /// Only the provider that the token's issuer names, and only its keys and algorithms, are ever tried.
    fn verify(&mut self, token: &str, now: UnixMillis, steps: &mut impl Steps) -> Result<Caller, Stop> {
        let UnverifiedToken { jws, claims } = UnverifiedToken::parse(token)?;
        steps.note(|| {
            format!(
                "a token in strict form, alg {}, kid {:?}",
                jws.algorithm_name(),
                jws.kid
            )
        });
        let issuer = claims.get("iss").and_then(|issuer| issuer.as_str());
        steps.note(|| format!("its issuer is {issuer:?}"));
        let place = issuer
            .and_then(|issuer| self.by_issuer.get(issuer))
            .copied()
            .ok_or(Reason::UnknownIssuer)?;
        let (Some(provider), Some(source)) = (self.providers.get(place), self.key_sources.get_mut(place))
        else {
            return Err(Reason::UnknownIssuer.into());
        };
        steps.note(|| format!("that is the provider {:?}", provider.name));
        let algorithm = jws
            .algorithm
            .filter(|algorithm| provider.allows_algorithm(*algorithm))
            .ok_or(Reason::AlgorithmNotAllowed)?;
        let kid = jws.kid.as_deref();
        let genuine = match source.keys(now) {
            Keys::Ready(keys) => keys.select(kid, algorithm).and_then(|key| {
                if !provider.allows_key_of(key, &claims) {
                    return Err(Reason::KeyMismatch);
                }
                Ok(key.verify(
                    algorithm,
                    jws.signed.as_bytes(),
                    &jws.signature,
                    self.host.as_ref(),
                ))
            }),
            Keys::Coming => return Err(Stop::Wait),
            Keys::Unavailable => return Err(Reason::KeysUnavailable.into()),
        };
        match genuine {
            Ok(true) => steps.note(|| "the signature is the key's".to_owned()),
            Ok(false) => return Err(Reason::BadSignature.into()),
            Err(Reason::UnknownKey) => {
                return Err(match source.miss(kid, now) {
                    Miss::Wait => Stop::Wait,
                    Miss::Unknown => Reason::UnknownKey.into(),
                    Miss::Unavailable => Reason::KeysUnavailable.into(),
                })
            }
            Err(reason) => return Err(reason.into()),
        }
        let identity = provider.accept(&claims, now)?;
        steps.note(|| format!("its claims hold; the subject is {:?}", identity.subject));
        Ok(self.caller(place, identity, &claims))
    }

    fn caller(&self, provider: usize, identity: Identity, claims: &Claims) -> Caller {
        let holds = |(place, role): (usize, &Role)| role.held_by(provider, claims).then_some(place);
        let header = |rule: &ClaimHeader| {
            let value = rule.format.header_value(rule.claim.find(claims)?)?;
            Some((rule.header.clone(), value))
        };
        Caller {
            provider,
            identity,
            roles: self.roles.iter().enumerate().filter_map(holds).collect(),
            headers: self.claim_headers.iter().filter_map(header).collect(),
        }
    }

    /// What must be done to a request so that it carries no credential, but for the one in `kept`, and no field that only this
    /// filter may set.
    fn strip(&self, headers: Headers<'_>, kept: Option<&Source>) -> Stripped {
        let sources: Vec<Source> = self
            .token_sources
            .iter()
            .filter(|source| Some(*source) != kept)
            .cloned()
            .collect();
        let mut stripped = Stripped::of(headers, &sources);
        stripped.remove.extend(self.to_remove(headers, kept));
        stripped
    }

    /// Every field that only this filter may set, in any spelling that a backend could read as the same name, and every field
    /// that carries a credential, but for the one in `kept`.
    fn to_remove(&self, headers: Headers<'_>, kept: Option<&Source>) -> Vec<String> {
        let kept = kept.and_then(Source::header_name);
        let ours = |name: &[u8]| {
            let canonical: Vec<u8> = name
                .iter()
                .map(|byte| {
                    if *byte == b'_' {
                        b'-'
                    } else {
                        byte.to_ascii_lowercase()
                    }
                })
                .collect();
            let is = |name: &str| name.as_bytes() == canonical;
            canonical.starts_with(OWN_PREFIX)
                || self.claim_headers.iter().any(|rule| is(&rule.header))
                || (!kept.is_some_and(is)
                    && (is(credential::AUTHORIZATION)
                        || self.token_sources.iter().filter_map(Source::header_name).any(is)))
        };
        let mut names: Vec<String> = headers
            .iter()
            .filter(|(name, _)| ours(name))
            .map(|(name, _)| String::from_utf8_lossy(name).into_owned())
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

fn compile_claim_headers(config: Vec<ClaimToHeaderConfig>) -> Result<Vec<ClaimHeader>, ConfigError> {
    let mut rules: Vec<ClaimHeader> = Vec::new();
    for (place, rule) in config.into_iter().enumerate() {
        let at = format!("claims_to_headers[{place}].header");
        if !is_settable(&rule.header) {
            let problem = "expected a header name in lower case with \"-\" between words, none that HTTP or Isthmus uses";
            return Err(ConfigError::at(at, problem));
        }
        if rules.iter().any(|other| other.header == rule.header) {
            return Err(ConfigError::at(at, "another claim has this header"));
        }
        rules.push(ClaimHeader {
            claim: rule.claim,
            header: rule.header,
            format: rule.format,
        });
    }
    Ok(rules)
}

/// Names that a claim may be written to: not those that steer HTTP itself, the bridge's own, or the credential.
fn is_settable(name: &str) -> bool {
    const TAKEN: [&str; 20] = [
        "authorization",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "cookie",
        "date",
        "expect",
        "forwarded",
        "host",
        "keep-alive",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "traceparent",
        "tracestate",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "via",
    ];
    (1..=128).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && name.bytes().any(|b| b != b'-')
        && !TAKEN.contains(&name)
        && !name.as_bytes().starts_with(OWN_PREFIX)
        && !name.starts_with("x-envoy-")
        && !name.starts_with("x-forwarded-")
        && !matches!(
            name,
            "x-request-id" | "x-http-method" | "x-http-method-override" | "x-method-override"
        )
}
