//! Envoy's BoringSSL, reached through the foreign function `verify_signature`
//! (source/extensions/common/wasm/ext/verify_signature.proto in Envoy).

use isthmus_engine::{HostCrypto, HostHash};

use crate::host;

/// The host's cryptography, where it has any.
pub(crate) struct EnvoyCrypto;

impl HostCrypto for EnvoyCrypto {
    fn verify(&self, hash: HostHash, spki: &[u8], signature: &[u8], message: &[u8]) -> Option<bool> {
        let hash: &[u8] = match hash {
            HostHash::Sha256 => b"sha256",
            HostHash::Sha384 => b"sha384",
            HostHash::Sha512 => b"sha512",
        };
        let arguments = [(1, hash), (2, spki), (3, signature), (4, message)];
        let size: usize = arguments.iter().map(|(_, bytes)| bytes.len() + 6).sum();
        let mut encoded = Vec::with_capacity(size);
        for (number, bytes) in arguments {
            put_bytes(&mut encoded, number, bytes);
        }
        verdict(&host::call_foreign_function("verify_signature", &encoded).ok()?)
    }
}

/// A length-delimited field of a protocol buffer.
fn put_bytes(message: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    message.push(number << 3 | 2);
    let mut length = bytes.len();
    while length >= 0x80 {
        message.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    message.push(length as u8);
    message.extend_from_slice(bytes);
}

/// The result: field 1 is whether the signature is genuine, left out when it is not; field 2 says why not. Whatever
/// else comes is no answer.
fn verdict(message: &[u8]) -> Option<bool> {
    match message {
        [0x08, 0x01, ..] => Some(true),
        [] | [0x08, 0x00, ..] | [0x12, ..] => Some(false),
        _ => None,
    }
}
