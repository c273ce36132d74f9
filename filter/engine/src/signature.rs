//! Signatures (RFC 7518, section 3; RFC 8037): one key type per algorithm family, each an implementation of
//! [`jwt_compact::Algorithm`], by itself or with the host's own cryptography in front.

mod ecdsa;
mod eddsa;
mod host;

use base64::{engine::general_purpose::URL_SAFE_NO_PAD, Engine as _};
use jwt_compact::{
    alg::{Hs256, Hs256Key, Hs384, Hs384Key, Hs512, Hs512Key, Rsa, RsaPublicKey},
    AlgorithmSignature as _,
};
use rsa::{pkcs8::EncodePublicKey as _, traits::PublicKeyParts as _, BigUint};
use serde::Deserialize;
use serde_json::{Map, Value};

use self::{
    ecdsa::{Es256, Es384, Es512},
    eddsa::Ed25519,
    host::{OnHost, WithSpki},
};

pub(crate) use host::TestedHost;
pub use host::{HostCrypto, HostHash};

const MIN_RSA_BITS: usize = 2048;
const MAX_RSA_BITS: usize = 8192;
const MAX_SECRET_BYTES: usize = 1024;

/// The signature algorithms that tokens may use (RFC 7518, section 3.1; RFC 8037, section 3.1). `none` is not among
/// them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub(crate) enum Algorithm {
    #[serde(rename = "RS256")]
    Rs256,
    #[serde(rename = "RS384")]
    Rs384,
    #[serde(rename = "RS512")]
    Rs512,
    #[serde(rename = "PS256")]
    Ps256,
    #[serde(rename = "PS384")]
    Ps384,
    #[serde(rename = "PS512")]
    Ps512,
    #[serde(rename = "ES256")]
    Es256,
    #[serde(rename = "ES384")]
    Es384,
    #[serde(rename = "ES512")]
    Es512,
    #[serde(rename = "EdDSA")]
    EdDsa,
    #[serde(rename = "HS256")]
    Hs256,
    #[serde(rename = "HS384")]
    Hs384,
    #[serde(rename = "HS512")]
    Hs512,
}

impl Algorithm {
    /// The algorithm of that exact name, if it is known.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        let name = serde::de::value::StrDeserializer::<serde::de::value::Error>::new(name);
        Self::deserialize(name).ok()
    }

    /// Whether whoever can verify can also sign.
    pub(crate) fn is_symmetric(self) -> bool {
        matches!(self, Self::Hs256 | Self::Hs384 | Self::Hs512)
    }

    fn rsa(self) -> Option<(Rsa, HostHash)> {
        Some(match self {
            Self::Rs256 => (Rsa::rs256(), HostHash::Sha256),
            Self::Rs384 => (Rsa::rs384(), HostHash::Sha384),
            Self::Rs512 => (Rsa::rs512(), HostHash::Sha512),
            Self::Ps256 => (Rsa::ps256(), HostHash::Sha256),
            Self::Ps384 => (Rsa::ps384(), HostHash::Sha384),
            Self::Ps512 => (Rsa::ps512(), HostHash::Sha512),
            _ => return None,
        })
    }
}

/// A key that verifies signatures. There is no way to hold one that is too short, too long or off its curve.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum VerifyingKey {
    Rsa(WithSpki<RsaPublicKey>),
    P256(WithSpki<p256::ecdsa::VerifyingKey>),
    P384(WithSpki<p384::ecdsa::VerifyingKey>),
    P521(WithSpki<p521::PublicKey>),
    Ed25519(ed25519_compact::PublicKey),
    /// Shared with the signer (HS256, HS384, HS512).
    Secret(Vec<u8>),
}

impl std::fmt::Debug for VerifyingKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Rsa(_) => "RSA",
            Self::P256(_) => "P-256",
            Self::P384(_) => "P-384",
            Self::P521(_) => "P-521",
            Self::Ed25519(_) => "Ed25519",
            Self::Secret(_) => "[redacted]",
        })
    }
}

impl VerifyingKey {
    /// The key material of a JWK (RFC 7518, section 6; RFC 8037, section 2); nothing if it is of an unknown kind,
    /// malformed or out of bounds.
    pub(crate) fn from_jwk(jwk: &Map<String, Value>) -> Option<Self> {
        let text = |name: &str| jwk.get(name)?.as_str();
        let bytes = |name: &str| URL_SAFE_NO_PAD.decode(text(name)?).ok();
        match (text("kty")?, text("crv")) {
            ("RSA", _) => rsa_key(&bytes("n")?, &bytes("e")?).map(Self::Rsa),
            ("EC", Some("P-256")) => Es256::key(&bytes("x")?, &bytes("y")?).map(Self::P256),
            ("EC", Some("P-384")) => Es384::key(&bytes("x")?, &bytes("y")?).map(Self::P384),
            ("EC", Some("P-521")) => Es512::key(&bytes("x")?, &bytes("y")?).map(Self::P521),
            ("OKP", Some("Ed25519")) => eddsa::key(&bytes("x")?).map(Self::Ed25519),
            ("oct", _) => bytes("k")
                .filter(|secret| (1..=MAX_SECRET_BYTES).contains(&secret.len()))
                .map(Self::Secret),
            _ => None,
        }
    }

