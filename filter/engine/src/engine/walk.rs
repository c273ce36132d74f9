//! The walk from request to decision.

use std::rc::Rc;

use super::Engine;
use crate::{
    claims::Claims,
    config::Mode,
    credential,
    decision::{Allowed, Caller, Decision, Denied, Grant},
    forward::{Keep, Stripped},
    key_source::{Keys, Miss},
    path::NormalPath,
    provider::Identity,
    role::Role,
    rule::Target,
    steps::{Silent, Steps},
    time::UnixMillis,
    token::UnverifiedToken,
    Reason, Request,
};

/// The header that names the Azure credential of the request's role; Envoy's routes select the cluster by it.
const CREDENTIAL_HEADER: &str = "x-isthmus-credential";
/// The header that says that nobody knows whose request it is; Envoy's routes select the cluster without a credential
/// by it.
const PUBLIC_HEADER: &str = "x-isthmus-public";
/// The header in which a caller asks for one of their roles; without it, the first that allows the request is taken.
const ASKED_ROLE_HEADER: &str = "x-isthmus-assume-role";
/// The header that tells the backend the role.
const ROLE_HEADER: &str = "x-isthmus-role";

/// A token that was refused for good, and when.
#[derive(Debug)]
pub(super) struct Refusal {
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
    /// Whether a token by itself would be taken, whatever request it came with. A token that is bound to a
    /// certificate is not: nobody shows one.
    pub fn verify_token(&mut self, token: &str, now: UnixMillis) -> Result<(), Reason> {
        match self.identify(token, now, &mut Silent) {
            Ok(caller) if caller.identity.bound_to.is_some() => Err(Reason::UnprovenBinding),
            Ok(_) => Ok(()),
            Err(Stop::Deny(reason, _)) => Err(reason),
            Err(Stop::Wait) => Err(Reason::KeysUnavailable),
        }
    }

    pub(super) fn walk(
        &mut self,
        request: &Request<'_>,
        now: UnixMillis,
        steps: &mut impl Steps,
    ) -> Decision {
        match self.allow(request, now, steps) {
            Ok(allowed) => Decision::Allow(allowed),
            Err(Stop::Deny(reason, caller)) => self.deny(request, reason, caller, steps),
            // Nothing is held up for the sake of a decision that changes nothing.
            Err(Stop::Wait) if self.mode == Mode::Shadow => {
                self.deny(request, Reason::KeysUnavailable, None, steps)
            }
            Err(Stop::Wait) => Decision::Wait,
        }
    }

    /// A refusal; in shadow mode the request passes all the same, with its credential and without what only the
    /// filter may say of a caller. One whose fields cannot be taken away does not.
    pub(super) fn deny(
        &self,
        request: &Request<'_>,
        reason: Reason,
        caller: Option<Rc<Caller>>,
        steps: &mut impl Steps,
    ) -> Decision {
        if self.mode == Mode::Enforce || reason == Reason::MalformedRequest {
            return Decision::Deny(Denied { reason, caller });
        }
        steps.note(|| "in shadow mode the request passes all the same".to_owned());
        let Stripped { remove, set } = self
            .forwarding
            .strip(request.headers, &self.token_sources, Keep::All);
        Decision::Allow(Allowed {
            reason,
            remove,
            set,
            caller,
            grant: None,
        })
    }

