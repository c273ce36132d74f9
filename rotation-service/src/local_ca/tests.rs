use std::{fs, os::unix::fs::PermissionsExt, path::Path, sync::Arc};

use rustls::{
    client::{danger::ServerCertVerifier, WebPkiServerVerifier},
    pki_types::{pem::PemObject, CertificateDer, ServerName, UnixTime},
    server::WebPkiClientVerifier,
    RootCertStore,
};

use super::*;
use crate::config::LocalCaConfig;

fn config(directory: &Path) -> LocalCaConfig {
    LocalCaConfig {
        directory: directory.to_str().unwrap().to_owned().try_into().unwrap(),
        trust_domain: "isthmus.local".to_owned().try_into().unwrap(),
    }
}

fn leaf() -> LeafConfig {
    LeafConfig {
        uri_sans: vec!["spiffe://isthmus.local/bridge".to_owned().try_into().unwrap()],
        dns_sans: vec!["bridge.local".to_owned().try_into().unwrap()],
        ip_sans: vec!["127.0.0.1".to_owned().try_into().unwrap()],
        lifetime: "1h".to_owned().try_into().unwrap(),
    }
}

fn open(directory: &Path) -> Result<LocalCa, CaError> {
    LocalCa::open(&config(directory), SystemTime::now())
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// Verifies a chain as a TLS client and as a TLS server would, at `now`.
fn verify(ca_pem: &str, pair: &CertifiedKey, now: SystemTime) -> Result<(), rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca_pem.as_bytes()).unwrap())?;
    let roots = Arc::new(roots);
    let end = CertificateDer::from_pem_slice(&pair.chain_pem).unwrap();
    let now = UnixTime::since_unix_epoch(now.duration_since(SystemTime::UNIX_EPOCH).unwrap());

    let server = WebPkiServerVerifier::builder_with_provider(roots.clone(), provider.clone())
        .build()
        .unwrap();
    for name in ["bridge.local", "127.0.0.1"] {
        server.verify_server_cert(&end, &[], &ServerName::try_from(name).unwrap(), &[], now)?;
    }
    let client = WebPkiClientVerifier::builder_with_provider(roots, provider)
        .build()
        .unwrap();
    client.verify_client_cert(&end, &[], now)?;
    Ok(())
}

#[test]
fn the_ca_is_made_once_for_its_owner_only_and_found_again() {
    let directory = tempfile::tempdir().unwrap();
    let home = directory.path().join("new/ca");
    let first = open(&home).unwrap();
    assert_eq!(mode(&home), 0o700);
    assert_eq!(mode(&home.join("ca.key")), 0o600);
    assert_eq!(mode(&home.join("ca.crt")), 0o600);
    assert_eq!(fs::read_dir(&home).unwrap().count(), 2, "no temporary file stays");

    let second = open(&home).unwrap();
    assert_eq!(first.certificate_pem(), second.certificate_pem());
    let (pair, _) = second.issue(&leaf(), SystemTime::now()).unwrap();
    verify(first.certificate_pem(), &pair, SystemTime::now()).unwrap();
}

#[test]
fn two_that_start_at_once_get_the_same_ca() {
    let directory = tempfile::tempdir().unwrap();
    let home = directory.path().join("ca");
    let certificates: Vec<String> = std::thread::scope(|scope| {
        let starts: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| open(&home).unwrap().certificate_pem().to_owned()))
            .collect();
        starts.into_iter().map(|start| start.join().unwrap()).collect()
    });
    assert!(certificates
        .iter()
        .all(|certificate| *certificate == certificates[0]));
}

#[test]
fn a_leaf_verifies_against_the_ca_within_its_lifetime_only() {
    let directory = tempfile::tempdir().unwrap();
    let ca = open(directory.path()).unwrap();
    let now = SystemTime::now();
    let (pair, not_after) = ca.issue(&leaf(), now).unwrap();
    let second = Duration::from_secs(1);

    let lifetime = not_after.duration_since(now).unwrap();
    assert!(
        lifetime > Duration::from_secs(3_598) && lifetime <= Duration::from_secs(3_600),
        "{lifetime:?}"
    );
    for good in [now - BACKDATED + second, now, not_after - second] {
        verify(ca.certificate_pem(), &pair, good).unwrap();
    }
    for bad in [now - BACKDATED - 2 * second, not_after + 2 * second] {
        assert!(verify(ca.certificate_pem(), &pair, bad).is_err());
    }

    let elsewhere = tempfile::tempdir().unwrap();
    let stranger = open(elsewhere.path()).unwrap();
    assert!(verify(stranger.certificate_pem(), &pair, now).is_err());
}

#[test]
fn a_leaf_carries_its_names_and_a_key_that_fits() {
    let directory = tempfile::tempdir().unwrap();
    let ca = open(directory.path()).unwrap();
    let (pair, _) = ca.issue(&leaf(), SystemTime::now()).unwrap();
    let (other, _) = ca.issue(&leaf(), SystemTime::now()).unwrap();
    assert_ne!(pair.key_pem, other.key_pem, "every certificate has a new key");

    let (_, pem) = x509_parser::pem::parse_x509_pem(&pair.chain_pem).unwrap();
    let certificate = pem.parse_x509().unwrap();
    let names = certificate.subject_alternative_name().unwrap().unwrap().value;
    let printed = format!("{:?}", names.general_names);
    assert!(printed.contains("spiffe://isthmus.local/bridge"), "{printed}");
    assert!(!certificate.is_ca());

    let key = KeyPair::from_pem(std::str::from_utf8(pair.key_pem.expose()).unwrap()).unwrap();
    assert_eq!(
        certificate.public_key().subject_public_key.data.as_ref(),
        key.public_key_raw()
    );
}

