//! The engine: configuration and state of one worker, and the walk from request to decision.

use std::{collections::HashMap, rc::Rc};

use crate::{
    audit,
    cache::TokenCache,
    claims::{ClaimPath, Claims, Format},
    config::{ClaimToHeaderConfig, Config, ConfigError},
    credential,
    decision::{Allowed, Caller, Decision, Denied, Grant},
    key_source::{Fetch, FetchError, KeySource, KeySourceId, Keys},
    path::NormalPath,
    provider::Provider,
    role::{compile_each, Role, Rule},
    time::UnixMillis,
    token::UnverifiedToken,
    Headers, Reason, Request,
};

/// Verified tokens that one worker remembers.
const CACHE_CAPACITY: usize = 1024;

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
    roles: Vec<Role>,
    public: Vec<Rule>,
    claim_headers: Vec<ClaimHeader>,
    verified: TokenCache<Caller>,
}

#[derive(Debug)]
struct ClaimHeader {
    claim: ClaimPath,
    header: String,
    format: Format,
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
        let mut providers = Vec::new();
        let mut key_sources = Vec::new();
        let mut by_issuer = HashMap::new();
        for (place, mut provider) in config.providers.into_iter().enumerate() {
            let at = format!("providers[{place}]");
            let jwks = std::mem::take(&mut provider.jwks);
            let provider = Provider::compile(provider, &at)?;
            if providers
                .iter()
                .any(|other: &Provider| other.name == provider.name)
            {
                return Err(ConfigError::at(
                    format_args!("{at}.name"),
                    "another provider has this name",
                ));
            }
            if by_issuer.insert(provider.issuer.clone(), place).is_some() {
                return Err(ConfigError::at(
                    format_args!("{at}.issuer"),
                    "another provider has this issuer",
                ));
            }
            key_sources.push(KeySource::compile(jwks, &format!("{at}.jwks"))?);
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
            roles,
            public: compile_each(config.public, "public", Rule::compile)?,
            claim_headers: compile_claim_headers(config.claims_to_headers)?,
            verified: TokenCache::new(CACHE_CAPACITY),
        })
    }

    /// Decides about one request at the time `now`.
    pub fn decide(&mut self, request: &Request<'_>, now: UnixMillis) -> Decision {
        match self.allow(request, now) {
            Ok(allowed) => Decision::Allow(allowed),
            Err(Stop::Deny(reason, caller)) => Decision::Deny(Denied { reason, caller }),
            Err(Stop::Wait) => Decision::Wait,
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
    /// Each is listed once; it ends with a call of [`Engine::fetched`].
    pub fn due_fetches(&mut self, now: UnixMillis) -> Vec<Fetch> {
        self.key_sources
            .iter_mut()
            .enumerate()
            .filter_map(|(place, source)| source.start_fetch(KeySourceId(place), now))
            .collect()
    }

    /// Takes the outcome of a fetch: the body of an answer with status 200, or what went wrong. An error tells why no
    /// keys came of it; keys that were there before stay in use.
    pub fn fetched(
        &mut self,
        source: KeySourceId,
        outcome: Result<&[u8], FetchError>,
        now: UnixMillis,
    ) -> Result<(), FetchError> {
        let Some(source) = self.key_sources.get_mut(source.0) else {
            return Ok(());
        };
        if source.finish_fetch(outcome, now)? {
            // A key may have been taken away because it was stolen: what it signed must be looked at again.
            self.verified.clear();
        }
        Ok(())
    }

    /// The name of the provider whose keys a source holds, for logs.
    pub fn provider_name(&self, source: KeySourceId) -> &str {
        self.providers
            .get(source.0)
            .map_or("unknown", |provider| provider.name.as_str())
    }

    /// The names among `trailers` that only this filter may set, as they stand there: they are taken away from a request that
    /// passes, as they are from its header.
    pub fn forged_trailers(&self, trailers: Headers<'_>) -> Vec<String> {
        self.to_remove(trailers, false)
    }

    fn allow(&mut self, request: &Request<'_>, now: UnixMillis) -> Result<Allowed, Stop> {
        let (Some(method), Some(target)) = (request.method(), request.path_and_query()) else {
            return Err(Reason::AmbiguousPath.into());
        };
        let path = NormalPath::parse(target).map_err(|_| Reason::AmbiguousPath)?;
        if self.public.iter().any(|rule| rule.covers(method, &path)) {
            return Ok(Allowed {
                reason: Reason::Public,
                remove: self.to_remove(request.headers, false),
                set: Vec::new(),
                caller: None,
                grant: None,
            });
        }
        let caller = self.authenticate(request, now)?;
        let granted = caller.roles.iter().find_map(|place| {
            let role = self.roles.get(*place)?;
            Some((role, role.allows(method, &path)?))
        });
        let Some((role, rule)) = granted else {
            let reason = if caller.roles.is_empty() {
                Reason::NoRole
            } else {
                Reason::NotAllowed
            };
            return Err(Stop::Deny(reason, Some(caller)));
        };
        let forward = self
            .providers
            .get(caller.provider)
            .is_some_and(|provider| provider.forward);
        let mut set = caller.headers.clone();
        set.push((ROLE_HEADER.to_owned(), role.name.clone()));
        if let Some(credential) = &role.credential {
            set.push((CREDENTIAL_HEADER.to_owned(), credential.clone()));
        }
        Ok(Allowed {
            reason: Reason::Allowed,
            remove: self.to_remove(request.headers, forward),
            set,
            grant: Some(Grant {
                role: role.name.clone(),
                credential: role.credential.clone(),
                rule,
            }),
            caller: Some(caller),
        })
    }

    fn authenticate(&mut self, request: &Request<'_>, now: UnixMillis) -> Result<Rc<Caller>, Stop> {
        let token = credential::bearer_token(request)?;
        let remembered = self
            .verified
            .get(token)
            .filter(|caller| now.as_seconds() < caller.identity.valid_until);
        let caller = match remembered {
            Some(caller) => caller,
            None => {
                let caller = Rc::new(self.verify(token, now)?);
                self.verified.insert(token, Rc::clone(&caller));
                caller
            }
        };
        match caller.identity.bound_to.as_deref() {
            Some(certificate) if request.peer.certificate_sha256 != Some(certificate) => {
                Err(Reason::UnprovenBinding.into())
            }
            _ => Ok(caller),
        }
    }

    /// Only the provider that the token's issuer names, and only its keys and algorithms, are ever tried.
    fn verify(&mut self, token: &str, now: UnixMillis) -> Result<Caller, Stop> {
        let token = UnverifiedToken::parse(token)?;
        let issuer = token.claims.get("iss").and_then(|issuer| issuer.as_str());
        let place = issuer
            .and_then(|issuer| self.by_issuer.get(issuer))
            .copied()
            .ok_or(Reason::UnknownIssuer)?;
        let (Some(provider), Some(source)) = (self.providers.get(place), self.key_sources.get_mut(place))
        else {
            return Err(Reason::UnknownIssuer.into());
        };
        let algorithm = token
            .algorithm
            .filter(|algorithm| provider.allows_algorithm(*algorithm))
            .ok_or(Reason::AlgorithmNotAllowed)?;
        let genuine = match source.keys(now) {
            Keys::Ready(keys) => keys
                .select(token.kid.as_deref(), algorithm)
                .map(|key| key.verify(algorithm, token.signed.as_bytes(), &token.signature)),
            Keys::Coming => return Err(Stop::Wait),
            Keys::Unavailable => return Err(Reason::KeysUnavailable.into()),
        };
        match genuine {
            Ok(true) => {}
            Ok(false) => return Err(Reason::BadSignature.into()),
            Err(Reason::UnknownKey) if source.refetch_for_unknown_key(now) => return Err(Stop::Wait),
            Err(reason) => return Err(reason.into()),
        }
        let identity = provider.accept(&token.claims, now)?;
        Ok(self.caller(place, identity, &token.claims))
    }

    fn caller(&self, provider: usize, identity: crate::provider::Identity, claims: &Claims) -> Caller {
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

    /// Every field that only this filter may set, in any spelling that a backend could read as the same name, and the
    /// caller's own credential.
    fn to_remove(&self, headers: Headers<'_>, keep_credential: bool) -> Vec<String> {
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
            canonical.starts_with(OWN_PREFIX)
                || (canonical == credential::HEADER.as_bytes() && !keep_credential)
                || self
                    .claim_headers
                    .iter()
                    .any(|rule| rule.header.as_bytes() == canonical)
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
    const TAKEN: [&str; 13] = [
        "authorization",
        "connection",
        "content-length",
        "content-type",
        "cookie",
        "expect",
        "host",
        "keep-alive",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    (1..=128).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !TAKEN.contains(&name)
        && !name.as_bytes().starts_with(OWN_PREFIX)
        && !name.starts_with("x-envoy-")
        && !name.starts_with("x-forwarded-")
        && name != "x-request-id"
}
