//! Tokens as the table describes them, minted at the time of the run.

use base64::{engine::general_purpose::URL_SAFE_NO_PAD, Engine as _};
use rsa::{pkcs8::DecodePrivateKey as _, traits::PublicKeyParts as _, Pkcs1v15Sign, RsaPrivateKey};
use serde::Deserialize;
use serde_json::{json, Map, Value};
use sha2::{Digest as _, Sha256};

use crate::ISSUER;

const PROVIDER_KEY: &str = include_str!("../keys/provider.pem");
const ROGUE_KEY: &str = include_str!("../keys/rogue.pem");
const KID: &str = "a+b/c=";

/// How a token differs from a good one.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenSpec {
    /// Members of the header to change; null takes one away.
    #[serde(default)]
    header: Map<String, Value>,
    /// Claims to change; null takes one away, and text such as `now+60` becomes that many seconds since 1970.
    #[serde(default)]
    claims: Map<String, Value>,
    /// The key that signs.
    #[serde(default)]
    key: SigningKey,
    /// What is done to the token afterwards.
    tamper: Option<Tamper>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum SigningKey {
    /// The provider's.
    #[default]
    Provider,
    /// Somebody else's, under the provider's `kid`.
    Rogue,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Tamper {
    /// Other claims under the signature.
    Payload,
    /// No signature.
    StripSignature,
    /// The signature without its last bytes.
    TruncateSignature,
    /// A fourth part.
    AppendPart,
    /// Padding at the end.
    AppendPadding,
}

impl TokenSpec {
    /// The token for a run at `now` (seconds since 1970).
    pub fn mint(&self, now: u64) -> String {
        let mut header = object(json!({"alg": "RS256", "kid": KID}));
        overlay(&mut header, &self.header, now);
        let mut claims = object(json!({
            "iss": ISSUER, "sub": "alice", "client_id": "orders-api", "token_use": "access",
            "iat": now - 10, "exp": now + 300, "jti": "token-1",
        }));
        overlay(&mut claims, &self.claims, now);
        let part =
            |members: &Map<String, Value>| URL_SAFE_NO_PAD.encode(Value::Object(members.clone()).to_string());
        let signed = format!("{}.{}", part(&header), part(&claims));
        let pem = match self.key {
            SigningKey::Provider => PROVIDER_KEY,
            SigningKey::Rogue => ROGUE_KEY,
        };
        let signature = private_key(pem)
            .sign(Pkcs1v15Sign::new::<Sha256>(), &Sha256::digest(&signed))
            .expect("a 2048-bit key signs a SHA-256 digest");
        let signature = URL_SAFE_NO_PAD.encode(signature);
        match self.tamper {
            None => format!("{signed}.{signature}"),
            Some(Tamper::Payload) => {
                claims.insert("sub".to_owned(), "mallory".into());
                format!("{}.{}.{signature}", part(&header), part(&claims))
            }
            Some(Tamper::StripSignature) => format!("{signed}."),
            Some(Tamper::TruncateSignature) => format!("{signed}.{}", &signature[..signature.len() - 6]),
            Some(Tamper::AppendPart) => format!("{signed}.{signature}.x"),
            Some(Tamper::AppendPadding) => format!("{signed}.{signature}=="),
        }
    }
}

/// The provider's key set.
pub fn jwks() -> Value {
    let key = private_key(PROVIDER_KEY).to_public_key();
    let number = |number: &rsa::BigUint| URL_SAFE_NO_PAD.encode(number.to_bytes_be());
    json!({"keys": [
        {"kty": "RSA", "kid": KID, "alg": "RS256", "use": "sig", "n": number(key.n()), "e": number(key.e())},
    ]})
}

fn private_key(pem: &str) -> RsaPrivateKey {
    RsaPrivateKey::from_pkcs8_pem(pem).expect("a key of this crate")
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}

fn overlay(members: &mut Map<String, Value>, changes: &Map<String, Value>, now: u64) {
    for (name, value) in changes {
        match value {
            Value::Null => {
                members.remove(name);
            }
            Value::String(text) if text.starts_with("now") => {
                let offset: i64 = text["now".len()..].parse().expect("now+N or now-N");
                members.insert(name.clone(), now.saturating_add_signed(offset).into());
            }
            _ => {
                members.insert(name.clone(), value.clone());
            }
        }
    }
}