    /// What passes without anybody knowing whose it is.
    fn anonymous(&self, request: &Request<'_>, reason: Reason) -> Allowed {
        let keep = match self.mode {
            Mode::Enforce => Keep::Nothing,
            Mode::Shadow => Keep::All,
        };
        let Stripped { remove, mut set } = self.forwarding.strip(request.headers, &self.token_sources, keep);
        set.push((PUBLIC_HEADER.to_owned(), "true".to_owned()));
        Allowed {
            reason,
            remove,
            set,
            caller: None,
            grant: None,
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
            return Err(Reason::MalformedRequest.into());
        };
        if !request.headers.have_plain_names() {
            steps.note(|| "the name of a header field is no token".to_owned());
            return Err(Reason::MalformedRequest.into());
        }
        let path = NormalPath::parse(target).map_err(|_| Reason::AmbiguousPath)?;
        let authority = request.authority().unwrap_or_default();
        let target = Target::new(method, authority, path).map_err(|_| {
            steps.note(|| "the host of the request has no one reading".to_owned());
            Reason::MalformedRequest
        })?;
        steps.note(|| "the path has one reading".to_owned());
        if let Some(place) = self.public.iter().position(|rule| rule.covers(&target)) {
            steps.note(|| format!("public[{place}] covers the request"));
            return Ok(self.anonymous(request, Reason::Public));
        }
        if self.cors_preflight && is_preflight(request) {
            steps.note(|| "a CORS preflight request".to_owned());
            return Ok(self.anonymous(request, Reason::Preflight));
        }
        let (caller, place) = self.authenticate(request, now, steps)?;
        let (place_of_role, role, rule) = match self.grant(&caller, request, &target, steps) {
            Ok(granted) => granted,
            Err(reason) => return Err(Stop::Deny(reason, Some(caller))),
        };
        let provider = self.providers.get(caller.provider);
        let keep = match self.token_sources.get(place) {
            _ if self.mode == Mode::Shadow => Keep::All,
            Some(source) if provider.is_some_and(|provider| provider.forward) => Keep::Only(source),
            _ => Keep::Nothing,
        };
        let Stripped { remove, mut set } = self.forwarding.strip(request.headers, &self.token_sources, keep);
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
                place: place_of_role,
                role: role.name.clone(),
                credential: role.credential.clone(),
                rule,
            }),
            caller: Some(caller),
        })
    }

    /// The role that the request runs under with its place, and the place of the rule that allows it: the first that the caller
    /// holds and that allows it, or the one that they ask for.
    fn grant(
        &self,
        caller: &Caller,
        request: &Request<'_>,
        target: &Target<'_>,
        steps: &mut impl Steps,
    ) -> Result<(usize, &Role, usize), Reason> {
        let mut asked_for = request.headers.all(ASKED_ROLE_HEADER);
        let wanted = asked_for.next();
        if asked_for.next().is_some() {
            steps.note(|| "the request asks for more than one role".to_owned());
            return Err(Reason::RoleNotHeld);
        }
        let mut reason = if wanted.is_some() {
            Reason::RoleNotHeld
        } else {
            Reason::NoRole
        };
        for held in &caller.roles {
            let Some(role) = self.roles.get(held.role) else {
                continue;
            };
            if wanted.is_some_and(|wanted| wanted != role.name.as_bytes()) {
                continue;
            }
            if !held.through(request.peer.uri_san) {
                steps.note(|| {
                    format!(
                        "the caller would hold the role {:?} through another peer",
                        role.name
                    )
                });
                continue;
            }
            reason = Reason::NotAllowed;
            let rule = role.allows(target);
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
                return Ok((held.role, role, rule));
            }
        }
        steps.note(|| match reason {
            Reason::NoRole => "the caller holds no role".to_owned(),
            Reason::RoleNotHeld => "the caller does not hold the role that the request asks for".to_owned(),
            _ => "no role that the caller holds allows the request".to_owned(),
        });
        Err(reason)
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
            // The clock may have been set back since.
            let in_time = caller.identity.valid_from..caller.identity.valid_until;
            in_time.contains(&now.as_seconds()) && matches!(keys, Some(Keys::Ready(_)))
        };
        if let Some(caller) = verified.filter(still_holds) {
            steps.note(|| "the token was verified before".to_owned());
            count(&mut self.cache_counts.verified);
            return Ok(caller);
        }
        // Before that instant means that the clock was set back, and what had expired may be valid again.
        if let Some(refusal) = self.refused.get(token).filter(|refusal| refusal.at <= now) {
            steps.note(|| "the token was refused before".to_owned());
            count(&mut self.cache_counts.refused);
            return Err(refusal.reason.into());
        }
        count(&mut self.cache_counts.missed);
        match self.verify(token, now, steps) {
            Ok(caller) => {
                let caller = Rc::new(caller);
                self.verified.insert(token, Rc::clone(&caller));
                Ok(caller)
            }
            Err(Stop::Deny(reason, caller)) => {
                if reason.is_final() {
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
        Caller {
            provider,
            identity,
            roles: self.holders.roles_of(provider, claims),
            headers: self.forwarding.claim_fields(claims),
        }
    }
}

/// Fetch, section 4.8: what a browser asks before it sends a request with a credential to another origin.
fn is_preflight(request: &Request<'_>) -> bool {
    let has = |name| request.headers.all(name).next().is_some();
    request.method() == Some("OPTIONS") && has("origin") && has("access-control-request-method")
}

fn count(counter: &mut u32) {
    *counter = counter.saturating_add(1);
}