#[test]
fn a_leaf_never_outlives_the_ca() {
    let directory = tempfile::tempdir().unwrap();
    let ca = open(directory.path()).unwrap();
    let late = ca.not_after() - Duration::from_secs(60);
    assert_eq!(ca.issue(&leaf(), late).unwrap().1, ca.not_after());
    assert_eq!(ca.issue(&leaf(), ca.not_after()), Err(IssueError::CaExpired));
}

#[test]
fn a_directory_that_does_not_fit_is_refused_and_left_as_it_is() {
    type Damage = fn(&Path);
    let cases: [(&str, Damage, &str); 9] = [
        (
            "key garbled",
            |d| fs::write(d.join("ca.key"), "garbage").unwrap(),
            "does not hold a P-256 private key",
        ),
        (
            "key emptied",
            |d| fs::write(d.join("ca.key"), "").unwrap(),
            "does not hold a P-256 private key",
        ),
        (
            "certificate garbled",
            |d| fs::write(d.join("ca.crt"), [0xff, 0xfe]).unwrap(),
            "does not hold the PEM certificate",
        ),
        (
            "certificate cut",
            |d| {
                let text = fs::read_to_string(d.join("ca.crt")).unwrap();
                fs::write(d.join("ca.crt"), &text[..text.len() / 2]).unwrap();
            },
            "does not hold the PEM certificate",
        ),
        (
            "certificate repeated",
            |d| {
                let text = fs::read_to_string(d.join("ca.crt")).unwrap();
                fs::write(d.join("ca.crt"), text.repeat(2)).unwrap();
            },
            "does not hold the PEM certificate",
        ),
        (
            "key lost",
            |d| fs::remove_file(d.join("ca.key")).unwrap(),
            "has no key beside it",
        ),
        (
            "key of another CA",
            |d| {
                let other = tempfile::tempdir().unwrap();
                open(other.path()).unwrap();
                fs::copy(other.path().join("ca.key"), d.join("ca.key")).unwrap();
            },
            "do not belong together",
        ),
        (
            "a leaf for the CA",
            |d| {
                let (pair, _) = open(d).unwrap().issue(&leaf(), SystemTime::now()).unwrap();
                fs::write(d.join("ca.crt"), pair.chain_pem).unwrap();
            },
            "does not hold the PEM certificate of a CA",
        ),
        (
            "key readable by the group",
            |d| {
                fs::set_permissions(d.join("ca.key"), fs::Permissions::from_mode(0o640)).unwrap();
            },
            "must not be accessible by others, but its mode is 0640",
        ),
    ];
    for (what, damage, message) in cases {
        let directory = tempfile::tempdir().unwrap();
        open(directory.path()).unwrap();
        damage(directory.path());
        let contents = |name| fs::read(directory.path().join(name)).ok();
        let before = (contents("ca.key"), contents("ca.crt"));
        let error = open(directory.path()).map(|_| ()).expect_err(what).to_string();
        assert!(error.contains(message), "{what}: {error}");
        assert_eq!(
            before,
            (contents("ca.key"), contents("ca.crt")),
            "{what}: files changed"
        );
    }
}

#[test]
fn a_ca_of_another_trust_domain_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    open(directory.path()).unwrap();
    let mut other = config(directory.path());
    other.trust_domain = "other.local".to_owned().try_into().unwrap();
    let error = LocalCa::open(&other, SystemTime::now()).unwrap_err();
    assert!(
        error.to_string().contains("not for the trust domain other.local"),
        "{error}"
    );
}

#[test]
fn an_expired_ca_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let ca = open(directory.path()).unwrap();
    let error = LocalCa::open(&config(directory.path()), ca.not_after()).unwrap_err();
    assert!(matches!(error, CaError::Expired(_)), "{error}");
}

#[test]
fn a_start_that_was_cut_off_after_the_key_is_finished_with_the_same_key() {
    let directory = tempfile::tempdir().unwrap();
    let before = open(directory.path()).unwrap();
    let (pair, _) = before.issue(&leaf(), SystemTime::now()).unwrap();
    fs::remove_file(directory.path().join("ca.crt")).unwrap();
    let after = open(directory.path()).unwrap();
    verify(after.certificate_pem(), &pair, SystemTime::now()).unwrap();
}

#[test]
fn a_directory_that_others_can_write_to_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o770)).unwrap();
    let error = open(directory.path()).unwrap_err();
    assert!(matches!(error, CaError::TooOpen { mode: 0o770, .. }), "{error}");
}

#[test]
fn debug_of_the_ca_does_not_show_its_key() {
    let directory = tempfile::tempdir().unwrap();
    let ca = open(directory.path()).unwrap();
    let key = fs::read_to_string(directory.path().join("ca.key")).unwrap();
    let printed = format!("{ca:?}");
    for line in key.lines() {
        assert!(!printed.contains(line), "{printed}");
    }
}
