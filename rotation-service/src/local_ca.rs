//! The built-in certificate authority: for development, and for networks that have no other.
//!
//! Its key and certificate are made at first start and kept in one directory, so that a restart does not break trust. Whoever
//! can read that directory can impersonate every peer of the trust domain; a real deployment takes its certificates from
//! a vault or a mesh.

use std::time::{Duration, SystemTime};

use rcgen::{
    string::Ia5String, BasicConstraints, CertificateParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use time::OffsetDateTime;
use zeroize::Zeroizing;

use crate::{
    config::{LeafConfig, TrustDomain},
    secret::{CertifiedKey, Fingerprint, SecretBytes},
};

mod files;

pub use files::CaError;

/// Certificates are valid from a little before they are made, for peers whose clocks are behind.
const BACKDATED: Duration = Duration::from_secs(300);

const CA_LIFETIME: Duration = Duration::from_secs(10 * 365 * 86_400);

/// The built-in certificate authority.
#[derive(Debug)]
pub struct LocalCa {
    issuer: Issuer<'static, KeyPair>,
    certificate_pem: String,
    not_after: SystemTime,
}

/// A certificate could not be issued.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IssueError {
    /// The CA's own certificate has expired.
    #[error("the certificate of the local CA has expired")]
    CaExpired,
    /// Making the key or the signature failed.
    #[error("the local CA cannot sign: {0}")]
    Sign(#[from] rcgen::Error),
    /// The certificate would be valid beyond what a certificate can express.
    #[error("the time is out of range")]
    TimeOutOfRange,
}

impl LocalCa {
    /// The CA's certificate in PEM: what peers must trust.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// When the CA's certificate expires.
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// Issues a certificate with a new key, for both ends of a TLS connection, and tells when it expires. It never outlives
    /// the CA's own.
    ///
    /// # Errors
    ///
    /// The CA has expired, or the crypto library failed.
    pub fn issue(
        &self,
        leaf: &LeafConfig,
        now: SystemTime,
    ) -> Result<(CertifiedKey, SystemTime), IssueError> {
        if self.not_after <= now {
            return Err(IssueError::CaExpired);
        }
        // Certificates count in whole seconds.
        let not_after = whole_seconds(now + leaf.lifetime.duration()).min(self.not_after);

        let mut params = CertificateParams::default();
        params.not_before = date(now - BACKDATED)?;
        params.not_after = date(not_after)?;
        params.subject_alt_names = alternative_names(leaf)?;
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::OrganizationName, "Isthmus");
        params.use_authority_key_identifier_extension = true;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];

        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let pair = CertifiedKey {
            chain_pem: certificate.pem().into_bytes(),
            key_pem: SecretBytes::new(key.serialize_pem().into_bytes()),
        };
        Ok((pair, not_after))
    }
}

/// A new key for a CA, in PEM.
fn new_key() -> Result<Zeroizing<String>, IssueError> {
    Ok(Zeroizing::new(KeyPair::generate()?.serialize_pem()))
}

/// A CA certificate for a key, in PEM. The subject depends on the key and the trust domain alone, so that a certificate made
/// again for the same key vouches for everything the first one did.
fn self_signed(key: &KeyPair, trust_domain: &TrustDomain, now: SystemTime) -> Result<String, IssueError> {
    let mut params = CertificateParams::default();
    params.not_before = date(now - BACKDATED)?;
    params.not_after = date(now + CA_LIFETIME)?;
    params.subject_alt_names = vec![SanType::URI(ia5(&trust_domain_uri(trust_domain))?)];
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::OrganizationName, "Isthmus");
    let name = format!("Isthmus local CA {}", Fingerprint::of(&[key.public_key_raw()]));
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params.self_signed(key)?.pem())
}

fn trust_domain_uri(trust_domain: &TrustDomain) -> String {
    format!("spiffe://{trust_domain}")
}

fn alternative_names(leaf: &LeafConfig) -> Result<Vec<SanType>, IssueError> {
    let uris = leaf
        .uri_sans
        .iter()
        .map(|san| ia5(san.as_str()).map(SanType::URI));
    let names = leaf
        .dns_sans
        .iter()
        .map(|san| ia5(san.as_str()).map(SanType::DnsName));
    let addresses = leaf
        .ip_sans
        .iter()
        .map(|san| Ok(SanType::IpAddress(san.address())));
    uris.chain(names).chain(addresses).collect()
}

fn ia5(text: &str) -> Result<Ia5String, IssueError> {
    Ok(Ia5String::try_from(text)?)
}

fn whole_seconds(time: SystemTime) -> SystemTime {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    SystemTime::UNIX_EPOCH + Duration::from_secs(since.as_secs())
}

fn date(time: SystemTime) -> Result<OffsetDateTime, IssueError> {
    let since = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_err(|_| IssueError::TimeOutOfRange)?;
    let seconds = i64::try_from(since.as_secs()).map_err(|_| IssueError::TimeOutOfRange)?;
    OffsetDateTime::from_unix_timestamp(seconds).map_err(|_| IssueError::TimeOutOfRange)
}

#[cfg(test)]
mod tests;
