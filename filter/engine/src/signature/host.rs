//! The host's own cryptography as one more [`Algorithm`]: Envoy's BoringSSL verifies RSA (PKCS #1 v1.5) and ECDSA ten
//! times faster than WebAssembly does. It is believed only after it has answered known questions rightly.

use std::{borrow::Cow, fmt, rc::Rc};

use base64::{engine::general_purpose::URL_SAFE_NO_PAD, Engine as _};
use jwt_compact::{alg::RsaSignature, Algorithm, AlgorithmSignature};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::VerifyingKey;

/// Hash functions of signatures (FIPS 180-4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostHash {
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

/// What verifies signatures outside of the engine, such as Envoy's foreign function `verify_signature`.
pub trait HostCrypto {
    /// Whether `signature` over `message` is that of the key `spki`: an RSA key (PKCS #1 v1.5) or one on P-256, P-384
    /// or P-521, as SubjectPublicKeyInfo in DER (RFC 5280, section 4.1). An ECDSA signature comes as a DER sequence
    /// of r and s. Nothing if the host gave no answer: the engine then verifies by itself.
    fn verify(&self, hash: HostHash, spki: &[u8], signature: &[u8], message: &[u8]) -> Option<bool>;
}

/// A host that has passed the self-test.
#[derive(Clone)]
pub(crate) struct TestedHost(Rc<dyn HostCrypto>);

impl fmt::Debug for TestedHost {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("host")
    }
}

impl TestedHost {
    /// Puts the known questions: each good signature must be taken, and must not be with one bit of the message, the
    /// signature or the key's algorithm changed.
    pub(crate) fn try_new(host: Rc<dyn HostCrypto>) -> Option<Self> {
        let tested = Self(host);
        let answers: Vec<KnownAnswer> = serde_json::from_str(include_str!("known_answers.json")).ok()?;
        (!answers.is_empty()
            && answers
                .iter()
                .all(|answer| answer.is_given_by(&tested) == Some(true)))
        .then_some(tested)
    }
}

/// A signature that was made elsewhere, with its key.
#[derive(Deserialize)]
struct KnownAnswer {
    alg: super::Algorithm,
    jwk: Map<String, Value>,
    message: String,
    signature: String,
}

impl KnownAnswer {
    fn is_given_by(&self, host: &TestedHost) -> Option<bool> {
        let key = VerifyingKey::from_jwk(&self.jwk)?;
        let message = self.message.as_bytes();
        let signature = URL_SAFE_NO_PAD.decode(&self.signature).ok()?;
        let flipped = |bytes: &[u8]| {
            let mut bytes = bytes.to_vec();
            if let Some(last) = bytes.last_mut() {
                *last ^= 1;
            }
            bytes
        };
        // Asked directly: an answer that the engine had to give by itself is none.
        let ask = |message: &[u8], signature: &[u8]| match &key {
            VerifyingKey::Rsa(key) => host.0.verify(HostHash::Sha256, &key.spki, signature, message),
            VerifyingKey::P256(key) => {
                let signature = super::ecdsa::Signature::try_from_slice(signature).ok()?;
                let signature: super::ecdsa::Signature<p256::ecdsa::Signature> = signature;
                host.0
                    .verify(HostHash::Sha256, &key.spki, &signature.for_host(), message)
            }
            _ => None,
        };
        let good = ask(message, &signature)? && key.verify(self.alg, message, &signature, None);
        let refused = !ask(&flipped(message), &signature)? && !ask(message, &flipped(&signature))?;
        Some(good && refused)
    }
}

/// A key, and its form for the host.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct WithSpki<K> {
    pub(super) key: K,
    pub(super) spki: Vec<u8>,
}

/// A signature in the host's form.
pub(super) trait HostSignature {
    fn for_host(&self) -> Cow<'_, [u8]>;
}

impl HostSignature for RsaSignature {
    fn for_host(&self) -> Cow<'_, [u8]> {
        self.as_bytes()
    }
}

/// An algorithm with the host in front of it.
pub(super) struct OnHost<'h, A> {
    algorithm: A,
    hash: HostHash,
    host: &'h TestedHost,
}

impl<'h, A> OnHost<'h, A> {
    pub(super) fn new(algorithm: A, hash: HostHash, host: &'h TestedHost) -> Self {
        Self {
            algorithm,
            hash,
            host,
        }
    }
}

impl<A: Algorithm> Algorithm for OnHost<'_, A>
where
    A::Signature: HostSignature,
{
    type SigningKey = A::SigningKey;
    type VerifyingKey = WithSpki<A::VerifyingKey>;
    type Signature = A::Signature;

    fn name(&self) -> Cow<'static, str> {
        self.algorithm.name()
    }

    fn sign(&self, key: &A::SigningKey, message: &[u8]) -> A::Signature {
        self.algorithm.sign(key, message)
    }

    fn verify_signature(&self, signature: &A::Signature, key: &Self::VerifyingKey, message: &[u8]) -> bool {
        let answer = self
            .host
            .0
            .verify(self.hash, &key.spki, &signature.for_host(), message);
        answer.unwrap_or_else(|| self.algorithm.verify_signature(signature, &key.key, message))
    }
}
