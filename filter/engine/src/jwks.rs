//! Key sets (RFC 7517): which keys a provider has, and which of them a token is to be verified with.

use serde::Deserialize;
use serde_json::{value::RawValue, Map, Value};
use thiserror::Error;

use crate::{
    signature::{Algorithm, TestedHost, VerifyingKey},
    strict_json, Reason,
};

/// The largest key set that is read, in bytes.
pub(crate) const MAX_SET_BYTES: usize = 256 * 1024;
/// The most keys that a set may hold.
const MAX_KEYS: usize = 64;

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
        #[derive(Deserialize)]
        struct Set<'t> {
            #[serde(borrow)]
            keys: Vec<&'t RawValue>,
        }

        if text.len() > MAX_SET_BYTES {
            return Err(KeySetError::TooLarge);
        }
        // serde would read the fields out of an array too.
        if text.trim_ascii_start().first() != Some(&b'{') {
            return Err(KeySetError::Malformed);
        }
        let set: Set<'_> = serde_json::from_slice(text).map_err(|_| KeySetError::Malformed)?;
        let read = |key: &&RawValue| strict_json::parse(key.get().as_bytes()).ok();
        Self::of(set.keys.len(), set.keys.iter().filter_map(read))
    }

    /// As [`KeySet::parse`], from JSON that is parsed already.
    pub(crate) fn from_value(set: &Value) -> Result<Self, KeySetError> {
        let listed = set
            .get("keys")
            .and_then(Value::as_array)
            .ok_or(KeySetError::Malformed)?;
        Self::of(listed.len(), listed.iter().cloned())
    }

    fn of(number: usize, keys: impl Iterator<Item = Value>) -> Result<Self, KeySetError> {
        if number > MAX_KEYS {
            return Err(KeySetError::TooManyKeys);
        }
        let keys: Vec<Key> = keys.filter_map(|key| Key::from_jwk(key.as_object()?)).collect();
        if keys.is_empty() {
            return Err(KeySetError::NoUsableKey);
        }
        Ok(Self { keys })
    }

    /// The set without symmetric keys: one that came over the network is known to others, and whoever knows it can
    /// sign.
    pub(crate) fn without_secrets(mut self) -> Result<Self, KeySetError> {
        self.keys
            .retain(|key| !matches!(key.verifying, VerifyingKey::Secret(_)));
        if self.keys.is_empty() {
            return Err(KeySetError::NoUsableKey);
        }
        Ok(self)
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

/// One key and what it may be used for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    /// The issuer that this key speaks for, where the set says so. Entra's sets do: `{tenantid}` stands for the
    /// token's tenant.
    pub(crate) issuer: Option<String>,
    kid: Option<String>,
    algorithm: Option<Algorithm>,
    verifying: VerifyingKey,
}

impl Key {
    /// Reads a JWK. Nothing if it is malformed, of a kind that is not known, or made for something else.
    pub(crate) fn from_jwk(jwk: &Map<String, Value>) -> Option<Self> {
        if !may_verify(jwk)? {
            return None;
        }
        let algorithm = match text(jwk, "alg")? {
            Some(name) => Some(Algorithm::from_name(name)?),
            None => None,
        };
        let key = Self {
            issuer: text(jwk, "issuer")?.map(str::to_owned),
            kid: text(jwk, "kid")?.map(str::to_owned),
            algorithm,
            verifying: VerifyingKey::from_jwk(jwk)?,
        };
        algorithm.is_none_or(|own| key.fits(own)).then_some(key)
    }

    /// Whether the signature over `signed` is this key's.
    pub(crate) fn verify(
        &self,
        algorithm: Algorithm,
        signed: &[u8],
        signature: &[u8],
        host: Option<&TestedHost>,
    ) -> bool {
        self.fits(algorithm) && self.verifying.verify(algorithm, signed, signature, host)
    }

    /// Whether the key may be the one that this id names: it has the id, or none.
    pub(crate) fn has_kid(&self, kid: Option<&str>) -> bool {
        self.kid.is_none() || self.kid.as_deref() == kid
    }

