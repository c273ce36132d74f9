//! Signing keys and compact JWS (RFC 7515), RS256 only.
//!
//! Tokens are signed with aws-lc-rs directly, so that a test can sign *any* header and claims, wrong ones
//! above all. They are verified by the `jsonwebtoken` crate: what this cloud accepts is not decided by the
//! code that signed it.

use std::{
    fmt,
    time::{SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::{
    rand::SystemRandom,
    rsa::{KeyPair, KeySize},
    signature::{KeyPair as _, RSA_PKCS1_SHA256},
};
use base64::{engine::general_purpose::URL_SAFE_NO_PAD, Engine as _};
use jsonwebtoken::{errors::ErrorKind, Algorithm, DecodingKey, Validation};
use serde_json::{json, Value};

use crate::CloudError;

/// An RSA-2048 key with its key id.
pub struct SigningKey {
    kid: String,
    pair: KeyPair,
    modulus: Vec<u8>,
    exponent: Vec<u8>,
}

impl SigningKey {
    /// Makes a key. It takes a tenth of a second of pure arithmetic, hence off the async threads.
    pub async fn generate(kid: String) -> Result<Self, CloudError> {
        tokio::task::spawn_blocking(move || Self::generate_blocking(kid))
            .await
            .map_err(|_| CloudError::Key)?
    }

    pub(crate) fn generate_blocking(kid: String) -> Result<Self, CloudError> {
        let pair = KeyPair::generate(KeySize::Rsa2048).map_err(|_| CloudError::Key)?;
        let public = pair.public_key();
        let modulus = public.modulus().big_endian_without_leading_zero().to_vec();
        let exponent = public.exponent().big_endian_without_leading_zero().to_vec();
        Ok(Self {
            kid,
            modulus,
            exponent,
            pair,
        })
    }

    /// The key id.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The public half as a JSON Web Key (RFC 7517).
    pub fn jwk(&self) -> Value {
        json!({
            "kty": "RSA",
            "use": "sig",
            "alg": "RS256",
            "kid": self.kid,
            "n": URL_SAFE_NO_PAD.encode(&self.modulus),
            "e": URL_SAFE_NO_PAD.encode(&self.exponent),
        })
    }

    /// Signs `claims` under `header`, exactly as given: neither is looked at.
    pub fn sign(&self, header: &Value, claims: &Value) -> String {
        let mut token = URL_SAFE_NO_PAD.encode(header.to_string());
        token.push('.');
        token.push_str(&URL_SAFE_NO_PAD.encode(claims.to_string()));
        let mut signature = vec![0; self.pair.public_modulus_len()];
        self.pair
            .sign(
                &RSA_PKCS1_SHA256,
                &SystemRandom::new(),
                token.as_bytes(),
                &mut signature,
            )
            .expect("an RSA-2048 key signs a message of any length");
        token.push('.');
        token.push_str(&URL_SAFE_NO_PAD.encode(signature));
        token
    }

    /// The claims of `token` if this key signed it with RS256 and it names this key. Claims are **not**
    /// checked.
    pub(crate) fn verify(&self, token: &str) -> Result<Value, BadToken> {
        let header = token.split('.').next().unwrap_or_default();
        let header = URL_SAFE_NO_PAD.decode(header).map_err(|_| BadToken::Malformed)?;
        let header: Value = serde_json::from_slice(&header).map_err(|_| BadToken::Malformed)?;
        let text = |name| header.get(name).and_then(Value::as_str).unwrap_or_default();
        if text("alg") != "RS256" {
            return Err(BadToken::Algorithm(text("alg").to_owned()));
        }
        if text("kid") != self.kid {
            return Err(BadToken::UnknownKey);
        }

        let mut signature_only = Validation::new(Algorithm::RS256);
        signature_only.required_spec_claims.clear();
        signature_only.validate_exp = false;
        signature_only.validate_aud = false;
        let key = DecodingKey::from_rsa_raw_components(&self.modulus, &self.exponent);
        match jsonwebtoken::decode(token, &key, &signature_only) {
            Ok(token) => Ok(token.claims),
            Err(e) if matches!(e.kind(), ErrorKind::InvalidSignature) => Err(BadToken::Signature),
            Err(_) => Err(BadToken::Malformed),
        }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("kid", &self.kid)
            .finish_non_exhaustive()
    }
}

/// What a token says, proven or not: for finding out whose keys to ask, and for nothing else.
pub(crate) fn unverified_claims(token: &str) -> Option<Value> {
    let mut parts = token.split('.');
    let (Some(_), Some(claims), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return None;
    };
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()
}

/// Why a token's signature was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadToken {
    #[error("malformed")]
    Malformed,
    #[error("algorithm not accepted")]
    Algorithm(String),
    #[error("unknown key")]
    UnknownKey,
    #[error("bad signature")]
    Signature,
}

/// Unix time in whole seconds, as JWT claims count it.
pub fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("the clock is past 1970")
        .as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_this_keys_rs256_signature_is_accepted() {
        let key = SigningKey::generate("k".into()).await.unwrap();
        let other = SigningKey::generate("k".into()).await.unwrap();
        let claims = json!({"sub": "x"});
        let header = json!({"alg": "RS256", "kid": "k"});

        assert_eq!(key.verify(&key.sign(&header, &claims)).unwrap(), claims);
        assert_eq!(
            key.verify(&other.sign(&header, &claims)),
            Err(BadToken::Signature)
        );
        for (header, refusal) in [
            (
                json!({"alg": "none", "kid": "k"}),
                BadToken::Algorithm("none".into()),
            ),
            (
                json!({"alg": "RS512", "kid": "k"}),
                BadToken::Algorithm("RS512".into()),
            ),
            (json!({"alg": "RS256", "kid": "l"}), BadToken::UnknownKey),
            (json!({"alg": "RS256"}), BadToken::UnknownKey),
        ] {
            assert_eq!(key.verify(&key.sign(&header, &claims)), Err(refusal));
        }
        for garbage in ["", ".", "a.b.c", "e30.e30"] {
            assert!(key.verify(garbage).is_err(), "{garbage}");
        }
    }
}
