//! Why a request was let through or refused: one closed list for the reply, the audit event, the metrics and the
//! command.

use std::fmt;

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $status:literal;)*) => {
        /// Why a request was let through or refused. The codes are stable: dashboards and alerts may rely on them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Reason { $($(#[$doc])* $name,)* }

        impl Reason {
            /// Every reason there is, in the order of the documentation.
            pub const ALL: &'static [Reason] = &[$(Reason::$name,)*];

            /// The stable code, as it stands in replies, audit events and metrics.
            pub const fn code(self) -> &'static str {
                match self { $(Reason::$name => $code,)* }
            }

            /// The HTTP status of the reply; 200 for the reasons that let a request pass.
            pub const fn status(self) -> u16 {
                match self { $(Reason::$name => $status,)* }
            }
        }
    };
}

reasons! {
    /// A role that the caller holds allows the request.
    Allowed = "allowed", 200;
    /// The path is configured as public.
    Public = "public", 200;
    /// A CORS preflight request, which never has a credential.
    Preflight = "preflight", 200;

    /// The path can be read in more than one way (encoded slash, dot segment, double encoding, NUL …).
    AmbiguousPath = "ambiguous_path", 400;
    /// The request has not exactly one method, path and host, or a header field whose name is no token (RFC 9110,
    /// section 5.1).
    MalformedRequest = "malformed_request", 400;

    /// No credential came with the request.
    MissingToken = "missing_token", 401;
    /// More than one credential came with the request.
    AmbiguousToken = "ambiguous_token", 401;
    /// The token is not a JWS in compact form with strict base64url and JSON objects (RFC 7515, RFC 7519).
    MalformedToken = "malformed_token", 401;
    /// The token is longer than 16 KiB.
    TokenTooLarge = "token_too_large", 401;
    /// The header holds `crit`, `b64: false` or a `typ` other than `JWT` and `at+jwt`.
    UnsupportedHeader = "unsupported_header", 401;
    /// No provider has the token's `iss`.
    UnknownIssuer = "unknown_issuer", 401;
    /// The provider does not allow the token's `alg`.
    AlgorithmNotAllowed = "algorithm_not_allowed", 401;
    /// The provider has no key with the token's `kid`, or without `kid` not exactly one that fits.
    UnknownKey = "unknown_key", 401;
    /// The key was not made for the token's `alg` or not for signatures.
    KeyMismatch = "key_mismatch", 401;
    /// The signature is not the key's.
    BadSignature = "bad_signature", 401;
    /// `aud`, or what takes its place at this provider, is absent or names somebody else.
    WrongAudience = "wrong_audience", 401;
    /// The token has no `exp`, or a claim that must be a number or a string is something else.
    InvalidClaim = "invalid_claim", 401;
    /// `exp` has passed.
    Expired = "expired", 401;
    /// `nbf` or `iat` lies ahead.
    NotYetValid = "not_yet_valid", 401;
    /// `exp − iat` is longer than the provider's `max_lifetime`.
    LifetimeTooLong = "lifetime_too_long", 401;
    /// The token is of a kind that the provider's preset does not take.
    WrongTokenUse = "wrong_token_use", 401;
    /// A claim that the provider's configuration requires is absent or has another value.
    RequirementNotMet = "requirement_not_met", 401;
    /// The token lay in a place from which this provider's tokens are not taken.
    WrongSource = "wrong_source", 401;
    /// The token is bound to a key (`cnf`) of which the caller gave no proof (RFC 7800, RFC 8705).
    UnprovenBinding = "unproven_binding", 401;

    /// The token does not list the caller's groups: there are too many, and it says where to ask for them (Entra).
    GroupsOverage = "groups_overage", 403;
    /// The caller is known and holds no role.
    NoRole = "no_role", 403;
    /// The caller asked for a role that they do not hold.
    RoleNotHeld = "role_not_held", 403;
    /// The caller holds roles, but none of them allows the request.
    NotAllowed = "not_allowed", 403;

    /// The provider's keys are not to be had at present.
    KeysUnavailable = "keys_unavailable", 503;
    /// More requests wait for keys than may be held.
    Overloaded = "overloaded", 503;
    /// The proxy refused a call that the decision needs; without it nothing may pass.
    HostFailure = "host_failure", 503;
}

impl Reason {
    /// Whether a token that was refused for this reason will be refused again, as long as configuration and keys stay
    /// and the clock does not go back.
    pub(crate) const fn is_final(self) -> bool {
        matches!(
            self,
            Self::MalformedToken
                | Self::UnsupportedHeader
                | Self::UnknownIssuer
                | Self::AlgorithmNotAllowed
                | Self::KeyMismatch
                | Self::BadSignature
                | Self::WrongAudience
                | Self::InvalidClaim
                | Self::Expired
                | Self::LifetimeTooLong
                | Self::WrongTokenUse
                | Self::RequirementNotMet
                | Self::GroupsOverage
                | Self::UnprovenBinding
        )
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.code())
    }
}

#[cfg(test)]
mod tests {
    use wasm_bindgen_test::wasm_bindgen_test;

    use super::*;

    #[wasm_bindgen_test(unsupported = test)]
    fn codes_are_unique_snake_case_words() {
        let mut codes: Vec<_> = Reason::ALL.iter().map(|reason| reason.code()).collect();
        for code in &codes {
            assert!(
                code.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'),
                "{code}"
            );
        }
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), Reason::ALL.len());
    }
}
