//! EdDSA with Ed25519 (RFC 8037, RFC 8032).

use std::{borrow::Cow, num::NonZeroUsize};

use ed25519_compact::{PublicKey, Signature};
use jwt_compact::{Algorithm, AlgorithmSignature};

use super::NoSigningKey;

#[derive(Clone, Copy, Debug)]
pub(super) struct Ed25519;

/// A key of 32 bytes. The verification itself refuses points of small order and encodings that are not canonical.
pub(super) fn key(bytes: &[u8]) -> Option<PublicKey> {
    PublicKey::from_slice(bytes).ok()
}

impl Algorithm for Ed25519 {
    type SigningKey = NoSigningKey;
    type VerifyingKey = PublicKey;
    type Signature = EdSignature;

    fn name(&self) -> Cow<'static, str> {
        Cow::Borrowed("EdDSA")
    }

    fn sign(&self, key: &NoSigningKey, _: &[u8]) -> EdSignature {
        match *key {}
    }

    fn verify_signature(&self, signature: &EdSignature, key: &PublicKey, message: &[u8]) -> bool {
        key.verify(message, &signature.0).is_ok()
    }
}

pub(super) struct EdSignature(Signature);

impl AlgorithmSignature for EdSignature {
    const LENGTH: Option<NonZeroUsize> = NonZeroUsize::new(Signature::BYTES);

    fn try_from_slice(slice: &[u8]) -> anyhow::Result<Self> {
        let signature = Signature::from_slice(slice);
        signature
            .map(Self)
            .map_err(|_| anyhow::Error::msg("not 64 bytes"))
    }

    fn as_bytes(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(self.0.as_ref())
    }
}
