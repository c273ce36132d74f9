//! The keys that tokens are signed with. All of them are published here and good for nothing else.

use base64::{engine::general_purpose::URL_SAFE_NO_PAD, Engine as _};
use hmac::{Hmac, Mac as _};
use p256::ecdsa::signature::{RandomizedSigner as _, Signer as _};
use rsa::{
    pkcs8::DecodePrivateKey as _,
    rand_core::{CryptoRng, Error, RngCore},
    traits::PublicKeyParts as _,
    Pkcs1v15Sign, Pss, RsaPrivateKey,
};
use serde::Deserialize;
use serde_json::{json, Value};
use sha2::{Digest as _, Sha256, Sha384, Sha512};

const PROVIDER_KEY: &str = include_str!("../keys/provider.pem");
const ROGUE_KEY: &str = include_str!("../keys/rogue.pem");
const SECRET: [u8; 64] = [7; 64];

macro_rules! hmac_with {
    ($hash:ty, $message:expr) => {{
        let mut mac = Hmac::<$hash>::new_from_slice(&SECRET).expect("any length is a key");
        mac.update($message);
        mac.finalize().into_bytes().to_vec()
    }};
}

/// A key, by whose and of which kind it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SigningKey {
    /// The provider's RSA key.
    #[default]
    Provider,
    /// Somebody else's RSA key.
    Rogue,
    P256,
    P384,
    P521,
    Ed25519,
    Secret,
}

impl SigningKey {
    /// The name that it has in the tables, and the id that it has in key sets.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Provider => "provider",
            Self::Rogue => "rogue",
            Self::P256 => "p256",
            Self::P384 => "p384",
            Self::P521 => "p521",
            Self::Ed25519 => "ed25519",
            Self::Secret => "secret",
        }
    }

    /// The algorithm that it signs with where nothing else is said.
    pub(crate) fn algorithm(self) -> &'static str {
        match self {
            Self::Provider | Self::Rogue => "RS256",
            Self::P256 => "ES256",
            Self::P384 => "ES384",
            Self::P521 => "ES512",
            Self::Ed25519 => "EdDSA",
            Self::Secret => "HS256",
        }
    }

    /// The signature over `message` by the algorithm of that name (RFC 7518, section 3.1). A name that this key
    /// cannot serve gets the signature that the key makes most naturally: the header then lies about it.
    pub(crate) fn sign(self, algorithm: &str, message: &[u8]) -> Vec<u8> {
        match self {
            Self::Provider => sign_rsa(PROVIDER_KEY, algorithm, message),
            Self::Rogue => sign_rsa(ROGUE_KEY, algorithm, message),
            Self::P256 => {
                let signature: p256::ecdsa::Signature = p256_key().sign(message);
                signature.to_bytes().to_vec()
            }
            Self::P384 => {
                let signature: p384::ecdsa::Signature = p384_key().sign(message);
                signature.to_bytes().to_vec()
            }
            Self::P521 => {
                let signature: p521::ecdsa::Signature =
                    p521_key().sign_with_rng(&mut Fixed::default(), message);
                signature.to_bytes().to_vec()
            }
            Self::Ed25519 => ed25519_key().sk.sign(message, None).to_vec(),
            Self::Secret => match algorithm {
                "HS384" => hmac_with!(Sha384, message),
                "HS512" => hmac_with!(Sha512, message),
                _ => hmac_with!(Sha256, message),
            },
        }
    }

    /// The public key, or the secret, as a JWK without any other member (RFC 7518, section 6; RFC 8037, section 2).
    pub(crate) fn jwk(self) -> Value {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let ec = |curve: &str, point: &[u8]| {
            // SEC 1, section 2.3.3: a byte that says "uncompressed", then both coordinates.
            let (x, y) = point[1..].split_at((point.len() - 1) / 2);
            json!({"kty": "EC", "crv": curve, "x": text(x), "y": text(y)})
        };
        match self {
            Self::Provider | Self::Rogue => {
                let pem = if self == Self::Provider {
                    PROVIDER_KEY
                } else {
                    ROGUE_KEY
                };
                let key = rsa_key(pem).to_public_key();
                json!({"kty": "RSA", "n": text(&key.n().to_bytes_be()), "e": text(&key.e().to_bytes_be())})
            }
            Self::P256 => ec(
                "P-256",
                p256_key().verifying_key().to_encoded_point(false).as_bytes(),
            ),
            Self::P384 => ec(
                "P-384",
                p384_key().verifying_key().to_encoded_point(false).as_bytes(),
            ),
            Self::P521 => {
                let public = p521::ecdsa::VerifyingKey::from(&p521_key());
                ec("P-521", public.to_encoded_point(false).as_bytes())
            }
            Self::Ed25519 => json!({"kty": "OKP", "crv": "Ed25519", "x": text(&*ed25519_key().pk)}),
            Self::Secret => json!({"kty": "oct", "k": text(&SECRET)}),
        }
    }
}

fn sign_rsa(pem: &str, algorithm: &str, message: &[u8]) -> Vec<u8> {
    let key = rsa_key(pem);
    let mut salt = Fixed::default();
    let signature = match algorithm {
        "RS384" => key.sign(Pkcs1v15Sign::new::<Sha384>(), &Sha384::digest(message)),
        "RS512" => key.sign(Pkcs1v15Sign::new::<Sha512>(), &Sha512::digest(message)),
        "PS256" => key.sign_with_rng(&mut salt, Pss::new::<Sha256>(), &Sha256::digest(message)),
        "PS384" => key.sign_with_rng(&mut salt, Pss::new::<Sha384>(), &Sha384::digest(message)),
        "PS512" => key.sign_with_rng(&mut salt, Pss::new::<Sha512>(), &Sha512::digest(message)),
        _ => key.sign(Pkcs1v15Sign::new::<Sha256>(), &Sha256::digest(message)),
    };
    signature.expect("a 2048-bit key signs a digest")
}

fn rsa_key(pem: &str) -> RsaPrivateKey {
    RsaPrivateKey::from_pkcs8_pem(pem).expect("a key of this crate")
}

fn p256_key() -> p256::ecdsa::SigningKey {
    p256::ecdsa::SigningKey::from_slice(&[7; 32]).expect("a scalar in range")
}

fn p384_key() -> p384::ecdsa::SigningKey {
    p384::ecdsa::SigningKey::from_slice(&[7; 48]).expect("a scalar in range")
}

fn p521_key() -> p521::ecdsa::SigningKey {
    let mut scalar = [7; 66];
    scalar[0] = 0;
    p521::ecdsa::SigningKey::from_slice(&scalar).expect("a scalar in range")
}

fn ed25519_key() -> ed25519_compact::KeyPair {
    ed25519_compact::KeyPair::from_seed(ed25519_compact::Seed::new([7; 32]))
}

/// WebAssembly has no source of randomness. A salt need not be secret to be a salt, and a nonce keeps a key safe that
/// nobody knows: these are published. The bytes differ (SplitMix64), because whoever wants a number in range asks
/// until one is.
#[derive(Default)]
struct Fixed(u64);

impl RngCore for Fixed {
    fn next_u32(&mut self) -> u32 {
        (self.next_u64() >> 32) as u32
    }

    fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        bytes.fill_with(|| (self.next_u64() >> 56) as u8);
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Error> {
        self.fill_bytes(bytes);
        Ok(())
    }
}

impl CryptoRng for Fixed {}
