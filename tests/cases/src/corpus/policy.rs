//! What the sets leave open, decided by the filter's token rules.

use super::Verdict::{self, Accept, Reject};

/// What is right here about a row that the sets leave open.
#[derive(Clone, Copy, Debug)]
pub struct Decision {
    /// The row's id.
    pub row: &'static str,
    /// What must come of it.
    pub verdict: Verdict,
    /// The reason of the refusal.
    pub reason: Option<&'static str>,
    /// Header fields that must not reach the backend, besides those that the set names.
    pub absent: &'static [&'static str],
    /// Which rule says so.
    pub why: &'static str,
}

/// Every row that the sets leave open, in their order.
pub const DECISIONS: [Decision; 13] = [
    reject(
        "wycheproof/jws/wy-signature-346",
        "key_mismatch",
        "`alg` must fit the key's `alg`: the key is for PS256, the JWS says PS384.",
    ),
    reject(
        "wycheproof/jws/wy-signature-347",
        "unknown_key",
        "`alg` must fit the key's `alg`: the key is for ES521, which is no algorithm, so it is a key for nothing.",
    ),
    reject(
        "wycheproof/prim/wyp-hmac_sha256-164",
        "key_mismatch",
        "The key is shorter than the hash, and such a key must not be used (RFC 7518, section 3.2).",
    ),
    reject(
        "wycheproof/prim/wyp-rsa_signature_2048_sha256-8",
        "bad_signature",
        "Signatures have one encoding: this one leaves out the NULL in its DigestInfo (RFC 8017, section 9.2).",
    ),
    reject(
        "rfc-jose/rfc7515-A.1/bearer",
        "wrong_audience",
        "`aud` is required in every provider, and the token has none.",
    ),
    reject(
        "rfc-jose/rfc7515-A.2/bearer",
        "wrong_audience",
        "`aud` is required in every provider, and the token has none.",
    ),
    reject(
        "rfc-jose/rfc7515-A.3/bearer",
        "wrong_audience",
        "`aud` is required in every provider, and the token has none.",
    ),
    reject(
        "rfc-jose/rfc7515-A.5/bearer",
        "algorithm_not_allowed",
        "`alg` is `none`, which is never allowed.",
    ),
    Decision {
        row: "jwt-attack/claims/exp-u64-max",
        verdict: Accept,
        reason: None,
        absent: &[],
        why: "`exp` is a finite number that lies ahead, and the provider sets no `max_lifetime`.",
    },
    Decision {
        row: "jwt-attack/claims/sub-crlf",
        verdict: Accept,
        reason: None,
        absent: &["x-jwt-sub"],
        why: "The token is genuine; its `sub` holds bytes that may not stand in a header, so no header is set from it.",
    },
    reject(
        "jwt-attack/claims/deep-nesting-2000",
        "malformed_token",
        "Nesting is bounded, and 2,000 arrays in each other are beyond every bound.",
    ),
    reject(
        "istio-jwt/demo/bearer",
        "wrong_audience",
        "`aud` is required in every provider, and the token has none.",
    ),
    reject(
        "istio-jwt/groups-scope/bearer",
        "wrong_audience",
        "`aud` is required in every provider, and the token has none.",
    ),
];

const fn reject(row: &'static str, reason: &'static str, why: &'static str) -> Decision {
    Decision {
        row,
        verdict: Reject,
        reason: Some(reason),
        absent: &[],
        why,
    }
}
