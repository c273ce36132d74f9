use std::rc::Rc;

use serde_json::json;
use wasm_bindgen_test::wasm_bindgen_test;

use super::*;

/// A host that answers as it is told and counts how often.
struct FakeHost(fn(&[u8], &[u8]) -> Option<bool>);

impl HostCrypto for FakeHost {
    fn verify(&self, _: HostHash, _: &[u8], signature: &[u8], message: &[u8]) -> Option<bool> {
        (self.0)(signature, message)
    }
}

fn known(name: &str) -> (VerifyingKey, Vec<u8>, Vec<u8>) {
    let answers: Value = serde_json::from_str(include_str!("known_answers.json")).unwrap();
    let answer = answers
        .as_array()
        .unwrap()
        .iter()
        .find(|answer| answer["alg"] == name);
    let answer = answer.unwrap();
    let key = VerifyingKey::from_jwk(answer["jwk"].as_object().unwrap()).unwrap();
    let signature = URL_SAFE_NO_PAD
        .decode(answer["signature"].as_str().unwrap())
        .unwrap();
    (
        key,
        answer["message"].as_str().unwrap().as_bytes().to_vec(),
        signature,
    )
}

/// Knows the good messages by heart and compares nothing else: right on all known questions about messages.
fn honest(signature: &[u8], message: &[u8]) -> Option<bool> {
    let good = [known("RS256"), known("ES256")].iter().any(|(key, text, good)| {
        let der = match key {
            VerifyingKey::P256(_) => p256::ecdsa::Signature::from_slice(good)
                .unwrap()
                .to_der()
                .as_bytes()
                .to_vec(),
            _ => good.clone(),
        };
        text == message && der == signature
    });
    Some(good)
}

#[wasm_bindgen_test(unsupported = test)]
fn only_a_host_that_answers_every_known_question_rightly_is_believed() {
    let tested = |host| TestedHost::try_new(Rc::new(FakeHost(host))).is_some();
    assert!(tested(honest));
    assert!(!tested(|_, _| Some(true)), "takes everything");
    assert!(!tested(|_, _| Some(false)), "takes nothing");
    assert!(!tested(|_, _| None), "gives no answer");
    assert!(
        !tested(|_, message| Some(message.ends_with(b"host."))),
        "looks at the message alone"
    );
}

#[wasm_bindgen_test(unsupported = test)]
fn the_host_decides_where_it_can_and_where_it_gives_no_answer_the_engine_does() {
    thread_local!(static ANSWERS: std::cell::Cell<bool> = const { std::cell::Cell::new(true) });
    let host = |signature: &[u8], message: &[u8]| ANSWERS.get().then(|| honest(signature, message)).flatten();
    let host = TestedHost::try_new(Rc::new(FakeHost(host))).unwrap();
    for name in ["RS256", "ES256"] {
        let (key, message, signature) = known(name);
        let algorithm = Algorithm::from_name(name).unwrap();
        for answers in [true, false] {
            ANSWERS.set(answers);
            assert!(
                key.verify(algorithm, &message, &signature, Some(&host)),
                "{name} {answers}"
            );
            assert!(
                !key.verify(algorithm, b"another", &signature, Some(&host)),
                "{name} {answers}"
            );
        }
    }
}

#[wasm_bindgen_test(unsupported = test)]
fn a_signature_of_another_length_is_refused_before_anybody_is_asked() {
    let secret = json!({"kty": "oct", "k": URL_SAFE_NO_PAD.encode([7; 64])});
    let ed25519 = json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"});
    let jwk = |value: &Value| VerifyingKey::from_jwk(value.as_object().unwrap()).unwrap();
    let believes_all = TestedHost::try_new(Rc::new(FakeHost(honest))).unwrap();
    for (key, names) in [
        (
            known("RS256").0,
            &["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"][..],
        ),
        (known("ES256").0, &["ES256"]),
        (jwk(&secret), &["HS256", "HS384", "HS512"]),
        (jwk(&ed25519), &["EdDSA"]),
    ] {
        for name in names {
            let algorithm = Algorithm::from_name(name).unwrap();
            assert!(key.fits(algorithm), "{name}");
            for length in [0, 1, 31, 33, 47, 49, 63, 65, 132, 255, 257, 1024] {
                assert!(
                    !key.verify(algorithm, b"m", &vec![1; length], Some(&believes_all)),
                    "{name} {length}"
                );
            }
        }
    }
}

#[wasm_bindgen_test(unsupported = test)]
fn a_key_verifies_no_other_algorithm_than_its_kind_makes() {
    let (key, message, signature) = known("RS256");
    for name in ["ES256", "EdDSA", "HS256", "PS256", "RS384"] {
        assert!(
            !key.verify(Algorithm::from_name(name).unwrap(), &message, &signature, None),
            "{name}"
        );
    }
    for name in ["none", "None", "", "rs256", "ES256K", "EDDSA", "HS256 "] {
        assert_eq!(Algorithm::from_name(name), None, "{name}");
    }
}

#[wasm_bindgen_test(unsupported = test)]
fn no_key_is_printed() {
    let secret = json!({"kty": "oct", "k": URL_SAFE_NO_PAD.encode([7; 64])});
    let key = VerifyingKey::from_jwk(secret.as_object().unwrap()).unwrap();
    assert_eq!(format!("{key:?}"), "[redacted]");
}
