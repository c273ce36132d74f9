//! Secret values: they wipe their memory when dropped and never print themselves.
//!
//! The protection ends where a value is handed to gRPC or TLS, whose buffers are ordinary memory.

use std::fmt;

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::token::Token;

/// Bytes that are wiped when dropped. `Debug` prints a fingerprint.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretBytes(Zeroizing<Vec<u8>>);

impl SecretBytes {
    /// Takes the bytes over.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes themselves, for the one place that hands them on.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[redacted {}]", Fingerprint::of(&[self.expose()]))
    }
}

/// The first 64 bits of a SHA-256: enough to tell two values apart in a log, useless to recover one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(u64);

impl Fingerprint {
    /// The fingerprint of a sequence of parts. Where one part ends matters.
    pub fn of(parts: &[&[u8]]) -> Self {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        let first = hash
            .finalize()
            .iter()
            .take(8)
            .fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        Self(first)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A certificate chain and its key: one value, so that they always change together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertifiedKey {
    /// The chain in PEM, the leaf first. Public.
    pub chain_pem: Vec<u8>,
    /// The private key in PEM (PKCS#8).
    pub key_pem: SecretBytes,
}

/// What one secret holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// An access token.
    Token(Token),
    /// A certificate with its key.
    CertifiedKey(CertifiedKey),
    /// CA certificates to trust, in PEM. Public.
    TrustBundle(Vec<u8>),
}

impl Value {
    /// The fingerprint of the whole value. It is also the value's version in SDS: the same after a restart, and different
    /// exactly if the value is.
    pub fn fingerprint(&self) -> Fingerprint {
        match self {
            Self::Token(token) => Fingerprint::of(&[b"token", token.expose()]),
            Self::CertifiedKey(pair) => {
                Fingerprint::of(&[b"certificate", &pair.chain_pem, pair.key_pem.expose()])
            }
            Self::TrustBundle(pem) => Fingerprint::of(&[b"bundle", pem]),
        }
    }

    /// What to serve instead once this value has expired, if serving it on would not fail closed.
    ///
    /// Envoy keeps a removed secret in use and takes an empty one for a good one, so an expired token is overwritten by a
    /// text that no backend accepts. An expired certificate is refused by every peer as it is.
    pub fn once_expired(&self) -> Option<Self> {
        match self {
            Self::Token(_) => Some(Self::Token(Token::expired())),
            Self::CertifiedKey(_) | Self::TrustBundle(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_of_a_secret_shows_a_fingerprint_and_not_the_secret() {
        let token = Token::parse("hunter2.hunter2.hunter2").unwrap();
        let pair = CertifiedKey {
            chain_pem: b"chain".to_vec(),
            key_pem: SecretBytes::new(b"hunter2".to_vec()),
        };
        for value in [Value::Token(token), Value::CertifiedKey(pair)] {
            let printed = format!("{value:?} {value:#?}");
            let as_numbers = format!("{:?}", b"hunter2");
            assert!(printed.contains("[redacted "), "{printed}");
            assert!(!printed.contains("hunter2"), "{printed}");
            assert!(
                !printed.contains(as_numbers.trim_matches(['[', ']'])),
                "{printed}"
            );
        }
    }

    #[test]
    fn a_fingerprint_depends_on_the_value_its_kind_and_its_parts() {
        let token = |text: &str| Value::Token(Token::parse(text).unwrap()).fingerprint();
        assert_eq!(token("a"), token("a"));
        assert_ne!(token("a"), token("b"));
        assert_ne!(token("a"), Value::TrustBundle(b"a".to_vec()).fingerprint());
        assert_ne!(Fingerprint::of(&[b"ab", b"c"]), Fingerprint::of(&[b"a", b"bc"]));
        assert_eq!(Fingerprint::of(&[b"x"]).to_string().len(), 16);
    }

    #[test]
    fn an_expired_token_is_replaced_by_one_that_is_not_empty() {
        let expired = Value::Token(Token::parse("good").unwrap()).once_expired();
        let Some(Value::Token(expired)) = expired else {
            panic!("a token must be overwritten")
        };
        assert_eq!(expired.expose(), b"isthmus-expired");
    }
}
