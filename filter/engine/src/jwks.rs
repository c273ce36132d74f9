//! Key sets (RFC 7517) and the verification of signatures with their keys (RFC 7518).

use base64::{engine::general_purpose::URL_SAFE_NO_PAD, Engine as _};
use jwt_compact::{
    alg::{Rsa, RsaPublicKey, RsaSignature},
    Algorithm as _, AlgorithmSignature as _,
};
use rsa::BigUint;
use serde::Deserialize;
use serde_json::{Map, Value};
use thiserror::Error;

use crate::{strict_json, Reason};

/// The largest key set that is read, in bytes.
pub(crate) const MAX_SET_BYTES: usize = 256 * 1024;
/// The most keys that a set may hold.
const MAX_KEYS: usize = 64;
const MIN_RSA_BITS: usize = 2048;
const MAX_RSA_BITS: usize = 8192;

/// The signature algorithms that tokens may use (RFC 7518, section 3.1). `none` is not among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Algorithm {
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
}

impl Algorithm {
    /// The algorithm of that exact name, if it is known.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "RS256" => Self::Rs256,
            "RS384" => Self::Rs384,
            "RS512" => Self::Rs512,
            "PS256" => Self::Ps256,
            "PS384" => Self::Ps384,
            "PS512" => Self::Ps512,
            _ => return None,
        })
    }

    fn rsa(self) -> Rsa {
        match self {
            Self::Rs256 => Rsa::rs256(),
            Self::Rs384 => Rsa::rs384(),
            Self::Rs512 => Rsa::rs512(),
            Self::Ps256 => Rsa::ps256(),
            Self::Ps384 => Rsa::ps384(),
            Self::Ps512 => Rsa::ps512(),
        }
    }
}

/// Why a key set as a whole cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum KeySetError {
    #[error("more than {MAX_SET_BYTES} bytes")]
    TooLarge,
    #[error("no JSON object with an array of objects as \"keys\"")]
    Malformed,
    #[error("more than {MAX_KEYS} keys")]
    TooManyKeys,
    #[error("no key that can verify a signature")]
    NoUsableKey,
}

/// The keys of one provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeySet {
    keys: Vec<Key>,
}

impl KeySet {
    /// Reads a JWK set. A key that is not usable here (another type, for encryption, too short, malformed) does not
    /// spoil the others.
    pub(crate) fn parse(text: &[u8]) -> Result<Self, KeySetError> {
        if text.len() > MAX_SET_BYTES {
            return Err(KeySetError::TooLarge);
        }
        let set = strict_json::parse(text).map_err(|_| KeySetError::Malformed)?;
        Self::from_value(&set)
    }

    /// As [`KeySet::parse`], from JSON that is parsed already.
    pub(crate) fn from_value(set: &Value) -> Result<Self, KeySetError> {
        let listed = set
            .get("keys")
            .and_then(Value::as_array)
            .ok_or(KeySetError::Malformed)?;
        if listed.len() > MAX_KEYS {
            return Err(KeySetError::TooManyKeys);
        }
        let keys: Vec<Key> = listed
            .iter()
            .filter_map(Value::as_object)
            .filter_map(Key::from_jwk)
            .collect();
        if keys.is_empty() {
            return Err(KeySetError::NoUsableKey);
        }
        Ok(Self { keys })
    }

    /// The key for a token: the one its `kid` names, or without `kid` the only one that fits.
    pub(crate) fn select(&self, kid: Option<&str>, algorithm: Algorithm) -> Result<&Key, Reason> {
        let mut fitting = self
            .keys
            .iter()
            .filter(|key| kid.is_none() || key.kid.as_deref() == kid)
            .filter(|key| key.fits(algorithm));
        match (fitting.next(), kid) {
            (Some(key), Some(_)) => Ok(key),
            (Some(key), None) if fitting.next().is_none() => Ok(key),
            (None, Some(_)) if self.names(kid) => Err(Reason::KeyMismatch),
            _ => Err(Reason::UnknownKey),
        }
    }

    fn names(&self, kid: Option<&str>) -> bool {
        self.keys.iter().any(|key| key.kid.as_deref() == kid)
    }
}

/// One public key and what it may be used for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    kid: Option<String>,
    algorithm: Option<Algorithm>,
    public: RsaPublicKey,
}

impl Key {
    /// Whether the signature over `signed` is this key's.
    pub(crate) fn verify(&self, algorithm: Algorithm, signed: &[u8], signature: &[u8]) -> bool {
        self.fits(algorithm)
            && RsaSignature::try_from_slice(signature)
                .is_ok_and(|signature| algorithm.rsa().verify_signature(&signature, &self.public, signed))
    }

    fn fits(&self, algorithm: Algorithm) -> bool {
        self.algorithm.is_none_or(|own| own == algorithm)
    }

    fn from_jwk(jwk: &Map<String, Value>) -> Option<Self> {
        if text(jwk, "kty")? != Some("RSA") || !may_verify(jwk)? {
            return None;
        }
        let algorithm = match text(jwk, "alg")? {
            Some(name) => Some(Algorithm::from_name(name)?),
            None => None,
        };
        Some(Self {
            kid: text(jwk, "kid")?.map(str::to_owned),
            algorithm,
            public: rsa_key(text(jwk, "n")??, text(jwk, "e")??)?,
        })
    }
}

/// A member that is absent (inner nothing) or text; anything else makes the key malformed (outer nothing).
fn text<'k>(jwk: &'k Map<String, Value>, name: &str) -> Option<Option<&'k str>> {
    match jwk.get(name) {
        None => Some(None),
        Some(Value::String(text)) => Some(Some(text)),
        Some(_) => None,
    }
}

