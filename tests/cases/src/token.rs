//! Tokens as the tables describe them, minted at the time of the run.

use base64::{engine::general_purpose::URL_SAFE_NO_PAD, Engine as _};
use serde::Deserialize;
use serde_json::{json, Map, Value};

use crate::{config::Issuer, key::SigningKey};

/// How a token differs from a good one.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenSpec {
    /// Who issues it.
    #[serde(default)]
    by: Issuer,
    /// Members of the header to change; null takes one away.
    #[serde(default)]
    header: Map<String, Value>,
    /// Claims to change; null takes one away, and text such as `now+60` becomes that many seconds since 1970.
    #[serde(default)]
    claims: Map<String, Value>,
    /// The key that signs.
    #[serde(default)]
    key: SigningKey,
    /// What is done to the token besides.
    tamper: Option<Tamper>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Tamper {
    // Before it is signed.
    /// A name in the header twice.
    RepeatName,
    /// Claims nested deeper than is read.
    NestDeeply,
    /// More than 16 KiB.
    Inflate,
    // After that.
    /// The signature without its last bytes.
    TruncateSignature,
    /// Other claims under the signature.
    Payload,
    /// No signature.
    StripSignature,
    /// A fourth part.
    AppendPart,
    /// Padding at the end.
    AppendPadding,
    /// The same bytes by other last bits, which strict base64url refuses (RFC 4648, section 3.5).
    OtherLastBits,
    /// White space within.
    InsertSpace,
}

impl TokenSpec {
    /// The token for a run at `now` (seconds since 1970).
    pub fn mint(&self, now: u64) -> String {
        let mut header = object(json!({"alg": self.key.algorithm(), "kid": self.by.kid(self.key)}));
        overlay(&mut header, &self.header, now);
        let mut claims = object(self.by.claims(now));
        overlay(&mut claims, &self.claims, now);
        match self.tamper {
            Some(Tamper::NestDeeply) => {
                let nested = (0..20).fold(json!(1), |inner, _| json!([inner]));
                claims.insert("nested".to_owned(), nested);
            }
            Some(Tamper::Inflate) => {
                claims.insert("padding".to_owned(), "x".repeat(16 * 1024).into());
            }
            _ => {}
        }
        let mut header_text = Value::Object(header.clone()).to_string();
        if self.tamper == Some(Tamper::RepeatName) {
            header_text = header_text.replacen('{', r#"{"typ":"JWT","typ":"at+jwt","#, 1);
        }
        let header_part = URL_SAFE_NO_PAD.encode(header_text);
        let signed = format!("{header_part}.{}", part(&claims));
        let algorithm = header.get("alg").and_then(Value::as_str).unwrap_or_default();
        let mut signature = self.key.sign(algorithm, signed.as_bytes());
        if self.tamper == Some(Tamper::TruncateSignature) {
            signature.truncate(signature.len() - 6);
        }
        let signature = URL_SAFE_NO_PAD.encode(signature);
        let (kept, last) = signature.split_at(signature.len() - 1);
        match self.tamper {
            Some(Tamper::Payload) => {
                claims.insert("sub".to_owned(), "mallory".into());
                format!("{header_part}.{}.{signature}", part(&claims))
            }
            Some(Tamper::StripSignature) => format!("{signed}."),
            Some(Tamper::AppendPart) => format!("{signed}.{signature}.x"),
            Some(Tamper::AppendPadding) => format!("{signed}.{signature}=="),
            // The 256 bytes of an RSA signature end in a character that carries two bits, and four that must be zero:
            // the next character of the alphabet differs in one of those.
            Some(Tamper::OtherLastBits) => {
                let next = char::from(last.as_bytes()[0] + 1);
                format!("{signed}.{kept}{next}")
            }
            Some(Tamper::InsertSpace) => format!("{signed}. {signature}"),
            _ => format!("{signed}.{signature}"),
        }
    }
}

fn part(members: &Map<String, Value>) -> String {
    URL_SAFE_NO_PAD.encode(Value::Object(members.clone()).to_string())
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
