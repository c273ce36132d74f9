//! The keys of the fuzz targets, all of them published: they protect nothing.

use std::sync::LazyLock;

use base64::{
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
    Engine as _,
};
use jsonwebtoken::{crypto, Algorithm, DecodingKey, EncodingKey};
use p256::ecdsa::{signature::Signer as _, Signature, SigningKey};
use serde_json::{json, Value};

/// Long enough for each of HS256, HS384 and HS512.
const SECRET: &[u8; 64] = b"a secret of sixty-four bytes, written down here for all to read.";

/// RFC 7515, appendix A.3.
const EC_X: &str = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU";
const EC_Y: &str = "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0";
const EC_D: &str = "jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI";

/// RFC 8037, appendix A.1.
const ED_X: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
const ED_D: &str = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A";

/// The key ids in [`set`].
pub(crate) const HS_KID: &str = "hs";
pub(crate) const ES_KID: &str = "es";
pub(crate) const ED_KID: &str = "ed";

/// Everything needed to sign and to verify with the independent library.
struct Keys {
    hs: (EncodingKey, DecodingKey),
    rs: (EncodingKey, DecodingKey),
    es: (SigningKey, DecodingKey),
    ed: (EncodingKey, DecodingKey),
}

static KEYS: LazyLock<Keys> = LazyLock::new(|| {
    let bytes = |text: &str| URL_SAFE_NO_PAD.decode(text).expect("base64url");
    let rsa = rsa_jwk();
    let part = |name: &str| rsa[name].as_str().expect("a part of an RSA key").to_owned();
    Keys {
        hs: (EncodingKey::from_secret(SECRET), DecodingKey::from_secret(SECRET)),
        rs: (
            EncodingKey::from_rsa_der(&rsa_private_key()),
            DecodingKey::from_rsa_components(&part("n"), &part("e")).expect("an RSA key"),
        ),
        es: (
            SigningKey::from_slice(&bytes(EC_D)).expect("a P-256 key"),
            DecodingKey::from_ec_components(EC_X, EC_Y).expect("a P-256 key"),
        ),
        ed: (
            // RFC 8410, section 7: the seed in its PKCS #8 form.
            EncodingKey::from_ed_der(
                &[
                    b"\x30\x2e\x02\x01\0\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20",
                    &*bytes(ED_D),
                ]
                .concat(),
            ),
            DecodingKey::from_ed_components(ED_X).expect("an Ed25519 key"),
        ),
    }
});

/// The secret for HS256, HS384 and HS512, as a JWK.
pub(crate) fn secret_jwk() -> Value {
    json!({"kty": "oct", "kid": HS_KID, "k": URL_SAFE_NO_PAD.encode(SECRET)})
}

/// The key for RS256, as a JWK.
pub(crate) fn rsa_jwk() -> Value {
    isthmus_cases::jwks()["keys"][0].clone()
}

/// The keys for ES256 and EdDSA, as JWKs.
pub(crate) fn curve_jwks() -> [Value; 2] {
    [
        json!({"kty": "EC", "kid": ES_KID, "crv": "P-256", "x": EC_X, "y": EC_Y}),
        json!({"kty": "OKP", "kid": ED_KID, "crv": "Ed25519", "x": ED_X}),
    ]
}

/// All of them, as the engine takes them.
pub(crate) fn set() -> Value {
    let [es, ed] = curve_jwks();
    json!({"keys": [secret_jwk(), rsa_jwk(), es, ed]})
}

/// What the independent library verifies `algorithm` with; nothing for an algorithm that no key here is for.
pub(crate) fn decoding(algorithm: Algorithm) -> Option<&'static DecodingKey> {
    match algorithm {
        Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 => Some(&KEYS.hs.1),
        Algorithm::RS256 => Some(&KEYS.rs.1),
        Algorithm::ES256 => Some(&KEYS.es.1),
        Algorithm::EdDSA => Some(&KEYS.ed.1),
        _ => None,
    }
}

/// A token out of the bytes of its header and claims, signed with the key for `algorithm` whatever the header says.
pub(crate) fn sign(algorithm: Algorithm, header: &[u8], claims: &[u8]) -> String {
    let signed = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(header),
        URL_SAFE_NO_PAD.encode(claims)
    );
    let key = match algorithm {
        Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 => &KEYS.hs.0,
        Algorithm::RS256 => &KEYS.rs.0,
        Algorithm::EdDSA => &KEYS.ed.0,
        _ => {
            let signature: Signature = KEYS.es.0.sign(signed.as_bytes());
            return format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.to_bytes()));
        }
    };
    let signature = crypto::sign(signed.as_bytes(), key, algorithm).expect("a key that fits");
    format!("{signed}.{signature}")
}

/// The private key of the case table as RFC 8017 writes it, out of its PKCS #8 envelope.
fn rsa_private_key() -> Vec<u8> {
    const ENVELOPE: usize = 26;
    let pem = include_str!("../../tests/cases/keys/provider.pem");
    let text: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    STANDARD.decode(text).expect("base64").split_off(ENVELOPE)
}