/// RFC 7517, sections 4.2 and 4.3.
fn may_verify(jwk: &Map<String, Value>) -> Option<bool> {
    let for_signatures = matches!(text(jwk, "use")?, None | Some("sig"));
    let for_verifying = match jwk.get("key_ops") {
        None => true,
        Some(operations) => operations
            .as_array()?
            .iter()
            .any(|operation| operation == "verify"),
    };
    Some(for_signatures && for_verifying)
}

/// RFC 7518, section 6.3.1. Lengths from 2048 bits (the floor of RFC 7518, section 3.3) to 8192 bits (a bound on the
/// cost of one verification); jwt-compact's own conversion would stop at 4096.
fn rsa_key(modulus: &str, exponent: &str) -> Option<RsaPublicKey> {
    let number = |text| Some(BigUint::from_bytes_be(&URL_SAFE_NO_PAD.decode(text).ok()?));
    let (n, e) = (number(modulus)?, number(exponent)?);
    let odd = n.to_bytes_le().first()? & 1 == 1;
    if n.bits() < MIN_RSA_BITS || !odd {
        return None;
    }
    RsaPublicKey::new_with_max_size(n, e, MAX_RSA_BITS).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use wasm_bindgen_test::wasm_bindgen_test;

    use super::*;

    const N: &str = "xAE7eB6qugXyCAG3yhh7pkDkT65pHymX-P7KfIupjf59vsdo91bSP9C8H07pSAGQO1MV_xFj9VswgsCg4R6otmg5PV2He95lZdHtOcU5DXIg_pbhLdKXbi66GlVeK6ABZOUW3WYtnNHD-91gVuoeJT_DwtGGcp4ignkgXfkiEm4sw-4sfb4qdt5oLbyVpmW6x9cfa7vs2WTfURiCrBoUqgBo_-4WTiULmmHSGZHOjzwa8WtrtOQGsAFjIbno85jp6MnGGGZPYZbDAa_b3y5u-YpW7ypZrvD8BgtKVjgtQgZhLAGezMt0ua3DRrWnKqTZ0BJ_EyxOGuHJrLsn00fnMQ";

    fn set(keys: Value) -> Result<KeySet, KeySetError> {
        KeySet::parse(json!({ "keys": keys }).to_string().as_bytes())
    }

    fn rsa(kid: Option<&str>, extra: Value) -> Value {
        let mut key = json!({"kty": "RSA", "n": N, "e": "AQAB"});
        if let (Some(members), Some(extra)) = (key.as_object_mut(), extra.as_object()) {
            members.extend(extra.clone());
            members.extend(kid.map(|kid| ("kid".to_owned(), kid.into())));
        }
        key
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn one_bad_key_does_not_spoil_the_others() {
        let bad = [
            json!({}),
            json!(7),
            json!({"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}),
            rsa(Some("b"), json!({"use": "enc"})),
            rsa(Some("b"), json!({"key_ops": ["sign"]})),
            rsa(Some("b"), json!({"key_ops": "verify"})),
            rsa(Some("b"), json!({"alg": "RSA-OAEP"})),
            rsa(None, json!({"kid": 7})),
            rsa(Some("b"), json!({"n": "AQAB"})),
            rsa(Some("b"), json!({"n": &N[..170]})),
            rsa(Some("b"), json!({"e": "AQ"})),
            rsa(Some("b"), json!({"e": ""})),
            rsa(Some("b"), json!({"e": "A QAB"})),
        ];
        for bad in bad {
            assert_eq!(set(json!([bad])), Err(KeySetError::NoUsableKey), "{bad}");
            let both = set(json!([bad, rsa(Some("good"), json!({}))])).unwrap();
            assert!(both.select(Some("good"), Algorithm::Rs256).is_ok(), "{bad}");
        }
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn refuses_sets_that_are_none_or_too_large() {
        for text in [
            "",
            "[]",
            "{}",
            r#"{"keys":{}}"#,
            "<html>",
            r#"{"keys":[],"keys":[]}"#,
        ] {
            assert_eq!(
                KeySet::parse(text.as_bytes()),
                Err(KeySetError::Malformed),
                "{text}"
            );
        }
        assert_eq!(set(json!([])), Err(KeySetError::NoUsableKey));
        let many: Vec<Value> = (0..=MAX_KEYS).map(|_| rsa(None, json!({}))).collect();
        assert_eq!(set(json!(many)), Err(KeySetError::TooManyKeys));
        let padding = " ".repeat(MAX_SET_BYTES + 1);
        assert_eq!(KeySet::parse(padding.as_bytes()), Err(KeySetError::TooLarge));
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn the_kid_picks_the_key_and_without_one_only_a_single_fitting_key_is_taken() {
        use Algorithm::{Ps256, Rs256};
        let two = set(json!([
            rsa(Some("a"), json!({"alg": "RS256"})),
            rsa(
                Some("b"),
                json!({"alg": "PS256", "use": "sig", "key_ops": ["verify"]})
            ),
        ]))
        .unwrap();
        assert!(two.select(Some("a"), Rs256).is_ok());
        assert_eq!(two.select(Some("a"), Ps256), Err(Reason::KeyMismatch));
        assert_eq!(two.select(Some("c"), Rs256), Err(Reason::UnknownKey));
        assert_eq!(two.select(Some(""), Rs256), Err(Reason::UnknownKey));
        assert!(two.select(None, Rs256).is_ok());

        let alike = set(json!([rsa(Some("a"), json!({})), rsa(None, json!({}))])).unwrap();
        assert_eq!(alike.select(None, Rs256), Err(Reason::UnknownKey));
    }
}
