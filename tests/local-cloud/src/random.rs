//! Random names: ids, secrets and key ids in the shapes that the real services use.

use base64::{
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
    Engine as _,
};

/// A random version 4 UUID (RFC 9562).
pub(crate) fn uuid() -> String {
    let mut b: [u8; 16] = bytes();
    b[6] = (b[6] & 0x0f) | 0x40;
    b[8] = (b[8] & 0x3f) | 0x80;
    let n = u128::from_be_bytes(b);
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        n >> 96,
        (n >> 80) & 0xffff,
        (n >> 64) & 0xffff,
        (n >> 48) & 0xffff,
        n & 0xffff_ffff_ffff
    )
}

/// `length` random bytes (at most 64), base64url without padding: a secret, a JWT id or an Entra `uti`.
pub(crate) fn token(length: usize) -> String {
    URL_SAFE_NO_PAD.encode(&bytes::<64>()[..length])
}

/// A key id as Cognito makes them: 32 bytes in *standard* base64, so that `+`, `/` and `=` occur. The padding
/// is always there; `+` and `/` are made sure of, because a filter that trips over them must trip here first.
pub(crate) fn cognito_kid() -> String {
    let mut kid = STANDARD.encode(bytes::<32>());
    kid.replace_range(3..5, "+/");
    kid
}

fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system's random generator works");
    bytes
}
