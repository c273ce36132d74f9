//! The same rows with a host's cryptography in front of the engine's own: AWS-LC, which is of one family with Envoy's BoringSSL.

use std::{cell::Cell, rc::Rc};

use aws_lc_rs::signature::{
    UnparsedPublicKey, VerificationAlgorithm, ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA384_ASN1,
    ECDSA_P521_SHA512_ASN1, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384,
    RSA_PKCS1_2048_8192_SHA512,
};
use isthmus_cases::corpus::{rows, Check, Kind, Row, Verdict};
use isthmus_engine::{HostCrypto, HostHash, SignatureVerifier};

use super::{Judge, Score};

#[test]
fn every_row_is_judged_rightly_with_a_host_in_front_that_sees_every_rsa_and_ecdsa_signature() {
    let host = Rc::new(AwsLc::default());
    let shared: Rc<dyn HostCrypto> = host.clone();
    let mut judge = Judge {
        verifier: SignatureVerifier::with_host(Rc::clone(&shared)).expect("the host passes the self-test"),
        host: Some(shared),
        ..Judge::default()
    };
    let mut score = Score::default();
    for row in &rows() {
        if let Check::Request(request) = &row.check {
            // A new engine tests the host, which says nothing about the row.
            judge.engine(&request.filter_config.to_string());
        }
        host.genuine.set(0);
        host.forged.set(0);
        judge.run(row, &mut score);
        score
            .other
            .extend(unexpected(row, host.genuine.get(), host.forged.get()));
    }
    score.assert_perfect();
    score.assert_complete();
}

/// What is wrong with the host's answers about a row: one signature is one question, and none that is the engine's own to answer.
fn unexpected(row: &Row, genuine: usize, forged: usize) -> Option<String> {
    let algorithm = row.algorithm().unwrap_or_default();
    let is_the_hosts = algorithm.starts_with("RS") || algorithm.starts_with("ES");
    let fits = match (is_the_hosts, row.verdict(), row.kind()) {
        (false, _, _) => (genuine, forged) == (0, 0),
        (true, Verdict::Accept, _) => (genuine, forged) == (1, 0),
        // A signature that is malformed already is nothing to ask about.
        (true, Verdict::Reject, Kind::Jws | Kind::Raw) => genuine == 0 && forged <= 1,
        // What is wrong with a token may be its claims.
        (true, Verdict::Reject, Kind::Bearer) => true,
    };
    (!fits).then(|| {
        format!(
            "{}: the host said genuine {genuine} times and forged {forged} times",
            row.id
        )
    })
}

/// AWS-LC as a host, and how often it gave which answer.
#[derive(Default)]
struct AwsLc {
    genuine: Cell<usize>,
    forged: Cell<usize>,
}

impl HostCrypto for AwsLc {
    fn verify(&self, hash: HostHash, spki: &[u8], signature: &[u8], message: &[u8]) -> Option<bool> {
        let key = UnparsedPublicKey::new(algorithm(hash, spki)?, spki);
        let genuine = key.verify(message, signature).is_ok();
        let count = if genuine { &self.genuine } else { &self.forged };
        count.set(count.get() + 1);
        Some(genuine)
    }
}

/// By the object identifiers of the key (RFC 3279, section 2.3.1; RFC 5480, section 2.1.1.1).
fn algorithm(hash: HostHash, spki: &[u8]) -> Option<&'static dyn VerificationAlgorithm> {
    const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
    const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
    const P384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];
    const P521: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x23];
    // They stand before the key's own bytes, which could hold anything.
    let head = spki.get(..30)?;
    let is = |identifier: &[u8]| head.windows(identifier.len()).any(|window| window == identifier);
    Some(match hash {
        HostHash::Sha256 if is(RSA) => &RSA_PKCS1_2048_8192_SHA256,
        HostHash::Sha384 if is(RSA) => &RSA_PKCS1_2048_8192_SHA384,
        HostHash::Sha512 if is(RSA) => &RSA_PKCS1_2048_8192_SHA512,
        HostHash::Sha256 if is(P256) => &ECDSA_P256_SHA256_ASN1,
        HostHash::Sha384 if is(P384) => &ECDSA_P384_SHA384_ASN1,
        HostHash::Sha512 if is(P521) => &ECDSA_P521_SHA512_ASN1,
        _ => return None,
    })
}