    pub(crate) fn fits(&self, algorithm: Algorithm) -> bool {
        self.algorithm.is_none_or(|own| own == algorithm) && self.verifying.fits(algorithm)
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

#[cfg(test)]
mod tests {
    use base64::{engine::general_purpose::URL_SAFE_NO_PAD, Engine as _};
    use serde_json::json;
    use wasm_bindgen_test::wasm_bindgen_test;

    use super::*;

    const N: &str = "xAE7eB6qugXyCAG3yhh7pkDkT65pHymX-P7KfIupjf59vsdo91bSP9C8H07pSAGQO1MV_xFj9VswgsCg4R6otmg5PV2He95lZdHtOcU5DXIg_pbhLdKXbi66GlVeK6ABZOUW3WYtnNHD-91gVuoeJT_DwtGGcp4ignkgXfkiEm4sw-4sfb4qdt5oLbyVpmW6x9cfa7vs2WTfURiCrBoUqgBo_-4WTiULmmHSGZHOjzwa8WtrtOQGsAFjIbno85jp6MnGGGZPYZbDAa_b3y5u-YpW7ypZrvD8BgtKVjgtQgZhLAGezMt0ua3DRrWnKqTZ0BJ_EyxOGuHJrLsn00fnMQ";

    /// RFC 7515, appendix A.3.
    const X: &str = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU";
    const Y: &str = "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0";

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
    fn keys_out_of_bounds_or_off_their_curve_are_no_keys() {
        let secret = |length: usize, alg: &str| json!({"kty": "oct", "alg": alg, "k": URL_SAFE_NO_PAD.encode(vec![7; length])});
        for (jwk, usable) in [
            (secret(32, "HS256"), true),
            (secret(31, "HS256"), false),
            (secret(48, "HS384"), true),
            (secret(47, "HS384"), false),
            (secret(64, "HS512"), true),
            (secret(63, "HS512"), false),
            (secret(64, "RS256"), false),
            (secret(1025, "HS256"), false),
            (rsa(None, json!({"alg": "ES256"})), false),
            (rsa(None, json!({"e": "Ag"})), false),
            (json!({"kty": "EC", "crv": "P-256", "x": X, "y": Y}), true),
            (json!({"kty": "EC", "crv": "P-256", "x": X, "y": X}), false),
            (json!({"kty": "EC", "crv": "P-384", "x": X, "y": Y}), false),
            (json!({"kty": "EC", "crv": "secp256k1", "x": X, "y": Y}), false),
            (
                json!({"kty": "EC", "crv": "P-256", "alg": "ES384", "x": X, "y": Y}),
                false,
            ),
            (
                json!({"kty": "EC", "crv": "P-256", "alg": "ES521", "x": X, "y": Y}),
                false,
            ),
            (json!({"kty": "EC", "crv": "P-256", "x": &X[2..], "y": Y}), false),
            (json!({"kty": "OKP", "crv": "Ed25519", "x": X}), true),
            (json!({"kty": "OKP", "crv": "Ed25519", "x": &X[2..]}), false),
            (json!({"kty": "OKP", "crv": "X25519", "x": X}), false),
        ] {
            assert_eq!(set(json!([jwk])).is_ok(), usable, "{jwk}");
        }
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn a_secret_that_came_over_the_network_is_no_key() {
        let secret = json!({"kty": "oct", "k": URL_SAFE_NO_PAD.encode([7; 32])});
        let both = set(json!([secret, rsa(None, json!({}))]))
            .unwrap()
            .without_secrets()
            .unwrap();
        assert_eq!(both.select(None, Algorithm::Hs256), Err(Reason::UnknownKey));
        assert!(both.select(None, Algorithm::Rs256).is_ok());
        assert_eq!(
            set(json!([secret])).unwrap().without_secrets(),
            Err(KeySetError::NoUsableKey)
        );
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn a_key_that_cannot_be_read_strictly_does_not_spoil_the_others_either() {
        let good = rsa(Some("good"), json!({}));
        for bad in [
            r#"{"kty":"RSA","kty":"RSA"}"#.to_owned(),
            "[".repeat(20) + &"]".repeat(20),
        ] {
            let set = KeySet::parse(format!(r#"{{"x":1,"keys":[{bad},{good}]}}"#).as_bytes()).unwrap();
            assert!(set.select(Some("good"), Algorithm::Rs256).is_ok(), "{bad}");
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
            r#"[[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]]"#,
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
