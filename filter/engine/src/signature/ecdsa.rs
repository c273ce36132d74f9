//! ES256, ES384 and ES512 (RFC 7518, section 3.4): r and s as two numbers of fixed length, each curve with the hash
//! of its size.

use std::{borrow::Cow, num::NonZeroUsize};

use jwt_compact::{Algorithm, AlgorithmSignature};
use p256::ecdsa::signature::Verifier as _;

use super::{
    host::{HostSignature, WithSpki},
    NoSigningKey,
};

macro_rules! ecdsa {
    ($name:ident, $label:literal, $curve:ident, $key:ty, $coordinate:literal, $verifier:expr) => {
        #[derive(Clone, Copy, Debug)]
        pub(super) struct $name;

        impl $name {
            /// The key at a point: both coordinates in full length and on the curve (RFC 7518, section 6.2.1).
            pub(super) fn key(x: &[u8], y: &[u8]) -> Option<WithSpki<$key>> {
                use $curve::pkcs8::EncodePublicKey as _;
                if x.len() != $coordinate || y.len() != $coordinate {
                    return None;
                }
                // SEC 1, section 2.3.3: an uncompressed point.
                let point = [&[4][..], x, y].concat();
                let public = $curve::PublicKey::from_sec1_bytes(&point).ok()?;
                Some(WithSpki {
                    spki: public.to_public_key_der().ok()?.into_vec(),
                    key: public.into(),
                })
            }
        }

        impl Algorithm for $name {
            type SigningKey = NoSigningKey;
            type VerifyingKey = $key;
            type Signature = Signature<$curve::ecdsa::Signature>;

            fn name(&self) -> Cow<'static, str> {
                Cow::Borrowed($label)
            }

            fn sign(&self, key: &NoSigningKey, _: &[u8]) -> Self::Signature {
                match *key {}
            }

            fn verify_signature(&self, signature: &Self::Signature, key: &$key, message: &[u8]) -> bool {
                let verifier: Option<$curve::ecdsa::VerifyingKey> = $verifier(key);
                verifier.is_some_and(|verifier| verifier.verify(message, &signature.0).is_ok())
            }
        }

        impl AlgorithmSignature for Signature<$curve::ecdsa::Signature> {
            const LENGTH: Option<NonZeroUsize> = NonZeroUsize::new(2 * $coordinate);

            fn try_from_slice(slice: &[u8]) -> anyhow::Result<Self> {
                let signature = $curve::ecdsa::Signature::from_slice(slice);
                signature
                    .map(Self)
                    .map_err(|_| anyhow::Error::msg("r or s is out of range"))
            }

            fn as_bytes(&self) -> Cow<'_, [u8]> {
                Cow::Owned(self.0.to_bytes().to_vec())
            }
        }

        impl HostSignature for Signature<$curve::ecdsa::Signature> {
            /// RFC 3279, section 2.2.3: a sequence of r and s.
            fn for_host(&self) -> Cow<'_, [u8]> {
                Cow::Owned(self.0.to_der().as_bytes().to_vec())
            }
        }
    };
}

/// A signature whose r and s are in range.
pub(super) struct Signature<S>(S);

ecdsa!(
    Es256,
    "ES256",
    p256,
    p256::ecdsa::VerifyingKey,
    32,
    |key: &p256::ecdsa::VerifyingKey| Some(*key)
);
ecdsa!(
    Es384,
    "ES384",
    p384,
    p384::ecdsa::VerifyingKey,
    48,
    |key: &p384::ecdsa::VerifyingKey| Some(*key)
);
// The verifying key of p521 has no equality; its public key has.
ecdsa!(
    Es512,
    "ES512",
    p521,
    p521::PublicKey,
    66,
    |key: &p521::PublicKey| { p521::ecdsa::VerifyingKey::from_affine(*key.as_affine()).ok() }
);
