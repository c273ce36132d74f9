//! A JSON Web Token in compact form (RFC 7515, section 7.1; RFC 7519), taken apart strictly and not yet believed.

use base64::{engine::general_purpose::URL_SAFE_NO_PAD, Engine as _};
use serde_json::{Map, Value};

use crate::{claims::Claims, signature::Algorithm, strict_json, Reason};

/// The longest token that is looked at, in bytes.
const MAX_LENGTH: usize = 16 * 1024;

/// A signature with what it is over, whatever that says. Its `Debug` is not derived: a token is a credential and never
/// printed.
pub(crate) struct Jws<'t> {
    /// The algorithm that the header names; nothing if it is none that the engine knows.
    pub(crate) algorithm: Option<Algorithm>,
    /// The key that the header names.
    pub(crate) kid: Option<String>,
    /// What is signed: header and payload as they came, with the dot between them.
    pub(crate) signed: &'t str,
    /// The signature's bytes.
    pub(crate) signature: Vec<u8>,
    header: Map<String, Value>,
    payload: Vec<u8>,
}

impl<'t> Jws<'t> {
    /// Takes a JWS apart. Exactly three parts of strict base64url (no padding, no white space, canonical last bits);
    /// the header is an object without repeated names.
    pub(crate) fn parse(token: &'t str) -> Result<Self, Reason> {
        if token.len() > MAX_LENGTH {
            return Err(Reason::TokenTooLarge);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(Reason::MalformedToken)?;
        let (header, payload) = signed.split_once('.').ok_or(Reason::MalformedToken)?;
        let header = object(&decode(header)?)?;
        let payload = decode(payload)?;
        let signature = decode(signature)?;
        refuse_extensions(&header)?;
        let algorithm = match header.get("alg") {
            Some(Value::String(name)) => Algorithm::from_name(name),
            _ => return Err(Reason::MalformedToken),
        };
        Ok(Self {
            algorithm,
            kid: text(&header, "kid")?.map(str::to_owned),
            signed,
            signature,
            header,
            payload,
        })
    }
}

impl Jws<'_> {
    /// The algorithm as the header writes it.
    pub(crate) fn algorithm_name(&self) -> &str {
        self.header.get("alg").and_then(Value::as_str).unwrap_or_default()
    }
}

/// A JWS whose payload is claims.
pub(crate) struct UnverifiedToken<'t> {
    pub(crate) jws: Jws<'t>,
    /// The claims that the signature, if it holds, makes true.
    pub(crate) claims: Claims,
}

impl<'t> UnverifiedToken<'t> {
    /// Takes a token apart, as [`Jws::parse`]; the payload is an object without repeated names, too.
    pub(crate) fn parse(token: &'t str) -> Result<Self, Reason> {
        let jws = Jws::parse(token)?;
        let claims = object(&jws.payload)?;
        match text(&jws.header, "typ")? {
            Some(typ) if !typ.eq_ignore_ascii_case("JWT") && !typ.eq_ignore_ascii_case("at+jwt") => {
                Err(Reason::UnsupportedHeader)
            }
            _ => Ok(Self { jws, claims }),
        }
    }
}

fn decode(part: &str) -> Result<Vec<u8>, Reason> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| Reason::MalformedToken)
}

fn object(text: &[u8]) -> Result<Map<String, Value>, Reason> {
    strict_json::parse_object(text).map_err(|_| Reason::MalformedToken)
}

fn text<'h>(header: &'h Map<String, Value>, name: &str) -> Result<Option<&'h str>, Reason> {
    match header.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(Reason::MalformedToken),
    }
}

/// Extensions change what a token means and none are known here (RFC 7515, section 4.1.11; RFC 7797). `jku`, `x5u`,
/// `x5c` and `jwk` are not looked at: keys come from the provider's configuration alone (RFC 8725, section 3.10).
fn refuse_extensions(header: &Map<String, Value>) -> Result<(), Reason> {
    let not_encoded = header.get("b64").is_some_and(|b64| *b64 != Value::Bool(true));
    if header.contains_key("crit") || not_encoded {
        return Err(Reason::UnsupportedHeader);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use wasm_bindgen_test::wasm_bindgen_test;

    use super::*;

    fn token(header: &str, claims: &str) -> String {
        format!(
            "{}.{}.c2ln",
            URL_SAFE_NO_PAD.encode(header),
            URL_SAFE_NO_PAD.encode(claims)
        )
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn takes_a_token_apart() {
        let text = token(r#"{"alg":"RS256","kid":"k","typ":"at+JWT"}"#, r#"{"sub":"s"}"#);
        let token = UnverifiedToken::parse(&text).ok().unwrap();
        assert_eq!(token.jws.algorithm, Some(Algorithm::Rs256));
        assert_eq!(token.jws.kid.as_deref(), Some("k"));
        assert_eq!(token.claims.get("sub"), Some(&Value::from("s")));
        assert_eq!(token.jws.signature, b"sig");
        assert_eq!(format!("{}.c2ln", token.jws.signed), text);
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn names_the_fault_of_a_token_it_refuses() {
        let good = token(r#"{"alg":"RS256"}"#, "{}");
        let cases = [
            (String::new(), Reason::MalformedToken),
            ("a".into(), Reason::MalformedToken),
            ("a.b".into(), Reason::MalformedToken),
            (format!("{good}.x"), Reason::MalformedToken),
            (format!("{good}="), Reason::MalformedToken),
            (format!("{good} "), Reason::MalformedToken),
            (format!(" {good}"), Reason::MalformedToken),
            (good.replace("c2ln", "c2l+"), Reason::MalformedToken),
            (good.replace("c2ln", "c2l\n"), Reason::MalformedToken),
            (good.replace("c2ln", "c2l"), Reason::MalformedToken), // "c2k" is how those two bytes are written
            (token(r#"{"alg":"RS256"}"#, "[]"), Reason::MalformedToken),
            (token(r#"["alg"]"#, "{}"), Reason::MalformedToken),
            (
                token(r#"{"alg":"RS256","alg":"none"}"#, "{}"),
                Reason::MalformedToken,
            ),
            (
                token(r#"{"alg":"RS256"}"#, r#"{"sub":1,"sub":2}"#),
                Reason::MalformedToken,
            ),
            (token("{}", "{}"), Reason::MalformedToken),
            (token(r#"{"alg":["RS256"]}"#, "{}"), Reason::MalformedToken),
            (token(r#"{"alg":"RS256","kid":7}"#, "{}"), Reason::MalformedToken),
            (
                token(r#"{"alg":"RS256","crit":["exp"]}"#, "{}"),
                Reason::UnsupportedHeader,
            ),
            (
                token(r#"{"alg":"RS256","crit":[]}"#, "{}"),
                Reason::UnsupportedHeader,
            ),
            (
                token(r#"{"alg":"RS256","b64":false}"#, "{}"),
                Reason::UnsupportedHeader,
            ),
            (
                token(r#"{"alg":"RS256","typ":"JOSE"}"#, "{}"),
                Reason::UnsupportedHeader,
            ),
            (token(r#"{"alg":"RS256","typ":1}"#, "{}"), Reason::MalformedToken),
            ("x".repeat(MAX_LENGTH + 1), Reason::TokenTooLarge),
        ];
        for (text, reason) in cases {
            assert_eq!(UnverifiedToken::parse(&text).err(), Some(reason), "{text:.60}");
        }
    }
}
