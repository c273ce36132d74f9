//! Signatures by themselves, whatever they are over: the engine's own code, for those who hold it against test vectors.

use std::rc::Rc;

use serde_json::Value;

use crate::{
    jwks::{Key, KeySet},
    signature::{Algorithm, HostCrypto, TestedHost},
    token::Jws,
    Reason,
};

/// Verifies signatures as the engine does.
#[derive(Debug, Default)]
pub struct SignatureVerifier {
    host: Option<TestedHost>,
}

impl SignatureVerifier {
    /// With the host's cryptography in front; nothing if it does not pass the self-test.
    pub fn with_host(host: Rc<dyn HostCrypto>) -> Option<Self> {
        let host = Some(TestedHost::try_new(host)?);
        Some(Self { host })
    }

    /// Verifies a JWS in compact form (RFC 7515, section 7.1) with one of the keys of a JWK set, chosen as a
    /// provider's are.
    pub fn verify_with_set(&self, jws: &str, jwks: &Value) -> Result<(), Reason> {
        let jws = Jws::parse(jws)?;
        let algorithm = jws.algorithm.ok_or(Reason::AlgorithmNotAllowed)?;
        let keys = KeySet::from_value(jwks).map_err(|_| Reason::UnknownKey)?;
        self.check(keys.select(jws.kid.as_deref(), algorithm)?, algorithm, &jws)
    }

    /// Verifies a JWS in compact form with this very JWK (RFC 7517). If both name a key id, it must be the same.
    pub fn verify_with_key(&self, jws: &str, jwk: &Value) -> Result<(), Reason> {
        let jws = Jws::parse(jws)?;
        let algorithm = jws.algorithm.ok_or(Reason::AlgorithmNotAllowed)?;
        let key = usable(jwk)?;
        if jws.kid.is_some() && !key.has_kid(jws.kid.as_deref()) {
            return Err(Reason::UnknownKey);
        }
        self.check(&key, algorithm, &jws)
    }

    /// Verifies a signature over a message with a JWK and an algorithm by its name (RFC 7518, section 3.1), such as
    /// `ES256`.
    pub fn verify_raw(
        &self,
        algorithm: &str,
        jwk: &Value,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), Reason> {
        let algorithm = Algorithm::from_name(algorithm).ok_or(Reason::AlgorithmNotAllowed)?;
        let key = usable(jwk)?;
        if !key.fits(algorithm) {
            return Err(Reason::KeyMismatch);
        }
        let genuine = key.verify(algorithm, message, signature, self.host.as_ref());
        genuine.then_some(()).ok_or(Reason::BadSignature)
    }

    fn check(&self, key: &Key, algorithm: Algorithm, jws: &Jws<'_>) -> Result<(), Reason> {
        if !key.fits(algorithm) {
            return Err(Reason::KeyMismatch);
        }
        let genuine = key.verify(
            algorithm,
            jws.signed.as_bytes(),
            &jws.signature,
            self.host.as_ref(),
        );
        genuine.then_some(()).ok_or(Reason::BadSignature)
    }
}

fn usable(jwk: &Value) -> Result<Key, Reason> {
    jwk.as_object().and_then(Key::from_jwk).ok_or(Reason::KeyMismatch)
}