    /// Whether this kind of key makes that kind of signature. A secret must be as long as the hash (RFC 7518, section
    /// 3.2).
    pub(crate) fn fits(&self, algorithm: Algorithm) -> bool {
        match self {
            Self::Rsa(_) => algorithm.rsa().is_some(),
            Self::P256(_) => algorithm == Algorithm::Es256,
            Self::P384(_) => algorithm == Algorithm::Es384,
            Self::P521(_) => algorithm == Algorithm::Es512,
            Self::Ed25519(_) => algorithm == Algorithm::EdDsa,
            Self::Secret(secret) => match algorithm {
                Algorithm::Hs256 => secret.len() >= 32,
                Algorithm::Hs384 => secret.len() >= 48,
                Algorithm::Hs512 => secret.len() >= 64,
                _ => false,
            },
        }
    }

    /// Whether `signature` over `message` is this key's. The host is asked where it can do this algorithm.
    pub(crate) fn verify(
        &self,
        algorithm: Algorithm,
        message: &[u8],
        signature: &[u8],
        host: Option<&TestedHost>,
    ) -> bool {
        let signed = Signed { message, signature };
        match (self, algorithm) {
            (Self::Rsa(key), _) => match algorithm.rsa() {
                Some((rsa, hash)) if signature.len() == key.key.size() => match algorithm {
                    Algorithm::Rs256 | Algorithm::Rs384 | Algorithm::Rs512 => {
                        signed.by_host(rsa, hash, key, host)
                    }
                    _ => signed.by(&rsa, &key.key),
                },
                _ => false,
            },
            (Self::P256(key), Algorithm::Es256) => signed.by_host(Es256, HostHash::Sha256, key, host),
            (Self::P384(key), Algorithm::Es384) => signed.by_host(Es384, HostHash::Sha384, key, host),
            (Self::P521(key), Algorithm::Es512) => signed.by_host(Es512, HostHash::Sha512, key, host),
            (Self::Ed25519(key), Algorithm::EdDsa) => signed.by(&Ed25519, key),
            (Self::Secret(secret), _) if self.fits(algorithm) => match algorithm {
                Algorithm::Hs256 => signed.by(&Hs256, &Hs256Key::new(secret)),
                Algorithm::Hs384 => signed.by(&Hs384, &Hs384Key::new(secret)),
                Algorithm::Hs512 => signed.by(&Hs512, &Hs512Key::new(secret)),
                _ => false,
            },
            _ => false,
        }
    }
}

/// RFC 7518, section 6.3.1. Lengths from 2048 bits (the floor of RFC 7518, section 3.3) to 8192 bits (a bound on the
/// cost of one verification); jwt-compact's own conversion would stop at 4096.
fn rsa_key(modulus: &[u8], exponent: &[u8]) -> Option<WithSpki<RsaPublicKey>> {
    let (n, e) = (BigUint::from_bytes_be(modulus), BigUint::from_bytes_be(exponent));
    let odd = |number: &BigUint| number.to_bytes_le().first().is_some_and(|byte| byte & 1 == 1);
    if n.bits() < MIN_RSA_BITS || !odd(&n) || !odd(&e) {
        return None;
    }
    let key = RsaPublicKey::new_with_max_size(n, e, MAX_RSA_BITS).ok()?;
    let spki = key.to_public_key_der().ok()?.into_vec();
    Some(WithSpki { key, spki })
}

/// Why signing is no part of this crate: a signing key cannot be made.
#[derive(Clone, Copy, Debug)]
pub(crate) enum NoSigningKey {}

/// A message and what is said to be its signature.
struct Signed<'s> {
    message: &'s [u8],
    signature: &'s [u8],
}

impl Signed<'_> {
    fn by<A: jwt_compact::Algorithm>(&self, algorithm: &A, key: &A::VerifyingKey) -> bool {
        // The length is the caller's to check: jwt-compact's HMAC panics on another one.
        if A::Signature::LENGTH.is_some_and(|length| length.get() != self.signature.len()) {
            return false;
        }
        A::Signature::try_from_slice(self.signature)
            .is_ok_and(|signature| algorithm.verify_signature(&signature, key, self.message))
    }

    fn by_host<A>(
        &self,
        algorithm: A,
        hash: HostHash,
        key: &WithSpki<A::VerifyingKey>,
        host: Option<&TestedHost>,
    ) -> bool
    where
        A: jwt_compact::Algorithm,
        A::Signature: host::HostSignature,
    {
        match host {
            Some(host) => self.by(&OnHost::new(algorithm, hash, host), key),
            None => self.by(&algorithm, &key.key),
        }
    }
}

#[cfg(test)]
mod tests;
